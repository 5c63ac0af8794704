"""Which layouts a network gets, and that it computes the same in all of them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.layout import choose_layouts
from deploycc.layout.costs import MOVED, TRANSPOSE, TRANSPOSE_CALL, operator_cycles, transpose_cycles
from deploycc.lowering import lower
from deploycc.operators import Conv2d, Operator
from deploycc.planning import plan
from deploycc.relax_graph import static_shape
from deploycc.scheduling import choose
from deploycc.tvm_api import relax
from deploycc.types import Program
from tests.linting.graphs import model as onnx_model
from tests.planning.harness import X86_64, run_plan
from tests.scheduling import chains
from tests.scheduling.graphs import (
    SCHEDULES,
    SEED,
    Built,
    Case,
    Graph,
    build,
    check,
    reference,
    wrong,
)
from tests.scheduling.test_properties import networks

Estimate = Callable[[Operator], float | None]
COMBINATIONS = ("NCHW->NCHW", "NCHW->NHWC", "NHWC->NCHW", "NHWC->NHWC")


def table(cycles: Mapping[str, float]) -> Estimate:
    """The same estimates for every convolution."""
    return lambda op: cycles.get(f"{op.data_layout}->{op.out_layout}") if isinstance(op, Conv2d) else None


def laid_out(case: Case, estimate: Estimate) -> Program:
    return choose_layouts(lower(build([case]).model, X86_64), X86_64, estimate)


def calls(program: Program, name: str) -> list[Any]:
    found: list[Any] = []

    def visit(expression: Any) -> None:
        if isinstance(expression, relax.Call) and getattr(expression.op, "name", "") == f"relax.{name}":
            found.append(expression)

    relax.analysis.post_order_visit(program.module["main"], visit)
    return found


def transposes(program: Program) -> list[list[int]]:
    """Shapes of the transposes' results."""
    return [static_shape(call) for call in calls(program, "permute_dims")]


def layouts(program: Program) -> list[str]:
    return [f"{c.attrs.data_layout}->{c.attrs.out_layout}" for c in calls(program, "nn.conv2d")]


def chain(count: int, size: int = 12, channels: int = 8) -> Case:
    def make(graph: Graph) -> str:
        x = graph.input(1, channels, size, size)
        for _ in range(count):
            y = graph.conv(x, channels, channels, (3, 3), pads=[1, 1, 1, 1])
            x = graph.add("Relu", y)
        return str(x)

    return Case("chain", make)


BORDER = TRANSPOSE_CALL + TRANSPOSE * 8 * 12 * 12
"""Cycles of one transpose of the chain's images."""


def test_equal_costs_leave_the_model_as_it_is() -> None:
    program = laid_out(chain(3), table(dict.fromkeys(COMBINATIONS, 1000.0)))
    assert layouts(program) == ["NCHW->NCHW"] * 3
    assert transposes(program) == []


@pytest.mark.parametrize(("gain", "moved"), [(0.9, False), (1.1, True)])
def test_channels_go_last_where_that_gains_more_than_two_transposes(gain: float, moved: bool) -> None:
    cheaper = 1e6 - gain * 2 * BORDER / 3
    program = laid_out(chain(3), table({"NCHW->NCHW": 1e6, "NHWC->NHWC": cheaper}))
    assert layouts(program) == (["NHWC->NHWC"] if moved else ["NCHW->NCHW"]) * 3
    assert len(transposes(program)) == (2 if moved else 0)


def test_convolutions_that_change_the_layout_need_no_transposes() -> None:
    costs = {"NCHW->NCHW": 1e6, "NHWC->NHWC": 1e4, "NCHW->NHWC": 1.05e4, "NHWC->NCHW": 1.05e4}
    program = laid_out(chain(4), table(costs))
    assert layouts(program) == ["NCHW->NHWC", "NHWC->NHWC", "NHWC->NHWC", "NHWC->NCHW"]
    assert transposes(program) == []


def test_only_what_a_schedule_takes_is_chosen() -> None:
    program = laid_out(chain(2), table({"NCHW->NHWC": 5.0}))
    assert layouts(program) == ["NCHW->NHWC"] * 2
    assert len(transposes(program)) == 2
    assert layouts(laid_out(chain(2), table({}))) == ["NCHW->NCHW"] * 2


