"""Lint's claim of what the processor runs beside a GPU is what scheduling really leaves to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploycc.importing import load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.linting.host_operators import LONGEST_PRODUCT, why_on_host
from deploycc.linting.subject import subject
from deploycc.lowering import lower
from deploycc.lowering.converters import signal
from deploycc.resources import data_dir
from deploycc.scheduling import apply, choose
from deploycc.scheduling.placing import runs_on_host
from deploycc.simplifying import simplify
from deploycc.targets import load_target
from deploycc.types import DeployccError, Limits, Model
from tests.conformance.node_cases import deployer_cases
from tests.linting.graphs import model
from tests.sweep.case import Case
from tests.sweep.worker import request_for

TARGET = load_target("cuda:sm_90")


def simplified(case: Case, folder: Path) -> Model | None:
    """The model as lint judges it; ``None`` for one that is refused."""
    case.save(folder)
    try:
        made = simplify(load(request_for(folder, case.inputs)), Limits())
        lint(made, compiled_lint_target(TARGET)).raise_if_errors()
    except DeployccError:
        return None
    return made


def claimed(judged: Model) -> set[str]:
    """The operators that lint says the processor runs."""
    view = subject(judged, compiled_lint_target(TARGET)).view
    return {node.op_type for node in view.model.graph.node if why_on_host(node, view)}


def left_to_the_processor(judged: Model, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The kernels that scheduling for the GPU leaves to the processor."""
    found: set[str] = set()

    def watched(name: str, function: Any, schedules: Any, selections: Any, target: Any) -> Any:
        if not target.gpus:
            assert runs_on_host(function)
            found.add(name)
        return schedule(name, function, schedules, selections, target)

    schedule = apply._schedule_kernel
    with monkeypatch.context() as patch:
        patch.setattr(apply, "_schedule_kernel", watched)
        choose(lower(judged, TARGET), TARGET, (data_dir("schedules"),))
    return found


def differences(
    cases: Sequence[Case], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], int]:
    """What differs, in words, and how many cases the processor has a part in."""
    wrong, beside = [], 0
    for case in cases:
        judged = simplified(case, folder / case.name)
        if judged is None:
            continue
        said, did = claimed(judged), left_to_the_processor(judged, monkeypatch)
        beside += bool(did)
        if bool(said) != bool(did):
            wrong.append(f"{case.name}: lint says {said or 'the GPU'}, scheduling left {did or 'nothing'}")
    return wrong, beside


@pytest.mark.slow
def test_every_case_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, beside = differences(deployer_cases(), tmp_path, monkeypatch)
    assert not wrong
    assert beside > 100


def test_long_transforms_are_those_of_the_lowering() -> None:
    assert LONGEST_PRODUCT == signal.LONGEST_PRODUCT


FORMS = {
    "long running sum": (
        "g (float[2,5000] x) => (float[2,5000] y) <int64 a = {1}> { y = CumSum(x, a) }",
        True,
    ),
    "running sum": ("g (float[2,9] x) => (float[2,9] y) <int64 a = {1}> { y = CumSum(x, a) }", False),
    "sum": ("g (float[2,9] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceSum(x, a) }", False),
    "largest": (
        "g (float[2,9] x) => (float[2,3] y, int64[2,3] i) <int64[1] k = {3}> { y, i = TopK(x, k) }",
        True,
    ),
    "largest one": ("g (float[2,9] x) => (int64[2,1] y) { y = ArgMax<axis=1>(x) }", False),
    "scatter": (
        "g (float[9] x, int64[2,1] i, float[2] u) => (float[9] y) { y = ScatterND(x, i, u) }",
        True,
    ),
    "gather": ("g (float[9] x, int64[2,1] i) => (float[2] y) { y = GatherND(x, i) }", False),
    "short transform": ("g (float[1,200,2] x) => (float[1,200,2] y) { y = DFT<axis=1>(x) }", False),
    "long transform": ("g (float[1,600,2] x) => (float[1,600,2] y) { y = DFT<axis=1>(x) }", True),
    "short frames": (
        """g (float[1,900,1] x) => (float[1,9,51,2] y)
        <int64 hop = {100}, int64 frame = {100}> { y = STFT(x, hop, , frame) }""",
        False,
    ),
    "long frames": (
        """g (float[1,2048,1] x) => (float[1,2,513,2] y)
        <int64 hop = {1024}, int64 frame = {1024}> { y = STFT(x, hop, , frame) }""",
        True,
    ),
    "integer image": (
        """g (uint8[1,1,4,4] x) => (uint8[1,1,8,8] y)
        <float[4] s = {1.0, 1.0, 2.0, 2.0}> { y = Resize<mode="linear">(x, , s) }""",
        True,
    ),
    "image": (
        """g (float[1,1,4,4] x) => (float[1,1,8,8] y)
        <float[4] s = {1.0, 1.0, 2.0, 2.0}> { y = Resize<mode="linear">(x, , s) }""",
        False,
    ),
    "shrunk image": (
        """g (float[1,1,256,256] x) => (float[1,1,192,192] y)
        <int64[4] s = {1, 1, 192, 192}> { y = Resize<mode="linear", antialias=1>(x, , , s) }""",
        True,
    ),
    "maxima": (
        """g (float[1,2,8,8] x) => (float[1,2,4,4] y)
        { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }""",
        False,
    ),
    "maxima and places": (
        """g (float[1,2,8,8] x) => (float[1,2,4,4] y, int64[1,2,4,4] i)
        { y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }""",
        True,
    ),
}
"""Graphs whose operator runs on the processor in one form and not in another, and whether this one does."""


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_decide(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, on_host = FORMS[name]
    judged = model(graph, 19)
    if "Resize" in graph:  # which simplifying writes in products
        judged = simplify(judged, Limits())
    assert bool(claimed(judged)) == on_host
    assert bool(left_to_the_processor(judged, monkeypatch)) == on_host
