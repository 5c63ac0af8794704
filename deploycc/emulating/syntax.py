"""PTX text taken apart: the module's variables, its kernels, and their statements.

Only the form is looked at here; what an instruction means stands in the modules beside this one.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass

from deploycc.types import DeployccError, Diagnostic


@dataclass(frozen=True)
class Variable:
    """A variable or parameter: ``type`` as in PTX (``b8``, ``f32``), ``count`` elements (0: size open).

    ``space`` is one of param, shared, local, const, global; ``align`` is in bytes.  ``values`` is the text of
    the initialiser, empty for none.
    """

    space: str
    name: str
    type: str
    count: int
    align: int
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registers:
    """``.reg`` of one type: ``names`` in full, ``%f<3>`` spelt out."""

    type: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Scope:
    """A brace in a body: names that are declared after an opening one end with its closing one."""

    opens: bool


@dataclass(frozen=True)
class Label:
    """A place that is jumped to; ``targets`` where it names a ``.branchtargets`` list instead."""

    name: str
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``parts`` are its name and modifiers, ``guard`` its predicate, ``%p1`` or ``!%p1``."""

    line: int
    guard: str
    parts: tuple[str, ...]
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        """The instruction without its modifiers."""
        return self.parts[0]

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"{guard}{'.'.join(self.parts)} {', '.join(self.operands)}".rstrip()


Statement = Variable | Registers | Scope | Label | Instruction


@dataclass(frozen=True)
class Entry:
    """A kernel: parameters, the most threads of a block (0: not told), and its statements."""

    name: str
    line: int
    parameters: tuple[Variable, ...]
    max_threads: int
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Module:
    """A PTX file: its target as told (``sm_80``), the variables outside functions, and the kernels."""

    target: str
    variables: tuple[Variable, ...]
    entries: tuple[Entry, ...]


WIDTHS = {
    **{f"{kind}{bits}": bits // 8 for kind in "bus" for bits in (8, 16, 32, 64)},
    "f16": 2,
    "bf16": 2,
    "f16x2": 4,
    "bf16x2": 4,
    "f32": 4,
    "tf32": 4,
    "f64": 8,
    "pred": 1,
}
"""Bytes of the types."""


def refusal(line: int, message: str, *, got: str = "", need: str = "") -> DeployccError:
    """What is raised for text that is not understood: DC880 with the line of the PTX."""
    place = f"line {line}: {got}" if got else f"line {line}"
    return DeployccError(Diagnostic("DC880", f"PTX that cannot be run here: {message}", got=place, need=need))


_SKIPPED = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.S)
_SPACE = re.compile(r"[\s]*")
_LABEL = re.compile(r"([A-Za-z_$%][\w$]*)\s*:(?!:)")
_LINE_DIRECTIVE = re.compile(r"\.(?:version|target|address_size|file|loc)\b[^\n]*")
_FUNCTION = re.compile(r"((?:\.(?:visible|extern|weak)\s+)*)\.(entry|func)\b([^{;]*)([{;])")
_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak|common)\s+)*\.(?P<space>param|shared|local|const|global)\b"
    r"(?P<attributes>(?:\s*\.(?:align\s+\d+|attribute\s*\([^)]*\)))*)"
    r"\s*\.(?P<type>[a-z]+\d+(?:x2)?)"
    r"(?P<pointee>\s*\.ptr(?:\s*\.(?:global|shared|const|local))?(?:\s*\.align\s+\d+)?)?"
    r"\s+(?P<name>[A-Za-z_$%][\w$]*)\s*"
    r"(?P<extents>(?:\[\s*\d*\s*\]\s*)*)\s*(?:=\s*(?P<values>.*))?$",
    re.S,
)
_REGISTERS = re.compile(r"\.reg\s*(?:\.v\d\s*)?\.(\w+)\s+(.*)$", re.S)
_INSTRUCTION = re.compile(r"(?:@\s*(!?\s*[%\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)$", re.S)


class _Text:
    """The text with comments blanked, and the line of each position."""

    def __init__(self, ptx: str) -> None:
        self.text = _SKIPPED.sub(_blank, ptx.rstrip("\0"))
        self._ends = [match.start() for match in re.finditer("\n", self.text)]

    def line(self, position: int) -> int:
        return bisect.bisect_left(self._ends, position) + 1


def _blank(match: re.Match[str]) -> str:
    found = match.group()
    return found if found[0] == '"' else re.sub(r"[^\n]", " ", found)