def test_a_tensor_is_transposed_once_for_all_its_readers() -> None:
    def make(graph: Graph) -> tuple[str, ...]:
        x = graph.input(1, 8, 12, 12)
        return tuple(graph.add("Relu", graph.conv(x, 8, out, (1, 1))) for out in (8, 8, 8))

    gain = 0.5 * (BORDER + 3 * BORDER)
    program = laid_out(Case("fork", make), table({"NCHW->NCHW": 1e6, "NHWC->NHWC": 1e6 - gain}))
    assert layouts(program) == ["NHWC->NHWC"] * 3
    assert sorted(transposes(program)) == [[1, 8, 12, 12]] * 3 + [[1, 12, 12, 8]]


def test_activations_stay_with_their_convolutions() -> None:
    def make(graph: Graph) -> str:
        x = graph.input(1, 8, 12, 12)
        gate = graph.conv(graph.add("GlobalAveragePool", x), 8, 8, (1, 1))
        return str(graph.add("Mul", graph.conv(x, 8, 8, (1, 1)), graph.add("Sigmoid", gate)))

    costs = {"NCHW->NCHW": 1e6, "NHWC->NHWC": 1e3, "NCHW->NHWC": 1e3}
    program = laid_out(Case("gated", make), table(costs))
    conv, gate = (task.func for task in program.tasks)
    assert {conv.out_layout, gate.out_layout} == {"NHWC"}
    following = [call.args[0] for name in ("add", "sigmoid", "multiply") for call in calls(program, name)]
    assert [static_shape(operand)[3] for operand in following] == [8] * 4
    with mock.patch("deploycc.layout.graph.apart_cycles", return_value=0.0):
        apart = laid_out(Case("gated", make), table(costs))
    following = [call.args[0] for name in ("add", "sigmoid", "multiply") for call in calls(apart, name)]
    assert [static_shape(operand)[3] for operand in following] != [8] * 4


def joined(graph: Graph, batch: int) -> str:
    x = graph.input(batch, 8, 12, 12)
    parts = [graph.conv(x, 8, 8, (3, 3), pads=[1, 1, 1, 1]) for _ in range(2)]
    return graph.conv(graph.add("Concat", *parts, axis=1), 16, 8, (3, 3), pads=[1, 1, 1, 1])


def sliced(graph: Graph, batch: int) -> str:
    x = graph.conv(graph.input(batch, 8, 12, 12), 8, 16, (3, 3), pads=[1, 1, 1, 1])
    return str(graph.add("Slice", x, *map(graph.constant, ([3], [8], [1]))))


def cut(graph: Graph, batch: int) -> tuple[str, ...]:
    x = graph.conv(graph.input(batch, 8, 12, 12), 8, 16, (3, 3), pads=[1, 1, 1, 1])
    parts = graph.add("Split", x, graph.constant([8, 8]), results=2, axis=1)
    return tuple(graph.conv(part, 8, 8, (3, 3), pads=[1, 1, 1, 1]) for part in parts)


@pytest.mark.parametrize(
    ("graph", "operator", "moved"), [(joined, "concat", 16), (cut, "split", 16), (sliced, "strided_slice", 5)]
)
@pytest.mark.parametrize("batch", [1, 2])
def test_parts_that_are_runs_of_memory_cost_nothing(
    graph: Callable[[Graph, int], Any], operator: str, moved: int, batch: int
) -> None:
    program = lower(build([Case("parts", lambda g: graph(g, batch))]).model, X86_64)
    (call,) = calls(program, operator)
    elements = batch * moved * 12 * 12
    first, last = operator_cycles(call, X86_64)
    assert first == (0.0 if batch == 1 else pytest.approx(elements * MOVED[0]))
    assert last == pytest.approx(elements * MOVED[1])


def test_an_operator_without_a_rule_gets_the_models_order() -> None:
    def make(graph: Graph) -> str:
        y = graph.conv(graph.input(1, 4, 6, 6), 4, 8, (1, 1))
        flat = graph.add("Reshape", y, graph.constant([1, 288]))
        return str(graph.add("Softmax", flat, axis=1))

    program = laid_out(Case("flat", make), table({"NCHW->NCHW": 1e9, "NHWC->NHWC": 1.0}))
    assert sorted(transposes(program)) == [[1, 6, 6, 4], [1, 8, 6, 6]]


