"""``deploycc verify`` passes for packages of the public networks, here and under qemu."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.networks import networks
from deploycc import verify
from deploycc.result_types import Verification
from deploycc.targets import load_target
from tests.networks.running import prefix_of
from tests.networks.sysroots import SysrootUnavailable, sysroot

QUICK = ("mtcnn_pnet", "mtcnn_rnet")


@pytest.fixture
def verified(
    network: Callable[[str], Path], built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], None]:
    """A function (network, target): build and verify, on golden inputs and with the model on random ones."""

    def check(name: str, target: str) -> None:
        if prefix_of(load_target(target)):
            if shutil.which("qemu-aarch64-static") is None and shutil.which("qemu-aarch64") is None:
                pytest.skip("no qemu-aarch64 (Debian: apt install qemu-user-static)")
            try:
                monkeypatch.setenv("QEMU_LD_PREFIX", str(sysroot("EM_AARCH64")))
            except SysrootUnavailable as error:
                pytest.skip(str(error))
        package = built(name, target)
        assert_verified(verify(package))
        assert_verified(verify(package, network(name), seed=17))

    return check


def assert_verified(found: Verification) -> None:
    shown = [(o.tensor, o.max_scaled, o.tolerance, o.reason) for o in found.outputs]
    assert found.ok, f"{found.package} on {found.place}, {found.inputs}: {shown}"


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("target", ["x86-64", "arm64"])
def test_small_networks_are_verified(verified: Callable[[str, str], None], name: str, target: str) -> None:
    verified(name, target)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in networks() if name not in QUICK])
@pytest.mark.parametrize("target", ["x86-64", "arm64"])
def test_public_networks_are_verified(verified: Callable[[str, str], None], name: str, target: str) -> None:
    verified(name, target)
