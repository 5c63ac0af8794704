"""The C of one kernel while it is written: its names, and operands as C expressions.

Registers become local variables of the type that their declaration names; an operand is read, and a result
written, as the type that the instruction names, bit by bit where the two differ.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from deploycc.emulating.grouping import Group
from deploycc.emulating.syntax import WIDTHS, Instruction, Variable, refusal

STORAGE = {
    "pred": "bool",
    **dict.fromkeys(("b8", "u8", "s8"), "uint8_t"),
    **dict.fromkeys(("b16", "u16", "s16", "f16", "bf16"), "uint16_t"),
    **dict.fromkeys(("b32", "u32", "s32", "f16x2", "bf16x2", "tf32"), "uint32_t"),
    **dict.fromkeys(("b64", "u64", "s64"), "uint64_t"),
    "f32": "float",
    "f64": "double",
}
"""C types that registers of a PTX type are kept in."""

SPECIAL = {
    **{f"%tid.{axis}": f"t{axis}" for axis in "xyz"},
    **{f"%ntid.{axis}": f"B->ntid[{number}]" for number, axis in enumerate("xyz")},
    **{f"%ctaid.{axis}": f"B->ctaid[{number}]" for number, axis in enumerate("xyz")},
    **{f"%nctaid.{axis}": f"B->nctaid[{number}]" for number, axis in enumerate("xyz")},
    **{f"%clusterid.{axis}": f"B->ctaid[{number}]" for number, axis in enumerate("xyz")},
    **{f"%nclusterid.{axis}": f"B->nctaid[{number}]" for number, axis in enumerate("xyz")},
    **{f"%cluster_ctaid.{axis}": "0u" for axis in "xyz"},
    **{f"%cluster_nctaid.{axis}": "1u" for axis in "xyz"},
    "%laneid": "(dcc_number(B, tx, ty, tz) & 31)",
    "%warpid": "(dcc_number(B, tx, ty, tz) >> 5)",
    "%nwarpid": "((B->threads + 31) / 32)",
    "%lanemask_eq": "(1u << (dcc_number(B, tx, ty, tz) & 31))",
    "%lanemask_lt": "((1u << (dcc_number(B, tx, ty, tz) & 31)) - 1)",
    "%lanemask_le": "((2u << (dcc_number(B, tx, ty, tz) & 31)) - 1)",
    "%lanemask_gt": "~((2u << (dcc_number(B, tx, ty, tz) & 31)) - 1)",
    "%lanemask_ge": "~((1u << (dcc_number(B, tx, ty, tz) & 31)) - 1)",
    "%smid": "0u",
    "%nsmid": "1u",
    "%gridid": "0u",
    "%clock": "dcc_clock32()",
    "%clock64": "dcc_clock64()",
    "%globaltimer": "dcc_clock64()",
    "%dynamic_smem_size": "B->dynamic_bytes",
    "%total_smem_size": "B->shared_bytes",
}

_IDENTIFIER = re.compile(r"[%A-Za-z_$][\w$%]*")
_INTEGER = re.compile(r"(-?)(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)(U?)")


@dataclass(frozen=True)
class Place:
    """Where an address points: a space, and a C expression of its number (an offset for shared and param)."""

    space: str
    expression: str


@dataclass
class Frame:
    """Names of a kernel as they are met, and what was declared for it.

    ``shared`` are offsets of the shared variables, ``module`` the variables outside functions,
    ``parameters`` the offsets in the parameter block, ``lists`` those of ``.branchtargets``, ``groups`` the
    accesses that are checked together, ``passed`` the labels above.  ``together`` is set by what makes fibers
    necessary, ``copies`` by asynchronous copies.
    """

    shared: dict[str, int]
    module: dict[str, Variable]
    parameters: dict[str, int]
    together: bool = False
    copies: bool = False
    declarations: list[str] = field(default_factory=list)
    register_count: int = 0
    local_bytes: int = 0
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[int, Group | None] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    _scopes: list[dict[str, tuple[str, str]]] = field(default_factory=lambda: [{}])
    _scope_count: int = 0
    _temporaries: int = 0

    # ---- names ----

    def open_scope(self) -> None:
        """Names that are declared from here on end with ``close_scope``."""
        self._scope_count += 1
        self._scopes.append({})

    def close_scope(self) -> None:
        """Forget the names of the innermost scope."""
        self._scopes.pop()

    def declare_register(self, name: str, kind: str) -> None:
        """A register: a local variable, with a pattern in it that shows where it is read unset."""
        c_name = self._c_name(name)
        start = {"pred": "0", "f32": "dcc_float(0xfff7fff7)", "f64": "dcc_double(0xfff7fff7fff7fff7)"}
        unset = start.get(kind, f"({STORAGE[kind]})0xfff7fff7fff7fff7")
        self.declarations.append(f"{STORAGE[kind]} {c_name} = {unset};")
        self._scopes[-1][name] = (c_name, kind)
        self.register_count += 1

    def declare_local(self, variable: Variable) -> None:
        """An array of the thread's own, filled with NaN where checks are on."""
        c_name, size = self._c_name(variable.name), variable.count * WIDTHS[variable.type]
        self.declarations.append(f"_Alignas({max(variable.align, 1)}) uint8_t {c_name}[{max(size, 1)}];")
        self.declarations.append(f"DCC_UNSET({c_name});")
        self._scopes[-1][variable.name] = (c_name, "local")
        self.local_bytes += size + variable.align

    def declare_argument(self, variable: Variable) -> None:
        """A ``.param`` inside a body, which is an argument of a call."""
        self._scopes[-1][variable.name] = ("", "argument")

    def temporary(self) -> str:
        """A name that nothing else has."""
        self._temporaries += 1
        return f"t_{self._temporaries}"

    def label(self, name: str) -> str:
        """The C label of a PTX label."""
        return "L_" + re.sub(r"\W", lambda match: f"_{ord(match.group()):x}_", name.replace("$", "S_"))

    def _c_name(self, name: str) -> str:
        plain = re.sub(r"\W", "_", name.removeprefix("%"))
        return f"r_{plain}" if not self._scope_count else f"r{self._scope_count}_{plain}"

    def find(self, name: str) -> tuple[str, str] | None:
        """C name and kind (a register's type, ``local``, ``argument``) of a name, innermost scope first."""
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        return None

    # ---- operands ----

    def value(self, instruction: Instruction, text: str, kind: str) -> str:
        """``text`` read as PTX type ``kind``: integers in their C type, f16 and bf16 as their bits."""
        if kind == "pred":
            return self.predicate(instruction, text)
        found = self.find(text)
        if found is not None and found[1] in STORAGE:
            return _read(found[0], found[1], kind)
        if text in SPECIAL:
            return _read(SPECIAL[text], "u64" if text in ("%clock64", "%globaltimer") else "u32", kind)
        if text == "WARP_SZ":
            return "32"
        number = literal(text, kind)
        if number is not None:
            return number
        symbol, _, offset = text.partition("+")
        address = self._symbol(symbol)
        if address is not None and kind[0] in "bus":
            return f"(({c_type(kind)})({address.expression}{f' + {offset}' if offset else ''}))"
        raise refusal(instruction.line, f"an operand that is not known: {text}", got=str(instruction))

    def predicate(self, instruction: Instruction, text: str) -> str:
        """A predicate, perhaps negated."""
        if text.startswith("!"):
            return f"!{self.predicate(instruction, text[1:])}"
        found = self.find(text)
        if found is not None and found[1] == "pred":
            return found[0]
        if re.fullmatch(r"-?\d+", text):  # the compiler writes -1 for true
            return str(int(text != "0"))
        raise refusal(instruction.line, f"not a predicate: {text}", got=str(instruction))

    def assign(self, instruction: Instruction, text: str, expression: str, kind: str) -> str:
        """The statement that writes ``expression`` of PTX type ``kind`` to register ``text``."""
        if text == "_":
            return f"(void)({expression});"
        found = self.find(text)
        if found is None or found[1] not in STORAGE:
            raise refusal(instruction.line, f"a result that is no register: {text}", got=str(instruction))
        name, declared = found
        if declared in ("f32", "f64", "pred") and kind == declared:
            return f"{name} = {expression};"
        if declared in ("f32", "f64") and WIDTHS[kind] == WIDTHS[declared]:
            return f"{name} = dcc_{'float' if declared == 'f32' else 'double'}({expression});"
        if kind in ("f32", "f64") and STORAGE[declared] == f"uint{8 * WIDTHS[kind]}_t":
            return f"{name} = dcc_bits{8 * WIDTHS[kind]}({expression});"
        if declared in ("f32", "f64", "pred") or kind in ("f32", "f64", "pred"):
            raise refusal(
                instruction.line, f"a {kind} into a register of type {declared}", got=str(instruction)
            )
        return f"{name} = ({STORAGE[declared]})({expression});"

    # ---- addresses ----

    def _symbol(self, name: str) -> Place | None:
        found = self.find(name)
        if found is not None and found[1] == "local":
            return Place("local", f"(uint64_t)(uintptr_t){found[0]}")
        if name in self.shared:
            return Place("shared", f"UINT64_C({self.shared[name]})")
        if name in self.parameters:
            return Place("param", f"{self.parameters[name]}u")
        if name in self.module and self.module[name].space in ("const", "global"):
            return Place(self.module[name].space, f"(uint64_t)(uintptr_t){module_name(name)}")
        return None

    def address(self, instruction: Instruction, text: str, space: str) -> str:
        """The number that ``[text]`` stands for: an offset where ``space`` is shared or param."""
        if not (text.startswith("[") and text.endswith("]")):
            raise refusal(instruction.line, f"not an address: {text}", got=str(instruction))
        match = re.fullmatch(r"([%\w$.]+)(?:\+?(-?\w+))?", text[1:-1])
        if match is None:
            raise refusal(instruction.line, f"an address of that form: {text}", got=str(instruction))
        base, offset = match.group(1), match.group(2)
        symbol = self._symbol(base)
        if symbol is not None:
            if symbol.space != space and {symbol.space, space} & {"shared", "param"}:
                raise refusal(instruction.line, f"a variable of space {symbol.space}", got=str(instruction))
            expression = symbol.expression
        else:
            expression = self.value(instruction, base, "u64")
        if offset:
            expression = f"({expression} + (uint64_t)INT64_C({int(offset, 0)}))"
        return f"(uint32_t)({expression})" if space == "shared" else expression


