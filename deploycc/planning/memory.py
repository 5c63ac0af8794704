"""Static memory planning: where in the arena each intermediate tensor lies.

A tensor is live from the call that writes it to the last call that reads it, both included.  Two tensors
that are live at the same call must not overlap, unless they belong to one *block*: parts that must lie at
fixed distances, such as the operands of a concatenation and its result, or a tensor and what is computed in
its place.  Each part of a block has a live range of its own; while a part holds nothing, its bytes are free
for other blocks.

Placing blocks with the least total extent is NP-hard (dynamic storage allocation), so several greedy orders
are tried, each block going into the tightest gap left between those placed already (greedy-by-size and
greedy-by-breadth of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020),
and the best order is then improved by a bounded, deterministic local search.  The search stops as soon as
the lower bound is met.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes every offset is a multiple of: a cache line, and the widest vector register."""

SEARCH_PLACEMENTS = 400_000
"""Pairs of blocks the local search may compare: about half a second of planning at most."""


@dataclass(frozen=True)
class Tensor:
    """A tensor: ``nbytes`` long, written by call ``first``, last read by call ``last``.

    ``offset`` is the distance in bytes from the start of its block.
    """

    nbytes: int
    first: int
    last: int
    offset: int = 0


Block = Sequence[Tensor]
"""Tensors at fixed distances; they may overlap one another, whose order of steps makes that right."""


@dataclass(frozen=True)
class Layout:
    """Byte offsets in the order of the blocks given, and the extent they need.

    ``lower_bound`` is the largest number of bytes live at one call (aligned, where no block has several
    parts): no layout can do with less.
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
    return assign_blocks([(tensor,) for tensor in tensors], seed=seed)


def assign_blocks(blocks: Sequence[Block], *, seed: int = 0, placements: int = SEARCH_PLACEMENTS) -> Layout:
    """Offsets for ``blocks`` such that no tensors of different blocks that are live at one call overlap.

    ``placements`` bounds the local search.  The result depends on the arguments alone.
    """
    sizes = [aligned(extent(block)) for block in blocks]
    live = bytes_per_call(blocks)
    lower_bound = aligned(max(live.values(), default=0))
    neighbours = _conflicts(blocks)

    best_order: list[int] = []
    best: tuple[list[int], int] | None = None
    for order in _orders(blocks, sizes, live):
        offsets, reach = _place(order, sizes, neighbours)
        if best is None or reach < best[1]:
            best_order, best = order, (offsets, reach)
    assert best is not None
    if best[1] > lower_bound:
        best = _improve(best_order, best, sizes, neighbours, lower_bound, seed, placements)
    return Layout(tuple(best[0]), best[1], lower_bound)


def extent(block: Block) -> int:
    """Bytes from a block's start to the end of its last part."""
    return max((tensor.offset + tensor.nbytes for tensor in block), default=0)


def bytes_per_call(blocks: Sequence[Block]) -> dict[int, int]:
    """How many bytes are live at each call that writes or reads a tensor for the last time.

    A block of one tensor counts whole multiples of ``ALIGNMENT``, unless others lie so close to it.
    """
    exact = any(len(block) > 1 or block[0].offset for block in blocks)
    change: dict[int, int] = {}
    for block in blocks:
        before = 0
        for call in sorted({call for tensor in block for call in (tensor.first, tensor.last + 1)}):
            now = _covered((t.offset, t.offset + t.nbytes) for t in block if t.first <= call <= t.last)
            now = now if exact else aligned(now)
            change[call] = change.get(call, 0) + now - before
            before = now
    live: dict[int, int] = {}
    total = 0
    for call in sorted(change):
        total += change[call]
        live[call] = total
    return live


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    total = end = 0
    for start, stop in sorted(spans):
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total


Conflict = tuple[int, int, int]
"""Another block, and how far a block must start behind it, or else before it."""


