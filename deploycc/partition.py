"""The fewest parts of a graph such that each part runs in one place.

Parts run one after another, and each reads only what came before.  Once a part's place is chosen,
taking every node of that place that can run by now never makes a later part necessary.  So what is
left to search is the order of places: breadth first over the sets of nodes done, dropping a set
that another one of as many parts contains.  With two places one order is left after the first choice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Place = TypeVar("Place", bound=Hashable)

WIDEST = 512
"""So many sets of nodes are looked at for each number of parts; three places in a real network need ten."""


def fewest_parts(
    order: Sequence[Key], inputs: Mapping[Key, Set[Key]], here: Set[Key]
) -> list[tuple[bool, list[Key]]]:
    """Parts in the order they run, each with whether it runs ``here``; none is empty.

    ``order`` is topological, ``inputs`` has the nodes whose results each node reads.
    """
    return parts_by_place(order, inputs, {node: node in here for node in order}, (True, False))


def parts_by_place(
    order: Sequence[Key],
    inputs: Mapping[Key, Set[Key]],
    place: Mapping[Key, Place],
    preferred: Sequence[Place],
) -> list[tuple[Place, list[Key]]]:
    """The fewest parts where every node has its ``place``, in the order they run; none is empty.

    ``order`` is topological, ``inputs`` has the nodes whose results each node reads.  Of several
    orders of places the one that comes first by ``preferred`` is taken, which names every place.
    The nodes of a part are in the order of ``order``.
    """
    number = {node: index for index, node in enumerate(order)}
    needs = [sum(1 << number[other] for other in inputs.get(node, frozenset())) for node in order]
    of_place = {
        kind: [index for index, node in enumerate(order) if place[node] == kind] for kind in preferred
    }
    everything = (1 << len(order)) - 1
    # Places by their number in ``preferred``: of equally many parts the smallest tuple wins.
    frontier: dict[int, tuple[int, ...]] = {0: ()}
    while everything not in frontier:
        reached: dict[int, tuple[int, ...]] = {}
        for done, places in frontier.items():
            for rank, kind in enumerate(preferred):
                after = done if places and places[-1] == rank else _run(done, of_place[kind], needs)
                if after != done:
                    longer = (*places, rank)
                    reached[after] = min(reached.get(after, longer), longer)
        frontier = _largest(reached)
    parts: list[tuple[Place, list[Key]]] = []
    done = 0
    for rank in frontier[everything]:
        kind = preferred[rank]
        after = _run(done, of_place[kind], needs)
        parts.append((kind, [node for node in order if (after & ~done) >> number[node] & 1]))
        done = after
    return parts


def _run(done: int, candidates: Sequence[int], needs: Sequence[int]) -> int:
    """``done`` with every candidate that can run by now, one behind the other."""
    for index in candidates:  # in topological order, so once is enough
        if needs[index] & ~done == 0:
            done |= 1 << index
    return done


def _largest(reached: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Without the sets that another one contains."""
    kept: list[int] = []
    for done in sorted(reached, key=int.bit_count, reverse=True):
        if len(kept) < WIDEST and all(done & ~other for other in kept):
            kept.append(done)
    return {done: reached[done] for done in kept}
