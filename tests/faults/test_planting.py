"""A planted fault is where the planter says, and nowhere once it is over."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploycc.bisect import bisect
from deploycc.running import open_package
from tests.faults.checking import effect, package_off_by, same_steps
from tests.faults.measuring import MEASURED, measure
from tests.faults.planting import KINDS, Fault, Planted, faulty, guilty_nodes, planted_in

build_module: Any = importlib.import_module("deploycc.build")  # the package has a function of that name
Make = Callable[[Fault], tuple[Path, Planted]]


@pytest.mark.slow
def test_a_fault_is_where_it_is_recorded_and_the_search_finds_it(
    small_model: Path, sound_package: Path, wrong_package: Make, tmp_path: Path
) -> None:
    fault = Fault("swapped channels", 0)
    wrong, planted = wrong_package(fault)
    assert same_steps(open_package(sound_package).manifest, open_package(wrong).manifest)
    seen = effect(sound_package, wrong)
    assert seen.shows
    assert seen.steps == planted.steps == (0,)
    assert planted.nodes == (("conv0", "relu0"),)
    assert planted.guilty == (("conv0",),)
    with faulty(replace(fault, place=planted.place), tmp_path / "reduced.jsonl"):
        found = bisect(wrong, small_model, output=tmp_path / "reduced")
    assert found.suspect is not None
    assert (found.suspect.step, found.suspect.node) == (0, "conv0")
    assert found.reduction is not None
    assert found.reduction.shown is not None, found.reduction.reason
    assert len(planted_in(tmp_path / "reduced.jsonl")) == found.reduction.builds


def test_the_compiler_is_sound_again_behind_the_block(tmp_path: Path) -> None:
    own = build_module.run_child
    with faulty(Fault("epilogue", 0), tmp_path / "record.jsonl"):
        assert build_module.run_child is not own
    assert build_module.run_child is own


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"layout transform", "race"}))
def test_every_kind_that_the_small_network_has_a_place_for_shows(wrong_package: Make, kind: str) -> None:
    shown = []
    for seed in range(8):
        wrong, planted = wrong_package(Fault(kind, seed))
        shown.append(package_off_by(wrong) > 1.0)
        assert planted.steps == (0,)
        if shown[-1]:
            return
    raise AssertionError(f"{kind} changed no output in {len(shown)} draws")


def test_the_node_at_fault_is_told_by_the_block() -> None:
    types = {"c": "Conv", "a": "Add", "r": "Relu", "b": "Add"}
    assert guilty_nodes("T_relu", (), ("c", "a", "r"), types) == ("r",)
    assert guilty_nodes("T_add_1", ("T_relu",), ("c", "a", "r"), types) == ("a",)
    assert guilty_nodes("T_add", ("T_relu",), ("c", "r"), types) == ("c",), (
        "the bias is the convolution's own"
    )
    assert guilty_nodes("T_add", ("T_add_1",), ("c", "a"), types) == ("c",), "so is the first of two"
    assert guilty_nodes("T_add", ("T_add_1",), ("c", "a", "b"), types) == ("a",)
    assert guilty_nodes("", (), ("c", "a", "r"), types) == ("c",)
    assert guilty_nodes("", (), ("x",), {}) == ("x",)


@pytest.mark.slow
def test_the_search_finds_twenty_eight_of_thirty_faults_in_the_networks(tmp_path: Path) -> None:
    results = measure(range(30), tmp_path, MEASURED)
    right = [answer.seed for _, answer in results if answer.right]
    reduced = [answer.seed for _, answer in results if answer.reduced]
    assert len(right) >= 28, sorted(set(range(30)) - set(right))
    assert len(reduced) >= 28, sorted(set(range(30)) - set(reduced))
