"""Arithmetic of floats, and of pairs of float16 and bfloat16."""

from __future__ import annotations

from collections.abc import Callable

from deploycc.emulating.frame import Frame, Handler
from deploycc.emulating.integers import (
    INTEGER_TYPES,
    halves,
    integer_binary,
    integer_unary,
    last_type,
    multiply,
    unknown,
)
from deploycc.emulating.syntax import Instruction

HANDLERS: dict[str, Handler] = {}

_ROUNDINGS = {"rz", "rm", "rp"}
_KNOWN_PARTS = {
    *_ROUNDINGS,
    *("rn", "ftz", "sat", "relu", "approx", "full", "NaN", "xorsign", "noftz", "oob"),
}


def elementwise(
    frame: Frame, i: Instruction, kind: str, texts: tuple[str, ...], compute: Callable[[list[str]], str]
) -> str:
    """``compute`` of operands as C floats, for f16 and bf16 rounded to them, for pairs on each half.

    The result is an expression of type ``kind``; operands are names or numbers and may stand twice.
    """
    half = kind.removesuffix("x2")
    if half not in ("f16", "bf16"):
        values = [frame.value(i, text, kind) for text in texts]
        return compute(
            [f"dcc_ftz({value})" for value in values] if "ftz" in i.parts and kind == "f32" else values
        )
    values = [frame.value(i, text, kind) for text in texts]
    if not kind.endswith("x2"):
        return f"dcc_to_{half}({compute([f'dcc_from_{half}({value})' for value in values])})"
    sides = [
        f"dcc_to_{half}({compute([f'dcc_from_{half}({halves(value)[side]})' for value in values])})"
        for side in (0, 1)
    ]
    return f"dcc_pair({sides[0]}, {sides[1]})"


def _finish(i: Instruction, kind: str, expression: str) -> str:
    """The modifiers that change a result: .ftz, .sat and .relu."""
    narrow = kind not in ("f32", "f64")
    if "ftz" in i.parts and kind == "f32":
        expression = f"dcc_ftz({expression})"
    if "sat" in i.parts:
        expression = f"dcc_sat_{'f32' if narrow else kind}({expression})"
    if "relu" in i.parts:
        expression = f"dcc_relu({expression})"
    return expression


def _result(frame: Frame, i: Instruction, operands: int, compute: Callable[[list[str]], str]) -> str:
    kind = last_type(i)
    if kind in INTEGER_TYPES or len(i.operands) != operands + 1 or set(i.parts[1:-1]) - _KNOWN_PARTS:
        raise unknown(i)
    expression = elementwise(frame, i, kind, i.operands[1:], lambda values: _finish(i, kind, compute(values)))
    return frame.assign(i, i.operands[0], expression, kind)


def _rounding(i: Instruction) -> str:
    return next((part for part in i.parts[1:-1] if part in _ROUNDINGS), "")


