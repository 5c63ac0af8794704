"""Reads assembly as LLVM prints it: the innermost loops and what their instructions do.

It is how the code of a kernel is judged without running it: an inner loop of multiply-adds should hold
vector ones, as few loads as its tile needs, and nothing that goes to the stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploycc.types import Target


@dataclass(frozen=True)
class Kind:
    """What one instruction does; one that takes an operand from memory is a load beside its own kind."""

    vector_fma: bool = False
    scalar_fma: bool = False
    load: bool = False
    store: bool = False
    stack: bool = False


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions (no labels, no directives) and how many there are of each kind.

    ``loads`` and ``stores`` count instructions, whatever their width; an FMA with an operand in memory is
    in both ``vector_fmas`` and ``loads``.  ``stack`` of them are at the stack pointer: values that found no
    register.  ``other`` is what is neither FMA, load nor store.
    """

    lines: tuple[str, ...]
    vector_fmas: int
    scalar_fmas: int
    loads: int
    stores: int
    stack: int
    other: int


_LABEL = re.compile(r"^(\.?L\w+):")
_INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)(?:\s+(.*?))?\s*(?:(?:#\s|//|@\s).*)?$")
_TARGET_OF_JUMP = re.compile(r"(\.?L\w+)$")


def inner_loops(assembly: str, target: Target) -> tuple[Loop, ...]:
    """The innermost loops of ``assembly`` (code of ``target``) in its order.

    A loop is what lies between a label and a jump back to it; an innermost one holds no other.  Raises
    ``ValueError`` for a machine whose instructions are not known here.
    """
    kind_of = _reader(target)
    lines = assembly.splitlines()
    labels = {found[1]: number for number, line in enumerate(lines) if (found := _LABEL.match(line))}
    spans: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        instruction = _INSTRUCTION.match(line)
        jump = _TARGET_OF_JUMP.search(instruction[2] or "") if instruction else None
        if jump and labels.get(jump[1], number) < number:
            spans.append((labels[jump[1]], number))
    whole = {start: max(end for first, end in spans if first == start) for start, _ in spans}
    innermost = [
        (start, end)
        for start, end in sorted(whole.items())
        if not any(start < other and last <= end for other, last in whole.items())
    ]
    return tuple(_loop(lines[start : end + 1], kind_of) for start, end in innermost)


def hot_loops(assembly: str, target: Target) -> tuple[Loop, ...]:
    """The inner loops that do the multiply-adds: those with at least half as many as the largest.

    LLVM often makes several of one reduction, such as one for each column of the filter.
    """
    loops = inner_loops(assembly, target)
    most = max((loop.vector_fmas + loop.scalar_fmas for loop in loops), default=0)
    return tuple(loop for loop in loops if most and 2 * (loop.vector_fmas + loop.scalar_fmas) >= most)


def _loop(lines: list[str], kind_of: Callable[[str, str], Kind]) -> Loop:
    found = [match for line in lines if (match := _INSTRUCTION.match(line))]
    kinds = [kind_of(match[1], match[2] or "") for match in found]
    return Loop(
        lines=tuple(f"{match[1]} {match[2] or ''}".rstrip() for match in found),
        vector_fmas=sum(kind.vector_fma for kind in kinds),
        scalar_fmas=sum(kind.scalar_fma for kind in kinds),
        loads=sum(kind.load for kind in kinds),
        stores=sum(kind.store for kind in kinds),
        stack=sum(kind.stack for kind in kinds),
        other=sum(kind in (Kind(), Kind(stack=True)) for kind in kinds),
    )


_X86_FMA = re.compile(r"vfn?m(?:add|sub)\d{3}([ps])s$")


def _x86_64(name: str, operands: str) -> Kind:
    """AT&T syntax: the destination comes last, memory operands are in parentheses."""
    fma = _X86_FMA.match(name)
    memory = "(" in operands and not name.startswith(("lea", "nop", "prefetch"))
    # A comma inside parentheses separates base and index; mask registers follow the destination in braces.
    destination = re.split(r",(?![^(]*\))", re.sub(r"\s*\{[^}]*\}", "", operands))[-1]
    writes = memory and "(" in destination and not name.startswith(("cmp", "test"))
    return Kind(
        vector_fma=fma is not None and fma[1] == "p",
        scalar_fma=fma is not None and fma[1] == "s",
        load=memory and not writes,
        store=writes,
        stack=memory and re.search(r"\(%rsp[,)]", operands) is not None,
    )


def _aarch64(name: str, operands: str) -> Kind:
    first = operands.split(",")[0]
    fma = name in ("fmla", "fmls", "fmadd", "fmsub", "fnmadd", "fnmsub")
    vector = re.match(r"(?:v\d+\.|z\d+\.)", first) is not None
    return Kind(
        vector_fma=fma and vector,
        scalar_fma=fma and not vector,
        load=name.startswith("ld"),
        store=name.startswith("st"),
        stack=re.search(r"\[sp\b", operands) is not None,
    )


def _arm(name: str, operands: str) -> Kind:
    fma = re.match(r"(?:vfn?m[as]|vn?ml[as])\.f32$", name) is not None
    vector = re.match(r"[dq]\d+", operands) is not None
    return Kind(
        vector_fma=fma and vector,
        scalar_fma=fma and not vector,
        load=name.startswith(("ldr", "ldm", "vld", "pop")),
        store=name.startswith(("str", "stm", "vst", "push")),
        stack=re.search(r"\[sp\b", operands) is not None,
    )


_RISCV_VECTOR_FMA = re.compile(r"vfn?m(?:acc|sac|add|sub)\.v[vf]$")
_RISCV_SCALAR_FMA = re.compile(r"fn?m(?:add|sub)\.s$")


def _riscv64(name: str, operands: str) -> Kind:
    load = name in ("lb", "lbu", "lh", "lhu", "lw", "lwu", "ld", "flw", "fld", "flh")
    store = name in ("sb", "sh", "sw", "sd", "fsw", "fsd", "fsh")
    return Kind(
        vector_fma=_RISCV_VECTOR_FMA.match(name) is not None,
        scalar_fma=_RISCV_SCALAR_FMA.match(name) is not None,
        load=load or re.match(r"vl(?:s?e\d+|\d+r|m\.v|[ou]xei)", name) is not None,
        store=store or re.match(r"vs(?:s?e\d+|\d+r|m\.v|[ou]xei)", name) is not None,
        stack="(sp)" in operands,
    )


_READERS: Mapping[str, Callable[[str, str], Kind]] = {
    "x86_64": _x86_64,
    "aarch64": _aarch64,
    "armv7": _arm,
    "riscv64": _riscv64,
}
"""By the first part of LLVM's triple."""


def _reader(target: Target) -> Callable[[str, str], Kind]:
    architecture = target.llvm.triple.split("-")[0]
    if architecture not in _READERS:
        raise ValueError(f"the instructions of {architecture} are not known here")
    return _READERS[architecture]
