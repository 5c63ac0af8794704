"""Transpositions, alone and fused: every element in its place, at tile edges and below a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from deploycc.planning import plan
from deploycc.resources import data_dir
from deploycc.scheduling import choose
from deploycc.tvm_api import relax
from deploycc.types import Program, Target, TensorInfo
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1, 23, 7, 9), (0, 2, 3, 1)),
    ((2, 7, 9, 37), (0, 3, 1, 2)),
    ((1, 16, 4, 4), (0, 2, 3, 1)),
    ((2, 3, 5, 31), (0, 2, 3, 1)),
    ((1, 11, 13, 2), (0, 3, 1, 2)),
    ((1, 5, 1, 7), (0, 2, 3, 1)),
    ((3, 2, 17, 33), (0, 1, 3, 2)),
    ((5, 6, 7), (2, 1, 0)),
    ((19, 3, 4, 5), (3, 0, 2, 1)),
    ((40, 65), (1, 0)),
]


def program(shape: Sequence[int], order: Sequence[int], fused: bool, dtype: str = "float32") -> Program:
    """``permute_dims``; fused: of max(x, 0), and + a vector + a tensor of the result's shape."""
    x = relax.Var("x", relax.TensorType(tuple(shape), dtype))
    result = tuple(shape[axis] for axis in order)
    z = relax.Var("z", relax.TensorType(result, dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, z]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.relu(x)) if fused else x
            y = builder.emit(relax.op.permute_dims(y, list(order)))
            if fused:
                y = builder.emit(relax.op.add(y, relax.const(np.arange(result[-1]), dtype)))
                y = builder.emit(relax.op.add(y, z))
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    inputs = (TensorInfo("x", dtype, tuple(shape)), TensorInfo("z", dtype, result))
    return Program(builder.get(), (), inputs, (TensorInfo("y", dtype, result),))


def check(
    shape: Sequence[int], order: Sequence[int], fused: bool, target: Target, dtype: str = "float32"
) -> None:
    chosen = choose(program(shape, order, fused, dtype), target, [data_dir("schedules")])
    assert [choice.schedule for choice in chosen.choices] == ["transpose"], chosen.choices
    random = np.random.default_rng(len(shape))
    x, z = (random.integers(-99, 99, info.shape).astype(dtype) for info in chosen.inputs)
    (y,) = run_plan(plan(chosen, target), [x, z], target)
    expected: Any = x.transpose(order)
    if fused:
        expected = np.maximum(expected, 0) + np.arange(expected.shape[-1], dtype=dtype) + z
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("fused", [False, True], ids=["alone", "fused"])
@pytest.mark.parametrize(("shape", "order"), SHAPES)
def test_elements_are_in_their_places(shape: Sequence[int], order: Sequence[int], fused: bool) -> None:
    check(shape, order, fused, X86_64)


@pytest.mark.parametrize("dtype", ["int8", "float16", "int64"])
def test_elements_of_other_sizes(dtype: str) -> None:
    check((2, 33, 5, 7), (0, 2, 3, 1), dtype != "float16", X86_64, dtype)


@pytest.mark.parametrize("target", [X86_64_V4, ARM64], ids=lambda target: target.name)
@pytest.mark.parametrize(("shape", "order"), SHAPES[:4])
def test_on_another_machine(shape: Sequence[int], order: Sequence[int], target: Target) -> None:
    if not host_can_run(target) or (target.emulator and find_emulator(target) is None):
        pytest.skip(f"nothing here runs {target.name}")
    check(shape, order, True, target)


def test_what_is_no_transposition_stays_elementwise() -> None:
    for shape, order in [((1, 1, 8, 8), (0, 2, 3, 1)), ((4, 3, 5, 6), (1, 0, 2, 3))]:
        chosen = choose(program(shape, order, False), X86_64, [data_dir("schedules")])
        assert "transpose" not in {choice.schedule for choice in chosen.choices}
        assert all("transposed" in choice.skipped["transpose"] for choice in chosen.choices)


@pytest.mark.parametrize("pads", [(1, 2, 0, 3), (3, 3, 3, 3)])
def test_padding_reads_nothing_beyond_its_operand(pads: tuple[int, int, int, int]) -> None:
    """Tiles are loaded whole, also those of the border: a network of a padded image crashed."""
    top, left, bottom, right = pads
    x = relax.Var("x", relax.TensorType((1, 21, 19, 3), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            padded = builder.emit(relax.op.nn.pad(x, [0, 0, top, bottom, left, right, 0, 0]))
            out = builder.emit_output(relax.op.permute_dims(padded, [0, 3, 1, 2]))
        builder.emit_func_output(out)
    result = (1, 3, 21 + top + bottom, 19 + left + right)
    inputs = (TensorInfo("x", "float32", (1, 21, 19, 3)),)
    made = Program(builder.get(), (), inputs, (TensorInfo("y", "float32", result),))
    chosen = choose(made, X86_64, [data_dir("schedules")])
    (choice,) = chosen.choices
    assert "beyond" in choice.skipped["transpose"], choice
    data = np.random.default_rng(7).standard_normal((1, 21, 19, 3)).astype("float32")
    (y,) = run_plan(plan(chosen, X86_64), [data], X86_64)
    expected = np.pad(data, ((0, 0), (top, bottom), (left, right), (0, 0))).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(y, expected)