def _arithmetic(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    if kind in INTEGER_TYPES:
        return multiply(frame, i) if i.name == "mul" else integer_binary(frame, i)
    mode = _rounding(i)
    sign = {"add": "+", "sub": "-", "mul": "*"}[i.name]
    if mode and kind not in ("f32", "f64"):
        raise unknown(i)
    if mode and kind == "f64" and i.name == "sub":
        return _result(frame, i, 2, lambda v: f"dcc_add_f64_{mode}({v[0]}, -{v[1]})")
    if mode:
        return _result(frame, i, 2, lambda v: f"dcc_{i.name}_{kind}_{mode}({v[0]}, {v[1]})")
    return _result(frame, i, 2, lambda v: f"({v[0]} {sign} {v[1]})")


def _fused(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    if kind in INTEGER_TYPES:
        return multiply(frame, i)
    mode = _rounding(i)
    if mode:
        if kind not in ("f32", "f64"):
            raise unknown(i)
        return _result(frame, i, 3, lambda v: f"dcc_fma_{kind}_{mode}({', '.join(v)})")
    name = {"f32": "fmaf", "f64": "fma", "f16": "dcc_fma_f16", "f16x2": "dcc_fma_f16"}.get(
        kind, "dcc_fma_narrow"
    )
    return _result(frame, i, 3, lambda v: f"{name}({', '.join(v)})")


def _division(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    if kind in INTEGER_TYPES:
        return integer_binary(frame, i)
    mode = _rounding(i)
    if mode:
        return _result(frame, i, 2, lambda v: f"dcc_div_{kind}_{mode}({v[0]}, {v[1]})")
    return _result(frame, i, 2, lambda v: f"({v[0]} / {v[1]})")


def _reciprocal(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    one = "1.0" if kind == "f64" else "1.0f"
    mode = _rounding(i)
    if mode:
        return _result(frame, i, 1, lambda v: f"dcc_div_{kind}_{mode}({one}, {v[0]})")
    return _result(frame, i, 1, lambda v: f"({one} / {v[0]})")


def _root(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    mode = _rounding(i)
    if mode:
        return _result(frame, i, 1, lambda v: f"dcc_sqrt_{kind}_{mode}({v[0]})")
    return _result(frame, i, 1, lambda v: f"{'sqrt' if kind == 'f64' else 'sqrtf'}({v[0]})")


def _function(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    if kind == "f64" and i.name != "rsqrt":
        raise unknown(i)
    name = {"ex2": "exp2f", "lg2": "log2f", "sin": "sinf", "cos": "cosf", "tanh": "tanhf"}.get(i.name, "")
    if i.name == "rsqrt":
        cast = "" if kind == "f64" else "(float)"
        return _result(frame, i, 1, lambda v: f"{cast}(1.0 / sqrt((double){v[0]}))")
    return _result(frame, i, 1, lambda v: f"{name}({v[0]})")


def _extreme(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    if kind in INTEGER_TYPES:
        return integer_binary(frame, i)
    if "xorsign" in i.parts or len(i.operands) != 3:
        raise unknown(i)
    suffix = "f64" if kind == "f64" else "f32"

    def compute(v: list[str]) -> str:
        call = f"dcc_{i.name}_{suffix}({v[0]}, {v[1]})"
        return f"dcc_nan_f32({v[0]}, {v[1]}, {call})" if "NaN" in i.parts else call

    return _result(frame, i, 2, compute)


def _sign(frame: Frame, i: Instruction) -> str:
    """abs and neg: the sign bit, so that a NaN keeps its other bits."""
    kind = last_type(i)
    if kind in INTEGER_TYPES:
        return integer_unary(frame, i)
    masks = {"f16": "0x8000u", "bf16": "0x8000u", "f16x2": "0x80008000u", "bf16x2": "0x80008000u"}
    if kind in masks:
        value = frame.value(i, i.operands[1], kind)
        changed = f"{value} ^ {masks[kind]}" if i.name == "neg" else f"{value} & ~{masks[kind]}"
        return frame.assign(i, i.operands[0], f"({changed})", kind)
    name = {"f32": "fabsf", "f64": "fabs"}[kind]
    return _result(frame, i, 1, lambda v: f"(-{v[0]})" if i.name == "neg" else f"{name}({v[0]})")


def _copy_sign(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    name = "copysign" if kind == "f64" else "copysignf"
    return _result(frame, i, 2, lambda v: f"{name}({v[1]}, {v[0]})")


def _test(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    a = frame.value(i, i.operands[1], kind)
    tests = {
        "finite": f"isfinite({a})",
        "infinite": f"isinf({a})",
        "number": f"({a} == {a})",
        "notanumber": f"({a} != {a})",
        "normal": f"isnormal({a})",
        "subnormal": f"(isfinite({a}) && !isnormal({a}) && {a} != 0)",
    }
    if i.parts[1] not in tests or kind not in ("f32", "f64"):
        raise unknown(i)
    return frame.assign(i, i.operands[0], f"({tests[i.parts[1]]}) != 0", "pred")


HANDLERS |= {
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    **dict.fromkeys(("fma", "mad"), _fused),
    **dict.fromkeys(("ex2", "lg2", "sin", "cos", "tanh", "rsqrt"), _function),
    **dict.fromkeys(("min", "max"), _extreme),
    **dict.fromkeys(("abs", "neg"), _sign),
    **dict.fromkeys(("div", "rem"), _division),
    "rcp": _reciprocal,
    "sqrt": _root,
    "copysign": _copy_sign,
    "testp": _test,
}
