"""Public networks as packages for three GPUs at once; their PTX is run on the processor and verified."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

import deploycc
from benchmarks.networks import networks
from deploycc import verify
from tests.networks.test_verified_networks import assert_verified

CHIPS = ("sm_75", "sm_87", "sm_90")

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="these packages are for x86-64")


@pytest.fixture
def checked(network: Callable[[str], Path], tmp_path: Path) -> Callable[[str, str], deploycc.Package]:
    """A function (network, precision): a package for all chips, verified on each of them."""

    def check(name: str, precision: str) -> deploycc.Package:
        model, shapes = network(name), networks()[name].inputs
        package = deploycc.build(
            model, f"cuda:{','.join(CHIPS)}", tmp_path / "net", shapes=shapes, precision=precision
        )
        for chip in CHIPS:
            found = verify(package.path, chip=chip)
            assert chip in found.place
            assert_verified(found)
        return package

    return check


def test_a_small_network_is_verified_for_each_chip(checked: Callable[[str, str], deploycc.Package]) -> None:
    package = checked("mtcnn_pnet", "fp32")
    assert [chip["arch"] for chip in package.manifest["target"]["gpus"]] == list(CHIPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_public_networks_are_verified_for_each_chip(
    checked: Callable[[str, str], deploycc.Package], name: str, precision: str
) -> None:
    checked(name, precision)