def test_the_models_own_transposes_vanish() -> None:
    def make(graph: Graph) -> str:
        x = graph.add("Transpose", graph.input(1, 12, 12, 8), perm=[0, 3, 1, 2])
        y = graph.conv(x, 8, 8, (3, 3), pads=[1, 1, 1, 1])
        return str(graph.add("Transpose", y, perm=[0, 2, 3, 1]))

    case = Case("from another framework", make)
    program = laid_out(case, table({"NCHW->NCHW": 1e6, "NHWC->NHWC": 1e6}))
    assert layouts(program) == ["NHWC->NHWC"]
    assert transposes(program) == []
    dear = laid_out(case, table({"NCHW->NCHW": 1e3, "NHWC->NHWC": 1e9}))
    assert layouts(dear) == ["NCHW->NCHW"]
    assert len(transposes(dear)) == 2


def regrouped(operator: str, **attributes: Any) -> Case:
    def make(graph: Graph) -> str:
        x = graph.conv(graph.input(1, 4, 6, 8), 4, 12, (3, 3), pads=[1, 1, 1, 1])
        y = graph.add(operator, x, **attributes)
        channels = 3 if operator == "DepthToSpace" else 48
        return str(graph.conv(y, channels, 5, (1, 1)))

    return Case(f"{operator} {attributes}", make)


def shuffled() -> Case:
    def make(graph: Graph) -> str:
        x = graph.conv(graph.input(1, 4, 6, 8), 4, 12, (1, 1))
        apart = graph.add("Reshape", x, graph.constant([1, 3, 4, 6, 8]))
        turned = graph.add("Transpose", apart, perm=[0, 2, 1, 3, 4])
        joined = graph.add("Reshape", turned, graph.constant([1, 12, 6, 8]))
        return str(graph.conv(joined, 12, 5, (1, 1)))

    return Case("channel shuffle", make)


REGROUPED = [
    regrouped("DepthToSpace", blocksize=2, mode="DCR"),
    regrouped("DepthToSpace", blocksize=2, mode="CRD"),
    regrouped("SpaceToDepth", blocksize=2),
    shuffled(),
]


