"""Memory over the run: which bytes of the arena hold which tensor from which step to which."""

from __future__ import annotations

from deploycc.reporting.arena import Life
from deploycc.reporting.html.chart import BOTTOM, LEFT, RIGHT, TOP, Scale, axes, chart, facts, mark, table
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import memory_parts, operators_text
from deploycc.reporting.quantities import nbytes, plural, share

_WIDTH, _HEIGHT = 760, 420
_LISTED = 12


def arena_map(result: PackageResult) -> Section:
    """The map, what is alive in the fullest step, and what a handle takes in all."""
    flow = result.flow
    parts = [facts([(name, nbytes(size)) for name, size in memory_parts(result)], "numbers")]
    if not flow.lives:
        note = "No step leaves a tensor in the arena: inputs, outputs and weights are all there is."
        parts.append(element("p", note, class_="note"))
        return Section("memory", "Memory over the run", joined(*parts))
    arena = result.manifest["memory"]["arena_bytes"]
    held, peak = flow.at(flow.peak), flow.peak
    note = (
        f"Across: the {plural(len(result.layers), 'step')}. Up: bytes of the arena. A box is a tensor, from "
        "the step that writes it to the last that reads it. "
        f"Step {peak} ({operators_text(result.layers[peak])}) is the fullest: {nbytes(flow.live[peak])} of "
        f"{nbytes(arena)} in use. Inputs and outputs belong to the caller and are not in it."
    )
    parts += [element("p", note, class_="note"), _map(result, arena)]
    parts += [element("h3", f"What is in the arena in step {peak}"), _dominators(result, held)]
    return Section("memory", "Memory over the run", joined(*parts))


def _map(result: PackageResult, arena: int) -> Markup:
    flow = result.flow
    x = Scale(0, max(1, len(result.layers)), LEFT, _WIDTH - RIGHT)
    y = Scale(0, max(arena, 1), _HEIGHT - BOTTOM, TOP + 12)
    held = set(flow.at(flow.peak))
    boxes = [_box(life, x, y, life in held) for life in flow.lives]
    middle = (x(flow.peak) + x(flow.peak + 1)) / 2
    line = element("path", d=f"M{middle:.1f} {y.start:.0f}V{y.stop:.0f}", class_="peak")
    side = "end" if middle > _WIDTH / 2 else ""
    label = element(
        "text",
        f"fullest: step {flow.peak}",
        x=f"{middle + (-6 if side else 6):.1f}",
        y=f"{y.stop - 8:.0f}",
        class_=f"tick strong {side}".strip(),
    )
    levels = [(x(step + 0.5), y(live)) for step, live in enumerate(flow.live)]
    live = element("path", d="M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in levels), class_="live")
    step = _byte_step(arena)
    ticks = [float(value) for value in range(0, arena + 1, step)]
    return chart(
        "Arena map",
        _WIDTH,
        _HEIGHT,
        axes(x, y, ("step", "arena"), y_text=lambda v: nbytes(int(v)), y_ticks=ticks),
        *boxes,
        live,
        line,
        label,
        told="Boxes with a strong edge are alive in the fullest step; the line is what is in use.",
    )


def _byte_step(arena: int) -> int:
    """A power of two of bytes that gives four to eight ticks."""
    step = 1
    while arena / step > 8:
        step *= 2
    return step


def _box(life: Life, x: Scale, y: Scale, held: bool) -> Markup:
    name = life.tensor or "a tensor that the model does not have"
    told = (
        f"{name}: {nbytes(life.nbytes)} at {life.offset:,}, written by step {life.start}, "
        f"last read by step {life.end}"
    )
    top, bottom = y(life.offset + life.nbytes), y(life.offset)
    left, right = x(life.start), x(life.end + 1)
    return mark(
        "rect",
        told,
        x=f"{left:.1f}",
        y=f"{top:.1f}",
        width=f"{max(1.0, right - left - 0.4):.1f}",
        height=f"{max(0.8, bottom - top - 0.4):.1f}",
        class_="life held" if held else "life",
    )


def _dominators(result: PackageResult, held: tuple[Life, ...]) -> Markup:
    live = result.flow.live[result.flow.peak]
    rows = [
        (
            element("code", life.tensor or "not of the model"),
            nbytes(life.nbytes),
            share(life.nbytes, live),
            f"{life.start} ({operators_text(result.layers[life.start])})",
            str(life.end),
        )
        for life in held[:_LISTED]
    ]
    found = table(("tensor", "bytes", "share", "written by step", "last read by"), rows)
    if len(held) > _LISTED:
        rest = sum(life.nbytes for life in held[_LISTED:])
        more = f"and {plural(len(held) - _LISTED, 'more tensor')}, {nbytes(rest)}"
        found = joined(found, element("p", more, class_="note"))
    return found
