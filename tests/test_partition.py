"""The fewest parts, against all that a search over every order of parts finds."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from deploycc.partition import fewest_parts

Reads = dict[int, set[int]]


def drawn(seed: int) -> tuple[int, Reads, set[int]]:
    """A random graph of up to eight nodes in topological order, and which of them run here."""
    generator = random.Random(seed)
    count = generator.randint(1, 8)
    density = generator.choice([0.1, 0.3, 0.6])
    reads = {node: {other for other in range(node) if generator.random() < density} for node in range(count)}
    return count, reads, {node for node in range(count) if generator.random() < 0.5}


def fewest(count: int, reads: Reads, here: set[int]) -> int:
    """Breadth first over the sets of finished nodes: a part is any set that its place can run next."""
    everything = frozenset(range(count))
    seen: set[tuple[frozenset[int], bool]] = set()
    level = {(frozenset[int](), True), (frozenset[int](), False)}
    parts = 0
    while True:
        if any(done == everything for done, _ in level):
            return parts
        parts += 1
        following: set[tuple[frozenset[int], bool]] = set()
        for done, place in level:
            for part in runnable(done, place, reads, here, everything):
                state = (done | part, not place)
                if part and state not in seen:
                    seen.add(state)
                    following.add(state)
        level = following


def runnable(
    done: frozenset[int], place: bool, reads: Reads, here: set[int], everything: frozenset[int]
) -> set[frozenset[int]]:
    """Every set of nodes of one place that needs nothing but ``done`` and itself."""
    found: set[frozenset[int]] = {frozenset()}
    growing = [frozenset[int]()]
    while growing:
        part = growing.pop()
        for node in everything - done - part:
            larger = part | {node}
            if (node in here) is place and reads[node] <= done | part and larger not in found:
                found.add(larger)
                growing.append(larger)
    return found


@pytest.mark.parametrize("block", range(6))
def test_no_order_of_parts_has_fewer(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        count, reads, here = drawn(seed)
        parts = fewest_parts(range(count), reads, here)
        assert len(parts) == fewest(count, reads, here), f"seed {seed}"


@pytest.mark.parametrize("block", range(2))
def test_parts_run_in_order_each_in_one_place(block: int) -> None:
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        count, reads, here = drawn(seed)
        done: set[int] = set()
        places = []
        for place, nodes in fewest_parts(range(count), reads, here):
            assert nodes
            for node in nodes:
                assert (node in here) is place
                assert reads[node] <= done
                done.add(node)
            places.append(place)
        assert done == set(range(count))
        assert all(one is not other for one, other in pairwise(places))


def test_nothing_has_no_parts() -> None:
    assert fewest_parts([], {}, set()) == []


def test_independent_branches_are_run_together() -> None:
    """Two chains, each here-there: one switch, not three."""
    reads = {0: set[int](), 1: {0}, 2: set[int](), 3: {2}}
    assert fewest_parts(range(4), reads, {0, 2}) == [(True, [0, 2]), (False, [1, 3])]
