"""Transcendental functions as plain arithmetic, so that LLVM can vectorise the loops they are in.

TVM leaves ``exp``, ``tanh`` and the like to libm: one scalar call an element.  ``expand_intrinsics``
replaces them by branch-free float32 arithmetic (polynomials, selects, shifts of the bit pattern).
The methods are the textbook ones (Cody and Waite, "Software Manual for the Elementary Functions",
1980: argument reduction with a two-part constant, then a polynomial; Tang's splitting of ``log``);
the polynomials are minimax fits of our own, made by ``tests/lowering/fit_polynomials.py``.

Error in units in the last place of the float32 result, measured on x86-64 with FMA against float64
over every 64th float32 bit pattern (``tests/lowering/test_intrinsics.py`` measures a part again):
exp 1.01, exp2 1.02, log 0.81, log2 0.93, log10 0.86, tanh 1.29, sigmoid 2.41, rsqrt 1.46, and
over every 256th pattern erf 1.06.  One core computes 1.5 to 2.8 elements a nanosecond with AVX-512,
where libm's scalar calls take 4 to 16 ns an element.
``pow`` with a constant exponent that is an integer or half an integer of at most 16 becomes
multiplications and square roots.  NaN, infinities, signed zeros, overflow and gradual underflow
come out as libm's do, except that ``pow(-inf, n + 0.5)`` and ``pow(-0.0, n + 0.5)`` are those of
square roots (NaN and -0.0) and that a negative power may be 0 where it should be subnormal.
float16 arguments are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from deploycc.tvm_api import ir, structural_map, structural_walk, tirx

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693359375
"""ln 2 to 11 bits: its product with an integer below 2**13 is exact."""
_LN2_LOW = -2.1219444005469057e-4
"""ln 2 - _LN2_HIGH."""
_ROUND = 12582912.0
"""1.5 * 2**23: adding it leaves the nearest integer in the low bits of the sum."""
_ROUND_BITS = 0x4B400000

_EXP = (
    0.4999999403953552,
    0.1666652113199234,
    0.041668277233839035,
    0.008368686772882938,
    0.0013819823507219553,
)
"""(e**r - 1 - r) / r**2 for abs(r) <= ln(2) / 2."""

_TANH = (
    -0.3333325982093811,
    0.1333082914352417,
    -0.053687918931245804,
    0.020469099283218384,
    -0.005514836870133877,
)
"""(tanh(x) / x - 1) / s in s = x**2, for abs(x) <= 0.65."""

_ERF_SMALL = (
    0.12837913632392883,
    -0.3761241137981415,
    0.11280985176563263,
    -0.02673749439418316,
    0.004951895214617252,
    -0.0005787613918073475,
)
"""erf(x) / x - 1 in s = x**2, for abs(x) <= 0.95."""

_ERF_LARGE = (
    -1.1285414695739746,
    -0.6356729865074158,
    -0.1051698550581932,
    0.022576043382287025,
    -0.0028694167267531157,
    2.755436253210064e-05,
    4.991453897673637e-05,
    -5.294649326970102e-06,
)
"""ln(erfc(t)) / t for 0.9 <= t <= 4."""

_LOG = (
    0.3333331346511841,
    -0.25000008940696716,
    0.20002073049545288,
    -0.1666799634695053,
    0.14220327138900757,
    -0.12406031787395477,
    0.1188356801867485,
    -0.1167144924402237,
    0.06750956177711487,
)
"""(ln(1 + f) - f + f**2 / 2) / f**3 for 1 + f from sqrt(1/2) to sqrt(2)."""

_LOWEST_NORMAL = -86.5
"""e to this is 2.7e-38, above the least normal number with room for the rounding of n."""
_SQRT_HALF_BITS = 0x3F3504F3
_LARGEST_POWER = 16
_ONLY_IN_LIBM = frozenset(("sinh", "cosh", "asinh", "acosh", "atanh"))
"""Intrinsics that TVM's LLVM code generator does not know, or not for every type."""


