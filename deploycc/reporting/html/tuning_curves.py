"""What was tried for an operator, in the order it was tried, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.records import Record
from deploycc.reporting.html.chart import BOTTOM, LEFT, RIGHT, TOP, Scale, axes, chart, folded, mark, table
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section
from deploycc.reporting.operator_text import operator_text
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.quantities import duration, plural, share
from deploycc.types import Choice

_WIDTH, _HEIGHT = 420, 230
_CURVES = 12
_LEVELS = ("first screening", "measured again", "head to head")


def tuning(result: PackageResult) -> Section | None:
    """A curve for each operator with several candidates, that with the most time first, and the others."""
    operators = _operators(result)
    kept = () if result.facts is None else result.facts.records
    given = {record.operator for record in result.records}
    # A session's database tells more of an operator than the build kept, and times of two do not compare.
    tried: dict[str, list[Record]] = {}
    for record in (*result.records, *(record for record in kept if record.operator not in given)):
        if record.operator in operators:
            tried.setdefault(record.operator, []).append(record)
    if not operators:
        return None
    order = sorted(tried, key=lambda name: -operators[name])
    several = [name for name in order if len({r.candidate for r in tried[name]}) > 1]
    parts = [element("p", _note(operators, tried), class_="note")]
    curves = [_curve(name, tried[name], operators[name], result) for name in several]
    if curves:
        parts.append(element("div", *curves[:_CURVES], class_="cards"))
    if curves[_CURVES:]:
        rest = element("div", *curves[_CURVES:], class_="cards")
        parts.append(folded(plural(len(curves) - _CURVES, "more operator"), rest))
    single = [name for name in order if name not in several]
    if single:
        rows = [_row(name, tried[name]) for name in single]
        head = ("operator", "schedule and knobs", "measured", "")
        parts.append(
            folded(f"{plural(len(single), 'operator')} with one candidate on record", table(head, rows))
        )
    return Section("tuning", "Tuning", joined(*parts))


def _operators(result: PackageResult) -> dict[str, float]:
    """The share of the time of each convolution and product in the package."""
    found: dict[str, float] = {}
    for call, layer in zip(result.manifest["calls"], result.layers, strict=True):
        if call.get("operator"):
            found[call["operator"]] = found.get(call["operator"], 0.0) + layer.share
    return found


def _note(operators: dict[str, float], tried: dict[str, list[Record]]) -> str:
    count = sum(map(len, tried.values()))
    known = plural(len(operators), "convolution or product", "convolutions and products")
    if not tried:
        return (
            f"No tuning record is known of any of the {known}: schedules were chosen by the static estimate. "
            "'deploycc tune' measures candidates; --records shows its database here."
        )
    return (
        f"{plural(count, 'record')} of {len(tried)} of the {known} in the package. Records that come with "
        "deploycc keep the best candidates only; a curve of all that was tried comes from the database of a "
        "tuning session (--records)."
    )


def _value(record: Record) -> str:
    if record.status != "ok":
        return record.status
    return duration(record.value) if record.unit == "seconds" else f"{record.value:,.0f} instructions"


def _row(name: str, records: Sequence[Record]) -> Sequence[str]:
    last = records[-1]
    return operator_text(name), element("code", last.candidate), _value(last), _LEVELS[min(last.level, 2)]


def _curve(name: str, records: Sequence[Record], part: float, result: PackageResult) -> Markup:
    right = [record for record in records if record.status == "ok"]
    chosen = None if result.facts is None else _chosen(result.facts.choices, name)
    values = [record.value * (1e6 if record.unit == "seconds" else 1) for record in right]
    head = [
        element("h3", operator_text(name)),
        element("p", f"{share(part, 1)} of the time, {plural(len(records), 'record')}", class_="note"),
    ]
    if not values:
        return element("article", *head, element("p", "No candidate gave a right result."), class_="card")
    x = Scale(0, max(1, len(records) - 1), LEFT, _WIDTH - RIGHT)
    y = Scale(min(values) * 0.9, max(values) * 1.1, _HEIGHT - BOTTOM, TOP + 12, logarithmic=True)
    points: list[Markup] = []
    line: list[str] = []
    best = float("inf")
    for index, record in enumerate(records):
        value = record.value * (1e6 if record.unit == "seconds" else 1)
        told = f"{record.candidate}: {_value(record)}, {_LEVELS[min(record.level, 2)]}"
        ok = record.status == "ok"
        kind = "failed" if not ok else "tried chosen" if record.candidate == chosen else "tried"
        at = (x(index), y(value) if ok else y.stop)
        points.append(mark("circle", told, cx=f"{at[0]:.1f}", cy=f"{at[1]:.1f}", r=4, class_=kind))
        if ok:
            best = min(best, value)
        if best < float("inf"):
            line.append(f"H{x(index):.1f}V{y(best):.1f}" if line else f"M{x(index):.1f} {y(best):.1f}")
    drawing = chart(
        "Tuning",
        _WIDTH,
        _HEIGHT,
        axes(x, y, ("candidate", "µs" if right[0].unit == "seconds" else "instructions"), x_ticks=_whole(x)),
        element("path", d="".join(line), class_="best"),
        *points,
        told="The line is the best so far; the full point is in the package."
        if any(record.candidate == chosen for record in right)
        else "The line is the best so far.",
    )
    return element("article", *head, drawing, class_="card")


def _whole(x: Scale) -> list[float]:
    return [tick for tick in x.ticks(5) if tick == int(tick)]


def _chosen(choices: Sequence[Choice], operator: str) -> str | None:
    for choice in choices:
        if choice.operator == operator:
            knobs = (f"{name}={value}" for name, value in sorted(choice.knobs.items()))
            return " ".join([choice.schedule, *knobs])
    return None
