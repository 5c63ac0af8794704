"""The polynomials of ``deploycc/scheduling/intrinsics.py``: how their coefficients were found.

Each is a minimax fit by Lawson's iteratively reweighted least squares (C. L. Lawson, 1961) in double
precision on Chebyshev points, with the coefficients rounded to float32 one after the other, lowest
degree first, the rest being fitted again each time.  Run this file to print them:

    python tests/scheduling/fit_polynomials.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def chebyshev_points(low: float, high: float, count: int = 4001) -> Array:
    """Points from ``low`` to ``high`` that lie densest at the ends."""
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(count) + 0.5) / count)


def fit(
    function: Callable[[Array], Array], low: float, high: float, degree: int, weight: Callable[[Array], Array]
) -> list[float]:
    """Float32 coefficients, lowest degree first, with the least largest weighted error found."""
    x = chebyshev_points(low, high)
    fixed: list[float] = []
    scale = weight(x)
    rest = function(x)
    for power in range(degree + 1):
        powers = np.arange(power, degree + 1)
        span = max(abs(low), abs(high))
        basis = (x[:, None] / span) ** powers * scale[:, None]
        goal = rest * scale
        lawson = np.ones_like(x)
        for _ in range(60):
            root = np.sqrt(lawson)[:, None]
            solution = np.linalg.lstsq(basis * root, goal * root[:, 0], rcond=None)[0]
            error = np.abs(basis @ solution - goal)
            lawson *= error + 1e-3 * error.max() + 1e-300
            lawson /= lawson.mean()
        coefficient = float(np.float32(solution[0] / span**power))
        fixed.append(coefficient)
        rest = rest - coefficient * x**power
    return fixed


def polynomial(coefficients: list[float], x: Array) -> Array:
    """The polynomial's values in double precision."""
    value = np.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def _erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x])


def _erfc(x: Array) -> Array:
    return np.array([math.erfc(v) for v in x])


HALF_LN2 = math.log(2) / 2

FITS: dict[str, tuple[Callable[[Array], Array], float, float, int, Callable[[Array], Array]]] = {
    # (e^r - 1 - r) / r^2
    "EXP": (
        lambda r: (np.expm1(r) - r) / r**2,
        -HALF_LN2 * 1.001, HALF_LN2 * 1.001, 4,
        lambda r: r**2 / np.exp(r),
    ),
    # (tanh(x)/x - 1) / s with s = x^2
    "TANH": (
        lambda s: (np.tanh(np.sqrt(s)) / np.sqrt(s) - 1) / s,
        1e-9, 0.65**2, 4,
        lambda s: s * np.sqrt(s) / np.tanh(np.sqrt(s)),
    ),
    # erf(x)/x - 1 with s = x^2
    "ERF_SMALL": (
        lambda s: _erf(np.sqrt(s)) / np.sqrt(s) - 1,
        1e-9, 0.95**2, 5,
        lambda s: np.sqrt(s) / _erf(np.sqrt(s)),
    ),
    # log(erfc(t)) / t
    "ERF_LARGE": (
        lambda t: np.log(_erfc(t)) / t,
        0.9, 4.0, 7,
        lambda t: t * _erfc(t) / _erf(t),
    ),
    # (log(1 + f) - f + f^2/2) / f^3
    "LOG": (
        lambda f: (np.log1p(f) - f + f**2 / 2) / f**3,
        math.sqrt(0.5) - 1.0, math.sqrt(2) - 1.0, 8,
        lambda f: np.abs(f**3 / np.log1p(f)),
    ),
}  # fmt: skip


def main() -> None:
    """Print every fit and the largest weighted error of its rounded coefficients."""
    for name, (function, low, high, degree, weight) in FITS.items():
        coefficients = fit(function, low, high, degree, weight)
        x = chebyshev_points(low, high, 20011)
        worst = np.abs((polynomial(coefficients, x) - function(x)) * weight(x)).max()
        print(
            f"{name} = (",
            *(f"    {c!r}," for c in coefficients),
            f")  # {worst / 2**-24:.3f} x 2^-24",
            sep="\n",
        )


if __name__ == "__main__":
    main()
