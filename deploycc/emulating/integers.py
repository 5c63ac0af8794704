"""Integer and logic instructions, comparisons and selections."""

from __future__ import annotations

from deploycc.emulating.frame import Frame, Handler, c_type
from deploycc.emulating.syntax import WIDTHS, Instruction, refusal

HANDLERS: dict[str, Handler] = {}
INTEGER_TYPES = {f"{kind}{bits}" for kind in "bus" for bits in (8, 16, 32, 64)}


def unknown(instruction: Instruction) -> Exception:
    """The refusal of an instruction whose form is not known."""
    return refusal(
        instruction.line,
        f"the instruction {'.'.join(instruction.parts).replace('@', '::')}",
        got=str(instruction),
        need="an instruction that docs/emulating.md lists",
    )


def last_type(instruction: Instruction) -> str:
    """The type that an instruction ends with."""
    kind = instruction.parts[-1]
    if kind not in WIDTHS:
        raise unknown(instruction)
    return kind


def _operands(frame: Frame, instruction: Instruction, *kinds: str) -> list[str]:
    if len(instruction.operands) != len(kinds) + 1:
        raise unknown(instruction)
    pairs = zip(instruction.operands[1:], kinds, strict=True)
    return [frame.value(instruction, text, kind) for text, kind in pairs]


def _signed(kind: str) -> bool:
    return kind[0] == "s"


def integer_binary(frame: Frame, i: Instruction) -> str:
    """add, sub, min, max, div, rem of integers."""
    kind = last_type(i)
    extra = set(i.parts[1:-1])
    a, b = _operands(frame, i, kind, kind)
    bits = 8 * WIDTHS[kind]
    name = i.name
    if kind in ("u16x2", "s16x2") or extra - {"sat"}:
        raise unknown(i)
    if "sat" in extra:
        if kind != "s32" or name not in ("add", "sub"):
            raise unknown(i)
        sign = "+" if name == "add" else "-"
        return frame.assign(i, i.operands[0], f"dcc_saturated((int64_t){a} {sign} (int64_t){b})", kind)
    if name in ("add", "sub"):
        expression = f"({c_type(kind)})({a} {'+' if name == 'add' else '-'} {b})"
    elif name in ("min", "max"):
        expression = f"dcc_{name}_{kind}({a}, {b})"
    else:
        expression = f"dcc_{name}_{'s' if _signed(kind) else 'u'}{bits}({a}, {b})"
    return frame.assign(i, i.operands[0], expression, kind)


def _product(frame: Frame, i: Instruction, part: str, kind: str, a: str, b: str) -> tuple[str, str]:
    """The part of a product, and the type that it has."""
    if part == "wide":
        wide = f"{kind[0]}{16 * WIDTHS[kind]}"
        return f"(({c_type(wide)}){a} * ({c_type(wide)}){b})", wide
    if part == "hi":
        return f"dcc_mulhi_{kind}({a}, {b})", kind
    if part == "lo":
        wide = "uint32_t" if WIDTHS[kind] < 4 else c_type(kind)
        return f"({c_type(kind)})(({wide}){a} * ({wide}){b})", kind
    raise unknown(i)


def multiply(frame: Frame, i: Instruction) -> str:
    """mul and mad of integers: .lo, .hi, .wide; mul24 of numbers that fit."""
    kind = last_type(i)
    part = i.parts[1]
    wide = part == "wide"
    kinds = (kind, kind, f"{kind[0]}{16 * WIDTHS[kind]}" if wide else kind)
    if i.name in ("mul24", "mad24"):
        raise unknown(i)
    values = _operands(frame, i, *kinds[: 3 if i.name == "mad" else 2])
    expression, result = _product(frame, i, part, kind, values[0], values[1])
    if i.name == "mad":
        if len(i.parts) > 3:
            raise unknown(i)
        expression = f"({c_type(result)})({expression} + {values[2]})"
    return frame.assign(i, i.operands[0], expression, result)


