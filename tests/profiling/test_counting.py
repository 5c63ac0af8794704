"""What a step computes and moves, from its entry in a manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploycc.profiling.counting import flops_of, moves_only, nbytes_of


def step(operators: str, *reads: tuple[int, ...], out: tuple[int, ...] = (2, 3, 5), size: int = 4) -> Any:
    """A step that reads tensors of these shapes and writes one; elements have ``size`` bytes."""
    return {
        "symbol": "k",
        "operators": operators.split(),
        "reads": [
            {"kind": "arena", "offset": 1000 * i, "bytes": size * int(np.prod(shape))}
            for i, shape in enumerate(reads)
        ],
        "writes": [
            {"kind": "output", "index": 0, "offset": 0, "bytes": size * int(np.prod(out)), "shape": list(out)}
        ],
    }


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (step("relu", (2, 3, 5)), 30),
        (step("multiply add reshape sigmoid", (2, 3, 5), (5,)), 90),
        (step("sum", (2, 3, 5, 7)), 210),
        (step("square mean", (2, 3, 5, 7), size=2), 240),
        (step("reshape transpose concat", (2, 3, 5)), 0),
        (step("max_pool2d", (2, 3, 50)), 0),
        (step("relu softmax", (2, 3, 5)), 0),
        (step("matmul", (2, 3, 11), (2, 11, 5)), 2 * 30 * 11),
        (step("matmul add", (2, 3, 11), (11, 5), (5,), size=2), 2 * 30 * 11),
        # 7 steps of 3 rows of 4 gates, each a product of 5 terms for 5 units.
        (step("lstm", (7, 3, 4 * 5), (1, 1, 5, 4, 5), out=(7, 1, 3, 5)), 2 * 7 * 3 * 4 * 5 * 5),
        ({**step("conv2d add relu", (2, 3, 5)), "flops": 12345}, 12345),
    ],
)
def test_operations_are_counted_as_documented(call: Any, flops: int) -> None:
    assert flops_of(call) == flops


def test_a_result_of_unknown_shape_is_not_counted() -> None:
    call = step("relu", (2, 3, 5))
    del call["writes"][0]["shape"]
    assert flops_of(call) == 0


def test_bytes_are_those_of_each_tensor_once() -> None:
    call = step("add", (2, 3, 5), (5,))
    assert nbytes_of(call) == 4 * (30 + 5 + 30)
    call["reads"].append(dict(call["reads"][0]))  # x + y * x
    assert nbytes_of(call) == 4 * (30 + 5 + 30)


def test_copies_are_steps_without_arithmetic() -> None:
    assert moves_only("memcpy", ())
    assert moves_only("k", ("transpose", "reshape"))
    assert not moves_only("k", ("transpose", "relu"))
    assert not moves_only("k", ())
