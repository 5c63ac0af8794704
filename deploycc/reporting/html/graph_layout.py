"""Where the nodes of a graph are drawn: in layers from top to bottom (Sugiyama, Tagawa and Toda 1981).

Layers by the longest path; the order in each by barycentres; positions as near to the neighbours'
mean as order and widths allow, which is an isotonic regression for each layer.  An edge over a few
layers gets a place of its own in each; one over many (a skip of a U-Net) runs in a lane beside the
graph, so that work and size stay linear in the number of nodes.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 36
"""Of a node, in pixels, as all numbers here."""
GAP_BELOW = 26
GAP_BESIDE = 16
LANE = 10
LONGEST_IN_LAYERS = 16
"""Edges over more layers run in a lane."""
_ORDER_SWEEPS = 6
_PLACE_SWEEPS = 10
_DUMMY_WIDTH = 8
_STIFF = 50.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Route:
    """An edge ``source`` -> ``target``.  ``points`` are joined by curves, or by straight lines in a lane."""

    source: int
    target: int
    points: tuple[Point, ...]
    lane: bool


@dataclass(frozen=True)
class Layout:
    """``places`` has each node's left upper corner; ``layers`` the number of its layer."""

    places: tuple[Point, ...]
    layers: tuple[int, ...]
    routes: tuple[Route, ...]
    width: float
    height: float


class _Graph:
    """Nodes and, behind them, the places of edges that pass a layer (dummies)."""

    def __init__(self, reads: Sequence[Sequence[int]], widths: Sequence[float]) -> None:
        self.count = len(reads)
        self.reads = [list(dict.fromkeys(p for p in inputs if p != i)) for i, inputs in enumerate(reads)]
        self.consumers: list[list[int]] = [[] for _ in reads]
        for node, inputs in enumerate(self.reads):
            for producer in inputs:
                self.consumers[producer].append(node)
        self.layer = _longest_paths(self.reads, self.consumers)
        self.width = list(widths)
        self.up: list[list[int]] = [[] for _ in reads]
        self.down: list[list[int]] = [[] for _ in reads]
        self.chains: dict[int, list[int]] = {}
        for node in range(self.count):
            self._connect(node)
        self.rows: list[list[int]] = [[] for _ in range(max(self.layer, default=-1) + 1)]
        for vertex, layer in enumerate(self.layer):
            self.rows[layer].append(vertex)

    def span(self, source: int, target: int) -> int:
        return self.layer[target] - self.layer[source]

    def _connect(self, node: int) -> None:
        """One chain of dummies for all consumers of a node."""
        short = [c for c in self.consumers[node] if self.span(node, c) <= LONGEST_IN_LAYERS]
        length = max((self.span(node, c) for c in short), default=1)
        chain = [node]
        for step in range(1, length):
            dummy = len(self.layer)
            self.layer.append(self.layer[node] + step)
            self.width.append(_DUMMY_WIDTH)
            self.up.append([])
            self.down.append([])
            self._join(chain[-1], dummy)
            chain.append(dummy)
        self.chains[node] = chain
        for consumer in short:
            self._join(chain[self.span(node, consumer) - 1], consumer)

    def _join(self, above: int, below: int) -> None:
        self.down[above].append(below)
        self.up[below].append(above)


def lay_out(reads: Sequence[Sequence[int]], widths: Sequence[float]) -> Layout:
    """Places for nodes of the ``widths``; ``reads`` has for each the nodes whose results it reads."""
    graph = _Graph(reads, widths)
    _order(graph)
    centre = _centres(graph)
    left = min((centre[v] - graph.width[v] / 2 for v in range(len(centre))), default=0.0)
    centre = [x - left for x in centre]
    places = tuple(
        (centre[node] - graph.width[node] / 2, _top(graph.layer[node])) for node in range(graph.count)
    )
    routes = _short_routes(graph, centre)
    lanes, right = _lanes(graph, centre)
    return Layout(
        places=places,
        layers=tuple(graph.layer[: graph.count]),
        routes=(*routes, *lanes),
        width=right,
        height=_top(len(graph.rows)) - GAP_BELOW if graph.rows else 0.0,
    )


def _longest_paths(reads: Sequence[Sequence[int]], consumers: Sequence[Sequence[int]]) -> list[int]:
    layer = [0] * len(reads)
    waiting = [len(inputs) for inputs in reads]
    ready = deque(node for node, count in enumerate(waiting) if not count)
    while ready:
        node = ready.popleft()
        for consumer in consumers[node]:
            layer[consumer] = max(layer[consumer], layer[node] + 1)
            waiting[consumer] -= 1
            if not waiting[consumer]:
                ready.append(consumer)
    for node, inputs in enumerate(reads):
        if not inputs and consumers[node]:
            layer[node] = min(layer[consumer] for consumer in consumers[node]) - 1
    lowest = min(layer, default=0)
    return [number - lowest for number in layer]