def _logic(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    sign = {"and": "&", "or": "|", "xor": "^"}[i.name]
    a, b = _operands(frame, i, kind, kind)
    if kind == "pred":
        return frame.assign(i, i.operands[0], f"({a}) {sign} ({b})", kind)
    return frame.assign(i, i.operands[0], f"{a} {sign} {b}", kind)


def _not(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    (a,) = _operands(frame, i, kind)
    return frame.assign(i, i.operands[0], f"!({a})" if kind == "pred" else f"({c_type(kind)})~{a}", kind)


def _cnot(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    (a,) = _operands(frame, i, kind)
    return frame.assign(i, i.operands[0], f"({a} == 0 ? 1 : 0)", kind)


def integer_unary(frame: Frame, i: Instruction) -> str:
    """abs and neg of integers."""
    kind = last_type(i)
    (a,) = _operands(frame, i, kind)
    expression = f"(0 - {a})" if i.name == "neg" else f"({a} < 0 ? 0 - {a} : {a})"
    return frame.assign(i, i.operands[0], f"({c_type(kind)}){expression}", kind)


def _shift(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    a, amount = _operands(frame, i, kind, "u32")
    name = f"dcc_shl_{8 * WIDTHS[kind]}"
    if i.name == "shr":
        name = f"dcc_shr_{'s' if _signed(kind) else 'u'}{8 * WIDTHS[kind]}"
    return frame.assign(i, i.operands[0], f"{name}({a}, {amount})", kind)


def _funnel(frame: Frame, i: Instruction) -> str:
    a, b, n = _operands(frame, i, "b32", "b32", "u32")
    left, clamp = i.parts[1] == "l", i.parts[2] == "clamp"
    call = f"dcc_shf({a}, {b}, {n}, {'true' if left else 'false'}, {'true' if clamp else 'false'})"
    return frame.assign(i, i.operands[0], call, "b32")


def _bit_field(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    bits = 8 * WIDTHS[kind]
    if i.name == "bfe":
        a, start, count = _operands(frame, i, f"u{bits}", "u32", "u32")
        call = f"dcc_bfe({a}, {start}, {count}, {bits}, {'true' if _signed(kind) else 'false'})"
    else:
        a, b, start, count = _operands(frame, i, kind, kind, "u32", "u32")
        call = f"dcc_bfi({a}, {b}, {start}, {count}, {bits})"
    return frame.assign(i, i.operands[0], f"({c_type(kind)}){call}", kind)


def _find_bit(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    if kind not in ("u32", "s32"):
        raise unknown(i)
    (a,) = _operands(frame, i, kind)
    call = f"dcc_fls_{kind}({a})"
    if "shiftamt" in i.parts:
        call = f"({call} == 0xffffffffu ? 0xffffffffu : 31 - {call})"
    return frame.assign(i, i.operands[0], call, "u32")


def _count(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    (a,) = _operands(frame, i, kind)
    calls = {
        "clz": f"dcc_clz{8 * WIDTHS[kind]}({a})",
        "popc": f"(uint32_t)__builtin_popcountll({a})",
        "brev": f"__builtin_bitreverse{8 * WIDTHS[kind]}({a})",
    }
    return frame.assign(i, i.operands[0], calls[i.name], kind if i.name == "brev" else "u32")


def _permute(frame: Frame, i: Instruction) -> str:
    if len(i.parts) != 2:
        raise unknown(i)
    a, b, c = _operands(frame, i, "b32", "b32", "b32")
    return frame.assign(i, i.operands[0], f"dcc_prmt({a}, {b}, {c})", "b32")


def _lop3(frame: Frame, i: Instruction) -> str:
    if i.parts != ("lop3", "b32"):
        raise unknown(i)
    a, b, c, table = _operands(frame, i, "b32", "b32", "b32", "b32")
    return frame.assign(i, i.operands[0], f"dcc_lop3({a}, {b}, {c}, {table})", "b32")


def _sad(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    a, b, c = _operands(frame, i, kind, kind, kind)
    difference = f"({a} > {b} ? {a} - {b} : {b} - {a})"
    return frame.assign(i, i.operands[0], f"({c_type(kind)})({c} + {difference})", kind)


def _dot(frame: Frame, i: Instruction) -> str:
    a_kind, b_kind = i.parts[-2:]
    a, b, c = _operands(frame, i, "b32", "b32", "s32")
    signs = ", ".join("true" if _signed(kind) else "false" for kind in (a_kind, b_kind))
    return frame.assign(i, i.operands[0], f"dcc_dot4({a}, {b}, {signs}, {c})", "s32")


def _dot_of_two(frame: Frame, i: Instruction) -> str:
    """dp2a: two halves of the first operand by two bytes of the second, added to the third."""
    a_kind, b_kind = i.parts[-2:]
    a, b, c = _operands(frame, i, "b32", "b32", "s32")
    first = 0 if i.parts[1] == "lo" else 16
    half = "int16_t" if _signed(a_kind) else "uint16_t"
    byte = "int8_t" if _signed(b_kind) else "uint8_t"
    terms = [
        f"(int32_t)({half})({a} >> {16 * n}) * (int32_t)({byte})({b} >> {first + 8 * n})" for n in (0, 1)
    ]
    return frame.assign(i, i.operands[0], f"({c} + {terms[0]} + {terms[1]})", "s32")


def _select(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    a, b, p = _operands(frame, i, kind, kind, "pred")
    return frame.assign(i, i.operands[0], f"({p}) ? {a} : {b}", kind)


def _select_by_sign(frame: Frame, i: Instruction) -> str:
    kind, by = i.parts[-2:]
    a, b, c = _operands(frame, i, kind, kind, by)
    return frame.assign(i, i.operands[0], f"({c} >= 0 ? {a} : {b})", kind)


# ---- comparisons ----

_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}


def comparison(i: Instruction, how: str, kind: str, a: str, b: str) -> str:
    """The C expression of ``a how b``; floats as C floats."""
    if kind in INTEGER_TYPES:
        sign = _SIGNS.get(how) or _UNSIGNED.get(how)
        if sign is None:
            raise unknown(i)
        return f"({a} {sign} {b})"
    if how in _SIGNS:
        # "ne" is ordered: false where an operand is NaN, other than C's.
        return f"({a} < {b} || {a} > {b})" if how == "ne" else f"({a} {_SIGNS[how]} {b})"
    opposite = {"equ": "ne", "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}
    if how in opposite:
        return f"!{comparison(i, opposite[how], kind, a, b)}"
    if how == "num":
        return f"({a} == {a} && {b} == {b})"
    if how == "nan":
        return f"({a} != {a} || {b} != {b})"
    raise unknown(i)


def as_float(frame: Frame, i: Instruction, text: str, kind: str, *, ftz: bool = False) -> str:
    """An operand as something that C compares: f16 and bf16 as floats."""
    value = frame.value(i, text, kind)
    if kind in ("f16", "bf16"):
        return f"dcc_from_{kind}({value})"
    return f"dcc_ftz({value})" if ftz and kind == "f32" else value


def _combined(frame: Frame, i: Instruction, compared: str, operator: str, third: str) -> str:
    other = frame.predicate(i, third)
    if operator == "xor":
        return f"({compared} != ({other}))"
    return f"({compared} {'&&' if operator == 'and' else '||'} ({other}))"


def _set_predicate(frame: Frame, i: Instruction) -> str:
    kind = last_type(i)
    how, ftz = i.parts[1], "ftz" in i.parts
    operator = next((part for part in i.parts[2:] if part in ("and", "or", "xor")), "")
    if kind in ("f16x2", "bf16x2"):
        return _set_predicates_of_pair(frame, i, kind, how)
    a, b = (as_float(frame, i, text, kind, ftz=ftz) for text in i.operands[1:3])
    compared = comparison(i, how, kind, a, b)
    first, _, second = i.operands[0].partition("|")
    if not second:
        whole = _combined(frame, i, compared, operator, i.operands[3]) if operator else compared
        return frame.assign(i, first, whole, "pred")
    name = frame.temporary()
    yes, no = name, f"!{name}"
    if operator:
        yes, no = (_combined(frame, i, side, operator, i.operands[3]) for side in (yes, no))
    other = frame.temporary()
    return (
        f"{{ bool {name} = {compared}; bool {other} = {no}; "
        f"{frame.assign(i, first, yes, 'pred')} {frame.assign(i, second, other, 'pred')} }}"
    )


def halves(value: str) -> tuple[str, str]:
    """The lower and the upper 16 bits of a word."""
    return f"(uint16_t)({value})", f"(uint16_t)(({value}) >> 16)"


def _set_predicates_of_pair(frame: Frame, i: Instruction, kind: str, how: str) -> str:
    if len(i.operands) != 3:
        raise unknown(i)
    half = kind.removesuffix("x2")
    values = [halves(frame.value(i, text, kind)) for text in i.operands[1:3]]
    both = [
        comparison(i, how, half, *(f"dcc_from_{half}({value[side]})" for value in values)) for side in (0, 1)
    ]
    names = i.operands[0].split("|")
    return " ".join(frame.assign(i, name, text, "pred") for name, text in zip(names, both, strict=True))


def _set(frame: Frame, i: Instruction) -> str:
    kind, result = i.parts[-1], i.parts[-2]
    how = i.parts[1]
    if any(part in ("and", "or", "xor") for part in i.parts[2:-2]):
        raise unknown(i)
    if kind in ("f16x2", "bf16x2"):
        half = kind.removesuffix("x2")
        values = [halves(frame.value(i, text, kind)) for text in i.operands[1:3]]
        one = {"f16x2": "0x3c00u", "bf16x2": "0x3f80u"}.get(result, "0xffffu")
        pairs = [[f"dcc_from_{half}({value[side]})" for value in values] for side in (0, 1)]
        both = [f"{comparison(i, how, half, a, b)} ? {one} : 0u" for a, b in pairs]
        return frame.assign(i, i.operands[0], f"dcc_pair({both[0]}, {both[1]})", "b32")
    a, b = (as_float(frame, i, text, kind, ftz="ftz" in i.parts) for text in i.operands[1:3])
    one = {"f32": "1.0f", "f16": "0x3c00u", "bf16": "0x3f80u"}.get(result, "0xffffffffu")
    zero = "0.0f" if result == "f32" else "0u"
    expression = f"{comparison(i, how, kind, a, b)} ? {one} : {zero}"
    return frame.assign(i, i.operands[0], expression, result)


HANDLERS |= {
    **dict.fromkeys(("and", "or", "xor"), _logic),
    **dict.fromkeys(("shl", "shr"), _shift),
    **dict.fromkeys(("bfe", "bfi"), _bit_field),
    **dict.fromkeys(("clz", "popc", "brev"), _count),
    "not": _not,
    "cnot": _cnot,
    "shf": _funnel,
    "bfind": _find_bit,
    "prmt": _permute,
    "lop3": _lop3,
    "sad": _sad,
    "dp4a": _dot,
    "dp2a": _dot_of_two,
    "selp": _select,
    "slct": _select_by_sign,
    "setp": _set_predicate,
    "set": _set,
}
