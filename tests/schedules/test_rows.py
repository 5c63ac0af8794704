"""Softmax, normalisations and reductions: extents, knobs, machines, and what becomes of infinities."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploycc.resources import data_dir
from deploycc.types import Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan
from tests.scheduling.graphs import SEED, Case, Graph, build, check, compile_cases, reference, wrong
from tests.scheduling.graphs import schedule as schedule_model

WIDEST = X86_64_V4 if host_can_run(X86_64_V4) else X86_64


def one(operator: str, *shape: int, operands: Sequence[Any] = (), **attributes: Any) -> Case:
    """One operator; an operand is a shape of weights or a list of integers."""

    def make(graph: Graph) -> str:
        made = [graph.weight(*o) if isinstance(o, tuple) else graph.constant(o) for o in operands]
        return str(graph.add(operator, graph.input(*shape), *made, **attributes))

    return Case(f"{operator}{shape} {attributes}", make)


def behind(case: Case, *operators: str) -> Case:
    """``case`` and elementwise operators fused behind it."""

    def make(graph: Graph) -> str:
        result = case.build(graph)
        for operator in operators:
            result = graph.add(operator, result)
        return str(result)

    return Case(f"{case.name} {operators}", make)


def layer_norm(*shape: int, axis: int = -1) -> Case:
    size = shape[axis:]
    return one("LayerNormalization", *shape, operands=(size, size), axis=axis)


SOFTMAX = [
    *(one("Softmax", 3, extent, axis=-1) for extent in (4, 15, 16, 17, 31, 97, 331)),
    one("Softmax", 1, 97, 40, axis=1),
    one("Softmax", 2, 2, 5, 13, axis=1),
    one("Softmax", 5, 7, 3, axis=0),
    one("LogSoftmax", 7, 131, axis=-1),
    one("LogSoftmax", 2, 9, 33, axis=1),
    behind(one("Softmax", 5, 53, axis=-1), "Relu", "Neg"),
    one("Softmax", 2, 6625, axis=-1),
]
NORMALIZATIONS = [
    *(layer_norm(1, 5, extent) for extent in (8, 31, 32, 33, 97, 331)),
    layer_norm(3, 5, 17, 3, axis=-2),
    one("InstanceNormalization", 1, 6, 7, 9, operands=((6,), (6,))),
    behind(one("InstanceNormalization", 2, 3, 37, operands=((3,), (3,))), "Relu"),
    behind(layer_norm(2, 7, 37), "Relu"),
]
REDUCTIONS = [
    one("GlobalAveragePool", 1, 7, 13, 17),
    *(one("ReduceMean", 2, 5, *size, axes=[2, 3]) for size in ((19, 23), (1, 331), (4, 4), (7, 1))),
    one("ReduceMax", 3, 7, 33, axes=[1]),
    one("ReduceMin", 5, 6, 7, axes=[0, 2]),
    one("ReduceSum", 5, 6625, operands=([1],)),
    one("ReduceSum", 5, 97, 3, operands=([1],)),
    one("ReduceProd", 5, 9, axes=[1]),
    one("ReduceL2", 5, 6, 7, axes=[0, 1]),
    one("ReduceMax", 97, axes=[0]),
    one("ReduceMean", 11, 97, axes=[1], keepdims=0),
    behind(one("ReduceMean", 11, 131, axes=[1]), "Sigmoid"),
]
CASES = [*SOFTMAX, *NORMALIZATIONS, *REDUCTIONS]


@pytest.mark.parametrize("target", [X86_64, ARM64], ids=lambda target: target.name)
def test_every_extent(target: Target) -> None:
    if not host_can_run(target) or (target.emulator and find_emulator(target) is None):
        pytest.skip(f"nothing here runs {target.name}")
    check(CASES, target)


@pytest.mark.parametrize(
    ("schedule", "cases"),
    [("softmax", SOFTMAX[2:]), ("normalization", NORMALIZATIONS[1:]), ("reduction", REDUCTIONS[:9])],
)
def test_who_takes_what(schedule: str, cases: Sequence[Case]) -> None:
    chosen = schedule_model(build(cases).model, WIDEST)
    assert {choice.schedule for choice in chosen.choices} == {schedule}


def thrown(folder: Path, seed: int, names: Sequence[str]) -> Path:
    """The schedules ``names`` with a throw of dice for their estimate."""
    folder.mkdir()
    for name in names:
        text = (data_dir("schedules") / f"{name}.py").read_text(encoding="utf-8")
        text += (
            "\n\nimport zlib\n_estimate = cost\n\n\ndef cost(match, knobs):\n"
            "    if _estimate(match, knobs) is None:\n        return None\n"
            f"    return zlib.crc32(repr(({seed}, match.kernel, sorted(knobs.items()))).encode()) / 2**32\n"
        )
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def test_any_knobs_give_the_same_results(tmp_path: Path) -> None:
    built = build(CASES)
    folder = thrown(tmp_path / "dice", SEED, ("softmax", "normalization", "reduction"))
    planned = compile_cases(built, WIDEST, folder)
    lines = wrong(built, run_plan(planned, built.feeds, WIDEST), reference(built.model.proto, built.feeds))
    assert lines == [], f"seed {SEED}"
    assert len({str(dict(call.knobs)) for call in planned.calls}) > 3


def results(case: Case, change: Callable[[np.ndarray[Any, Any]], None]) -> tuple[Any, Any]:
    """What we compute and the input, after ``change`` to it."""
    built = build([case], zlib.crc32(case.name.encode()))
    (x,) = built.feeds.values()
    change(x)
    (got,) = run_plan(compile_cases(built, WIDEST), built.feeds, WIDEST)
    return got, x


def test_softmax_is_as_good_as_float64() -> None:
    def widen(x: np.ndarray[Any, Any]) -> None:
        x *= 20

    got, x = results(one("Softmax", 31, 131, axis=-1), widen)
    exact = np.exp((x - x.max(-1, keepdims=True)).astype(np.float64))
    exact /= exact.sum(-1, keepdims=True)
    counts = exact > 1e-34
    assert np.abs(got[counts] / exact[counts] - 1).max() < 2e-6
    assert np.abs(got[~counts]).max(initial=0.0) < 2e-34


def test_masked_elements_of_a_softmax_are_nothing() -> None:
    def mask(x: np.ndarray[Any, Any]) -> None:
        x[:, 5:90] = -np.inf
        x[1] = -np.inf
        x[2, 3] = np.nan
        x[3] *= 1e30

    got, x = results(one("Softmax", 5, 97, axis=-1), mask)
    assert (got[0, 5:90] == 0).all()
    assert got[0].sum() == pytest.approx(1, abs=1e-6)
    assert np.isnan(got[1]).all()
    assert np.isnan(got[2]).any()
    assert got[3].argmax() == x[3].argmax()
    assert got[3].max() == 1


def test_infinities_are_reduced_as_such() -> None:
    def extreme(x: np.ndarray[Any, Any]) -> None:
        x[0], x[1, 17] = -np.inf, np.inf

    got, x = results(one("ReduceMax", 3, 37, axes=[1]), extreme)
    assert np.array_equal(got, x.max(1, keepdims=True))


def test_what_overlaps_is_counted_once() -> None:
    def ones(x: np.ndarray[Any, Any]) -> None:
        x[:] = 1

    for extent in (17, 31, 97, 437):
        got, _ = results(one("ReduceSum", 3, extent, operands=([1],)), ones)
        assert got.ravel().tolist() == [extent] * 3
