"""A graph as SVG: a box a node, with its operator and the shape of its first output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycc.lint_types import NodeReport
from deploycc.reporting.html.graph_layout import HEIGHT, Layout, Point, Route, lay_out
from deploycc.reporting.html.markup import Markup, element, joined

MARGIN = 16
_LETTER, _SMALL_LETTER = 7.2, 5.9
"""Widths of a letter of the two lines in a box; fonts differ, so a bit more than most need."""
_LONGEST_LABEL = 24


@dataclass(frozen=True)
class Drawing:
    """``svg``, the nodes that each one reads, and where they are; the graph's inputs come behind them."""

    svg: Markup
    reads: tuple[tuple[int, ...], ...]
    layout: Layout


def draw(nodes: Sequence[NodeReport], verdicts: Sequence[str], title: str) -> Drawing:
    """``nodes`` as a picture; each is a group of class ``n`` and its verdict, with its number as data."""
    made = {tensor: index for index, node in enumerate(nodes) for tensor in node.outputs}
    inputs = list(dict.fromkeys(t for node in nodes for t in node.inputs if t not in made))
    number = made | {tensor: len(nodes) + index for index, tensor in enumerate(inputs)}
    reads = [sorted({number[tensor] for tensor in node.inputs}) for node in nodes]
    widths = [_width(node.op, shape_text(node.shape)) for node in nodes]
    widths += [_width(tensor, "input") for tensor in inputs]
    layout = lay_out([*reads, *([] for _ in inputs)], widths)
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    by_source: dict[int, list[Route]] = {}
    for route in layout.routes:
        by_source.setdefault(route.source, []).append(route)
    edges = (
        element("path", d="".join(map(_path, routes)), class_="e", data_i=source)
        for source, routes in by_source.items()
    )
    boxes = [
        _box(
            index,
            node.op,
            shape_text(node.shape),
            layout.places[index],
            widths[index],
            verdicts[index],
            node.name,
        )
        for index, node in enumerate(nodes)
    ]
    for index, tensor in enumerate(inputs, len(nodes)):
        boxes.append(_box(None, tensor, "input", layout.places[index], widths[index], "input", tensor))
    svg = element(
        "svg",
        element("title", title),
        element("g", *edges, class_="edges"),
        element("g", *boxes, class_="boxes"),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
    )
    return Drawing(svg, tuple(tuple(r for r in row if r < len(nodes)) for row in reads), layout)


def shape_text(shape: Sequence[int]) -> str:
    """``1x3x224x224``; an extent that is not known is a question mark."""
    return "x".join("?" if extent < 0 else str(extent) for extent in shape)


def _box(
    index: int | None, op: str, below: str, place: Point, width: float, verdict: str, name: str
) -> Markup:
    middle = f"{width / 2:.0f}"
    text = joined(
        element("title", f"{op} {name}" if index is not None else name),
        element("rect", width=f"{width:.0f}", height=HEIGHT, rx=HEIGHT / 2 if index is None else 6),
        element("text", _short(op), x=middle, y=16 if below else 22),
    )
    if below:
        text = joined(text, element("text", _short(below), x=middle, y=29, class_="s"))
    at = f"translate({place[0] + MARGIN:.0f},{place[1] + MARGIN:.0f})"
    kind = f"n {verdict or 'ok'}"
    return element("g", text, class_=kind, transform=at, data_i=index)


def _width(above: str, below: str) -> float:
    return max(56.0, _LETTER * len(_short(above)) + 20, _SMALL_LETTER * len(_short(below)) + 16)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _path(route: Route) -> str:
    points = [(round(x + MARGIN), round(y + MARGIN)) for x, y in route.points]
    (x, y), rest = points[0], points[1:]
    words = [f"M{x} {y}"]
    for to_x, to_y in rest:
        if to_x == x:
            words.append(f"V{to_y}")
        elif route.lane:
            words.append(f"H{to_x}" if to_y == y else f"L{to_x} {to_y}")
        else:
            half = (y + to_y) // 2
            words.append(f"C{x} {half} {to_x} {half} {to_x} {to_y}")
        x, y = to_x, to_y
    return "".join(words)
