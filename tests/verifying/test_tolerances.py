"""Tolerances by dtype and depth: between what is documented, growing with the chain of roundings."""

from __future__ import annotations

import math
from typing import Any

import pytest

from deploycc.tolerances import RELATIVE_TOLERANCE, SHARP
from deploycc.verifying.tolerances import (
    LAMBDA,
    UNIT_ROUNDOFF,
    depth_tolerance,
    output_roundings,
    output_tolerances,
    widened,
)


def buffer(kind: str, offset: int, count: int, index: int | None = None) -> dict[str, Any]:
    place = {"kind": kind, "offset": offset, "bytes": count}
    return place if index is None else {**place, "index": index}


def call(reads: list[dict[str, Any]], writes: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    return {"symbol": "k", "operators": ["conv2d"], "reads": reads, "writes": writes, **others}


X, Y, Z = buffer("input", 0, 400, 0), buffer("output", 0, 400, 0), buffer("output", 0, 400, 1)


def manifest(calls: list[dict[str, Any]], dtypes: tuple[str, ...] = ("float32", "float32")) -> dict[str, Any]:
    outputs = [{"name": name, "dtype": dtype} for name, dtype in zip("yz", dtypes, strict=True)]
    return {"calls": calls, "outputs": outputs}


def test_a_convolution_rounds_once_for_each_product_it_adds() -> None:
    first = call([X], [buffer("arena", 0, 400)], flops=2 * 100 * 27)
    second = call([buffer("arena", 0, 400)], [Y], flops=2 * 100 * 9)
    other = call([X], [Z], operators=["add", "mul", "relu"])
    assert output_roundings(manifest([first, second, other])) == [36, 3]


def test_the_longest_chain_counts_where_memory_is_used_again() -> None:
    calls = [
        call([X], [buffer("arena", 0, 400)], flops=2 * 100 * 50),
        call([X], [buffer("arena", 400, 400)], flops=2 * 100 * 5),
        # Reads the end of the second only, and writes over the first's end.
        call([buffer("arena", 600, 200)], [buffer("arena", 200, 200)], flops=2 * 50 * 7),
        call([buffer("arena", 200, 200)], [Y], flops=0),
        call([buffer("arena", 0, 400)], [Z], flops=2 * 100 * 1),
    ]
    assert output_roundings(manifest(calls)) == [5 + 7 + 1, 50 + 1]


def test_copies_round_nothing_and_sums_without_flops_count_what_they_read() -> None:
    calls = [
        call([X], [buffer("arena", 0, 4)], operators=["mean"]),
        {**call([buffer("arena", 0, 4)], [Y]), "symbol": "memcpy"},
        {**call([X], [Z]), "symbol": "memcpy"},
    ]
    assert output_roundings(manifest(calls)) == [100, 0]


@pytest.mark.parametrize("dtype", list(UNIT_ROUNDOFF))
def test_a_tolerance_grows_with_the_root_of_the_depth_within_its_bounds(dtype: str) -> None:
    most = RELATIVE_TOLERANCE[dtype]
    assert depth_tolerance(dtype, 0) == SHARP * most
    assert depth_tolerance(dtype, 1e30) == most
    depths = [10.0**n for n in range(20)]
    found = [depth_tolerance(dtype, depth) for depth in depths]
    assert found == sorted(found)
    between = (0.5 * most / LAMBDA / UNIT_ROUNDOFF[dtype]) ** 2
    assert depth_tolerance(dtype, between) == pytest.approx(0.5 * most)


def test_integers_must_be_equal_whatever_the_depth() -> None:
    assert depth_tolerance("int64", 1e9) == 0.0
    assert widened(0.0, "int64", 0.5) == 0.0


def test_what_the_reference_may_be_off_by_is_allowed_up_to_a_cap() -> None:
    assert widened(5e-5, "float32", 0.0) == 5e-5
    assert widened(5e-5, "float32", 3e-4) == pytest.approx(6.5e-4)
    assert widened(5e-5, "float32", math.inf) == pytest.approx(1.005e-2)


def test_a_network_that_computes_in_half_precision_has_its_tolerance() -> None:
    table = manifest([call([X], [Y]), call([X], [Z])], ("float32", "int64"))
    assert output_tolerances(table, {}, computed_in="float16") == [depth_tolerance("float16", 1), 0.0]
    assert output_tolerances(table, {}, computed_in="float64") == [depth_tolerance("float32", 1), 0.0]
    assert output_tolerances(table, {"": 0.5, "y": 0.25}) == [0.25, 0.5]