def expand_intrinsics(func: Any) -> Any:
    """``func`` (a PrimFunc, scheduled or not) with float32 and float16 intrinsics made arithmetic.

    Replaced are ``exp``, ``exp2``, ``log``, ``log2``, ``log10``, ``tanh``, ``sigmoid``, ``erf``,
    ``rsqrt`` and ``pow`` with a suitable constant exponent; everything else, float64 and general
    powers among it, stays a call of libm.  So does one whose argument was already made arithmetic:
    TVM's simplifier puts the value of every ``Let`` in the place of its variable, which takes time
    exponential in the depth (``log(1 + exp(x))`` for minutes).  Hyperbolic functions that TVM has no
    code for become calls of libm.  Returns ``func`` itself if there is nothing to replace.
    """
    body = structural_map(func.body, (ir.Call, _expand), order="post")
    return func if body.same_as(func.body) else func.with_body(body)


def exp_of_negative(x: Any) -> Any:
    """e**x of float32 for ``x`` of at most 0 (or NaN), what would be below 3e-38 as 0.

    It has two thirds of the instructions of ``exp``: the result is never subnormal and never overflows, so
    that the power of two is added to the exponent's bits.  Softmax is the use: its largest term is 1.
    """
    s = _Scope()
    x = s.let(x)
    bounded = s.let(_at_least(x, _LOWEST_NORMAL))
    shifted, mantissa = _exp_split(s, bounded)
    power = _bits(shifted) << _i(23)  # of _ROUND_BITS nothing is left
    return s.close(tirx.Select(x < _f(_LOWEST_NORMAL), _f(0.0), _float(_bits(mantissa) + power)))


def with_own_names(value: Any) -> Any:
    """``value`` with new variables for what its ``Let`` s bind.

    An expression that is written several times, each time of other elements, binds a variable to different
    values: in one vectorized loop TVM refuses that.
    """
    found: list[Any] = []
    structural_walk(value, (tirx.Let, found.append))
    if not found:
        return value
    fresh = {let.var: tirx.Var(let.var.name, let.var.ty) for let in found}

    def renamed(node: Any) -> Any:
        if isinstance(node, tirx.Let):
            return tirx.Let(fresh.get(node.var, node.var), node.value, node.body)
        return fresh.get(node, node)

    return structural_map(value, ((ir.Var, tirx.Let), renamed), order="post")


class _Scope:
    """Values that are used more than once, bound one after the other around a final expression."""

    def __init__(self) -> None:
        self.bindings: list[tuple[Any, Any]] = []

    def let(self, value: Any, dtype: str = "float32") -> Any:
        if isinstance(value, tirx.Var):
            return value
        variable = tirx.Var(f"t{len(self.bindings)}", ir.PrimType(dtype))
        self.bindings.append((variable, value))
        return variable

    def close(self, value: Any) -> Any:
        for variable, bound in reversed(self.bindings):
            value = tirx.Let(variable, bound, value)
        return value


def _expand(call: Any) -> Any:
    if not isinstance(call.op, ir.Op) or not call.op.name.startswith(("tirx.", "prim.")):
        return call
    dtype = str(call.ty.dtype) if hasattr(call.ty, "dtype") else ""
    # TVM keeps most of them in the namespace tirx and some in prim
    name = call.op.name.rsplit(".", 1)[-1]
    if name in _ONLY_IN_LIBM and dtype in ("float16", "float32", "float64"):
        return _libm(name, call.args[0], dtype)
    if dtype not in ("float32", "float16"):
        return call
    scope = _Scope()
    if name == "pow":
        power = call.args[1]
        while isinstance(power, tirx.Cast):
            power = power.value
        exponent = float(power.value) if isinstance(power, tirx.FloatImm | tirx.IntImm) else 0.25
        if not (2 * exponent).is_integer() or abs(exponent) > _LARGEST_POWER:
            return call
        if exponent in (2.0, 3.0) and isinstance(call.args[0], ir.TensorLoad | tirx.Var):
            factors = [_widened(call.args[0], dtype)] * int(
                exponent
            )  # without a Let, so that others may nest it
            result = reduce(lambda left, right: left * right, factors)
            return result if dtype == "float32" else tirx.Cast(dtype, result)
        if _has_let(call.args[0]):
            return call
        result = _power(scope, scope.let(_widened(call.args[0], dtype)), exponent)
    elif name in _EXPANSIONS:
        if _has_let(call.args[0]):
            return call
        result = _EXPANSIONS[name](scope, scope.let(_widened(call.args[0], dtype)))
    else:
        return call
    result = scope.close(result)
    return result if dtype == "float32" else tirx.Cast(dtype, result)


