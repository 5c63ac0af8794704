"""Jumps, barriers, and what the lanes of a warp do together."""

from __future__ import annotations

from deploycc.emulating.frame import Frame, Handler
from deploycc.emulating.integers import unknown
from deploycc.emulating.memory import vector
from deploycc.emulating.syntax import Instruction, refusal

HANDLERS: dict[str, Handler] = {}


# ---- jumps and ends ----


def _branch(frame: Frame, i: Instruction) -> str:
    back = f"DCC_STEP({i.line}); " if i.operands[0] in frame.passed else ""
    return f"{back}goto {frame.label(i.operands[0])};"


def _branch_by_index(frame: Frame, i: Instruction) -> str:
    if i.parts[1] != "idx" or i.operands[1] not in frame.lists:
        raise unknown(i)
    targets = frame.lists[i.operands[1]]
    cases = " ".join(f"case {number}: goto {frame.label(name)};" for number, name in enumerate(targets))
    return f"switch ({frame.value(i, i.operands[0], 'u32')}) {{ {cases} default: __builtin_unreachable(); }}"


def _return(frame: Frame, i: Instruction) -> str:
    return "return;"


def _trap(frame: Frame, i: Instruction) -> str:
    return f"dcc_fail(B, tx, ty, tz, {i.line}, DCC_FAULT_TRAP, 0, 0);"


def _call(frame: Frame, i: Instruction) -> str:
    name = next((text for text in i.operands if not text.startswith("(")), "")
    if name == "__assertfail":
        return f"dcc_fail(B, tx, ty, tz, {i.line}, DCC_FAULT_ASSERT, 0, 0);"
    raise refusal(i.line, f"a call of {name}", got=str(i), need="device functions that the compiler inlines")


def _nothing(frame: Frame, i: Instruction) -> str:
    """Fences and hints: memory is in order here."""
    return "(void)0;"


def _prefetch(frame: Frame, i: Instruction) -> str:
    return "(void)0;"


# ---- barriers ----


def _barrier(frame: Frame, i: Instruction) -> str:
    parts = [part for part in i.parts if part != "cta"]
    if parts[1] == "warp":
        return _together(frame, i, "dcc_meet", i.operands[0], {}, {}, aligned=False)
    if parts[1] == "cluster":
        raise unknown(i)
    frame.together = True
    aligned = "true" if i.name == "bar" or "aligned" in parts else "false"
    if parts[1] == "sync":
        number, count = _barrier_operands(frame, i, i.operands)
        return f"dcc_wait_at_barrier(B, T, {number}, {count}, {aligned}, false, {i.line});"
    if parts[1] == "arrive":
        number, count = _barrier_operands(frame, i, i.operands)
        return f"dcc_arrive_at_barrier(B, T, {number}, {count});"
    if parts[1] == "red" and parts[2] in ("popc", "and", "or"):
        number, count = _barrier_operands(frame, i, i.operands[1:-1])
        value = frame.predicate(i, i.operands[-1])
        field = {"popc": "out_count", "and": "out_all", "or": "out_any"}[parts[2]]
        result = frame.assign(
            i, i.operands[0], f"B->barriers[({number}) & 15].{field}", "u32" if parts[2] == "popc" else "pred"
        )
        return f"{{ dcc_wait_at_barrier(B, T, {number}, {count}, {aligned}, {value}, {i.line}); {result} }}"
    raise unknown(i)


def _barrier_operands(frame: Frame, i: Instruction, texts: tuple[str, ...]) -> tuple[str, str]:
    number = frame.value(i, texts[0], "u32")
    return number, frame.value(i, texts[1], "u32") if len(texts) > 1 else "0"


# ---- together ----


def _together(
    frame: Frame,
    i: Instruction,
    operation: str,
    mask: str,
    given: dict[int, str],
    taken: dict[str, tuple[int, str]],
    *,
    aligned: bool,
) -> str:
    """Words ``given`` to the operation by number, registers that take (word, type) of what it gives."""
    frame.together = True
    puts = " ".join(f"T->in[{number}] = {value};" for number, value in given.items())
    gets = " ".join(frame.assign(i, name, f"T->out[{n}]", kind) for name, (n, kind) in taken.items())
    lanes = frame.value(i, mask, "u32") if mask else "0xffffffffu"
    flag = "true" if aligned else "false"
    return f"{{ {puts} dcc_together(B, T, {operation}, {lanes}, {flag}, {i.line}); {gets} }}"


def _shuffle(frame: Frame, i: Instruction) -> str:
    if i.parts[1] != "sync" or i.parts[2] not in ("idx", "up", "down", "bfly") or i.parts[3:] != ("b32",):
        raise unknown(i)
    value, lane, clamp, mask = i.operands[1:]
    target, _, in_range = i.operands[0].partition("|")
    taken = {target: (0, "b32")} | ({in_range: (1, "pred")} if in_range else {})
    given = {n: frame.value(i, text, "b32") for n, text in enumerate((value, lane, clamp))}
    return _together(frame, i, f"dcc_shfl_{i.parts[2]}", mask, given, taken, aligned=False)


def _vote(frame: Frame, i: Instruction) -> str:
    modes = {"ballot": (0, "b32"), "any": (1, "pred"), "all": (2, "pred"), "uni": (3, "pred")}
    if i.parts[1] != "sync" or i.parts[2] not in modes:
        raise unknown(i)
    given = {0: frame.predicate(i, i.operands[1])}
    taken = {i.operands[0]: modes[i.parts[2]]}
    return _together(frame, i, "dcc_vote", i.operands[2], given, taken, aligned=False)


