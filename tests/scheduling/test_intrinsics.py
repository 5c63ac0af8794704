"""Accuracy of the expanded intrinsics against float64, and that LLVM vectorises them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploycc.planning.codegen import source_of
from deploycc.scheduling import intrinsics
from deploycc.scheduling.intrinsics import expand_intrinsics
from deploycc.tvm_api import s_tir, te, tirx
from deploycc.types import Target
from tests.planning.harness import ARM64, ARMV7, X86_64, X86_64_V4, load_kernels
from tests.scheduling.fit_polynomials import FITS, chebyshev_points, polynomial

Array = np.ndarray[Any, Any]
COUNT = 1 << 16
STEP = 6151
"""Every how many float32 bit patterns one is tried: a prime, so that mantissas of all kinds come up."""


def _sigmoid(x: Array) -> Array:
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


def _erf(x: Array) -> Array:
    return np.array([math.erf(value) for value in x])


OPERATORS: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array], float]] = {
    "exp": (tirx.exp, np.exp, 1.05),
    "exp2": (tirx.exp2, np.exp2, 1.05),
    "log": (tirx.log, np.log, 0.85),
    "log2": (tirx.log2, np.log2, 1.0),
    "log10": (tirx.log10, np.log10, 0.95),
    "tanh": (tirx.tanh, np.tanh, 1.4),
    "sigmoid": (tirx.sigmoid, _sigmoid, 2.5),
    "erf": (tirx.erf, _erf, 1.25),
    "rsqrt": (tirx.rsqrt, lambda x: 1 / np.sqrt(x), 1.5),
    "pow3": (lambda x: tirx.pow(x, tirx.FloatImm("float32", 3)), lambda x: x**3, 1.5),
    "pow-2.5": (lambda x: tirx.pow(x, tirx.FloatImm("float32", -2.5)), lambda x: x**-2.5, 5.0),
}
"""By name: the intrinsic, its double-precision reference, the units in the last place it may be off."""


def elementwise(operator: Callable[[Any], Any], count: int = COUNT, dtype: str = "float32") -> Any:
    source = te.placeholder((count,), dtype, name="a")
    return te.create_prim_func([source, te.compute((count,), lambda i: operator(source[i]), name="b")])


@pytest.fixture(scope="module")
def kernels() -> dict[str, Callable[..., None]]:
    return load_kernels({name: expand_intrinsics(elementwise(op)) for name, (op, _, _) in OPERATORS.items()})


def run(kernel: Callable[..., None], x: Array) -> Array:
    y = np.empty_like(x)
    for start in range(0, len(x), COUNT):
        part = np.zeros(COUNT, x.dtype)
        size = min(COUNT, len(x) - start)
        part[:size] = x[start : start + size]
        result = np.empty_like(part)
        kernel(part, result)
        y[start : start + size] = result[:size]
    return y


@pytest.mark.parametrize("name", OPERATORS)
def test_error_in_units_in_the_last_place(name: str, kernels: dict[str, Callable[..., None]]) -> None:
    _, exact, limit = OPERATORS[name]
    step = 4 * STEP if name == "erf" else STEP
    x = np.arange(7, 1 << 32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        expected = exact(x.astype(np.float64))
        rounded = expected.astype(np.float32)
    got = run(kernels[name], x)
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(got[special], rounded[special])
    ordinary = ~special
    if name.startswith("pow-"):  # subnormal results may be 0
        ordinary &= np.abs(rounded) >= 2.0**-126
    unit = np.maximum(np.spacing(np.abs(rounded[ordinary])).astype(np.float64), 2.0**-149)
    error = np.abs(got[ordinary].astype(np.float64) - expected[ordinary]) / unit
    worst = int(np.argmax(error))
    assert error[worst] <= limit, (x[ordinary][worst], got[ordinary][worst], expected[ordinary][worst])


@pytest.mark.parametrize("name", [name for name in OPERATORS if not name.startswith("pow")])
def test_edges_are_those_of_libm(name: str, kernels: dict[str, Callable[..., None]]) -> None:
    edges = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        math.inf,
        -math.inf,
        math.nan,
        1e-45,
        -1e-45,
        1.2e-38,
        3.4e38,
        -3.4e38,
        8.0,
    ]
    x = np.array(edges, np.float32)
    with np.errstate(all="ignore"):
        expected = OPERATORS[name][1](x.astype(np.float64)).astype(np.float32)
    got = run(kernels[name], x)
    np.testing.assert_allclose(got, expected, rtol=3e-7, atol=0)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("target", [X86_64, X86_64_V4, ARM64, ARMV7], ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "erf", "pow3"])
def test_vectorised_loops_use_whole_registers(name: str, target: Target) -> None:
    func = elementwise(OPERATORS[name][0], 1024)
    schedule = s_tir.Schedule(func)
    _, inner = schedule.split(schedule.get_loops(schedule.get_sblock("b"))[0], [None, target.simd.lanes()])
    schedule.vectorize(inner)
    text = source_of(expand_intrinsics(schedule.mod["main"]), target, "asm")
    assert not re.findall(r"^\s+(?:bl|call\w*)\s", text, re.MULTILINE)
    products = re.findall(
        r"^\s+(?:v?f?mul|vfn?m(?:add|sub)|fml[as]|vml[as]|vfm[as])[.\w]*\s.*", text, re.MULTILINE
    )
    register = {"x86-64": r"%?ymm", "x86-64-v4": r"%?zmm", "arm64": r"v\d+\.4s", "armv7": r"\bq\d"}[
        target.name
    ]
    assert products
    assert [line for line in products if not re.search(register, line)] == []


def test_half_precision_is_computed_in_single() -> None:
    half = expand_intrinsics(elementwise(tirx.tanh, dtype="float16"))
    x = np.linspace(-4, 4, COUNT).astype(np.float16)
    got = run(load_kernels({"tanh": half})["tanh"], x)
    np.testing.assert_array_equal(got, np.tanh(x.astype(np.float64)).astype(np.float16))


@pytest.mark.parametrize(
    ("operator", "dtype"),
    [
        (tirx.exp, "float64"),
        (tirx.sin, "float32"),
        (lambda x: tirx.pow(x, tirx.FloatImm("float32", 0.3)), "float32"),
        (lambda x: tirx.pow(x, tirx.FloatImm("float32", 17)), "float32"),
        (lambda x: tirx.pow(x, x), "float32"),
        (lambda x: x * x, "float32"),
    ],
    ids=["exp_float64", "sin", "pow_0.3", "pow_17", "pow_of_variable", "no_intrinsic"],
)
def test_what_is_left_alone(operator: Callable[[Any], Any], dtype: str) -> None:
    func = elementwise(operator, dtype=dtype)
    assert expand_intrinsics(func).same_as(func)


@pytest.mark.parametrize("name", FITS)
def test_coefficients_fit_their_function(name: str) -> None:
    function, low, high, _, weight = FITS[name]
    x = chebyshev_points(low, high, 20011)
    coefficients = list(getattr(intrinsics, f"_{name}"))
    error = np.abs((polynomial(coefficients, x) - function(x)) * weight(x)).max()
    assert error < 0.5 * 2**-24
    worse = [*coefficients[:-1], coefficients[-1] * 1.5]
    assert np.abs((polynomial(worse, x) - function(x)) * weight(x)).max() > error
