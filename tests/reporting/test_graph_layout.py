"""Where nodes are drawn: what must hold for any graph."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.reporting.html.graph_layout import (
    GAP_BELOW,
    HEIGHT,
    LONGEST_IN_LAYERS,
    Layout,
    _isotonic,
    lay_out,
)


def drawn(nodes: int, seed: int, reach: int) -> tuple[list[list[int]], list[float]]:
    """A random graph in topological order whose nodes read up to three of the ``reach`` before them."""
    draw = random.Random(seed)
    reads = [
        sorted({draw.randrange(max(0, i - reach), i) for _ in range(draw.randrange(1, 4))}) if i else []
        for i in range(nodes)
    ]
    return reads, [draw.uniform(40, 160) for _ in range(nodes)]


def check(layout: Layout, reads: list[list[int]], widths: list[float]) -> None:
    assert {(r.source, r.target) for r in layout.routes} == {
        (p, i) for i, row in enumerate(reads) for p in row
    }
    rows: dict[int, list[tuple[float, float]]] = {}
    for place, layer, width in zip(layout.places, layout.layers, widths, strict=True):
        assert place[1] == layer * (HEIGHT + GAP_BELOW)
        assert place[0] >= -1e-6
        assert place[0] + width <= layout.width + 1e-6
        assert place[1] + HEIGHT <= layout.height
        rows.setdefault(layer, []).append((place[0], place[0] + width))
    for row in rows.values():
        row.sort()
        assert all(a[1] < b[0] for a, b in pairwise(row)), "boxes overlap"
    for i, row_of in enumerate(reads):
        assert all(layout.layers[p] < layout.layers[i] for p in row_of), "edges go down"
    for route in layout.routes:
        (x, y), (to_x, to_y) = route.points[0], route.points[-1]
        source, target = layout.places[route.source], layout.places[route.target]
        assert (x, y) == pytest.approx((source[0] + widths[route.source] / 2, source[1] + HEIGHT))
        assert (to_x, to_y) == pytest.approx((target[0] + widths[route.target] / 2, target[1]))
        heights = [point[1] for point in route.points]
        assert heights == sorted(heights)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**9), st.integers(1, 60))
def test_any_graph(nodes: int, seed: int, reach: int) -> None:
    reads, widths = drawn(nodes, seed, reach)
    check(lay_out(reads, widths), reads, widths)


def test_no_graph() -> None:
    assert lay_out([], []) == Layout((), (), (), 0.0, 0.0)


def test_a_chain_is_a_straight_line() -> None:
    layout = lay_out([[], [0], [1], [2]], [40, 100, 60, 80])
    centres = {place[0] + width / 2 for place, width in zip(layout.places, [40, 100, 60, 80], strict=True)}
    assert max(centres) - min(centres) < 1e-6


def test_a_way_around_leaves_the_chain_straight() -> None:
    reads = [[], [0], [1], [2], [3, 0], [4]]
    layout = lay_out(reads, [60.0] * 6)
    xs = [place[0] for place in layout.places]
    assert max(xs) - min(xs) < 3
    (around,) = [r for r in layout.routes if (r.source, r.target) == (0, 4)]
    assert max(abs(x - xs[0] - 30) for x, _ in around.points) > 30, "beside the boxes, not through them"


def test_crossing_branches_are_uncrossed() -> None:
    reads = [[], [], [1], [0], [2], [3]]
    layout = lay_out(reads, [50.0] * 6)
    xs = [place[0] for place in layout.places]
    assert (xs[0] < xs[1]) == (xs[3] < xs[2]) == (xs[5] < xs[4])


def test_long_edges_run_in_lanes_that_no_box_is_in() -> None:
    length = 60
    reads = [[], *([i] for i in range(length))]
    for start in range(0, 20, 2):
        reads[length - start].append(start)
    widths = [80.0] * len(reads)
    layout = lay_out(reads, widths)
    check(layout, reads, widths)
    lanes = [route for route in layout.routes if route.lane]
    assert len(lanes) == 10
    xs = sorted(max(x for x, _ in route.points) for route in lanes)
    assert xs[0] > max(place[0] + 80 for place in layout.places)
    assert all(b - a >= 5 for a, b in pairwise(xs)), "each has its own"


def test_size_is_linear_in_the_number_of_nodes() -> None:
    """Two thousand nodes that all read the first one: no edge has a place in every layer."""
    nodes = 2000
    reads = [[], [0], *([i - 1, 0] for i in range(2, nodes))]
    layout = lay_out(reads, [60.0] * nodes)
    assert sum(len(route.points) for route in layout.routes) < (2 * LONGEST_IN_LAYERS + 8) * nodes
    assert layout.width < 200


def test_isotonic_regression() -> None:
    assert _isotonic([3, 1, 2], [1, 1, 1]) == [2, 2, 2]
    assert _isotonic([1, 3, 2], [1, 1, 3]) == [1, 2.25, 2.25]
    assert _isotonic([1, 2, 3], [1, 1, 1]) == [1, 2, 3]
