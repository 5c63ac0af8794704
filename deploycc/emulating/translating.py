"""PTX to C: each kernel becomes a function of one thread, and the table that the module exports."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from deploycc.emulating import control, conversions, floats, integers, memory
from deploycc.emulating.frame import Frame, Handler, module_name
from deploycc.emulating.grouping import group_accesses
from deploycc.emulating.integers import unknown
from deploycc.emulating.syntax import (
    WIDTHS,
    Entry,
    Instruction,
    Label,
    Module,
    Registers,
    Scope,
    Variable,
    parse,
    refusal,
)

_HANDLERS: dict[str, Handler] = {
    **integers.HANDLERS,
    **floats.HANDLERS,
    **conversions.HANDLERS,
    **memory.HANDLERS,
    **control.HANDLERS,
}

_Row = tuple[tuple[str, ...], str]
"""Of the exported table: declarations, and the initialiser of a kernel."""

_STACK_BYTES = 32 * 1024
"""Of a fiber, beside its registers and arrays: for calls of the C library and of an mma."""


@dataclass(frozen=True)
class Translation:
    """C of a PTX module: what its files share, each kernel's file, and the file with variables and table."""

    header: str
    kernels: tuple[tuple[str, str], ...]
    table: str


def translate(ptx: str) -> str:
    """C text of a PTX module, which needs the headers in ``deploycc/emulating/runtime``.

    Raises ``DeployccError`` (DC880) with the line of what is not known.
    """
    done = translate_module(ptx)
    return "\n".join((done.header, *(text for _, text in done.kernels), done.table))


def translate_module(ptx: str) -> Translation:
    """The same in parts that are compiled on their own.  Raises as ``translate``."""
    module = parse(ptx)
    by_name = {variable.name: variable for variable in module.variables}
    plain = [variable for variable in module.variables if variable.space in ("const", "global")]
    header = ['#include "arithmetic.h"', '#include "kernel.h"', '#include "warps.h"', ""]
    header += [f"extern uint8_t {module_name(v.name)}[{max(_bytes_of(v), 1)}];" for v in plain]
    kernels, table = [], []
    for number, entry in enumerate(module.entries):
        text, row = _translate_entry(module, by_name, entry, number)
        kernels.append((entry.name, text))
        table.append(row)
    return Translation("\n".join(header) + "\n", tuple(kernels), _write_table(plain, table))


def _bytes_of(variable: Variable) -> int:
    return variable.count * WIDTHS[variable.type]


# ---- variables outside functions ----


