"""``deploycc verify --bisect``: the search for the first wrong layer, told to a person."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploycc.diagnostics import printable
from deploycc.types import DeployccError, Diagnostic

if TYPE_CHECKING:
    from deploycc.bisecting.findings import Bisection, Link, Suspect
    from deploycc.onnx_graph import Array
    from deploycc.running import Package

MOST_LINKS = 12
"""A longer chain is shown by its two ends."""


def bisect_and_tell(
    package: Package,
    model: Path | None,
    inputs: list[Array],
    runner: str | None,
    output: Path | None,
    chip: str | None = None,
) -> None:
    """Search, and print what was found.

    Raises ``DeployccError``: DC820 without a model, and what ``deploycc.bisect.bisect`` raises.
    """
    if model is None:
        raise DeployccError(
            Diagnostic(
                "DC820",
                "the layers of a package are compared with its model, and none was given",
                need="the ONNX file that the package was built from",
                help="--model model.onnx",
            )
        )
    from deploycc.bisect import bisect  # it loads numpy, which other commands do without

    found = bisect(package, model, inputs, runner=runner, output=output, chip=chip)
    for line in lines(found):
        click.echo(line)


def lines(found: Bisection) -> Iterator[str]:
    """The report, line by line, without anything that would steer a terminal."""
    yield from map(printable, _lines(found))


def _lines(found: Bisection) -> Iterator[str]:
    yield f"bisect: {found.compared} of {found.steps} steps compared on {found.place}"
    if found.suspect is None:
        wrong = [one.tensor for one in found.outputs if not one.ok]
        yield (
            f"  no step is wrong by itself, but {', '.join(wrong)} differ: rounding adds up"
            if wrong
            else "  no step differs from the model by more than rounding"
        )
    else:
        yield from _suspect(found.suspect)
        yield from _chain(found)
    for note in found.notes:
        yield f"  note: {note}"
    yield from _reduction(found)


def _suspect(suspect: Suspect) -> Iterator[str]:
    node = f"{suspect.op} '{suspect.node}'" if suspect.node else f"step {suspect.step}"
    yield f"  first wrong: {node}: {suspect.kind} ({suspect.certainty})"
    if suspect.step >= 0:
        knobs = " ".join(f"{key}={value}" for key, value in suspect.knobs.items())
        schedule = f", schedule {suspect.schedule} {knobs}".rstrip() if suspect.schedule else ""
        yield f"    step {suspect.step}, {suspect.symbol}{schedule}"
    if len(suspect.nodes) > 1:
        yield f"    which computes {', '.join(suspect.nodes)}"
    own = suspect.own
    if own is not None:
        what = (
            f"{own.unexpected} of {own.elements} values NaN or infinite"
            if own.unexpected
            else f"{own.max_abs:.3g} at most, {_error(own.max_scaled)} of its largest value"
        )
        yield (
            f"    '{suspect.tensor}' is off by {what}"
            if not own.unexpected
            else (f"    '{suspect.tensor}' has {what} where there should be none, or the reverse")
        )
        at = ", ".join(map(str, own.worst_index))
        yield f"    worst at [{at}]: {own.worst_got:.6g} instead of {own.worst_expected:.6g}"
    if suspect.reason:
        yield f"    {suspect.reason}"


def _chain(found: Bisection) -> Iterator[str]:
    if not found.chain:
        return
    width = max(len(link.tensor) for link in found.chain)
    width = min(width, 48)
    yield f"  how the error spreads:  {'tensor':<{width}}  {'own':>8}  {'total':>8}"
    links = list(found.chain)
    half = MOST_LINKS // 2
    if len(links) > MOST_LINKS:
        for link in links[:half]:
            yield _link(link, width)
        yield f"    ... {len(links) - 2 * half} more"
        links = links[-half:]
    for link in links:
        yield _link(link, width)
    if found.also:
        yield f"  steps with an error of their own besides: {', '.join(map(str, found.also))}"


def _link(link: Link, width: int) -> str:
    name = link.tensor if len(link.tensor) <= width else "..." + link.tensor[3 - width :]
    return f"    step {link.step:<16} {name:<{width}}  {_error(link.own):>8}  {_error(link.total):>8}"


def _error(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:.2g}"


def _reduction(found: Bisection) -> Iterator[str]:
    reduction = found.reduction
    if reduction is None:
        return
    builds = f"{reduction.builds} build{'s' if reduction.builds != 1 else ''}"
    if reduction.shown is None:
        yield f"  not reduced ({builds}): {reduction.reason}"
        return
    nodes = ", ".join(reduction.nodes[:4]) + (
        f" and {len(reduction.nodes) - 4} more" if len(reduction.nodes) > 4 else ""
    )
    yield f"  reduced to {nodes} ({builds}), which shows it:"
    yield f"    {reduction.command}"
