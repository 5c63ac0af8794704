"""Where the reports of lint go: ``--format FORMAT[=FILE]`` and ``--output FILE``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click
from click.shell_completion import CompletionItem

from deploycc.text_file import write_text

FORMATS = ("text", "json", "sarif", "junit", "github", "markdown", "html")


@dataclass(frozen=True)
class Output:
    """A report in ``format``, on standard output where there is no ``path``."""

    format: str
    path: Path | None = None

    def write(self, render: Callable[[str, bool], str], colour: str) -> None:
        """Write ``render(format, coloured)``; raises ``DeployccError`` (DC778) where it cannot."""
        text = render(self.format, wants_colour(colour, sys.stdout if self.path is None else None))
        text = text.rstrip("\n") + "\n" if text else ""
        if self.path is None:
            click.echo(text, nl=False, color=True)
        else:
            write_text(self.path, text)


class FormatOption(click.ParamType[Output]):
    """``sarif`` or ``sarif=lint.sarif``; ``-`` is standard output."""

    name = "format"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Output:
        """The format and its file."""
        if isinstance(value, Output):
            return value
        name, given, path = str(value).partition("=")
        if name not in FORMATS or (given and not path):
            self.fail(
                f"{value!r} is no format; write one of {', '.join(FORMATS)}, or FORMAT=FILE", param, ctx
            )
        return Output(name, Path(path) if path not in ("", "-") else None)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The formats."""
        return [CompletionItem(name) for name in FORMATS if name.startswith(incomplete)]


def outputs_of(formats: Sequence[Output], files: Sequence[Path]) -> tuple[Output, ...]:
    """The reports to write: each ``--output`` is the file of one ``--format`` without a file, in order.

    As many as there are, or it would have to be guessed which is whose.  Two reports on standard output, or
    in one file, are a usage error as well.
    """
    outputs = list(formats) or [Output("text")]
    bare = [index for index, output in enumerate(outputs) if output.path is None]
    if files:
        if len(files) != len(bare):
            raise click.UsageError(
                f"{len(files)} --output for {len(bare)} --format without a file; write --format FORMAT=FILE"
            )
        for index, path in zip(bare, files, strict=True):
            outputs[index] = Output(outputs[index].format, None if str(path) == "-" else path)
    places = [output.path for output in outputs]
    doubled = next((place for place in places if places.count(place) > 1), "")
    if doubled != "":
        where = "standard output" if doubled is None else doubled
        raise click.UsageError(f"two reports would go to {where}; write --format FORMAT=FILE")
    return tuple(outputs)


def wants_colour(choice: str, stream: TextIO | None) -> bool:
    """``always``, ``never``, or ``auto``: on a terminal, unless ``NO_COLOR`` is set (no-color.org)."""
    if choice != "auto":
        return choice == "always"
    return (
        stream is not None
        and stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
