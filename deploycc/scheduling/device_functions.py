"""Functions of half-precision numbers on a GPU: by way of float32, as on the processor.

CUDA has a few of them for ``half`` and none for all that TVM would name; what it has is less exact.
"""

from __future__ import annotations

from typing import Any

from deploycc.tvm_api import ir, structural_map, tirx

_FUNCTIONS = frozenset(
    f"tirx.{name}"
    for name in (
        "acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh erf exp exp10 exp2 fabs floor fmod "
        "hypot ldexp log log10 log1p log2 nearbyint nextafter pow round rsqrt sigmoid sin sinh sqrt tan "
        "tanh trunc"
    ).split()
)
_HALVES = ("float16", "bfloat16")


def with_wide_functions(func: Any) -> Any:
    """``func`` with every function of a half-precision number computed in float32 and rounded once."""

    def widen(call: Any) -> Any:
        if not isinstance(call.op, ir.Op) or call.op.name not in _FUNCTIONS:
            return call
        dtype = str(call.ty.dtype)
        if dtype not in _HALVES:
            return call
        wide = [argument.astype("float32") for argument in call.args]
        return tirx.call_intrin("float32", call.op.name, *wide).astype(dtype)

    body = structural_map(func.body, (ir.Call, widen), order="post")
    return func if body.same_as(func.body) else func.with_body(body)