def parse(ptx: str) -> Module:
    """Take a PTX file apart.  Raises ``DeployccError`` (DC880) with the line that is not understood.

    Bodies of ``.func`` are passed over: a call of one is refused where it stands.
    """
    source = _Text(ptx)
    text, position = source.text, 0
    target, variables, entries = "", [], []
    while True:
        position = _after_space(text, position)
        if position >= len(text):
            break
        if directive := _LINE_DIRECTIVE.match(text, position):
            if directive.group().startswith(".target"):
                target = directive.group().split()[1].rstrip(",")
            position = directive.end()
        elif function := _FUNCTION.match(text, position):
            line, position = source.line(position), function.end()
            body: list[Statement] = []
            if function.group(4) == "{":
                body, position = _parse_body(source, position, keep=function.group(2) == "entry")
            if function.group(2) == "entry" and function.group(4) == "{":
                entries.append(_parse_entry(function.group(3), line, body))
        else:
            end = text.find(";", position)
            end = len(text) if end < 0 else end
            statement = text[position:end].strip()
            if statement.startswith(".section"):
                position = text.index("}", position) + 1
                continue
            if statement and not statement.startswith((".pragma", ".alias")):
                variables.append(_parse_variable(statement, source.line(position)))
            position = end + 1
    return Module(target, tuple(variables), tuple(entries))


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _parse_entry(header: str, line: int, body: list[Statement]) -> Entry:
    match = re.match(r"\s*([A-Za-z_$%][\w$]*)\s*(?:\(([^)]*)\))?(.*)$", header, re.S)
    if match is None:
        raise refusal(line, "the head of a kernel", got=header.strip())
    declared = [text.strip() for text in (match.group(2) or "").split(",") if text.strip()]
    threads = re.search(r"\.(?:maxntid|reqntid)\s+([\d,\s]+)", match.group(3))
    most = 0
    if threads:
        most = 1
        for extent in threads.group(1).split(","):
            most *= int(extent) if extent.strip() else 1
    parameters = tuple(_parse_variable(text, line) for text in declared)
    return Entry(match.group(1), line, parameters, most, tuple(body))


def _parse_body(source: _Text, position: int, *, keep: bool) -> tuple[list[Statement], int]:
    text, depth, body = source.text, 1, list[Statement]()
    while True:
        position = _after_space(text, position)
        if position >= len(text):
            raise refusal(source.line(position), "the text ends inside a function")
        if text[position] in "{}":
            depth += 1 if text[position] == "{" else -1
            position += 1
            if depth == 0:
                return body, position
            body.append(Scope(text[position - 1] == "{"))
        elif directive := _LINE_DIRECTIVE.match(text, position):
            position = directive.end()
        elif label := _LABEL.match(text, position):
            position = _after_space(text, label.end())
            targets: tuple[str, ...] = ()
            if text.startswith(".branchtargets", position):
                end = text.index(";", position)
                targets = tuple(name.strip() for name in text[position + 14 : end].split(","))
                position = end + 1
            body.append(Label(label.group(1), targets))
        else:
            end = text.find(";", position)
            if end < 0:
                raise refusal(source.line(position), "a statement without its end")
            statement = text[position:end].strip()
            if keep and statement and not statement.startswith((".pragma", ".callprototype")):
                body.append(_parse_statement(statement, source.line(position)))
            position = end + 1


def _parse_statement(text: str, line: int) -> Statement:
    if text.startswith(".reg"):
        match = _REGISTERS.match(text)
        if match is None or match.group(1) not in WIDTHS:
            raise refusal(line, "registers of that form", got=text)
        names: list[str] = []
        for declared in match.group(2).split(","):
            counted = re.fullmatch(r"\s*([%\w$]+)\s*<\s*(\d+)\s*>\s*", declared)
            if counted:
                names.extend(f"{counted.group(1)}{number}" for number in range(int(counted.group(2))))
            else:
                names.append(declared.strip())
        return Registers(match.group(1), tuple(names))
    if text.startswith("."):
        return _parse_variable(text, line)
    match = _INSTRUCTION.match(text)
    if match is None:
        raise refusal(line, "a statement of that form", got=text)
    parts = tuple(match.group(2).replace("::", "@").split("."))
    guard = (match.group(1) or "").replace(" ", "")
    return Instruction(line, guard, parts, split_operands(match.group(3)))


def split_operands(text: str) -> tuple[str, ...]:
    """Operands between commas that are in no bracket, without blanks."""
    found, depth, current = [], 0, ""
    for character in text:
        if character in "{[(":
            depth += 1
        elif character in "}])":
            depth -= 1
        if character == "," and depth == 0:
            found.append(current)
            current = ""
        elif not character.isspace():
            current += character
    if current:
        found.append(current)
    return tuple(found)


def _parse_variable(text: str, line: int) -> Variable:
    match = _VARIABLE.match(text)
    if match is None or match.group("type") not in WIDTHS:
        raise refusal(line, "a declaration of that form", got=" ".join(text.split())[:80])
    kind = match.group("type")
    count = 1
    for extent in re.findall(r"\[\s*(\d*)\s*\]", match.group("extents")):
        count *= int(extent) if extent else 0
    given = re.search(r"\.align\s+(\d+)", match.group("attributes"))
    align = int(given.group(1)) if given else WIDTHS[kind]
    values = tuple(re.sub(r"[{}\s]", "", match.group("values") or "").split(","))
    values = () if values == ("",) else values
    return Variable(match.group("space"), match.group("name"), kind, count, align, values)
