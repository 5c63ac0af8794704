"""What is stored in half of the bytes, what stays float32, and that nothing else is rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploycc.planning import plan, plan_chips
from deploycc.planning.network import read_network
from deploycc.precision_error import rounding_like
from deploycc.relax_graph import constant_value
from deploycc.scheduling import choose, schedule_with
from deploycc.scheduling.placing import runs_on_device
from deploycc.tvm_api import ir
from deploycc.types import JOINED, DeployccError, Precision, Program
from tests.planning.cuda.chips import SM_75, SM_90, target_of
from tests.planning.device_harness import run_device_plan
from tests.planning.harness import X86_64, run_plan
from tests.scheduling.graphs import SCHEDULES, SEED, Case, Graph, build, in_layouts, reference, schedule

HALVES: dict[Precision, str] = {"fp16": "float16", "bf16": "bfloat16"}
ROUNDING = {"fp16": 2.0**-11, "bf16": 2.0**-8, "tf32": 2.0**-11}


def network(g: Graph) -> Any:
    """Convolutions, a pool, a concatenation of runs, a host step's like, a product and a softmax."""
    x = g.input(1, 16, 10, 10)
    a = g.add("Relu", g.conv(x, 16, 24, (3, 3), pads=[1, 1, 1, 1]))
    b = g.conv(g.add("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 24, 16, (1, 1))
    c = g.add("Sigmoid", g.conv(b, 16, 16, (3, 3), pads=[1, 1, 1, 1]))
    joined = g.add("Concat", b, c, axis=1)
    flat = g.add("Flatten", joined)
    return g.add("Softmax", g.add("MatMul", flat, g.constant(_small(g, 800, 12))), axis=1)


def _small(g: Graph, rows: int, columns: int) -> Any:
    return (g.rng.standard_normal((rows, columns)) / 28).astype(np.float32)


def scheduled(case: Callable[[Graph], Any], precision: Precision, chip: Any = SM_90) -> Program:
    built = build([Case("case", case)])
    return schedule(built.model, replace(target_of(chip), precision=precision))


def calls(program: Program) -> list[tuple[Any, Any, Any]]:
    """Every kernel's call: the PrimFunc, its operands, the variable."""
    return [
        (program.module[binding.value.args[0].name_hint], list(binding.value.args[1].fields), binding.var)
        for block in program.module["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, ir.Call) and binding.value.op.name == "relax.call_tir"
    ]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_is_stored_in_half(precision: Precision) -> None:
    program, half = scheduled(network, precision), HALVES[precision]
    found = calls(program)
    for function, fields, variable in found:
        types = [str(field.ty.dtype) for field in fields] + [str(variable.ty.dtype)]
        declared = [str(one.ty.dtype) for one in list(function.params)[: len(types)]]
        assert types == declared
        for field in fields:
            value = constant_value(field)
            if value is not None:
                # Biases have up to 24 elements, weights at least 384, packed as a schedule likes.
                assert str(field.ty.dtype) == (half if value.size > 100 else "float32"), field.ty
    assert [str(p.ty.dtype) for p in program.module["main"].params] == ["float32"]
    assert str(program.module["main"].ret_ty.dtype) == "float32"
    inner = [str(variable.ty.dtype) for _, _, variable in found[:-1]]
    assert inner.count(half) == len(inner), inner
    assert all(runs_on_device(function) or JOINED in function.attrs for function, _, _ in found)
    # Every kernel still has its operators, whatever its name has become.
    assert all(choice.operators for choice in program.choices)
    read_network(program.module, {})


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_storage_of_other_precisions_is_float32(precision: Precision) -> None:
    for function, _, _ in calls(scheduled(network, precision)):
        assert all(str(parameter.ty.dtype) == "float32" for parameter in function.params)


def test_what_the_processor_reads_stays_float32() -> None:
    def graph(g: Graph) -> Any:
        values = g.add("Relu", g.conv(g.input(1, 3, 4, 4), 3, 8, (1, 1)))
        top, _ = g.add("TopK", g.add("Reshape", values, g.constant([8, 16])), g.constant([3]), results=2)
        return g.add("Mul", top, top)

    for function, fields, variable in calls(scheduled(graph, "fp16")):
        if not runs_on_device(function):
            kinds = [field.ty for field in fields] + [variable.ty]
            flat = [one for kind in kinds for one in getattr(kind, "fields", [kind])]
            assert "float16" not in [str(one.dtype) for one in flat]


def test_views_count_bytes_of_what_is_stored() -> None:
    """A split along the leading axis is two views of one tensor."""

    def graph(g: Graph) -> Any:
        x = g.add("Relu", g.input(4, 6, 5, 5))
        a, b = g.add("Split", x, results=2, axis=0)
        return g.add(
            "Add", g.add("MaxPool", a, kernel_shape=[2, 2]), g.add("MaxPool", b, kernel_shape=[2, 2])
        )

    compare(graph, "fp16", on_device=False)


def test_weights_beyond_float16() -> None:
    def graph(g: Graph) -> Any:
        return g.add("MatMul", g.input(4, 8), g.constant(np.full((8, 8), 7e4, np.float32)))

    with pytest.raises(DeployccError) as caught:
        scheduled(graph, "fp16")
    (finding,) = caught.value.diagnostics
    assert finding.code == "DC525"
    assert "70000" in finding.got
    assert "bf16" in finding.help
    scheduled(graph, "bf16")


def test_masks_beyond_float16_stay_as_they_are() -> None:
    """No factor of a product: what is added or compared with may be as large as float32 allows."""

    def graph(g: Graph) -> Any:
        mask = np.where(np.eye(6, dtype=bool), np.float32(0), np.finfo(np.float32).min)
        return g.add("Softmax", g.add("Add", g.input(2, 6, 6), g.constant(mask)), axis=-1)

    compare(graph, "fp16", on_device=False)


def compare(case: Callable[[Graph], Any], precision: Precision, on_device: bool, chip: Any = SM_90) -> None:
    """Beside ONNX Runtime on a graph that rounds all that may be: a few units of the coarser type."""
    built = build([Case("case", case)])
    values = list(built.feeds.values())
    if on_device:
        target = replace(target_of(chip), precision=precision)
        (made,) = plan_chips((schedule(built.model, target),), target)
        got = run_device_plan(made, values, target)
    else:  # the same kernels' plain loops, without a GPU's schedules
        target = replace(X86_64, precision=precision)
        program = in_layouts(built.model, X86_64)
        got = run_plan(plan(schedule_with(program, target, (), {}), X86_64), values, X86_64)
    rounding = rounding_like(built.model.proto, precision)
    assert rounding is not None
    for ours, theirs, exact in zip(
        got, reference(rounding, built.feeds), reference(built.model.proto, built.feeds), strict=True
    ):
        scale = float(np.abs(exact).max())
        bound = 8 * ROUNDING[precision] * scale
        assert np.abs(theirs - exact).max() <= bound
        assert np.abs(ours - exact).max() <= bound, f"DEPLOYCC_TEST_SEED={SEED}"


def test_plain_loops_round_where_they_store() -> None:
    compare(network, "fp16", on_device=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chip", "precision"),
    [(SM_75, "fp16"), (SM_90, "fp16"), (SM_90, "bf16"), (SM_90, "tf32"), (SM_75, "bf16")],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_network_on_a_gpu(chip: Any, precision: Precision) -> None:
    compare(network, precision, on_device=True, chip=chip)


def test_sums_are_not_rounded_on_the_way() -> None:
    """4096 terms of 1 and 2**-11 in turns: a sum in float16 would lose every second one."""

    def graph(g: Graph) -> Any:
        terms = np.where(np.arange(4096) % 2, np.float32(2.0**-11), np.float32(1 / 64))
        weight = np.ones((4096, 2), np.float32)
        value = g.add("MatMul", g.add("Add", g.input(1, 4096), g.constant(terms[None])), g.constant(weight))
        return g.add("Relu", g.add("ReduceSum", value, g.constant([1]), keepdims=1))

    built = build([Case("case", graph)])
    values = [np.zeros((1, 4096), np.float32)]
    program = in_layouts(built.model, X86_64)
    target = replace(X86_64, precision="fp16")
    (got,) = run_plan(plan(schedule_with(program, target, (), {}), X86_64), values, X86_64)
    assert got.item() == pytest.approx(2 * 2048 * (1 / 64 + 2.0**-11), rel=2.0**-10)


def test_a_choice_of_a_lowered_program_stays_alone() -> None:
    """The program that is scheduled for several precisions is not changed by one of them."""
    built = build([Case("case", network)])
    program = in_layouts(built.model, target_of(SM_90))
    before = program.module.script()
    choose(program, replace(target_of(SM_90), precision="fp16"), (SCHEDULES,))
    assert program.module.script() == before
