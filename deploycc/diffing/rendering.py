"""A comparison as text, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from deploycc.diagnostics import printable
from deploycc.diffing.sections import Section, sections
from deploycc.diffing.types import Difference
from deploycc.reporting.markdown import code
from deploycc.reporting.markdown import text as harmless

FORMAT = "deploycc diff"
SCHEMA_VERSION = 1

MOST_ROWS = 60
"""Of a table in Markdown: GitHub takes 65,536 characters in a comment."""


def as_text(found: Difference, everything: bool = False) -> str:
    """Text for a person at a terminal; without ``everything`` only what differs."""
    width = max(len(found.a), len(found.b))
    lines = [
        f"A  {printable(found.a).ljust(width)}  {printable(found.target_a)}",
        f"B  {printable(found.b).ljust(width)}  {printable(found.target_b)}",
    ]
    for section in sections(found, everything):
        lines += ["", *_text(section)]
    return "\n".join(lines) + "\n"


def _text(section: Section) -> Iterator[str]:
    yield printable(f"{section.title}: {section.sentence}".rstrip())
    rows = [[printable(cell) for cell in row] for row in section.rows]
    if rows:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell.rjust(width) if number in section.numbers else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield ("  " + "  ".join(cells)).rstrip()
    for note in section.notes:
        yield printable(f"  {note}")


def as_markdown(found: Difference, everything: bool = False) -> str:
    """Markdown for the comment of a pull request: a heading, and what is long folded away."""
    lines = [f"## deploycc diff: {code(found.a)} → {code(found.b)}", ""]
    lines += [f"A is for {code(found.target_a)}, B for {code(found.target_b)}.", ""]
    for section in sections(found, everything):
        lines += _markdown(section)
    return "\n".join(lines).rstrip() + "\n"


def _markdown(section: Section) -> Iterator[str]:
    yield f"**{section.title}**" + (f": {harmless(section.sentence)}" if section.sentence else "")
    yield ""
    long = len(section.rows) > 12
    if long:
        yield f"<details><summary>{len(section.rows) - 1} rows</summary>"
        yield ""
    for number, row in enumerate(section.rows[: MOST_ROWS + 1]):
        yield "| " + " | ".join(map(harmless, row)) + " |"
        if number == 0:
            yield "|" + "".join("---:|" if n in section.numbers else "---|" for n in range(len(row)))
    if section.rows:
        yield ""
    if len(section.rows) > MOST_ROWS + 1:
        yield f"And {len(section.rows) - 1 - MOST_ROWS} more; the other formats have them all."
        yield ""
    if long:
        yield "</details>"
        yield ""
    for note in section.notes:
        yield f"- {harmless(note)}"
    if section.notes:
        yield ""


def as_json(found: Difference) -> str:
    """All that was found: the dataclass, with infinities and NaN as text, for JSON has none."""
    table = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(found)}
    return json.dumps(_finite(table), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
