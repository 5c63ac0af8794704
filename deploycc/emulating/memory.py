"""mov, loads and stores, atomic operations, asynchronous copies."""

from __future__ import annotations

from deploycc.emulating.frame import Frame, Handler, c_type
from deploycc.emulating.grouping import SPACES, Group, space_of
from deploycc.emulating.integers import INTEGER_TYPES, halves, unknown
from deploycc.emulating.syntax import WIDTHS, Instruction, refusal

HANDLERS: dict[str, Handler] = {}

_SHARED = ("shared", "shared@cta")
_IGNORED = {
    *("nc", "volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "cta", "gpu", "sys", "cluster"),
    *("ca", "cg", "cs", "lu", "cv", "wb", "wt", "noftz", "entry"),
}
"""Caching, ordering and scopes: one thread of the host does everything, in order."""


def _check_parts(i: Instruction, known: set[str]) -> None:
    for part in i.parts[1:]:
        if (
            part not in _IGNORED | known
            and part not in WIDTHS
            and part.split("@")[0] not in (*SPACES, "L1", "L2")
        ):
            raise unknown(i)


def vector(text: str) -> list[str]:
    """The registers of ``{a,b}``, or the one register."""
    return text[1:-1].split(",") if text.startswith("{") else [text]


def access(frame: Frame, i: Instruction, text: str, space: str, size: int) -> tuple[str, str]:
    """Statements that find the address of ``size`` bytes and check it, and the name of the pointer."""
    name = frame.temporary()
    address = frame.address(i, text, space)
    if space == "param":
        # A register holds the address that `mov` took of a parameter, a name is an offset.
        base = "P" if text[1:-1].split("+")[0] in frame.parameters else "(const uint8_t *)0"
        return f"const uint8_t *{name} = {base} + {address};", name
    checks = _checks(frame, i, text, space, size)
    if space == "shared":
        return f"{checks} uint8_t *{name} = S + {address};", name
    return f"{checks} uint8_t *{name} = (uint8_t *)(uintptr_t)({address});", name


def _checks(frame: Frame, i: Instruction, text: str, space: str, size: int) -> str:
    """Statements that check an access, with all that are grouped with it, or nothing where it was."""
    group = frame.groups.get(id(i)) if id(i) in frame.groups else Group("", 0, size, 0, size)
    if group is None:
        return ""
    start = frame.address(i, f"[{group.base}+{group.low}]" if group.base else text, space)
    name = frame.temporary()
    checks = f"uint{32 if space == 'shared' else 64}_t {name} = {start};"
    if group.width > 1:
        checks += f" DCC_ALIGNED({name} + {group.widest - group.low}, {group.width}, {i.line});"
    if space in ("shared", "global"):
        checks += f" DCC_IN_{space.upper()}({name}, {group.high - group.low}, {i.line});"
    return checks


def _noted(
    space: str, pointer: str, start: int, size: int, i: Instruction, *, value: str = "", atomic: bool = False
) -> str:
    """What tells of an access of shared memory: a read, or a write of the variable ``value``."""
    if space not in ("shared", "generic"):
        return ""
    offset = f"(uint64_t)({pointer} + {start} - S)"
    if not value:
        return f"DCC_READS({offset}, {size}, {i.line});"
    return f"DCC_WRITES({offset}, &{value}, {size}, {'true' if atomic else 'false'}, {i.line});"


def memory_type(kind: str) -> str:
    """The suffix of ``DCC_LOAD``'s type for a PTX type."""
    if kind in ("f32", "f64") or kind in INTEGER_TYPES:
        return kind.replace("b", "u")
    return f"u{8 * WIDTHS[kind]}"


def _load(frame: Frame, i: Instruction) -> str:
    kind, space = i.parts[-1], space_of(i)
    _check_parts(i, {"v2", "v4"})
    if kind not in WIDTHS or len(i.operands) < 2:
        raise unknown(i)
    names = vector(i.operands[0])
    count = next((int(part[1]) for part in i.parts if part in ("v2", "v4")), 1)
    if len(names) != count:
        raise unknown(i)
    start, pointer = access(frame, i, i.operands[1], space, count * WIDTHS[kind])
    loads, writes = [], []
    for number, name in enumerate(names):
        got = frame.temporary()
        place = f"{pointer} + {number * WIDTHS[kind]}"
        loads.append(_noted(space, pointer, number * WIDTHS[kind], WIDTHS[kind], i))
        loads.append(f"dcc_{memory_type(kind)} {got} = DCC_LOAD({memory_type(kind)}, {place});")
        writes.append(frame.assign(i, name, got, kind))
    return f"{{ {start} {' '.join(loads)} {' '.join(writes)} }}"


def _store(frame: Frame, i: Instruction) -> str:
    kind, space = i.parts[-1], space_of(i)
    _check_parts(i, {"v2", "v4"})
    if kind not in WIDTHS or len(i.operands) < 2:
        raise unknown(i)
    if space == "param":
        found = frame.find(i.operands[0].strip("[]").split("+")[0])
        if found is None or found[1] != "argument":
            raise unknown(i)
        return "(void)0;"  # arguments of a call, which is refused or ends the launch
    values = vector(i.operands[1])
    count = next((int(part[1]) for part in i.parts if part in ("v2", "v4")), 1)
    if len(values) != count:
        raise unknown(i)
    start, pointer = access(frame, i, i.operands[0], space, count * WIDTHS[kind])
    form, stores = memory_type(kind), list[str]()
    for number, text in enumerate(values):
        value = frame.temporary()
        stores += [
            f"dcc_{form} {value} = {frame.value(i, text, kind)};",
            _noted(space, pointer, number * WIDTHS[kind], WIDTHS[kind], i, value=value),
            f"DCC_STORE({form}, {pointer} + {number * WIDTHS[kind]}, {value});",
        ]
    return f"{{ {start} {' '.join(stores)} }}"


def _move(frame: Frame, i: Instruction) -> str:
    kind = i.parts[-1]
    if len(i.parts) != 2 or len(i.operands) != 2 or kind not in WIDTHS:
        raise unknown(i)
    target, source = i.operands
    if target.startswith("{"):
        names = vector(target)
        bits = 8 * WIDTHS[kind] // len(names)
        whole = frame.temporary()
        parts = [
            frame.assign(i, name, f"(uint{bits}_t)({whole} >> {number * bits})", f"b{bits}")
            for number, name in enumerate(names)
        ]
        value = frame.value(i, source, f"b{8 * WIDTHS[kind]}")
        return f"{{ {c_type(f'b{8 * WIDTHS[kind]}')} {whole} = {value}; {' '.join(parts)} }}"
    if source.startswith("{"):
        names = vector(source)
        bits = 8 * WIDTHS[kind] // len(names)
        whole_type = c_type(f"b{8 * WIDTHS[kind]}")
        parts = [
            f"({whole_type}){frame.value(i, name, f'b{bits}')} << {number * bits}"
            for number, name in enumerate(names)
        ]
        return frame.assign(i, target, f"({whole_type})({' | '.join(parts)})", f"b{8 * WIDTHS[kind]}")
    if source in frame.parameters:
        return frame.assign(i, target, f"(uint64_t)(uintptr_t)(P + {frame.parameters[source]})", kind)
    return frame.assign(i, target, frame.value(i, source, kind), kind)


# ---- atomic operations ----


def _updated(i: Instruction, operation: str, kind: str, old: str, values: list[str]) -> str:
    value = values[0]
    if kind in ("f16", "bf16") and operation == "add":
        return f"dcc_to_{kind}(dcc_from_{kind}({old}) + dcc_from_{kind}({value}))"
    if kind in ("f16x2", "bf16x2") and operation == "add":
        half = kind.removesuffix("x2")
        sums = (
            f"dcc_from_{half}({a}) + dcc_from_{half}({b})"
            for a, b in zip(halves(old), halves(value), strict=True)
        )
        low, high = (f"dcc_to_{half}({total})" for total in sums)
        return f"dcc_pair({low}, {high})"
    if operation == "cas":
        return f"({old} == {value} ? {values[1]} : {old})"
    if operation in ("min", "max"):
        return f"dcc_{operation}_{kind}({old}, {value})"
    forms = {
        "add": f"({old} + {value})",
        "exch": value,
        "and": f"({old} & {value})",
        "or": f"({old} | {value})",
        "xor": f"({old} ^ {value})",
        "inc": f"({old} >= {value} ? 0 : {old} + 1)",
        "dec": f"({old} == 0 || {old} > {value} ? {value} : {old} - 1)",
    }
    if operation not in forms or (kind in ("f32", "f64") and operation not in ("add", "exch")):
        raise unknown(i)
    return forms[operation]


def _atomic(frame: Frame, i: Instruction) -> str:
    operations = {"add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec"}
    kind = i.parts[-1]
    operation = next((part for part in i.parts[1:-1] if part in operations), "")
    _check_parts(i, operations)
    texts = i.operands if i.name == "red" else i.operands[1:]
    if kind not in WIDTHS or not operation or len(texts) != (3 if operation == "cas" else 2):
        raise unknown(i)
    start, pointer = access(frame, i, texts[0], space_of(i), WIDTHS[kind])
    values = [frame.value(i, text, kind) for text in texts[1:]]
    old, form = frame.temporary(), memory_type(kind)
    update, new = _updated(i, operation, kind, old, values), frame.temporary()
    result = "" if i.name == "red" else frame.assign(i, i.operands[0], old, kind)
    return (
        f"{{ {start} dcc_{form} {old} = DCC_LOAD({form}, {pointer}), {new} = {update}; "
        f"{_noted(space_of(i), pointer, 0, WIDTHS[kind], i, value=new, atomic=True)} "
        f"DCC_STORE({form}, {pointer}, {new}); {result} }}"
    )


# ---- asynchronous copies ----


def _copy(frame: Frame, i: Instruction) -> str:
    """cp.async: with checks done where it is waited for, else at once."""
    if i.parts[1] != "async" or any(part in i.parts for part in ("bulk", "mbarrier")):
        raise unknown(i)
    frame.together = frame.copies = True
    if "commit_group" in i.parts:
        return "T->copy_group++;"
    if "wait_all" in i.parts:
        return "T->copy_group++; dcc_wait_for_copies(B, T, 0);"
    if "wait_group" in i.parts:
        return f"dcc_wait_for_copies(B, T, {frame.value(i, i.operands[0], 'u32')});"
    size = int(i.operands[2], 0) if len(i.operands) > 2 and i.operands[2].isdigit() else 0
    if size not in (4, 8, 16) or not any(part in _SHARED for part in i.parts) or "ignore-src" in i.parts:
        raise unknown(i)
    if "cg" in i.parts and size != 16:
        raise refusal(i.line, "cp.async.cg of other than 16 bytes", got=str(i))
    read = str(size)
    if len(i.operands) > 3:
        found = frame.find(i.operands[3])
        if found is not None and found[1] == "pred":  # ignore-src
            read = f"({found[0]} ? 0 : {size})"
        else:
            read = frame.value(i, i.operands[3], "u32")
    to_start, to = access(frame, i, i.operands[0], "shared", size)
    source = frame.address(i, i.operands[1], "global")
    from_name, read_name = frame.temporary(), frame.temporary()
    return (
        f"{{ {to_start} uint64_t {from_name} = {source}; uint32_t {read_name} = {read}; "
        f"DCC_ALIGNED({from_name}, {size}, {i.line}); "
        f"if ({read_name}) DCC_IN_GLOBAL({from_name}, {read_name}, {i.line}); "
        f"DCC_COPY({to}, {from_name}, {size}, {read_name}, {i.line}); }}"
    )


HANDLERS |= {
    **dict.fromkeys(("ld", "ldu"), _load),
    **dict.fromkeys(("atom", "red"), _atomic),
    "st": _store,
    "mov": _move,
    "cp": _copy,
}
