"""Layers by time: a strip of the whole run, and a bar for each layer, the slowest first."""

from __future__ import annotations

from collections import Counter

from deploycc.reporting.html.chart import chart, facts, folded, mark
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import cost_text, described, operators_text, schedule_text
from deploycc.reporting.quantities import amount, duration, nbytes, plural, share
from deploycc.reporting.reasons import why
from deploycc.result_types import Layer

_SHOWN = 12
_WIDTH, _STRIP = 960, 46


def heat(layer: Layer) -> int:
    """From 0 to 4: how strongly a layer is coloured for its share of the time."""
    return sum(layer.share >= least for least in (0.005, 0.02, 0.05, 0.1))


def layers(result: PackageResult) -> Section | None:
    """Measured where a profile is there, else by the static estimate, which is said."""
    shown = [layer for layer in result.slowest if layer.share > 0]
    if not result.layers:
        return None
    rest = len(result.layers) - len(shown)
    if not shown:
        body = element("p", "No step has a static estimate, and nothing was measured.", class_="note")
        return Section("layers", "Layers by time", body)
    most = shown[0].share
    bars = [_bar(result, layer, most) for layer in shown]
    parts = [
        element("p", _source(result), class_="note"),
        _strip(result),
        element("ol", *bars[:_SHOWN], class_="bars"),
    ]
    if bars[_SHOWN:]:
        left = sum(layer.share for layer in shown[_SHOWN:])
        title = f"{plural(len(bars) - _SHOWN, 'more layer')}, {share(left, 1)} together"
        parts.append(folded(title, element("ol", *bars[_SHOWN:], class_="bars")))
    if rest:
        parts.append(
            element("p", f"{plural(rest, 'step')} without a time: copies and the like.", class_="note")
        )
    parts.append(_kinds(result))
    return Section("layers", "Layers by time", joined(*parts))


def _source(result: PackageResult) -> str:
    profile = result.profile
    if profile is None:
        reason = result.unmeasured.get("profile", "")
        return (
            "Not measured: bars are shares of the static estimate of cycles on one core, which ranks layers "
            "and is no time. " + (reason or "'deploycc report PACKAGE' on a machine that runs it measures.")
        )
    whole = duration(profile.whole_us * 1e-6)
    return (
        f"Measured on {profile.place} with {plural(profile.threads, 'thread')}, medians of "
        f"{plural(profile.runs, 'run')} ({profile.method}): {whole} a run without timers, "
        f"{duration(profile.timed_us * 1e-6)} with them."
    )


def _strip(result: PackageResult) -> Markup:
    """The run from left to right; the wider a layer, the longer it takes."""
    at = 0.0
    pieces = []
    for layer in result.layers:
        width = layer.share * _WIDTH
        if width > 0.05:
            cost = f"{cost_text(result, layer)}, {share(layer.share, 1)}"
            told = f"step {layer.step}, {operators_text(layer)}: {cost}"
            pieces.append(
                mark(
                    "rect",
                    told,
                    x=f"{at:.2f}",
                    y=0,
                    width=f"{width:.2f}",
                    height=_STRIP,
                    class_=f"h{heat(layer)}",
                )
            )
        at += width
    caption = "The run from left to right, each layer as wide as its time. Press one to read it."
    return chart("The run", _WIDTH, _STRIP, *pieces, told=caption, stretched=True)


def _bar(result: PackageResult, layer: Layer, most: float) -> Markup:
    ceilings = None if result.profile is None else result.profile.ceilings
    gflops = layer.flops / layer.time_us / 1e3 if layer.time_us and layer.flops else 0.0
    spread = ""
    if layer.time_us:
        spread = f"{duration(layer.low_us * 1e-6)} to {duration(layer.high_us * 1e-6)}"
    rows = [
        ("why", why(layer, ceilings)),
        ("nodes", ", ".join(layer.nodes)),
        ("operators", " + ".join(layer.operators)),
        ("kernel", layer.symbol),
        ("schedule", schedule_text(layer)),
        ("layout", layer.layout),
        ("arithmetic", f"{amount(layer.flops)}FLOP" if layer.flops else ""),
        ("reached", f"{gflops:.1f} GFLOP/s" if gflops else ""),
        ("of the roofline", "" if layer.roofline is None else f"{100 * layer.roofline:.0f} %"),
        ("read and written", nbytes(layer.nbytes)),
        ("spread", spread),
        ("estimate", f"{result.cycles(layer) / 1e3:,.0f} kcycles" if result.cycles(layer) else ""),
    ]
    width = 100 * layer.share / most
    head = element(
        "summary",
        element("span", str(layer.step), class_="step"),
        element(
            "span",
            element("b", operators_text(layer)),
            element("span", described(result, layer), class_="where"),
            class_="label",
        ),
        element("span", cost_text(result, layer), element("small", share(layer.share, 1)), class_="cost"),
        element("span", element("i", style=f"width:{width:.2f}%", class_=f"h{heat(layer)}"), class_="track"),
    )
    return element("li", element("details", head, facts(rows)))


def _kinds(result: PackageResult) -> Markup:
    """The same time by what is computed and by schedule."""
    tables = []
    for title, key in (
        ("By operators", operators_text),
        ("By schedule", lambda layer: layer.schedule or "none"),
    ):
        total: Counter[str] = Counter()
        uses: Counter[str] = Counter()
        for layer in result.layers:
            total[key(layer)] += layer.share  # type: ignore[assignment]
            uses[key(layer)] += 1
        most = max(total.values(), default=0) or 1
        rows = [
            element(
                "li",
                element("span", f"{name} ", element("small", f"x {uses[name]}"), class_="label"),
                element("span", share(part, 1), class_="share"),
                element(
                    "span", element("i", style=f"width:{100 * part / most:.2f}%", class_="h3"), class_="track"
                ),
            )
            for name, part in total.most_common(10)
            if part > 0
        ]
        tables.append(
            element("article", element("h3", title), element("ol", *rows, class_="kinds"), class_="card")
        )
    return element("div", *tables, class_="cards")
