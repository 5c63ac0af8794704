"""The measures of an error, against plain loops over Python floats and hand-made cases."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from deploycc.verifying.numbers import difference

SEED = int(np.random.default_rng().integers(2**32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_measures_are_those_of_a_plain_loop(dtype: str) -> None:
    generator = np.random.default_rng(SEED)
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    expected = generator.standard_normal((3, 1, 7)).astype(kind)
    noise = generator.standard_normal(expected.shape) * 0.01
    got = (expected.astype(np.float64) + noise).astype(kind)

    found = difference("y", expected, got, 1e-9)

    pairs = [(float(a), float(b)) for a, b in zip(expected.ravel(), got.ravel(), strict=True)]
    errors = [abs(a - b) for a, b in pairs]
    magnitude = max(abs(a) for a, _ in pairs)
    assert found.dtype == dtype, SEED
    assert found.max_abs == max(errors)
    assert found.max_scaled == max(errors) / magnitude
    assert found.max_rel == max(abs(a - b) / abs(a) for a, b in pairs)
    assert found.worst_expected == pairs[errors.index(max(errors))][0]
    assert found.worst_got == float(got[found.worst_index])
    signal = math.fsum(a * a for a, _ in pairs)
    noise_power = math.fsum(e * e for e in errors)
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / noise_power))
    dot = math.fsum(a * b for a, b in pairs)
    norms = math.sqrt(signal) * math.sqrt(math.fsum(b * b for _, b in pairs))
    assert found.cosine == pytest.approx(dot / norms, abs=1e-12)
    assert not found.ok
    assert "largest scaled error" in found.reason
    assert sum(count for _, count in found.histogram) == expected.size
    below = 0
    for bound, count in found.histogram:
        below += count
        assert below == sum(e / magnitude <= bound for e in errors), bound


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_ulps_count_representable_values_across_zero(kind: type, steps: int) -> None:
    tiny: npt.NDArray[Any] = np.nextafter(np.asarray(0, kind), np.asarray(1, kind))
    got: npt.NDArray[Any] = np.asarray([-0.0], kind)
    for _ in range(steps):
        got = np.nextafter(got, np.asarray([-1], kind))
    assert difference("y", np.asarray([tiny]), got, 1.0).max_ulp == 1 + steps
    assert difference("y", np.asarray([0.0], kind), got, 1.0).max_ulp == steps
    one: npt.NDArray[Any] = np.asarray([1.0], kind)
    assert difference("y", one, np.nextafter(one, np.asarray([2], kind)), 1.0).max_ulp == 1


def test_the_tightest_tolerance_passes_and_the_next_smaller_one_does_not() -> None:
    generator = np.random.default_rng(SEED)
    expected = generator.standard_normal((5, 5)).astype(np.float32)
    got = expected + generator.standard_normal((5, 5)).astype(np.float32) * np.float32(1e-3)
    tightest = difference("y", expected, got, 0.0).max_scaled
    assert difference("y", expected, got, tightest).ok, SEED
    assert not difference("y", expected, got, math.nextafter(tightest, 0.0)).ok, SEED


def test_nan_and_infinity_must_meet_their_like() -> None:
    expected = np.asarray([math.nan, math.inf, -math.inf, 1.0, 2.0], np.float32)
    same = difference("y", expected, expected.copy(), 0.0)
    assert (same.ok, same.nan, same.infinite, same.unexpected) == (True, 1, 2, 0)
    assert same.max_abs == 0.0
    assert same.worst_index == (0,)

    for at, value in ((0, 0.0), (1, -math.inf), (2, math.nan), (3, math.nan), (4, math.inf)):
        got = expected.copy()
        got[at] = value
        found = difference("y", expected, got, 1e9)
        assert not found.ok, at
        assert found.unexpected == 1
        assert found.worst_index == (at,)
        assert found.max_abs == 0.0
        assert "1 of 5 values NaN or infinite" in found.reason
        assert found.histogram[-1] == (math.inf, 1)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "uint64"])
def test_integers_differ_or_do_not(dtype: str) -> None:
    expected = np.asarray([[0, 1], [1, 0]]).astype(dtype)
    assert difference("y", expected, expected.copy(), 0.0).ok
    got = expected.copy()
    got[1, 0] = 0
    found = difference("y", expected, got, 0.0)
    assert not found.ok
    assert (found.max_ulp, found.max_abs, found.worst_index) == (1, 1.0, (1, 0))
    assert (found.cosine, found.sqnr_db) == (None, None)
    assert found.reason == "1 of 4 values differ"


def test_integers_that_are_one_float64_still_differ() -> None:
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    expected = np.asarray([2**53, low], np.int64)
    assert not difference("y", expected, np.asarray([2**53 + 1, low], np.int64), 0.0).ok
    assert difference("y", expected, np.asarray([2**53, high], np.int64), 0.0).max_ulp == 2**64 - 1


def test_extremes_do_not_overflow_into_agreement() -> None:
    largest = np.finfo(np.float64).max
    found = difference("y", np.asarray([largest]), np.asarray([-largest]), 1.0)
    assert not found.ok
    assert found.cosine == -1.0
    huge = np.full(4, 1e38, np.float32)
    assert difference("y", huge, huge * np.float32(0.5), 1.0).sqnr_db == pytest.approx(
        20 * math.log10(2), rel=1e-6
    )


def test_zeros_scalars_and_nothing() -> None:
    zeros = np.zeros((2, 2), np.float32)
    same = difference("y", zeros, zeros, 1e-4)
    assert (same.ok, same.max_rel, same.cosine, same.sqnr_db) == (True, 0.0, None, None)
    other = difference("y", zeros, zeros + np.float32(1e-20), 1e-4)
    assert (other.ok, other.max_scaled, other.max_rel) == (False, math.inf, 0.0)
    scalar = difference("y", np.asarray(3, np.float32), np.asarray(4, np.float32), 0.5)
    assert (scalar.ok, scalar.worst_index, scalar.max_abs) == (True, (), 1.0)
    empty = difference("y", np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), 0.0)
    assert (empty.ok, empty.elements, empty.worst_index) == (True, 0, ())


def test_other_shapes_and_types_are_no_match() -> None:
    found = difference("y", np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32), 1.0)
    assert not found.ok
    assert found.reason == "float32[2, 1] instead of float32[1, 2]"
    assert not difference("y", np.zeros(2, np.float32), np.zeros(2, np.float64), 1.0).ok
