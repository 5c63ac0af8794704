"""The roofline (Williams, Waterman and Patterson 2009): what a layer reaches of what its traffic allows."""

from __future__ import annotations

from deploycc.reporting.html.chart import BOTTOM, LEFT, RIGHT, TOP, Scale, axes, chart, mark
from deploycc.reporting.html.layer_bars import heat
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import cost_text, operators_text
from deploycc.reporting.quantities import plural, share
from deploycc.result_types import Ceilings, Layer

_WIDTH, _HEIGHT = 620, 420
_NAMED, _LEAST_NAMED = 5, 0.02
"""Steps whose numbers are written, and the share from which a circle has room for one."""


def roofline(result: PackageResult) -> Section | None:
    """Layers whose arithmetic is counted; without a profile their estimated FLOP a cycle and no roof."""
    counted = [layer for layer in result.slowest if layer.flops and layer.nbytes and layer.share]
    if not counted:
        return None
    profile = result.profile
    ceilings = None if profile is None else profile.ceilings
    rates = {layer.step: _rate(result, layer) for layer in counted}
    intensity = {layer.step: layer.flops / layer.nbytes for layer in counted}
    unit = "GFLOP/s" if result.measured else "FLOP a cycle, estimated"
    highest = max(rates.values()) if ceilings is None else max(ceilings.gflops, *rates.values())
    lows, highs = [*intensity.values()], [*intensity.values()]
    if ceilings is not None:
        highs.append(ceilings.gflops / ceilings.gbs * 2)
        lows.append(ceilings.gflops / ceilings.gbs / 8)
    x = Scale(min(lows) / 1.3, max(highs) * 1.3, LEFT, _WIDTH - RIGHT, logarithmic=True)
    y = Scale(min(rates.values()) / 1.6, highest * 1.6, _HEIGHT - BOTTOM, TOP + 12, logarithmic=True)
    points = []
    for layer in reversed(counted):
        told = (
            f"step {layer.step}, {operators_text(layer)}: {rates[layer.step]:.3g} {unit}, "
            f"{intensity[layer.step]:.3g} FLOP a byte, {cost_text(result, layer)}, {share(layer.share, 1)}"
            + ("" if layer.roofline is None else f", {100 * layer.roofline:.0f} % of the roofline")
        )
        points.append(
            mark(
                "circle",
                told,
                cx=f"{x(intensity[layer.step]):.1f}",
                cy=f"{y(rates[layer.step]):.1f}",
                r=f"{3.5 + 22 * layer.share**0.5:.1f}",
                class_=f"point h{heat(layer)}",
            )
        )
    labels = [
        element(
            "text",
            str(layer.step),
            x=f"{x(intensity[layer.step]):.1f}",
            y=f"{y(rates[layer.step]):.1f}",
            dy="0.32em",
            class_="inside middle",
        )
        for layer in counted[:_NAMED]
        if layer.share >= _LEAST_NAMED
    ]
    roof = Markup() if ceilings is None else _roof(ceilings, x, y)
    drawing = chart(
        "Roofline",
        _WIDTH,
        _HEIGHT,
        axes(x, y, ("arithmetic intensity: FLOP for each byte read or written", unit)),
        roof,
        *points,
        *labels,
        told="A circle is a layer, as large as its share of the time; the slowest have their step's number.",
    )
    body = joined(
        element("p", _note(result, ceilings), class_="note"), drawing, _left_out(result, len(counted))
    )
    return Section("roofline", "Roofline", body)


def _rate(result: PackageResult, layer: Layer) -> float:
    if layer.time_us:
        return layer.flops / layer.time_us / 1e3
    return layer.flops / result.cycles(layer)


def _roof(ceilings: Ceilings, x: Scale, y: Scale) -> Markup:
    ridge = ceilings.gflops / ceilings.gbs
    first, last = (x.low, min(x.low * ceilings.gbs, ceilings.gflops)), (x.high, ceilings.gflops)
    start = y.low / ceilings.gbs  # where the slope enters the plot from below
    if first[1] < y.low:
        first = (start, y.low)
    corner = (ridge, ceilings.gflops) if ridge > x.low else first
    path = "L".join(f"{x(px):.1f} {y(py):.1f}" for px, py in (first, corner, last))
    return joined(
        element("path", d=f"M{path}", class_="roof"),
        element(
            "text",
            f"{ceilings.gflops:.0f} GFLOP/s",
            x=f"{x.stop - 4:.0f}",
            y=f"{y(ceilings.gflops) - 6:.1f}",
            class_="tick end strong",
        ),
        element(
            "text",
            f"{ceilings.gbs:.1f} GB/s",
            x=f"{x(first[0]) + 10:.1f}",
            y=f"{y(first[1]) - 4:.1f}",
            class_="tick strong",
        ),
    )


def _note(result: PackageResult, ceilings: Ceilings | None) -> str:
    if ceilings is not None:
        return (
            "The line is what the machine allows: left of its corner memory is the limit, right of it "
            f"arithmetic. Layers far below it lose time to something else. Ceilings: {ceilings.source}."
        )
    if result.measured:
        return "Measured layers; what the machine allows is not known, so no roof is drawn."
    return (
        "Not measured: estimated FLOP a cycle of one core over arithmetic intensity, and no roof. "
        "A profile gives GFLOP/s and the machine's ceilings."
    )


def _left_out(result: PackageResult, counted: int) -> Markup:
    others = [layer for layer in result.layers if not (layer.flops and layer.share)]
    part = sum(layer.share for layer in others)
    if not part:
        return Markup()
    steps = plural(len(others), "step")
    text = f"Not drawn: {steps} whose arithmetic is not counted, {share(part, 1)} of the time."
    return element("p", text, class_="note")