def _has_let(value: Any) -> bool:
    found: list[Any] = []
    structural_walk(value, (tirx.Let, found.append))
    return bool(found)


def _libm(name: str, value: Any, dtype: str) -> Any:
    if dtype == "float64":
        return tirx.call_pure_extern(dtype, name, value)
    result = tirx.call_pure_extern("float32", f"{name}f", _widened(value, dtype))
    return result if dtype == "float32" else tirx.Cast(dtype, result)


def _widened(value: Any, dtype: str) -> Any:
    return value if dtype == "float32" else tirx.Cast("float32", value)


def _f(value: float) -> Any:
    return tirx.FloatImm("float32", value)


def _i(value: int) -> Any:
    return tirx.IntImm("int32", value)


def _bits(value: Any) -> Any:
    return tirx.reinterpret("int32", value)


def _float(bits: Any) -> Any:
    return tirx.reinterpret("float32", bits)


def _horner(coefficients: tuple[float, ...], x: Any) -> Any:
    value = _f(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + _f(coefficient)
    return value


def _at_most(x: Any, high: float) -> Any:
    """min(x, high) that passes NaN on."""
    return tirx.Select(x > _f(high), _f(high), x)


def _at_least(x: Any, low: float) -> Any:
    """max(x, low) that passes NaN on."""
    return tirx.Select(x < _f(low), _f(low), x)


def _sign_of(x: Any) -> Any:
    return _bits(x) & _i(-(2**31))


def _magnitude(x: Any) -> Any:
    return _float(_bits(x) & _i(2**31 - 1))


def _exp_split(s: _Scope, x: Any) -> tuple[Any, Any]:
    """n + _ROUND and e**r (from 0.7 to 1.42) with e**x = 2**n * e**r; x within +-2900."""
    shifted = s.let(x * _f(_LOG2_E) + _f(_ROUND))
    whole = s.let(shifted - _f(_ROUND))
    r = s.let(x - whole * _f(_LN2_HIGH))
    r = s.let(r - whole * _f(_LN2_LOW))
    return shifted, s.let(r * r * _horner(_EXP, r) + r + _f(1.0))


def _exp_parts(s: _Scope, x: Any) -> tuple[Any, Any]:
    """n (int32) and e**r as ``_exp_split`` has them."""
    shifted, mantissa = _exp_split(s, x)
    return s.let(_bits(shifted) - _i(_ROUND_BITS), "int32"), mantissa


def _power_of_two(n: Any) -> Any:
    """2**n for n from -126 to 127."""
    return _float((n + _i(127)) << _i(23))


def _scaled(s: _Scope, value: Any, n: Any) -> Any:
    """value * 2**n for n from -252 to 254, rounded once where the result is subnormal."""
    half = s.let(n >> _i(1), "int32")
    return value * _power_of_two(half) * _power_of_two(n - half)


def _exp(s: _Scope, x: Any) -> Any:
    # e**89 overflows and e**-104 is below half the smallest subnormal number
    n, mantissa = _exp_parts(s, s.let(_at_least(_at_most(x, 89.0), -104.0)))
    return _scaled(s, mantissa, n)


def _exp2(s: _Scope, x: Any) -> Any:
    x = s.let(_at_least(_at_most(x, 129.0), -151.0))
    shifted = s.let(x + _f(_ROUND))
    r = s.let((x - (shifted - _f(_ROUND))) * _f(0.6931471805599453))
    n = s.let(_bits(shifted) - _i(_ROUND_BITS), "int32")
    return _scaled(s, s.let(r * r * _horner(_EXP, r) + r + _f(1.0)), n)


def _log_parts(s: _Scope, x: Any) -> tuple[Any, Any, Any]:
    """(e, f, g) with x = 2**e * (1 + f), ln(1 + f) = f + g; x positive and finite."""
    tiny = x < _f(2.0**-126)  # not bound: TVM's analyser fails on a bound vector of booleans
    i = s.let(_bits(tirx.Select(tiny, x * _f(2.0**23), x)), "int32")
    above = s.let(i - _i(_SQRT_HALF_BITS), "int32")
    e = s.let(tirx.Cast("float32", above >> _i(23)) - tirx.Select(tiny, _f(23.0), _f(0.0)))
    f = s.let(_float((above & _i(0x7FFFFF)) + _i(_SQRT_HALF_BITS)) - _f(1.0))
    z = s.let(f * f)
    return e, f, s.let(z * f * _horner(_LOG, f) - z * _f(0.5))


def _log_edges(x: Any, result: Any) -> Any:
    result = tirx.Select(x < _float(_i(0x7F800000)), result, x)
    result = tirx.Select(x < _f(0.0), _float(_i(0x7FC00000)), result)
    return tirx.Select(x == _f(0.0), _float(_i(0x7F800000 - 2**31)), result)


def _log(s: _Scope, x: Any) -> Any:
    e, f, g = _log_parts(s, x)
    return _log_edges(x, s.let(e * _f(_LN2_LOW) + g + f + e * _f(_LN2_HIGH)))


def _log_base(base_log: float) -> Callable[[_Scope, Any], Any]:
    """The logarithm to a base given by ln(base), its reciprocal in two parts of 12 and 24 bits."""
    factor = 1 / base_log
    high = round(factor * 2**11) / 2**11
    two = 0.6931471805599453 / base_log
    two_high = round(two * 2**11) / 2**11

    def expansion(s: _Scope, x: Any) -> Any:
        e, f, g = _log_parts(s, x)
        # f + g as a float of 12 bits and the rest, so that the product with ``high`` is exact
        head = s.let(_float(_bits(f + g) & _i(-4096)))
        tail = s.let(f - head + g)
        small = tail * _f(factor) + head * _f(factor - high) + e * _f(two - two_high)
        return _log_edges(x, s.let(small + head * _f(high) + e * _f(two_high)))

    return expansion


def _tanh(s: _Scope, x: Any) -> Any:
    t = s.let(_magnitude(x))
    z = s.let(x * x)
    small = s.let(x * z * _horner(_TANH, z) + x)
    # tanh(9.02) is 1 in float32
    n, mantissa = _exp_parts(s, s.let(_at_most(t, 9.02) * _f(2.0)))
    large = s.let(_f(1.0) - _f(2.0) / (mantissa * _power_of_two(n) + _f(1.0)))
    # the sign goes on last, because ``small`` turns -0.0 into 0.0
    return _float(_bits(tirx.Select(t < _f(0.625), small, large)) | _sign_of(x))


def _sigmoid(s: _Scope, x: Any) -> Any:
    n, mantissa = _exp_parts(s, s.let(_at_least(_f(0.0) - _magnitude(x), -104.0)))
    z = s.let(_scaled(s, mantissa, n))
    return tirx.Select(x < _f(0.0), z, _f(1.0)) / (z + _f(1.0))


def _erf(s: _Scope, x: Any) -> Any:
    t = s.let(_magnitude(x))
    z = s.let(x * x)
    small = s.let(x * _horner(_ERF_SMALL, z) + x)
    u = s.let(_at_most(t, 4.0))
    n, mantissa = _exp_parts(s, s.let(u * _horner(_ERF_LARGE, u)))
    large = s.let(_f(1.0) - mantissa * _power_of_two(n))
    return tirx.Select(t < _f(0.92), small, _float(_bits(large) | _sign_of(x)))


def _rsqrt(_: _Scope, x: Any) -> Any:
    return _f(1.0) / tirx.sqrt(x)


def _power(s: _Scope, x: Any, exponent: float) -> Any:
    """x**exponent for an exponent that is half an integer, by repeated squaring."""
    remaining, square = int(abs(exponent)), x
    result = s.let(tirx.sqrt(x)) if not abs(exponent).is_integer() else None
    while remaining:
        if remaining & 1:
            result = square if result is None else s.let(result * square)
        remaining >>= 1
        if remaining:
            square = s.let(square * square)
    if result is None:
        return _f(1.0)
    return _f(1.0) / result if exponent < 0 else result


_EXPANSIONS: dict[str, Callable[[_Scope, Any], Any]] = {
    "exp": _exp,
    "exp2": _exp2,
    "log": _log,
    "log2": _log_base(0.6931471805599453),
    "log10": _log_base(2.302585092994046),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "erf": _erf,
    "rsqrt": _rsqrt,
}

EXPANDED = frozenset((*_EXPANSIONS, "pow", *_ONLY_IN_LIBM))
"""Functions that ``expand_intrinsics`` replaces."""