@pytest.mark.parametrize("case", REGROUPED, ids=repr)
def test_channels_that_become_pixels_stay_last(case: Case) -> None:
    program = laid_out(case, table({"NCHW->NCHW": 1e9, "NHWC->NHWC": 1.0}))
    images = [shape for shape in transposes(program) if len(shape) == 4]
    assert sorted(images) in ([[1, 5, *images[0][2:]], [1, 6, 8, 4]], sorted([[1, 6, 8, 4], images[-1]]))
    assert len(images) == 2  # what goes in and what comes out
    assert len([shape for shape in transposes(program) if len(shape) > 4]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_networks_compute_the_same_in_every_layout(combination: str) -> None:
    check([*REGROUPED, *chains.NETWORKS[:1], *chains.FUSED[::6]], layouts=combination)


def random_layouts(seed: int) -> Estimate:
    """Any combination may be the cheapest, whether a schedule takes it or not."""

    def estimate(operator: Operator) -> float | None:
        if not isinstance(operator, Conv2d):
            return None
        return random.Random(f"{seed} {operator!r}").choice([1.0, 1e5, 1e6])

    return estimate


def run_in(built: Built, estimate: Estimate) -> list[Any]:
    program = choose_layouts(lower(built.model, X86_64), X86_64, estimate)
    return run_plan(plan(choose(program, X86_64, (SCHEDULES,)), X86_64), built.feeds, X86_64)


def test_networks_compute_the_same_in_mixed_layouts() -> None:
    cases = [*REGROUPED, chain(4), *chains.NETWORKS, *chains.FUSED[3::6]]
    built = build(cases)
    want = reference(built.model.proto, built.feeds)
    assert wrong(built, run_in(built, random_layouts(SEED)), want) == [], f"seed {SEED}"


def total(program: Program, estimate: Estimate) -> float:
    """What a program costs by the estimates and its transposes, read off the program itself."""
    convolutions = sum(task.uses * (estimate(task.func) or 0.0) for task in program.tasks)
    moved = 0.0
    for call in calls(program, "permute_dims"):
        shape = static_shape(call.args[0])
        if [int(axis) for axis in call.attrs.axes] == [0, 3, 1, 2]:
            shape = [shape[axis] for axis in (0, 3, 1, 2)]
        moved += transpose_cycles(shape, X86_64)
    return convolutions + moved


@given(drawn=networks(), seed=st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_no_other_choice_is_cheaper(drawn: tuple[Case, int], seed: int) -> None:
    """Against every way to fix the convolutions' layouts, the rest following."""
    case, _ = drawn
    if "pool" in case.name:
        return  # a pool has costs that a program does not show
    lowered = lower(build([case]).model, X86_64)
    random_cost = random.Random(seed)
    operators = [task.func for task in lowered.tasks]
    if len(operators) > 3:
        return
    costs = {
        replace(op, data_layout=data, out_layout=out): random_cost.choice([1e2, 1e3, 5e3, 2e4, math.inf])
        for op in operators
        for data, out in itertools.product(("NCHW", "NHWC"), repeat=2)
    }

    def estimate(operator: Operator) -> float | None:
        cost = costs[operator]
        return cost if math.isfinite(cost) else None

    if any(all(math.isinf(costs[other]) for other in costs if _alike(other, op)) for op in operators):
        return
    if any(_likes_to_differ([costs[other] for other in costs if _alike(other, op)]) for op in operators):
        return
    with mock.patch("deploycc.layout.graph.apart_cycles", return_value=0.0):  # a program does not show it
        best = total(choose_layouts(lowered, X86_64, estimate), estimate)
    feasible = [[op for op in costs if _alike(op, base) and math.isfinite(costs[op])] for base in operators]
    for fixed in itertools.product(*feasible):
        program = choose_layouts(lowered, X86_64, lambda op, fixed=fixed: 0.0 if op in fixed else None)
        assert best <= total(program, estimate) + 1e-6, f"{fixed}"


def _alike(first: Conv2d, second: Conv2d) -> bool:
    return replace(first, data_layout="NCHW", out_layout="NCHW") == replace(
        second, data_layout="NCHW", out_layout="NCHW"
    )


def _likes_to_differ(costs: list[float]) -> bool:
    return costs[1] + costs[2] < costs[0] + costs[3] or (math.isinf(costs[0]) or math.isinf(costs[3]))


def test_the_choice_says_what_it_compared() -> None:
    costs = {"NCHW->NCHW": 1e6, "NHWC->NHWC": 1e4, "NCHW->NHWC": 1.05e4}
    program = laid_out(chain(4), table(costs))
    assert [(choice.layouts, choice.uses) for choice in program.layouts] == [
        ("NCHW->NHWC", 1),
        ("NHWC->NHWC", 3),
    ]
    assert all(choice.cycles == costs for choice in program.layouts)
    assert "data_layout='NCHW', out_layout='NHWC'" in program.layouts[0].operator
    assert [task.uses for task in program.tasks] == [1, 3]


def test_control_flow_is_left_alone() -> None:
    program = lower(build([chain(1)]).model, X86_64)
    main = program.module["main"]
    split = relax.SeqExpr([*main.body.blocks, relax.BindingBlock([])], main.body.body)
    module = program.module.clone() if hasattr(program.module, "clone") else program.module
    module["main"] = relax.Function(main.params, split, main.ret_ty, main.is_pure, main.attrs)
    several = replace(program, module=module)
    assert choose_layouts(several, X86_64, table({"NHWC->NHWC": 1.0})) is several


def test_a_transpose_that_moves_nothing_is_free() -> None:
    assert transpose_cycles([1, 64, 1, 1], X86_64) == transpose_cycles([2, 1, 7, 9], X86_64) == 0.0
    small, large = [1, 8, 4, 4], [1, 64, 320, 320]
    assert transpose_cycles(small, X86_64) > 0
    per_element = [transpose_cycles(shape, X86_64) / np.prod(shape) for shape in (large, [1, 64, 20, 20])]
    assert per_element[0] > per_element[1]


def test_the_extents_of_an_image_are_no_image() -> None:
    """TVM's Gather of 64-bit indices computes the shape of its result: four numbers, no tensor."""
    graph = "g (float[5,4,3,2] x, int64[3] i) => (float[3,4,3,2] y) { y = Gather(x, i) }"
    program = choose_layouts(lower(onnx_model(graph), X86_64), X86_64, table({}))
    planned = plan(choose(program, X86_64, [SCHEDULES]), X86_64)
    data = np.random.default_rng(SEED).standard_normal((5, 4, 3, 2)).astype(np.float32)
    got = run_plan(planned, [data, np.array([0, 4, -1])], X86_64)[0]
    np.testing.assert_array_equal(got, data[[0, 4, -1]])
