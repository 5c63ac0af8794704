"""A planted fault is where the planter says, and nowhere once it is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc.build import build
from deploycc.running import open_package
from tests.faults.checking import effect, outputs_wrong, same_steps
from tests.faults.planting import KINDS, Fault, Planted, guilty_nodes

Make = Callable[[Fault], tuple[Path, Planted]]


def test_a_fault_makes_the_step_wrong_that_it_is_recorded_for(
    sound_package: Path, wrong_package: Make
) -> None:
    wrong, planted = wrong_package(Fault("swapped channels", 0))
    assert same_steps(open_package(sound_package).manifest, open_package(wrong).manifest)
    seen = effect(sound_package, wrong)
    assert seen.shows
    assert seen.steps == planted.steps == (0,)
    assert planted.nodes == (("conv0", "relu0"),)
    assert planted.guilty == (("conv0",),)


def test_the_compiler_is_sound_again_behind_the_block(
    small_model: Path, wrong_package: Make, tmp_path: Path
) -> None:
    wrong, _ = wrong_package(Fault("epilogue", 0))
    assert outputs_wrong(wrong)
    assert not outputs_wrong(build(small_model, "host", tmp_path / "after").path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"layout transform", "race"}))
def test_every_kind_that_the_small_network_has_a_place_for_shows(wrong_package: Make, kind: str) -> None:
    shown = []
    for seed in range(8):
        wrong, planted = wrong_package(Fault(kind, seed))
        shown.append(outputs_wrong(wrong))
        assert planted.steps == (0,)
        if shown[-1]:
            return
    raise AssertionError(f"{kind} changed no output in {len(shown)} draws")


def test_the_node_at_fault_is_told_by_the_block() -> None:
    types = {"c": "Conv", "a": "Add", "r": "Relu"}
    assert guilty_nodes("T_relu", ("c", "a", "r"), types) == ("r",)
    assert guilty_nodes("T_add_1", ("c", "a", "r"), types) == ("a",)
    assert guilty_nodes("T_add", ("c", "r"), types) == ("c",), "the bias is the convolution's own"
    assert guilty_nodes("", ("c", "a", "r"), types) == ("c",)
    assert guilty_nodes("", ("x",), {}) == ("x",)
