"""cvt in all directions, and cvta."""

from __future__ import annotations

from deploycc.emulating.frame import Frame, Handler, c_type
from deploycc.emulating.integers import INTEGER_TYPES, unknown
from deploycc.emulating.syntax import WIDTHS, Instruction

HANDLERS: dict[str, Handler] = {}

_TO_WHOLE = {"rni": "rint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
_NARROW = ("f16", "bf16")


def _convert(frame: Frame, i: Instruction) -> str:
    if i.parts[1] == "pack":
        return _pack(frame, i)
    result, source = i.parts[-2:]
    if result in ("f16x2", "bf16x2"):
        return _convert_two(frame, i, result, source)
    if result not in WIDTHS or source not in WIDTHS or len(i.operands) != 2:
        raise unknown(i)
    known = {"sat", "ftz", "rn", "rz", "rm", "rp", "rna", "relu", *_TO_WHOLE}
    modifiers = set(i.parts[1:-2])
    if modifiers - known:
        raise unknown(i)
    value = frame.value(i, i.operands[1], source)
    if result in INTEGER_TYPES:
        if source in INTEGER_TYPES:
            expression = _between_integers(result, source, value, saturate="sat" in modifiers)
        else:
            expression = _to_integer(i, result, source, value, modifiers)
    elif source in INTEGER_TYPES:
        expression = _from_integer(i, result, source, value, modifiers)
    else:
        expression = _between_floats(i, result, source, value, modifiers)
    return frame.assign(i, i.operands[0], expression, result)


def _between_integers(result: str, source: str, value: str, *, saturate: bool) -> str:
    if saturate:
        sign = "s" if source[0] == "s" else "u"
        return f"dcc_clamp_{result}_{sign}({value})"
    # A result narrower than its register is extended to it by its own sign.
    return f"({c_type(result)}){value}"


def _wide(source: str, value: str, *, ftz: bool = False) -> tuple[str, str]:
    """A float operand as C's float or double, and which."""
    if source in _NARROW:
        return f"dcc_from_{source}({value})", "f32"
    return (f"dcc_ftz({value})" if ftz and source == "f32" else value), source


def _to_integer(i: Instruction, result: str, source: str, value: str, modifiers: set[str]) -> str:
    mode = next((part for part in i.parts if part in _TO_WHOLE), "")
    if not mode:
        raise unknown(i)
    wide, kind = _wide(source, value, ftz="ftz" in modifiers)
    call = f"{_TO_WHOLE[mode]}{'f' if kind == 'f32' else ''}({wide})"
    return f"dcc_{result.replace('b', 'u')}_from_{kind}({call})"


def _from_integer(i: Instruction, result: str, source: str, value: str, modifiers: set[str]) -> str:
    directed = next((part for part in i.parts if part in ("rz", "rm", "rp")), "")
    if directed and (result != "f32" or WIDTHS[source] == 8):
        raise unknown(i)
    if result == "f64":
        return f"(double){value}"
    if result == "f32":
        expression = f"dcc_f32_{directed}((double){value})" if directed else f"(float){value}"
        return f"dcc_sat_f32({expression})" if "sat" in modifiers else expression
    if WIDTHS[source] == 8:
        raise unknown(i)
    return f"dcc_{result}_from_f64((double){value})"


def _between_floats(i: Instruction, result: str, source: str, value: str, modifiers: set[str]) -> str:
    ftz = "ftz" in modifiers
    wide, kind = _wide(source, value, ftz=ftz)
    whole = next((part for part in i.parts if part in _TO_WHOLE), "")
    directed = next((part for part in i.parts if part in ("rz", "rm", "rp")), "")
    if whole:
        wide = f"{_TO_WHOLE[whole]}{'f' if kind == 'f32' else ''}({wide})"
    if result == "tf32":
        if modifiers & {"relu", "rz", "sat"}:
            raise unknown(i)
        return f"dcc_to_tf32_{'rna' if 'rna' in modifiers else 'rn'}({wide})"
    if result in _NARROW and directed not in ("", "rz"):
        raise unknown(i)
    if "relu" in modifiers:
        wide = f"dcc_relu({wide})"
    if "sat" in modifiers:
        wide = f"dcc_sat_{kind}({wide})"
    if result == "f64":
        return f"(double){wide}"
    if result == "f32":
        if kind == "f64":
            wide = f"dcc_f32_{directed}({wide})" if directed else f"(float)({wide})"
        return f"dcc_ftz({wide})" if ftz else wide
    if kind == "f64":
        if directed:
            raise unknown(i)
        return f"dcc_{result}_from_f64({wide})"
    return f"dcc_to_{result}{'_rz' if directed else ''}({wide})"


def _convert_two(frame: Frame, i: Instruction, result: str, source: str) -> str:
    """``cvt.rn.f16x2.f32 d, a, b``: a is the upper half."""
    modifiers = set(i.parts[1:-2])
    if source != "f32" or len(i.operands) != 3 or modifiers - {"rn", "rz", "relu"}:
        raise unknown(i)
    half = result.removesuffix("x2")
    suffix = "_rz" if "rz" in modifiers else ""
    values = [frame.value(i, text, "f32") for text in i.operands[1:]]
    if "relu" in modifiers:
        values = [f"dcc_relu({value})" for value in values]
    high, low = (f"dcc_to_{half}{suffix}({value})" for value in values)
    return frame.assign(i, i.operands[0], f"dcc_pair({low}, {high})", result)


def _pack(frame: Frame, i: Instruction) -> str:
    """``cvt.pack.sat.s8.s32.b32 d, a, b, c``: two saturated integers below the bits of c; a is the upper."""
    narrow, wide = i.parts[3:5] if len(i.parts) > 4 else ("", "")
    if i.parts[2] != "sat" or narrow not in ("s8", "u8", "s16", "u16") or wide not in ("s32", "u32"):
        raise unknown(i)
    a, b = (frame.value(i, text, wide) for text in i.operands[1:3])
    bits = 8 * WIDTHS[narrow]
    mask = f"{(1 << bits) - 1:#x}u"
    low, high = (f"((uint32_t)dcc_clamp_{narrow}_{wide[0]}({value}) & {mask})" for value in (b, a))
    expression = f"{low} | {high} << {bits}"
    if len(i.operands) == 4:
        expression += f" | {frame.value(i, i.operands[3], 'b32')} << {2 * bits}"
    return frame.assign(i, i.operands[0], expression, "b32")


def _address(frame: Frame, i: Instruction) -> str:
    """cvta: addresses of global, local, const and param are the host's already, shared ones are offsets."""
    kind = i.parts[-1]
    value = frame.value(i, i.operands[1], kind)
    if i.parts[1:3] == ("to", "shared"):
        value = f"({value} - (uint64_t)(uintptr_t)S)"
    elif i.parts[1] == "shared":
        value = f"((uint64_t)(uintptr_t)S + {value})"
    elif not set(i.parts[1:-1]) <= {"to", "global", "local", "const", "param"}:
        raise unknown(i)
    return frame.assign(i, i.operands[0], value, kind)


HANDLERS |= {"cvt": _convert, "cvta": _address}
