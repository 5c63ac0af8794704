"""Products of two computed matrices: batches, broadcasting, a transposed right side, at tile edges and 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploycc.types import Target
from tests.planning.harness import ARM64, X86_64, find_emulator, host_can_run, run_plan
from tests.schedules.test_rows import WIDEST, thrown
from tests.scheduling.graphs import SEED, Case, Graph, build, check, compile_cases, reference, wrong


def product(left: tuple[int, ...], right: tuple[int, ...], turned: bool = False, fused: bool = True) -> Case:
    """``left`` x ``right``; ``turned``: the last two axes of ``right`` change places first."""

    def make(graph: Graph) -> str:
        x, w = graph.input(*left), graph.input(*right)
        if turned:
            order = [*range(len(right) - 2), len(right) - 1, len(right) - 2]
            w = graph.add("Transpose", w, perm=order)
        y = graph.add("MatMul", x, w)
        if not fused:
            return str(y)
        return str(graph.add("Relu", graph.add("Mul", y, graph.constant(np.array(0.3, np.float32)))))

    return Case(f"{left}x{right}{' turned' if turned else ''}", make)


CASES = [
    product((2, 17, 24), (2, 24, 17)),
    product((2, 3, 5, 7), (2, 3, 7, 11)),
    product((3, 5, 7), (7, 33)),
    product((3, 1, 5, 7), (1, 2, 7, 9)),
    product((1, 7), (7, 33)),
    product((1, 2, 1, 16), (1, 2, 16, 31), fused=False),
    product((19, 7), (7, 3)),
    product((97, 31), (31, 97), fused=False),
    product((37, 1), (1, 41)),
    product((2, 29, 16), (2, 16, 65)),
    product((331, 5), (5, 24)),
    product((2, 17, 24), (2, 19, 24), turned=True),
    product((2, 5, 9), (2, 37, 9), turned=True),
    product((1, 3, 2), (1, 5, 2), turned=True),
    product((601, 257), (257, 17)),  # few columns and work for threads: cut into bands of rows
    product((1, 601, 257), (1, 17, 257), turned=True),
]
OTHERS = [product((7,), (7, 5)), product((5, 7), (7,)), product((2, 5, 7), (2, 7, 1))]


@pytest.mark.parametrize("target", [X86_64, ARM64], ids=lambda target: target.name)
def test_products(target: Target) -> None:
    if not host_can_run(target) or (target.emulator and find_emulator(target) is None):
        pytest.skip(f"nothing here runs {target.name}")
    planned = check([*CASES, *OTHERS], target)
    taken = [call for call in planned.calls if call.schedule == "batched_matmul"]
    assert len(taken) >= len(CASES) - 1


def test_any_knobs_give_the_same_results(tmp_path: Path) -> None:
    built = build(CASES)
    planned = compile_cases(built, WIDEST, thrown(tmp_path / "dice", SEED, ("batched_matmul",)))
    lines = wrong(built, run_plan(planned, built.feeds, WIDEST), reference(built.model.proto, built.feeds))
    assert lines == [], f"seed {SEED}"
    knobs = [call.knobs for call in planned.calls if call.schedule == "batched_matmul"]
    assert {k["packed"] for k in knobs} == {0, 1}
    assert len({k["tile"] for k in knobs}) > 3


def test_what_has_no_two_matrices_says_so() -> None:
    planned = compile_cases(build(OTHERS), WIDEST)
    assert "batched_matmul" not in {call.schedule for call in planned.calls}