def _initial_bytes(variable: Variable) -> bytes:
    width = WIDTHS[variable.type]
    data = bytearray()
    for text in variable.values:
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}", text):
            number = int(text[2:], 16)
            if variable.type == "f64" and len(text) == 10:
                single = struct.unpack("<f", struct.pack("<I", number))[0]
                number = struct.unpack("<Q", struct.pack("<d", single))[0]
        elif re.fullmatch(r"-?(?:0[xX][0-9a-fA-F]+|\d+)U?", text):
            number = int(text.rstrip("U"), 0)
        else:
            raise refusal(0, f"the initial value of {variable.name}", got=text, need="numbers")
        data += (number & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return bytes(data)


def _write_table(variables: list[Variable], table: list[_Row]) -> str:
    lines = []
    for variable in variables:
        data = _initial_bytes(variable).rstrip(b"\0")
        start = f" = {{{','.join(map(str, data))}}}" if data else ""
        size = max(_bytes_of(variable), 1)
        lines.append(
            f"_Alignas({max(variable.align, 16)}) uint8_t {module_name(variable.name)}[{size}]{start};"
        )
    lines += ["bool dcc_in_module(uintptr_t address, uint64_t bytes)", "{"]
    lines += [
        f"    if (address - (uintptr_t){module_name(v.name)} < {_bytes_of(v)} && "
        f"address - (uintptr_t){module_name(v.name)} + bytes <= {_bytes_of(v)}) return true;"
        for v in variables
    ]
    lines += ["    (void)address;", "    (void)bytes;", "    return false;", "}", ""]
    lines += [line for declaration, _ in table for line in declaration]
    if table:
        lines += ["const dcc_emulated_kernel dcc_kernels[] = {", *(f"    {row}," for _, row in table), "};"]
    kernels = "dcc_kernels" if table else "NULL"
    lines.append(
        f"DCC_EXPORT const dcc_emulated_module dcc_emulated_module_table = {{1, {len(table)}, {kernels}}};"
    )
    return "\n".join(lines) + "\n"


# ---- kernels ----


def _place_shared(module: Module, entry: Entry) -> tuple[dict[str, int], int, int]:
    """Offsets of the shared variables, bytes of the static ones, alignment of the dynamic one."""
    mentioned = {
        name
        for statement in entry.body
        if isinstance(statement, Instruction)
        for operand in statement.operands
        for name in re.findall(r"[A-Za-z_$%][\w$]*", operand)
    }
    own = [v for v in entry.body if isinstance(v, Variable) and v.space == "shared"]
    shared = own + [v for v in module.variables if v.space == "shared" and v.name in mentioned]
    offsets, end, dynamic_align = dict[str, int](), 0, 16
    for variable in shared:
        if variable.count:
            end = -(-end // variable.align) * variable.align
            offsets[variable.name] = end
            end += _bytes_of(variable)
        else:
            dynamic_align = max(dynamic_align, variable.align)
    start = -(-end // dynamic_align) * dynamic_align
    offsets |= {variable.name: start for variable in shared if not variable.count}
    return offsets, end, dynamic_align


def _place_parameters(entry: Entry) -> tuple[dict[str, int], list[int], list[int], int]:
    offsets, sizes, end = dict[str, int](), [], 0
    for parameter in entry.parameters:
        end = -(-end // parameter.align) * parameter.align
        offsets[parameter.name] = end
        sizes.append(_bytes_of(parameter))
        end += _bytes_of(parameter)
    return offsets, list(offsets.values()), sizes, end


def _translate_entry(
    module: Module, by_name: dict[str, Variable], entry: Entry, number: int
) -> tuple[str, _Row]:
    """The C of a kernel, and its row in the table."""
    shared, static_bytes, dynamic_align = _place_shared(module, entry)
    parameters, parameter_offsets, parameter_sizes, parameter_bytes = _place_parameters(entry)
    frame = Frame(shared=shared, module=by_name, parameters=parameters)
    frame.lists = {s.name: s.targets for s in entry.body if isinstance(s, Label) and s.targets}
    frame.groups = group_accesses(entry.body)
    lines = _translate_body(frame, entry)
    name = re.sub(r"\W", lambda match: f"_{ord(match.group()):x}_", entry.name)
    offsets = ", ".join(map(str, parameter_offsets)) or "0"
    sizes = ", ".join(map(str, parameter_sizes)) or "0"
    stack = -(-(_STACK_BYTES + 16 * frame.register_count + 2 * frame.local_bytes) // 4096) * 4096
    form = "DCC_FIBERS" if frame.together else "DCC_LOOP"
    text = [
        f"/* kernel {entry.name} */",
        f"static void thread_{name}(dcc_block *B, dcc_thread *T, uint32_t tx, uint32_t ty, uint32_t tz)",
        "{",
        "    DCC_BEGIN;",
        *(f"    {declaration}" for declaration in frame.declarations),
        *lines,
        "}",
        f"{form}({name}, {number}, {dynamic_align}, {stack}, {'true' if frame.copies else 'false'})",
        "",
    ]
    declarations = (
        f"DCC_DECLARE({name})",
        f"static const uint32_t offsets_{name}[] = {{{offsets}}}, sizes_{name}[] = {{{sizes}}};",
    )
    row = (
        f'{{"{entry.name}", {len(parameter_sizes)}, offsets_{name}, sizes_{name}, {parameter_bytes}, '
        f"{static_bytes}, {entry.max_threads}, run_{name}}}"
    )
    return "\n".join(text), (declarations, row)


def _translate_body(frame: Frame, entry: Entry) -> list[str]:
    lines = []
    for statement in entry.body:
        if isinstance(statement, Registers):
            for register in statement.names:
                frame.declare_register(register, statement.type)
        elif isinstance(statement, Variable):
            if statement.space == "local":
                frame.declare_local(statement)
            elif statement.space == "param":
                frame.declare_argument(statement)
        elif isinstance(statement, Scope):
            if statement.opens:
                frame.open_scope()
            else:
                frame.close_scope()
        elif isinstance(statement, Label):
            if not statement.targets:
                frame.passed.add(statement.name)
                lines.append(f"{frame.label(statement.name)}:;")
        else:
            lines.append(f"    {_translate_instruction(frame, statement)}")
    return lines


def _translate_instruction(frame: Frame, instruction: Instruction) -> str:
    handler = _HANDLERS.get(instruction.name)
    if handler is None:
        raise unknown(instruction)
    try:
        text = handler(frame, instruction)
    except (IndexError, KeyError, ValueError):
        # A form with fewer operands or modifiers than every known one.
        raise unknown(instruction) from None
    if instruction.guard:
        text = f"if ({frame.predicate(instruction, instruction.guard)}) {{ {text} }}"
    return text
