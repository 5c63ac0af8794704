"""The fewest parts: valid orders, and no order of nodes has fewer switches of place."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.partition import fewest_parts, parts_by_place

Graph = tuple[dict[int, set[int]], dict[int, str]]
PLACES = ("accelerator", "cpu", "host")


@st.composite
def placed_graphs(
    draw: st.DrawFn, places: Sequence[str] = PLACES
) -> tuple[dict[int, set[int]], dict[int, str]]:
    """Up to nine nodes, what each reads, and where each runs."""
    count = draw(st.integers(1, 9))
    edges = {node: {other for other in range(node) if draw(st.integers(0, 3)) == 0} for node in range(count)}
    return edges, {node: draw(st.sampled_from(places)) for node in range(count)}


def fewest_switches(edges: Mapping[int, set[int]], places: Mapping[int, str]) -> int:
    """Parts of the best of all orders, by a search over the sets of nodes done and the last place."""
    everything = (1 << len(edges)) - 1
    needs = {node: sum(1 << other for other in before) for node, before in edges.items()}
    queue = deque([(0, 0, "")])
    best = {(0, ""): 0}
    while queue:
        parts, done, last = queue.popleft()
        if done == everything:
            return parts
        if best[done, last] < parts:
            continue
        for node, place in places.items():
            if done >> node & 1 or needs[node] & ~done:
                continue
            state, cost = (done | 1 << node, place), parts + (place != last)
            if cost < best.get(state, len(edges) + 1):
                best[state] = cost
                (queue.appendleft if place == last else queue.append)((cost, *state))
    raise AssertionError("a graph without an end")


@given(placed_graphs())
@settings(max_examples=300, deadline=None)
def test_three_places_have_the_fewest_parts(graph: Graph) -> None:
    edges, places = graph
    parts = parts_by_place(list(edges), edges, places, PLACES)
    done: set[int] = set()
    for place, nodes in parts:
        assert nodes == sorted(nodes)
        for node in nodes:
            assert places[node] == place
            assert edges[node] <= done
            done.add(node)
    assert done == set(edges)
    assert all(first[0] != second[0] for first, second in pairwise(parts))
    assert len(parts) == fewest_switches(edges, places)


@given(placed_graphs(("here", "there")))
@settings(max_examples=100, deadline=None)
def test_two_places_have_the_fewest_parts(graph: Graph) -> None:
    edges, places = graph
    here = {node for node, place in places.items() if place == "here"}
    assert len(fewest_parts(list(edges), edges, here)) == fewest_switches(edges, places)


def test_of_equally_many_parts_the_preferred_place_begins() -> None:
    places = {0: "cpu", 1: "accelerator"}
    assert parts_by_place([0, 1], {}, places, PLACES) == [("accelerator", [1]), ("cpu", [0])]


def test_nothing_has_no_parts() -> None:
    assert fewest_parts([], {}, set()) == []