def _order(graph: _Graph) -> None:
    """Fewer crossings: each row by the mean place of its neighbours above, then below, and so on."""
    best, fewest = [list(row) for row in graph.rows], _crossings(graph)
    for sweep in range(_ORDER_SWEEPS):
        neighbours = graph.down if sweep % 2 else graph.up
        rows = graph.rows[::-1] if sweep % 2 else graph.rows
        position = {v: float(i) for row in graph.rows for i, v in enumerate(row)}
        for row in rows:
            keys = {
                v: sum(position[n] for n in neighbours[v]) / len(neighbours[v])
                if neighbours[v]
                else position[v]
                for v in row
            }
            row.sort(key=keys.__getitem__)
            position.update((v, float(i)) for i, v in enumerate(row))
        crossings = _crossings(graph)
        if crossings < fewest:
            best, fewest = [list(row) for row in graph.rows], crossings
        if not fewest:
            break
    graph.rows = best


def _crossings(graph: _Graph) -> int:
    total = 0
    for row in graph.rows[1:]:
        position = {
            v: i for above in {graph.layer[v] - 1 for v in row} for i, v in enumerate(graph.rows[above])
        }
        seen: list[int] = []
        for vertex in row:
            ends = sorted(position[n] for n in graph.up[vertex])
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _centres(graph: _Graph) -> list[float]:
    """Each vertex near the mean of its neighbours, nodes before what only passes them."""
    centre = [0.0] * len(graph.layer)
    offsets: list[list[float]] = []
    for row in graph.rows:
        at = 0.0
        for index, vertex in enumerate(row):
            if index:
                at += (graph.width[row[index - 1]] + graph.width[vertex]) / 2 + GAP_BESIDE
            centre[vertex] = at
        offsets.append([centre[vertex] for vertex in row])
        for vertex in row:
            centre[vertex] -= at / 2
    weight = [_STIFF] * graph.count + [1.0] * (len(graph.layer) - graph.count)
    numbers = list(range(len(graph.rows)))
    for sweep in range(_PLACE_SWEEPS):
        both = sweep >= _PLACE_SWEEPS - 2
        for number in numbers[::-1] if sweep % 2 else numbers:
            row = graph.rows[number]
            wanted = []
            for vertex in row:
                near = graph.up[vertex] + graph.down[vertex]
                if not both:
                    near = (graph.down if sweep % 2 else graph.up)[vertex] or near
                wanted.append(_mean(vertex, near, centre, graph.count))
            fitted = _isotonic(
                [x - offset for x, offset in zip(wanted, offsets[number], strict=True)],
                [weight[vertex] for vertex in row],
            )
            for vertex, x, offset in zip(row, fitted, offsets[number], strict=True):
                centre[vertex] = x + offset
    return centre


def _mean(vertex: int, near: Sequence[int], centre: Sequence[float], count: int) -> float:
    """Where ``vertex`` would like to be.

    Edges between two nodes or within a chain pull harder than those between them: what has a way
    around it stays where it is, and the way around goes beside it.
    """
    if not near:
        return centre[vertex]
    pulls = [_STIFF if (n < count) == (vertex < count) else 1.0 for n in near]
    return sum(pull * centre[n] for pull, n in zip(pulls, near, strict=True)) / sum(pulls)


def _isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The rising sequence nearest to ``values`` (least squares), by pooling adjacent violators."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, other_total, other_count = blocks.pop()
            mean = (mean * total + other * other_total) / (total + other_total)
            total, count = total + other_total, count + other_count
        blocks.append((mean, total, count))
    return [mean for mean, _, count in blocks for _ in range(count)]


def _top(layer: int) -> float:
    return float(layer * (HEIGHT + GAP_BELOW))


def _short_routes(graph: _Graph, centre: Sequence[float]) -> list[Route]:
    routes = []
    for node in range(graph.count):
        for consumer in graph.consumers[node]:
            span = graph.span(node, consumer)
            if span > LONGEST_IN_LAYERS:
                continue
            points = [(centre[node], _top(graph.layer[node]) + HEIGHT)]
            for dummy in graph.chains[node][1:span]:
                top = _top(graph.layer[dummy])
                points += [(centre[dummy], top), (centre[dummy], top + HEIGHT)]
            points.append((centre[consumer], _top(graph.layer[consumer])))
            routes.append(Route(node, consumer, tuple(points), lane=False))
    return routes


def _lanes(graph: _Graph, centre: Sequence[float]) -> tuple[list[Route], float]:
    """Routes beside the graph, short ones inside long ones, and the right edge of it all."""
    right = [0.0] * len(graph.rows)
    for vertex, layer in enumerate(graph.layer):
        right[layer] = max(right[layer], centre[vertex] + graph.width[vertex] / 2)
    far = {
        node: targets
        for node in range(graph.count)
        if (targets := [c for c in graph.consumers[node] if graph.span(node, c) > LONGEST_IN_LAYERS])
    }
    routes = []
    for index, node in enumerate(sorted(far, key=lambda n: max(graph.span(n, c) for c in far[n]))):
        first, last = graph.layer[node], max(graph.layer[c] for c in far[node])
        x = max(right[first : last + 1]) + LANE
        right[first : last + 1] = [x] * (last + 1 - first)
        # Lanes that leave through the same gap do so at different heights.
        shift = (index % 4 + 1) * GAP_BELOW / 5
        for target in far[node]:
            leave, enter = _top(first) + HEIGHT, _top(graph.layer[target])
            points = (
                (centre[node], leave),
                (centre[node], leave + shift),
                (x, leave + shift),
                (x, enter - shift),
                (centre[target], enter - shift),
                (centre[target], enter),
            )
            routes.append(Route(node, target, points, lane=True))
    return routes, max(right, default=0.0)
