"""The fewest parts of a graph such that each part runs in one place.

Parts run one after another, and each reads only what came before.  With two places that is the
classical greedy: take all that can run here, then all that can run there, and so on.  Whatever is
taken as early as possible never makes a later part necessary, so no order of parts has fewer
switches than the better of the two beginnings.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def fewest_parts(
    order: Sequence[Key], inputs: Mapping[Key, Set[Key]], here: Set[Key]
) -> list[tuple[bool, list[Key]]]:
    """Parts in the order they run, each with whether it runs ``here``; none is empty.

    ``order`` is topological, ``inputs`` has the nodes whose results each node reads.
    """
    first, second = _parts(order, inputs, here, True), _parts(order, inputs, here, False)
    return first if len(first) <= len(second) else second


def _parts(
    order: Sequence[Key], inputs: Mapping[Key, Set[Key]], here: Set[Key], place: bool
) -> list[tuple[bool, list[Key]]]:
    parts: list[tuple[bool, list[Key]]] = []
    left = list(order)
    done: set[Key] = set()
    while left:
        part: list[Key] = []
        rest: list[Key] = []
        for node in left:
            if (node in here) is place and inputs.get(node, frozenset()) <= done:
                part.append(node)
                done.add(node)
            else:
                rest.append(node)
        if part:
            parts.append((place, part))
        left, place = rest, not place
    return parts