def _conflicts(blocks: Sequence[Block]) -> list[list[Conflict]]:
    """For each block the others with a tensor that is live at a call of one of its own."""
    found: list[dict[Conflict, None]] = [{} for _ in blocks]
    every = [(tensor, number) for number, block in enumerate(blocks) for tensor in block if tensor.nbytes]
    active: list[tuple[Tensor, int]] = []
    for tensor, number in sorted(every, key=lambda item: (item[0].first, item[1])):
        active = [item for item in active if item[0].last >= tensor.first]
        for other, index in active:
            if index == number:
                continue
            # This block starts at or behind the other's start + behind, or at most at its start - before.
            behind = aligned(other.offset + other.nbytes - tensor.offset)
            before = aligned(tensor.offset + tensor.nbytes - other.offset)
            if behind > -before:
                found[number][index, behind, before] = None
                found[index][number, before, behind] = None
        active.append((tensor, number))
    return [list(conflicts) for conflicts in found]


def _orders(blocks: Sequence[Block], sizes: Sequence[int], live: dict[int, int]) -> list[list[int]]:
    """Orders worth placing blocks in: by size, by size times time, by call, by the fullest calls."""
    indices = range(len(blocks))
    first = [min((t.first for t in block), default=0) for block in blocks]
    last = [max((t.last for t in block), default=0) for block in blocks]
    span = [last[i] - first[i] + 1 for i in indices]
    by_breadth: list[int] = []
    seen: set[int] = set()
    for call in sorted(live, key=lambda c: (-live[c], c)):
        at_call = [i for i in indices if first[i] <= call <= last[i] and i not in seen]
        by_breadth += sorted(at_call, key=lambda i: (-sizes[i], i))
        seen.update(at_call)
    by_breadth += [i for i in indices if i not in seen]
    return [
        sorted(indices, key=lambda i: (-sizes[i], -span[i], i)),
        sorted(indices, key=lambda i: (-sizes[i] * span[i], i)),
        sorted(indices, key=lambda i: (-span[i], -sizes[i], i)),
        sorted(indices, key=lambda i: (first[i], -sizes[i], i)),
        sorted(indices, key=lambda i: (-last[i], -sizes[i], i)),
        by_breadth,
    ]


def _place(
    order: Sequence[int], sizes: Sequence[int], neighbours: Sequence[Sequence[Conflict]]
) -> tuple[list[int], int]:
    """Each block in turn into the smallest gap that holds it among the neighbours placed before."""
    offsets = [-1] * len(sizes)
    reach = 0
    for index in order:
        taken = sorted(
            (offsets[n] - before, offsets[n] + behind)
            for n, behind, before in neighbours[index]
            if offsets[n] >= 0
        )
        offsets[index] = tightest(taken)
        reach = max(reach, offsets[index] + sizes[index])
    return offsets, reach


def tightest(taken: Sequence[tuple[int, int]]) -> int:
    """Where a block best starts, given the open intervals, sorted, in which it must not.

    That is where it can move least between its neighbours: in the tightest gap.
    """
    chosen, chosen_gap, end = -1, -1, 0
    for start, stop in taken:
        gap = start - end
        if gap >= 0 and (chosen < 0 or gap < chosen_gap):
            chosen, chosen_gap = end, gap
        end = max(end, stop)
    return end if chosen < 0 else chosen


def _improve(
    order: list[int],
    best: tuple[list[int], int],
    sizes: Sequence[int],
    neighbours: Sequence[Sequence[Conflict]],
    lower_bound: int,
    seed: int,
    placements: int,
) -> tuple[list[int], int]:
    """Move blocks that reach the top of the arena earlier in the order while that does not hurt."""
    generator = random.Random(seed)
    cost = len(sizes) + sum(len(n) for n in neighbours)
    current = best
    for _ in range(placements // max(cost, 1)):
        offsets, reach = current
        top = [i for i in range(len(sizes)) if sizes[i] and offsets[i] + sizes[i] == reach]
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
