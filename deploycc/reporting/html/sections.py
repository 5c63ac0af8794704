"""What a lint report has on its page.

Everything that is about one target carries ``data-target``, its number; the script shows those of the
target that is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from deploycc.lint_types import Coverage, NodeReport, Report
from deploycc.reporting.grouping import VERDICTS, Group, counts, grouped
from deploycc.reporting.html.graph_svg import Drawing, draw, shape_text
from deploycc.reporting.html.markup import Markup, data_block, element, joined
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


def explorer(reports: Sequence[Report]) -> Section:
    """The graph, coloured for one target at a time, and the findings."""
    graphs: dict[tuple[object, ...], int] = {}
    drawings: list[Drawing] = []
    nodes_of: list[Sequence[NodeReport]] = []
    chosen = []
    for report in reports:
        key = tuple((n.name, n.op, n.inputs, n.outputs, n.shape) for n in report.nodes)
        if key not in graphs:
            graphs[key] = len(drawings)
            drawings.append(
                draw(report.nodes, [verdict_of(n) for n in report.nodes], "The network as a graph")
            )
            nodes_of.append(report.nodes)
        chosen.append(graphs[key])
    data = {
        "verdicts": [*VERDICTS, "ok"],
        "graphs": [
            {
                "nodes": [
                    [n.name, n.op, f"{shape_text(n.shape)} {n.dtype}".strip(), n.macs, n.bytes_moved]
                    for n in nodes
                ],
                "reads": drawing.reads,
            }
            for nodes, drawing in zip(nodes_of, drawings, strict=True)
        ],
        "targets": [_target_data(report, graph) for report, graph in zip(reports, chosen, strict=True)],
    }
    figures = [
        element("figure", drawing.svg, class_="graph", data_graph=number, hidden=number != chosen[0])
        for number, drawing in enumerate(drawings)
    ]
    pane = element(
        "div",
        element(
            "div",
            element("button", "+", type="button", data_zoom="1.25", aria_label="larger"),
            element("button", "\N{MINUS SIGN}", type="button", data_zoom="0.8", aria_label="smaller"),
            element("button", "fit", type="button", data_zoom="fit"),
            class_="zoom",
        ),
        element("canvas", class_="overview", width=14, height=600, aria_hidden="true"),
        element(
            "div",
            *figures,
            class_="scroller",
            tabindex=0,
            role="application",
            aria_label="Graph. Arrow keys go along the edges, n and p to the next and previous finding.",
        ),
        class_="pane",
    )
    items = [item for number, report in enumerate(reports) for item in _findings(number, report)]
    side = element(
        "div",
        element("div", class_="node-card", aria_live="polite", hidden=True),
        element("p", class_="found", role="status"),
        element("ol", *items, class_="findings"),
        class_="side",
    )
    body = joined(
        _toolbar(reports),
        element("div", pane, side, class_="explorer" if any(nodes_of) else "explorer bare"),
        data_block("lint-data", data),
    )
    return Section("findings", "Graph and findings", body, asset("lint.css"), asset("lint.js"))


def _target_data(report: Report, graph: int) -> dict[str, object]:
    verdicts: list[str] = [*VERDICTS, "ok"]
    return {
        "graph": graph,
        "verdicts": "".join(str(verdicts.index(verdict_of(node) or "ok")) for node in report.nodes),
        "taken": "".join(str(int(node.taken)) for node in report.nodes),
        "micros": [None if n.seconds is None else round(n.seconds * 1e6, 3) for n in report.nodes],
    }


def _toolbar(reports: Sequence[Report]) -> Markup:
    targets = [
        element(
            "label",
            element("input", type="radio", name="target", value=number, checked=number == 0),
            element("span", report.target),
        )
        for number, report in enumerate(reports)
    ]
    verdicts = [
        element(
            "label",
            element("input", type="checkbox", name="verdict", value=verdict, checked=True),
            element("span", verdict, " ", element("b", class_="count"), class_=f"chip {verdict}"),
        )
        for verdict in VERDICTS
    ]
    return element(
        "form",
        element("fieldset", element("legend", "Target"), *targets, class_="targets", hidden=len(targets) < 2),
        element("fieldset", element("legend", "Verdicts"), *verdicts, class_="verdicts"),
        element(
            "label",
            element("span", "Search", class_="unseen"),
            element(
                "input",
                type="search",
                id="search",
                placeholder="Search nodes, operators, codes ( / )",
                autocomplete="off",
                spellcheck="false",
            ),
            class_="search",
        ),
        class_="toolbar",
    )


def _findings(number: int, report: Report) -> Iterator[Markup]:
    indices: dict[str, list[int]] = {}
    for index, node in enumerate(report.nodes):
        indices.setdefault(node.name, []).append(index)
    for group in grouped(report):
        yield _finding(number, group, indices)


def _finding(number: int, group: Group, indices: dict[str, list[int]]) -> Markup:
    first = group.first
    verdict = first.verdict or "info"
    rest = (
        ("got", first.got),
        ("need", first.need),
        ("help", first.help),
        ("fix", f"deploycc lint --fix applies {first.fix}" if first.fix else ""),
        ("from", first.source),
        ("line", ", ".join(group.locations)),
        ("suppressed", first.suppressed),
    )
    facts = [joined(element("dt", name), element("dd", text)) for name, text in rest if text]
    places = sorted({index for node in group.nodes for index in indices.get(node, ())})
    return element(
        "li",
        element(
            "p",
            element("span", verdict, class_=f"chip {verdict}"),
            element("code", first.code),
            element("span", first.rule, class_="rule") if first.rule else "",
            class_="head",
        ),
        element("p", element("b", f"{first.op}: ") if first.op else "", first.message, class_="message"),
        element("dl", *facts) if facts else "",
        _node_buttons(group, indices),
        class_=f"finding {verdict}" + (" suppressed" if first.suppressed else ""),
        data_target=number,
        data_verdict=verdict,
        data_nodes=" ".join(map(str, places)),
        hidden=number != 0,
    )


def _node_buttons(group: Group, indices: dict[str, list[int]]) -> Markup:
    if not group.nodes:
        return element("p", "the whole model", class_="nodes")
    names = [
        element("button", name, type="button", class_="node", data_i=indices[name][0])
        if name in indices
        else element("code", name)
        for name in group.nodes
    ]
    shown, more = names[:_NAMES_SHOWN], names[_NAMES_SHOWN:]
    rest = element("details", element("summary", f"and {len(more)} more"), *more) if more else Markup()
    many = element("span", f"{plural(len(names), 'node')} ", class_="many") if len(names) > 1 else Markup()
    return element("div", many, *shown, rest, class_="nodes")


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