def _match(frame: Frame, i: Instruction) -> str:
    mode, kind = i.parts[1], i.parts[-1]
    if mode not in ("any", "all") or kind not in ("b32", "b64"):
        raise unknown(i)
    value = frame.value(i, i.operands[1], kind)
    given = {0: f"(uint32_t){value}", 1: f"(uint32_t)((uint64_t){value} >> 32)"}
    target, _, same = i.operands[0].partition("|")
    body = _together(frame, i, "dcc_match", i.operands[2], given, {}, aligned=False)[:-1]
    mask = "T->out[1] ? T->out[0] : 0" if mode == "all" else "T->out[0]"
    body += frame.assign(i, target, mask, "b32")
    return f"{body} {frame.assign(i, same, 'T->out[1]', 'pred') if same else ''} }}"


def _reduce(frame: Frame, i: Instruction) -> str:
    operation, kind = i.parts[2], i.parts[-1]
    names = {"add", "and", "or", "xor"}
    if i.parts[1] != "sync" or operation not in names | {"min", "max"} or kind not in ("u32", "s32", "b32"):
        raise unknown(i)
    name = f"dcc_redux_{operation}" + ("" if operation in names else f"_{kind}")
    given = {0: frame.value(i, i.operands[1], "b32")}
    return _together(frame, i, name, i.operands[2], given, {i.operands[0]: (0, "b32")}, aligned=False)


def _active(frame: Frame, i: Instruction) -> str:
    frame.together = True
    return frame.assign(i, i.operands[0], "B->warps[T->number / 32].present", "b32")


def _load_matrix(frame: Frame, i: Instruction) -> str:
    count = next((part for part in i.parts if part in ("x1", "x2", "x4")), "")
    known = {"sync", "aligned", "m8n8", count, "trans", "shared", "shared@cta", "b16"}
    if set(i.parts[1:]) - known or not count or i.parts[-1] != "b16":
        raise unknown(i)
    names = vector(i.operands[0])
    if len(names) != int(count[1]):
        raise unknown(i)
    if "shared" in i.parts or "shared@cta" in i.parts:
        address = frame.address(i, i.operands[1], "shared")
    else:
        address = f"({frame.address(i, i.operands[1], 'generic')} - (uint64_t)(uintptr_t)S)"
    operation = f"dcc_ldmatrix_{count}{'_trans' if 'trans' in i.parts else ''}"
    taken = {name: (number, "b32") for number, name in enumerate(names)}
    return f"{{ T->address = {address}; {_together(frame, i, operation, '', {}, taken, aligned=True)} }}"


_MMA_FLOATS = {
    *("m16n8k8_f16_f32", "m16n8k8_f16_f16", "m16n8k16_f16_f32", "m16n8k16_f16_f16"),
    *("m16n8k8_bf16_f32", "m16n8k16_bf16_f32", "m16n8k4_tf32_f32", "m16n8k8_tf32_f32"),
}
_MMA_INTEGER_SHAPES = ("m8n8k16", "m16n8k16", "m16n8k32")


def _multiply_matrices(frame: Frame, i: Instruction) -> str:
    parts = [part for part in i.parts[1:] if part not in ("sync", "aligned")]
    satfinite = "satfinite" in parts
    parts = [part for part in parts if part != "satfinite"]
    if len(parts) != 7 or parts[1:3] != ["row", "col"] or satfinite:
        raise unknown(i)
    shape, _, _, d_kind, a_kind, b_kind, c_kind = parts
    name = f"{shape}_{a_kind}_{c_kind}"
    integers = shape in _MMA_INTEGER_SHAPES and {a_kind, b_kind} <= {"s8", "u8"} and c_kind == "s32"
    if integers:
        name = f"{shape}_{a_kind}_{b_kind}"
    elif name not in _MMA_FLOATS or a_kind != b_kind:
        raise unknown(i)
    if c_kind != d_kind:
        raise unknown(i)
    kind = c_kind if c_kind == "f32" else "b32"
    words = [text for operand in i.operands[1:] for text in vector(operand)]
    m, k = (int(text) for text in shape.removeprefix("m").split("n8k"))
    narrow = {"tf32": 4, "f16": 2, "bf16": 2}.get(a_kind, 1)
    a_words, b_words = m * k * narrow // 128, 8 * k * narrow // 128
    c_words = m * 8 // 32 // (2 if c_kind == "f16" else 1)
    counts = [len(vector(operand)) for operand in i.operands]
    if counts != [c_words, a_words, b_words, c_words]:
        raise refusal(i.line, "an mma of that many registers", got=str(i))
    given = {number: frame.value(i, text, "b32") for number, text in enumerate(words)}
    lines = _together(frame, i, f"dcc_mma_{name}", "", given, {}, aligned=True)[:-1]
    for number, target in enumerate(vector(i.operands[0])):
        word = f"T->out[{number}]"
        lines += frame.assign(i, target, f"dcc_float({word})" if kind == "f32" else word, kind) + " "
    return lines + "}"


HANDLERS |= {
    **dict.fromkeys(("bar", "barrier"), _barrier),
    **dict.fromkeys(("ret", "exit"), _return),
    **dict.fromkeys(("membar", "fence", "nanosleep", "griddepcontrol", "discard", "applypriority"), _nothing),
    **dict.fromkeys(("prefetch", "prefetchu"), _prefetch),
    "bra": _branch,
    "brx": _branch_by_index,
    "trap": _trap,
    "brkpt": _trap,
    "call": _call,
    "shfl": _shuffle,
    "vote": _vote,
    "match": _match,
    "redux": _reduce,
    "activemask": _active,
    "ldmatrix": _load_matrix,
    "mma": _multiply_matrices,
}
