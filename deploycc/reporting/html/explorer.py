"""The graph that can be searched and walked, coloured for one report at a time, and what was found in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploycc.lint_types import NodeReport, Report
from deploycc.reporting.grouping import VERDICTS, Group, grouped
from deploycc.reporting.html.graph_svg import Drawing, draw, shape_text
from deploycc.reporting.html.markup import Markup, data_block, element, joined
from deploycc.reporting.html.page import Section, asset
from deploycc.reporting.quantities import plural
from deploycc.reporting.summary import verdict_of

_NAMES_SHOWN = 6

Row = tuple[str, str] | tuple[str, str, int, int]
"""A line of a node's card: its name and text, and the report and node that a press leads to."""


@dataclass(frozen=True)
class Look:
    """What is different where the reports are not those of lint for several targets.

    ``heats`` has a digit from 0 to 4 for each node of a report: how strongly it is coloured; ``rows`` more
    lines for the nodes' cards.  Both may be empty.  ``start`` is the report and the node chosen at first.
    """

    identifier: str = "findings"
    title: str = "Graph and findings"
    choice: str = "Target"
    time: str = "time at least"
    heats: Sequence[str] = ()
    rows: Sequence[Sequence[Sequence[Row]]] = ()
    note: str = ""
    start: tuple[int, int] | None = None


def explorer(reports: Sequence[Report], look: Look | None = None) -> Section:
    """The graph, coloured for one target at a time, and the findings."""
    look = look or Look()
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
        "targets": [
            _target_data(number, report, graph, look)
            for number, (report, graph) in enumerate(zip(reports, chosen, strict=True))
        ],
        "time": look.time,
        "start": look.start,
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
        element("p", look.note, class_="note") if look.note else "",
        _toolbar(reports, look.choice),
        element("div", pane, side, class_="explorer" if any(nodes_of) else "explorer bare"),
        data_block("lint-data", data),
    )
    return Section(look.identifier, look.title, body, asset("lint.css"), asset("lint.js"))


def _target_data(number: int, report: Report, graph: int, look: Look) -> dict[str, object]:
    verdicts: list[str] = [*VERDICTS, "ok"]
    return {
        "graph": graph,
        "verdicts": "".join(str(verdicts.index(verdict_of(node) or "ok")) for node in report.nodes),
        "taken": "".join(str(int(node.taken)) for node in report.nodes),
        "micros": [None if n.seconds is None else round(n.seconds * 1e6, 3) for n in report.nodes],
        **({"heat": look.heats[number]} if look.heats else {}),
        **({"rows": look.rows[number]} if look.rows else {}),
    }


def _toolbar(reports: Sequence[Report], choice: str) -> Markup:
    found = any(report.diagnostics for report in reports)
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
        element("fieldset", element("legend", choice), *targets, class_="targets", hidden=len(targets) < 2),
        element("fieldset", element("legend", "Verdicts"), *verdicts, class_="verdicts", hidden=not found),
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
