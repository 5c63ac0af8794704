"""What a lint report has on its page.

Everything that is about one target carries ``data-target``, its number; the script shows those of the
target that is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from deploycc.lint_types import Coverage, NodeReport, Report
from deploycc.reporting.grouping import counts
from deploycc.reporting.html.graph_svg import shape_text
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section, asset
from deploycc.reporting.quantities import amount, duration, nbytes, plural, share
from deploycc.reporting.summary import matrix, runs, tally, to_replace, verdict_of

_NAMES_SHOWN = 6
_COSTLIEST = 12


def summary(reports: Sequence[Report]) -> Section:
    """A card for each target: does it run, how much of it, what stands in the way."""
    cards = [_card(number, report) for number, report in enumerate(reports)]
    return Section("summary", "Summary", element("div", *cards, class_="cards"), asset("lint.css"))


def _card(number: int, report: Report) -> Markup:
    coverage = report.coverage
    found = counts(report.diagnostics)
    head = [element("h3", element("code", report.target))]
    body: list[Markup] = []
    if coverage is not None:
        head.append(element("p", runs(coverage), class_=f"pill {coverage.runs}"))
        body = [
            _strip(report.nodes),
            element(
                "div",
                _meter("nodes", f"{coverage.taken} of {coverage.nodes}", coverage.taken, coverage.nodes),
                _meter(
                    "multiply-adds",
                    f"{share(coverage.taken_macs, coverage.macs)} of {amount(coverage.macs)}",
                    coverage.taken_macs,
                    coverage.macs,
                ),
                class_="meters",
            ),
            element("dl", *_facts(coverage), class_="numbers"),
        ]
        if replace := to_replace(report, most=20):
            body.append(element("p", element("b", "Replace "), replace, class_="replace"))
    return element(
        "article",
        element("div", *head, class_="card-head"),
        *body,
        element(
            "p",
            tally(found),
            " ",
            element("button", "show in the graph", type="button", class_="choose", data_choose=number),
            class_="tally",
        ),
        class_="card",
    )


def _facts(coverage: Coverage) -> Iterator[Markup]:
    facts = [
        ("weights", nbytes(coverage.weight_bytes)),
        ("peak of activations", nbytes(coverage.peak_bytes)),
        ("at least", "-" if coverage.seconds is None else duration(coverage.seconds)),
        ("no source tells of", plural(coverage.unknown, "node") if coverage.unknown else "-"),
    ]
    for name, value in facts:
        if value != "-":
            yield element("div", element("dt", name), element("dd", value))


def _meter(name: str, text: str, part: float, whole: float) -> Markup:
    width = 100 * part / whole if whole else 0
    bar = element("i", style=f"width:{width:.2f}%", class_="whole" if part >= whole else "part")
    return element(
        "div", element("span", name), element("b", text), element("div", bar, class_="bar"), class_="meter"
    )


def _strip(nodes: Sequence[NodeReport]) -> Markup:
    """The network in graph order: where the target runs it and where it does not."""
    at = 0
    pieces = []
    for verdict, run in groupby(nodes, key=verdict_of):
        length = len(list(run))
        kind = "ok" if verdict in ("", "info") else verdict
        pieces.append(element("rect", x=at, width=length, height=1, class_=kind))
        at += length
    return element(
        "svg",
        *pieces,
        viewBox=f"0 0 {max(at, 1)} 1",
        preserveAspectRatio="none",
        class_="strip",
        aria_hidden="true",
    )


def support(reports: Sequence[Report]) -> Section | None:
    """Operators by targets; nothing for one target, or where all take everything."""
    table = matrix(reports)
    if len(reports) < 2 or not table.rows:
        return None
    head = element(
        "tr",
        element("th", "operator", scope="col"),
        *(element("th", element("code", t), scope="col") for t in table.targets),
    )
    rows = []
    for op, cells in table.rows:
        marks = [element("td", cell.text, class_=f"cell {cell.text.partition(' ')[0]}") for cell in cells]
        rows.append(element("tr", element("th", element("code", op), scope="row"), *marks))
    body = element("table", element("thead", head), element("tbody", *rows), class_="matrix")
    note = element(
        "p", "Operators that are not taken everywhere, and how many of their nodes are not.", class_="note"
    )
    return Section("matrix", "Operators", joined(note, element("div", body, class_="scroll")))


def costly(reports: Sequence[Report]) -> Section | None:
    """The nodes that take the most time, or have the most multiply-adds where no peak is known."""
    tables = [_costliest(number, report) for number, report in enumerate(reports) if report.nodes]
    if not tables:
        return None
    return Section("costly", "What costs most", joined(*tables))


def _costliest(number: int, report: Report) -> Markup:
    timed = all(node.seconds is not None for node in report.nodes)
    costs = [node.seconds or 0.0 if timed else float(node.macs) for node in report.nodes]
    total, most = sum(costs), max(costs)
    order = sorted(range(len(costs)), key=lambda index: -costs[index])[:_COSTLIEST]
    if timed:
        note = "Estimated from the target's peak: a lower bound that tells which nodes matter."
    else:
        note = "By multiply-adds: the target's peak is not known, so there are no times."
    head = ("node", "operator", "output", "time" if timed else "multiply-adds", "share", "")
    rows = []
    for index in order:
        node = report.nodes[index]
        cost = duration(node.seconds or 0.0) if timed else amount(node.macs)
        bar = element("i", style=f"width:{100 * costs[index] / most if most else 0:.2f}%", class_="part")
        verdict = verdict_of(node)
        chip = element("span", verdict, class_=f"chip {verdict}") if verdict else ""
        cells = (
            element("button", node.name, type="button", class_="node", data_i=index),
            element("code", node.op),
            shape_text(node.shape),
            cost,
            joined(share(costs[index], total), element("div", bar, class_="bar")),
            chip,
        )
        rows.append(element("tr", *(element("td", cell) for cell in cells)))
    table = element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in head))),
        element("tbody", *rows),
        class_="costly",
    )
    title = element("p", element("code", report.target), ". ", note, class_="note")
    return element(
        "div", title, element("div", table, class_="scroll"), data_target=number, hidden=number != 0
    )


def hints(reports: Sequence[Report]) -> Section | None:
    """What other libraries for the machine would take."""
    blocks = []
    for report in reports:
        for hint in report.hints:
            refused = [f"{op} x{count}: {why}" for op, count, why in hint.refused]
            items = element("ul", *(element("li", text) for text in refused)) if refused else ""
            blocks.append(
                element(
                    "article",
                    element("h3", hint.title, " for ", element("code", report.target)),
                    _meter("nodes", f"{hint.taken} of {hint.nodes}", hint.taken, hint.nodes),
                    _meter("multiply-adds", share(hint.taken_macs, hint.macs), hint.taken_macs, hint.macs),
                    element("details", element("summary", f"{len(refused)} not taken"), items)
                    if items
                    else "",
                    class_="card",
                )
            )
    if not blocks:
        return None
    return Section("hints", "Other libraries for this machine", element("div", *blocks, class_="cards"))