def module_name(name: str) -> str:
    """C name of a variable outside functions."""
    return "m_" + re.sub(r"\W", lambda match: f"_{ord(match.group()):x}_", name)


def c_type(kind: str) -> str:
    """C type in which values of an integer type (or of bits) are computed."""
    return f"{'' if kind[0] == 's' else 'u'}int{8 * WIDTHS[kind]}_t"


def _read(name: str, declared: str, kind: str) -> str:
    if kind == declared and kind in ("f32", "f64"):
        return name
    bits = name
    if declared in ("f32", "f64"):
        bits = f"dcc_bits{8 * WIDTHS[declared]}({name})"
    elif declared == "pred":
        bits = f"(uint32_t){name}"
    if kind == "f32":
        return f"dcc_float((uint32_t){bits})"
    if kind == "f64":
        return f"dcc_double({bits})"
    if kind in ("f16", "bf16", "f16x2", "bf16x2", "tf32"):
        kind = f"b{8 * WIDTHS[kind]}"
    if STORAGE.get(declared) == c_type(kind):
        return bits
    return f"({c_type(kind)}){bits}"


def literal(text: str, kind: str) -> str | None:
    """A number in PTX text as C of ``kind``; None where it is none."""
    bits: int | None = None
    is_float = False
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        bits, is_float = int(text[2:], 16), True
        if kind == "f64":
            bits = struct.unpack("<Q", struct.pack("<d", struct.unpack("<f", struct.pack("<I", bits))[0]))[0]
    elif re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
        bits, is_float = int(text[2:], 16), True
        if kind == "f32":
            bits = struct.unpack("<I", struct.pack("<f", struct.unpack("<d", struct.pack("<Q", bits))[0]))[0]
    elif match := _INTEGER.fullmatch(text):
        digits = match.group(2)
        octal = re.fullmatch(r"0[0-7]+", digits) is not None
        bits = int(digits, 8) if octal else int(digits, 0)
        bits = -bits if match.group(1) else bits
    elif re.fullmatch(r"-?\d+\.\d*(?:[eE][+-]?\d+)?", text):
        number = float(text)
        packed = struct.pack("<d", number) if kind == "f64" else struct.pack("<f", number)
        bits, is_float = int.from_bytes(packed, "little"), True
    if bits is None:
        return None
    if kind in ("f32", "f64"):
        width = 8 * WIDTHS[kind]
        if not is_float:  # an integer in the place of a float: inline assembly with an "n" operand
            bits = int.from_bytes(struct.pack("<d" if kind == "f64" else "<f", float(bits)), "little")
        return f"dcc_{'double' if kind == 'f64' else 'float'}({bits:#x}{'ull' if width == 64 else 'u'})"
    width = 8 * WIDTHS[kind]
    bits &= (1 << width) - 1
    constant = f"{bits:#x}ull" if width == 64 else f"{bits:#x}u"
    return f"(({c_type(kind)}){constant})" if kind[0] == "s" or width < 32 else constant


Handler = Callable[[Frame, Instruction], str]
