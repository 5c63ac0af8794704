"""The arena planner: nothing live overlaps, offsets are aligned, and the extent is near the bound."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploycc.planning import memory
from deploycc.planning.memory import ALIGNMENT, Layout, Tensor, aligned, assign, assign_blocks, extent

tensors = st.builds(
    lambda nbytes, first, length: Tensor(nbytes, first, first + length),
    st.integers(0, 5000),
    st.integers(0, 30),
    st.integers(0, 12),
)


def simulate(items: list[Tensor], layout: Layout) -> int:
    """Play the calls on a byte map; returns the most aligned bytes that were live at one call.

    Fails where a byte is claimed by two live tensors, or a tensor leaves the arena.
    """
    owner = np.full(layout.arena_bytes, -1)
    most = 0
    for call in range(max((t.last for t in items), default=-1) + 1):
        for index, (tensor, offset) in enumerate(zip(items, layout.offsets, strict=True)):
            if tensor.first == call:
                assert offset % ALIGNMENT == 0
                assert 0 <= offset <= offset + tensor.nbytes <= layout.arena_bytes
                place = owner[offset : offset + tensor.nbytes]
                assert (place == -1).all(), f"tensor {index} lies on {set(place)} at call {call}"
                place[:] = index
        most = max(most, sum(aligned(t.nbytes) for t in items if t.first <= call <= t.last))
        for index, (tensor, offset) in enumerate(zip(items, layout.offsets, strict=True)):
            if tensor.last == call:
                place = owner[offset : offset + tensor.nbytes]
                assert (place == index).all(), f"tensor {index} was overwritten before call {call}"
                place[:] = -1
    return most


@settings(max_examples=200, deadline=None)
@given(st.lists(tensors, max_size=40))
def test_live_tensors_never_overlap(items: list[Tensor]) -> None:
    layout = assign(items)
    assert simulate(items, layout) == layout.lower_bound
    assert layout.lower_bound <= layout.arena_bytes <= sum(aligned(t.nbytes) for t in items)


@settings(max_examples=40, deadline=None)
@given(st.lists(tensors, max_size=30))
def test_same_tensors_same_layout(items: list[Tensor]) -> None:
    assert assign(items) == assign(list(items))


def first_fit(items: list[Tensor]) -> int:
    """Extent of the naive planner: tensors in the order they are written, each at the lowest gap."""
    placed: list[tuple[int, int, Tensor]] = []
    for tensor in sorted(items, key=lambda t: t.first):
        size, offset = aligned(tensor.nbytes), 0
        for start, stop, other in sorted(placed, key=lambda p: p[:2]):
            if other.first <= tensor.last and tensor.first <= other.last:
                if start - offset >= size:
                    break
                offset = max(offset, stop)
        placed.append((offset, offset + size, tensor))
    return max((stop for _, stop, _ in placed), default=0)


def random_network(seed: int, count: int) -> list[Tensor]:
    """A chain with skips: most tensors are read by the next call, one in five much later."""
    generator = np.random.default_rng(seed)
    items = []
    for call in range(count):
        reach = 1 if generator.random() < 0.8 else int(generator.integers(2, 12))
        items.append(Tensor(int(generator.integers(1, 400)) * 64, call, min(call + reach, count)))
    return items


def test_near_the_lower_bound_and_better_than_first_fit() -> None:
    excess, naive = [], []
    for seed in range(20):
        items = random_network(seed, 60)
        layout = assign(items)
        simulate(items, layout)
        excess.append(layout.arena_bytes / layout.lower_bound)
        naive.append(first_fit(items) / layout.lower_bound)
        assert layout.arena_bytes <= first_fit(items)
    assert np.mean(excess) < 1.02
    assert np.mean(naive) > np.mean(excess) + 0.02


def test_local_search_finds_what_no_greedy_order_does() -> None:
    # the greedy orders give 14 to 16 units of 64 bytes here
    places = [(2, 0, 3), (2, 2, 4), (3, 4, 4), (5, 2, 5), (2, 3, 4), (4, 2, 2)]
    items = [Tensor(64 * units, first, last) for units, first, last in places]
    blocks = [(item,) for item in items]
    sizes, neighbours = [t.nbytes for t in items], memory._conflicts(blocks)
    orders = memory._orders(blocks, sizes, memory.bytes_per_call(blocks))
    assert min(memory._place(order, sizes, neighbours)[1] for order in orders) == 14 * 64
    layout = assign(items)
    simulate(items, layout)
    assert layout.arena_bytes == layout.lower_bound == 13 * 64


def optimum(items: list[Tensor]) -> int:
    """The least extent over all orders of greedy placement at the lowest free offset: exact for few."""
    best = sum(aligned(t.nbytes) for t in items)
    for order in itertools.permutations(items):
        placed: list[tuple[int, int, Tensor]] = []
        for tensor in order:
            size, offset = aligned(tensor.nbytes), 0
            for start, stop, other in sorted(placed, key=lambda p: p[:2]):
                if other.first <= tensor.last and tensor.first <= other.last:
                    if start - offset >= size:
                        break
                    offset = max(offset, stop)
            placed.append((offset, offset + size, tensor))
        best = min(best, max(stop for _, stop, _ in placed))
    return best


@settings(max_examples=25, deadline=None)
@given(st.lists(tensors.filter(lambda t: t.nbytes > 0), min_size=1, max_size=6))
def test_optimal_for_a_handful_of_tensors(items: list[Tensor]) -> None:
    assert assign(items).arena_bytes == optimum(items)


def test_no_tensors_need_no_arena() -> None:
    assert assign([]) == Layout((), 0, 0)


def test_empty_tensors_take_no_room() -> None:
    assert assign([Tensor(0, 0, 3), Tensor(1, 1, 2)]).arena_bytes == ALIGNMENT


parts = st.builds(
    lambda nbytes, first, length, offset: Tensor(nbytes, first, first + length, offset),
    st.integers(0, 2000),
    st.integers(0, 15),
    st.integers(0, 6),
    st.integers(0, 3000),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(parts, min_size=1, max_size=4), max_size=10))
@example([[Tensor(1, 0, 0)], [Tensor(1, 0, 0, offset=1)]])
def test_parts_of_different_blocks_never_overlap(blocks: list[list[Tensor]]) -> None:
    layout = assign_blocks(blocks, placements=2000)
    for call in range(22):
        owner = np.full(layout.arena_bytes, -1)
        live = 0
        for index, (block, start) in enumerate(zip(blocks, layout.offsets, strict=True)):
            assert start % ALIGNMENT == 0
            mine = np.zeros(layout.arena_bytes, bool)
            for part in block:
                if part.first <= call <= part.last:
                    assert start + part.offset + part.nbytes <= layout.arena_bytes
                    mine[start + part.offset :][: part.nbytes] = True
            assert (owner[mine] == -1).all(), f"block {index} lies on {set(owner[mine])} at call {call}"
            owner[mine] = index
            live += int(mine.sum())
        assert live <= layout.lower_bound
    assert layout.lower_bound <= layout.arena_bytes <= sum(aligned(extent(block)) for block in blocks)


def test_what_a_block_does_not_hold_yet_is_free() -> None:
    whole = (Tensor(640, 0, 9, 0), Tensor(640, 5, 9, 640))
    assert assign_blocks([whole, (Tensor(640, 1, 4),)]).arena_bytes == 1280
    assert assign_blocks([whole, (Tensor(640, 1, 5),)]).arena_bytes == 1920
