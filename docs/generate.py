"""Writes the parts of the documentation that the program itself knows: ``make docs``.

``docs/errors.md``, ``docs/rules`` and ``docs/op-support`` are all generated; in ``docs/new-target.md`` the
tables of keys are, between two marks each.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from deploycc.diagnostics import CATALOGUE
from deploycc.gpu_targets import CHIP_NUMBERS, GPU_KEYS
from deploycc.target_files import Key
from deploycc.targets import HARDWARE_NUMBERS, KEYS
from docs.lint_pages import lint_pages

FOLDER = Path(__file__).resolve().parent
BEGIN, END = "<!-- begin: written by make docs -->", "<!-- end -->"
BEGIN_CHIPS = "<!-- begin: keys of chips, written by make docs -->"

_GROUPS = (
    ("1", "Form of the model"),
    ("2", "Shapes"),
    ("3", "Types and quantisation"),
    ("4", "Operators and schedules"),
    ("5", "Targets and planning"),
    ("6", "Tuning"),
    ("7", "Packages, the machine, PyTorch export"),
    ("8", "Packages at work"),
)
_MEANS = {
    0: "noted only",
    1: "the model is refused, or the package is not as it should be",
    2: "wrong usage or broken input",
    70: "a fault of deploycc",
}


def errors_page() -> str:
    """The catalogue of diagnostics as a page."""
    lines = [
        "# Diagnostics",
        "",
        "Written by `make docs` from `deploycc/diagnostics.py`. A code never changes its meaning and is",
        "never used again. An error says what was found (`got`), what was needed (`need`), and how to get",
        "there (`help`); everything that is wrong is told at once. The exit code of the command line is the",
        "highest of what was found.",
        "",
    ]
    left = set(CATALOGUE)
    for digit, title in _GROUPS:
        codes = sorted(code for code in CATALOGUE if code[2] == digit)
        left -= set(codes)
        lines += [f"## {title}", "", "| code | what | exit code |", "|---|---|---|"]
        for code in codes:
            entry = CATALOGUE[code]
            lines.append(f"| {code} | {entry.title} | {entry.exit_code}: {_MEANS[entry.exit_code]} |")
        lines.append("")
    if left:
        raise ValueError(f"codes of no group: {sorted(left)}")
    return "\n".join(lines)


def keys_table(keys: Mapping[str, Key], numbers: Collection[str]) -> str:
    """The keys of a target's or a chip's file as a table; ``numbers`` are those that need a source."""
    types = {str: "text", int: "whole number", bool: "true or false", float: "number", list: "list of texts"}
    lines = ["| key | type | value | may be left out |", "|---|---|---|---|"]
    for key, spec in keys.items():
        source = ", with its source" if key in numbers else ""
        optional = "no" if spec.default is None else "yes"
        lines.append(f"| `{key}` | {types[spec.type]} | {spec.need}{source} | {optional} |")
    return "\n".join(lines)


def with_table(page: str, begin: str, table: str) -> str:
    """``page`` with what lies between the mark ``begin`` and the next end replaced."""
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(END)}", re.S)
    assert len(pattern.findall(page)) == 1
    return pattern.sub(lambda _: f"{begin}\n{table}\n{END}", page)


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    target_page = FOLDER / "new-target.md"
    targets = with_table(target_page.read_text(encoding="utf-8"), BEGIN, keys_table(KEYS, HARDWARE_NUMBERS))
    return {
        FOLDER / "errors.md": errors_page(),
        target_page: with_table(targets, BEGIN_CHIPS, keys_table(GPU_KEYS, CHIP_NUMBERS)),
        **lint_pages(),
    }


if __name__ == "__main__":
    written = pages()
    for folder in {path.parent for path in written} - {FOLDER}:
        folder.mkdir(exist_ok=True)
        for old in set(folder.glob("*.md")) - written.keys():
            old.unlink()
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
