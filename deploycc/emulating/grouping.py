"""Which accesses of memory are checked together: an unrolled loop makes hundreds with one base register.

Between two jumps everything without a predicate is executed, so accesses at constant distances from one base
are inside their memory, and aligned, where the first and the last of them are and one of the widest is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from deploycc.emulating.syntax import WIDTHS, Instruction, Label, Registers, Statement

SPACES = ("param", "shared", "local", "const", "global")
_ENDS = {"bra", "brx", "ret", "exit", "trap", "call"}
_ADDRESS = re.compile(r"\[([%\w$.]+)(?:\+?(-?\w+))?\]")


def space_of(instruction: Instruction) -> str:
    """The space that an instruction names, or ``generic``."""
    for part in instruction.parts[1:]:
        space = part.split("@")[0]
        if space in SPACES:
            return space
    return "generic"


@dataclass
class Group:
    """Accesses from one base: bytes ``low`` to ``high`` from it, the widest has ``width`` at ``widest``."""

    base: str
    low: int
    high: int
    widest: int
    width: int
    members: list[tuple[Instruction, int, int]] = field(default_factory=list)

    def add(self, instruction: Instruction, offset: int, width: int) -> None:
        """Take in another access."""
        self.low, self.high = min(self.low, offset), max(self.high, offset + width)
        if width > self.width:
            self.widest, self.width = offset, width
        self.members.append((instruction, offset, width))


def group_accesses(body: Sequence[Statement]) -> dict[int, Group | None]:
    """By ``id`` of an instruction: the group that is checked before it, or None where an earlier one was.

    Instructions that are not there are checked on their own.
    """
    found: dict[int, Group | None] = {}
    for group in _groups(body):
        first = group.members[0][0]
        for instruction, offset, width in group.members:
            # Where another access is misaligned because the widest is aligned, its own check says so.
            if (offset - group.widest) % width == 0:
                found[id(instruction)] = None
        found[id(first)] = group
    return found


def _groups(body: Sequence[Statement]) -> Iterator[Group]:
    opened: dict[tuple[str, str], Group] = {}
    for statement in body:
        if isinstance(statement, Label):
            yield from opened.values()
            opened = {}
        elif isinstance(statement, Registers):
            for key in [key for key in opened if key[1] in statement.names]:
                yield opened.pop(key)
        elif isinstance(statement, Instruction):
            access = _access(statement)
            if access is not None:
                space, base, offset, width = access
                group = opened.setdefault((space, base), Group(base, offset, offset, offset, 0))
                group.add(statement, offset, width)
            if statement.name in _ENDS:
                yield from opened.values()
                opened = {}
            for key in [key for key in opened if key[1] in _written(statement)]:
                yield opened.pop(key)
    yield from opened.values()


def _access(instruction: Instruction) -> tuple[str, str, int, int] | None:
    """Space, base, offset and bytes of a load or store that has no predicate."""
    if instruction.name not in ("ld", "ldu", "st") or instruction.guard or len(instruction.operands) < 2:
        return None
    match = _ADDRESS.fullmatch(instruction.operands[0 if instruction.name == "st" else 1])
    width = WIDTHS.get(instruction.parts[-1], 0)
    space = space_of(instruction)
    if match is None or not width or space == "param":
        return None
    count = next((int(part[1]) for part in instruction.parts if part in ("v2", "v4")), 1)
    return space, match.group(1), int(match.group(2) or "0", 0), count * width


def _written(instruction: Instruction) -> set[str]:
    """Registers that an instruction may write."""
    if instruction.name in ("st", "red", "bar", "barrier") or not instruction.operands:
        return set()
    return set(re.split(r"[{},|]", instruction.operands[0]))
