"""Static memory planning: where in the arena each intermediate tensor lies.

A tensor is live from the call that writes it to the last call that reads it, both included
(a kernel never writes where it reads).  Two tensors that are live at the same call must not
overlap.  Placing them with the least total extent is NP-hard (dynamic storage allocation), so
several greedy orders are tried, each tensor going into the tightest gap left between those placed
already (greedy-by-size and greedy-by-breadth of Pisarchyk and Lee, "Efficient Memory Management
for Deep Neural Net Inference", 2020), and the best order is then improved by a bounded,
deterministic local search.  The search stops as soon as the lower bound is met.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes every offset is a multiple of: a cache line, and the widest vector register."""

SEARCH_PLACEMENTS = 400_000
"""Pairs of tensors the local search may compare: about half a second of planning at most."""


@dataclass(frozen=True)
class Tensor:
    """An intermediate tensor: ``nbytes`` long, written by call ``first``, last read by call ``last``."""

    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """Byte offsets in the order of the tensors given, and the extent they need.

    ``lower_bound`` is the largest number of (aligned) bytes live at one call: no layout can do
    with less.
    """

    offsets: tuple[int, ...]
    arena_bytes: int
    lower_bound: int


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to a multiple of ``ALIGNMENT``."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def assign(tensors: Sequence[Tensor], *, seed: int = 0) -> Layout:
    """Offsets for ``tensors`` such that no two tensors live at one call overlap.

    The result depends on the arguments alone (the local search is seeded).
    """
    sizes = [aligned(t.nbytes) for t in tensors]
    live = _bytes_per_call(tensors, sizes)
    lower_bound = max(live.values(), default=0)
    neighbours = _conflicts(tensors)

    best_order: list[int] = []
    best: tuple[list[int], int] | None = None
    for order in _orders(tensors, sizes, live):
        offsets, extent = _place(order, sizes, neighbours)
        if best is None or extent < best[1]:
            best_order, best = order, (offsets, extent)
    assert best is not None
    if best[1] > lower_bound:
        best = _improve(best_order, best, sizes, neighbours, lower_bound, seed)
    return Layout(tuple(best[0]), best[1], lower_bound)


def _bytes_per_call(tensors: Sequence[Tensor], sizes: Sequence[int]) -> dict[int, int]:
    """How many aligned bytes are live at each call that writes or reads a tensor for the last time."""
    change: dict[int, int] = {}
    for tensor, size in zip(tensors, sizes, strict=True):
        change[tensor.first] = change.get(tensor.first, 0) + size
        change[tensor.last + 1] = change.get(tensor.last + 1, 0) - size
    live: dict[int, int] = {}
    total = 0
    for call in sorted(change):
        total += change[call]
        live[call] = total
    return live


def _conflicts(tensors: Sequence[Tensor]) -> list[list[int]]:
    """For each tensor the others that are live at one of its calls."""
    neighbours: list[list[int]] = [[] for _ in tensors]
    active: list[int] = []
    for index in sorted(range(len(tensors)), key=lambda i: (tensors[i].first, i)):
        active = [other for other in active if tensors[other].last >= tensors[index].first]
        for other in active:
            neighbours[index].append(other)
            neighbours[other].append(index)
        active.append(index)
    return neighbours


def _orders(tensors: Sequence[Tensor], sizes: Sequence[int], live: dict[int, int]) -> list[list[int]]:
    """Orders worth placing tensors in: by size, by size times time, by call, by the fullest calls."""
    indices = range(len(tensors))
    span = [t.last - t.first + 1 for t in tensors]
    by_breadth: list[int] = []
    seen: set[int] = set()
    for call in sorted(live, key=lambda c: (-live[c], c)):
        at_call = [i for i in indices if tensors[i].first <= call <= tensors[i].last and i not in seen]
        by_breadth += sorted(at_call, key=lambda i: (-sizes[i], i))
        seen.update(at_call)
    by_breadth += [i for i in indices if i not in seen]
    return [
        sorted(indices, key=lambda i: (-sizes[i], -span[i], i)),
        sorted(indices, key=lambda i: (-sizes[i] * span[i], i)),
        sorted(indices, key=lambda i: (-span[i], -sizes[i], i)),
        sorted(indices, key=lambda i: (tensors[i].first, -sizes[i], i)),
        sorted(indices, key=lambda i: (-tensors[i].last, -sizes[i], i)),
        by_breadth,
    ]


def _place(
    order: Sequence[int], sizes: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> tuple[list[int], int]:
    """Each tensor in turn into the smallest gap that holds it among the neighbours placed before."""
    offsets = [-1] * len(sizes)
    extent = 0
    for index in order:
        size = sizes[index]
        taken = sorted((offsets[n], offsets[n] + sizes[n]) for n in neighbours[index] if offsets[n] >= 0)
        chosen, chosen_gap, end = -1, -1, 0
        for start, stop in taken:
            gap = start - end
            if gap >= size and (chosen < 0 or gap < chosen_gap):
                chosen, chosen_gap = end, gap
            end = max(end, stop)
        offsets[index] = end if chosen < 0 else chosen
        extent = max(extent, offsets[index] + size)
    return offsets, extent


def _improve(
    order: list[int],
    best: tuple[list[int], int],
    sizes: Sequence[int],
    neighbours: Sequence[Sequence[int]],
    lower_bound: int,
    seed: int,
) -> tuple[list[int], int]:
    """Move tensors that reach the top of the arena earlier in the order while that does not hurt."""
    generator = random.Random(seed)
    cost = len(sizes) + sum(len(n) for n in neighbours)
    current = best
    for _ in range(SEARCH_PLACEMENTS // max(cost, 1)):
        offsets, extent = current
        top = [i for i in range(len(sizes)) if sizes[i] and offsets[i] + sizes[i] == extent]
        moved = generator.choice(top)
        position = order.index(moved)
        if position == 0:
            moved = order[generator.randrange(len(order))]
            position = order.index(moved)
        candidate = order[:position] + order[position + 1 :]
        candidate.insert(generator.randrange(position + 1), moved)
        tried = _place(candidate, sizes, neighbours)
        if tried[1] <= current[1]:
            order, current = candidate, tried
        if current[1] < best[1]:
            best = current
        if best[1] <= lower_bound:
            break
    return best
