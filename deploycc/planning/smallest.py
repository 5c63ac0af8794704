"""The smallest arena: the same kernels on the same data, in less memory.

In this order, each step only where it lowers the peak:

1. Another order of the steps (``ordering``).
2. A result over an operand that nobody needs any more, where the kernel allows it (``sharing``), and tensors
   in the caller's output buffers before those are written: tried in turn at the fullest step.
3. A cheap step is done again where its result would have to wait through the fullest step.

Only the last and what ``sharing`` runs on one thread cost time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from deploycc.planning.joins import whole
from deploycc.planning.lifetimes import live_parts
from deploycc.planning.memory import ALIGNMENT, Tensor, aligned, bytes_per_call, tightest
from deploycc.planning.network import COPY, Network, Step, Storage, View
from deploycc.planning.ordering import reorder
from deploycc.planning.sharing import Sharing

MOST_EXTRA = 0.1
"""Of the estimated cycles of a run: how much recomputing may add."""
_LEAST_GAIN = 0.01
"""Of the peak: what one more recomputed step has to save."""
_MOST_STEPS = 600
"""Longer networks are not searched for steps to do again."""
_LARGE = 0.1
"""Of the largest tensor at the peak: smaller ones are not worth a proof."""
_ROUNDS = 200

Prove = Callable[[str, int, int, int], Sharing | None]
"""(function, number of the operand, number of the result, bytes of an element): how they may share memory."""


@dataclass(frozen=True)
class Shared:
    """A step that reads operand ``operand`` where it writes result ``result``, ``sharing`` says how."""

    operand: int
    result: int
    sharing: Sharing


@dataclass(frozen=True)
class Arrangement:
    """``network`` as it needs least; ``shared`` by number of the step.

    ``recomputed`` are the numbers of steps that are done once more, ``extra`` what they add to a run as a
    share of its estimated cycles.  ``serial`` steps use one thread for their memory's sake.
    """

    network: Network
    shared: Mapping[int, Shared]
    recomputed: tuple[int, ...] = ()
    extra: float = 0.0

    @property
    def serial(self) -> int:
        """How many steps run on one thread because of what they share."""
        return sum(shared.sharing.serial for shared in self.shared.values())


def direct_outputs(network: Network) -> dict[Storage, int]:
    """Storages that are written straight into a caller's buffer: its number, the first that shows them."""
    found: dict[Storage, int] = {}
    for index, view in enumerate(network.outputs):
        if view.storage.kind == "temporary" and view == whole(view.storage):
            found.setdefault(view.storage, index)
    return found


def arena_blocks(network: Network) -> dict[Storage, tuple[Tensor, ...]]:
    """The parts of every storage that lies in the arena."""
    elsewhere = direct_outputs(network)
    parts = live_parts(network.steps, network.outputs)
    return {storage: found for storage, found in parts.items() if storage not in elsewhere}


def arrange_smallest(network: Network, prove: Prove, cycles: Callable[[Step], float]) -> Arrangement:
    """``network`` in as little memory as is found; ``cycles`` estimates what a step takes on one core."""
    ordered = reorder(network, direct_outputs(network))
    best = _share(ordered, prove)
    if len(network.steps) > _MOST_STEPS:
        return best
    total = sum(map(cycles, ordered.steps))
    budget, extra, copies = MOST_EXTRA * total, 0.0, 0
    peak = _peak(best.network)[0]
    improved = True
    while improved:
        improved = False
        fullest = best.network.steps[min(_peak(best.network)[1], len(best.network.steps) - 1)]
        for candidate, cost in _again(ordered, fullest.variable, cycles, copies):
            if not 0 < cost <= budget - extra:
                continue
            found = _share(candidate, prove)
            reached = _peak(found.network)[0]
            if reached <= (1 - _LEAST_GAIN) * peak:
                ordered, best, peak = candidate, found, reached
                extra, copies, improved = extra + cost, copies + 1, True
                break
    seen: set[str] = set()
    again = []
    for number, step in enumerate(best.network.steps):
        if step.function != COPY and step.variable in seen:
            again.append(number)
        seen.add(step.variable)
    return replace(best, recomputed=tuple(again) if copies else (), extra=extra / total if copies else 0.0)


def _peak(network: Network) -> tuple[int, int, int]:
    """The most bytes live in the arena, the first step where they are, and at how many calls."""
    live = bytes_per_call(list(arena_blocks(network).values()))
    most = max(live.values(), default=0)
    calls = [call for call, count in live.items() if count == most]
    return most, min(calls, default=0), len(calls)


# ---- a step once more ----


def _again(
    network: Network, fullest: str, cycles: Callable[[Step], float], copies: int
) -> Iterator[tuple[Network, float]]:
    """Networks in which one result is not kept through the step that gives ``fullest`` its value."""
    steps = network.steps
    at = next((i for i, step in enumerate(steps) if step.variable == fullest), None)
    if at is None:
        return
    makers = {view.storage: i for i, step in enumerate(steps) for view in step.writes}
    kept = {view.storage for view in network.outputs}
    waiting = []
    for storage, parts in arena_blocks(network).items():
        if len(parts) != 1 or storage in kept or parts[0].first >= at or storage.kind != "temporary":
            continue
        readers = [i for i, step in enumerate(steps) if any(v.storage == storage for v in step.reads)]
        maker = steps[makers[storage]]
        if at not in readers and readers and readers[-1] > at and maker.function != COPY:
            waiting.append((storage, maker, next(i for i in readers if i > at)))
    for storage, maker, first in sorted(waiting, key=lambda item: -item[0].nbytes)[:8]:
        if len(maker.writes) != 1:
            continue
        number = 1 + max(view.storage.index for step in steps for view in (*step.writes, *step.reads))
        copy = replace(storage, index=number)
        renamed = {storage: View(copy, 0, copy.nbytes)}
        later = [_renamed(step, renamed) if i >= first else step for i, step in enumerate(steps)]
        again = replace(maker, writes=(View(copy, 0, copy.nbytes),))
        yield replace(network, steps=(*later[:first], again, *later[first:])), cycles(maker)


# ---- memory shared ----


def _share(network: Network, prove: Prove) -> Arrangement:
    """``network`` with storages merged as long as that lowers the peak or empties a fullest step."""
    shared: dict[int, Shared] = {}
    most, call, calls = _peak(network)
    for _ in range(_ROUNDS):
        best: tuple[tuple[int, int], Network, tuple[int, Shared] | None] | None = None
        for candidate, what in _merged(network, call, shared, prove):
            peak, _, count = _peak(candidate)
            if (peak, count) < (most, calls) and (best is None or (peak, count) < best[0]):
                best = ((peak, count), candidate, what)
        if best is None:
            break
        network = best[1]
        if best[2] is not None:
            shared[best[2][0]] = best[2][1]
        most, call, calls = _peak(network)
    return Arrangement(network, shared)


def _merged(
    network: Network, call: int, shared: Mapping[int, Shared], prove: Prove
) -> Iterator[tuple[Network, tuple[int, Shared] | None]]:
    """What can be done at the step ``call``, each with what its kernel has to know of it."""
    parts = live_parts(network.steps, network.outputs)
    outputs = direct_outputs(network)
    live = [part for found in parts.values() for part in found if part.first <= call <= part.last]
    most = max((part.nbytes for part in live), default=0)
    ends = {end for part in live if part.nbytes >= _LARGE * most for end in (part.first, part.last)}
    for step in sorted(ends | {call}):
        if step < len(network.steps):
            yield from _over_operands(network, step, shared, prove, parts, outputs)
    yield from ((found, None) for found in _into_outputs(network, call, parts, outputs))


def _over_operands(
    network: Network,
    call: int,
    shared: Mapping[int, Shared],
    prove: Prove,
    parts: Mapping[Storage, Sequence[Tensor]],
    outputs: Collection[Storage],
) -> Iterator[tuple[Network, tuple[int, Shared]]]:
    step = network.steps[call]
    if step.function == COPY or call in shared:
        return
    for operand, read in enumerate(step.reads):
        source = read.storage
        others = [view for i, view in enumerate(step.reads) if i != operand]
        if source.kind != "temporary" or source in outputs or any(v.storage == source for v in others):
            continue
        for result, write in enumerate(step.writes):
            target = write.storage
            if target == source or source.width != target.width or not source.width:
                continue
            found = prove(step.function, operand, len(step.reads) + result, source.width)
            if found is None:
                continue
            distance = write.offset + found.distance - read.offset
            pair = (Tensor(write.nbytes, call, -1, write.offset), call)
            merged = _merge(network, source, target, distance, parts, target in outputs, pair)
            if merged is not None:
                yield merged, (call, Shared(operand, len(step.reads) + result, found))


def _into_outputs(
    network: Network, call: int, parts: Mapping[Storage, Sequence[Tensor]], outputs: Collection[Storage]
) -> Iterator[Network]:
    """What is live at ``call`` in a caller's buffer that is not in use then.

    The buffer has the alignment of its own elements only, so they must be as wide as the tensor's.
    """
    live = [s for s, found in parts.items() if any(part.first <= call <= part.last for part in found)]
    for source in sorted(live, key=lambda storage: -storage.nbytes):
        if source in outputs or not source.width:
            continue
        for target in outputs:
            if source.width > target.width or source.nbytes > target.nbytes:
                continue
            taken = sorted(
                (part.offset - other.offset - other.nbytes, aligned(part.offset + part.nbytes - other.offset))
                for part in parts.get(target, ())
                for other in parts[source]
                if part.first <= other.last and other.first <= part.last
            )
            merged = _merge(network, source, target, tightest(taken), parts, True, None)
            if merged is not None:
                yield merged


def _merge(
    network: Network,
    source: Storage,
    target: Storage,
    distance: int,
    parts: Mapping[Storage, Sequence[Tensor]],
    fixed: bool,
    pair: tuple[Tensor, int] | None,
) -> Network | None:
    """``source`` as a part of ``target`` from ``distance`` on, ``None`` where one is in the other's way.

    With ``fixed`` the target cannot grow.  ``pair`` is a part of the target and the step that writes it
    while it reads the source for the last time: they may overlap.
    """
    if distance % ALIGNMENT or (fixed and (distance < 0 or distance + source.nbytes > target.nbytes)):
        return None
    for part in parts[source]:
        start = part.offset + distance
        for other in parts.get(target, ()):
            apart = start >= other.offset + other.nbytes or other.offset >= start + part.nbytes
            if apart or part.last < other.first or other.last < part.first:
                continue
            proved = pair is not None and (other.offset, other.nbytes) == (pair[0].offset, pair[0].nbytes)
            if not proved or pair is None or part.last != pair[1] or other.first != pair[1]:
                return None
    if fixed:
        views = {source: View(target, distance, source.nbytes)}
    else:
        front = max(0, -distance)
        size = max(front + target.nbytes, front + distance + source.nbytes)
        merged = replace(target, nbytes=size)
        if merged != target:
            index = 1 + max(v.storage.index for s in network.steps for v in (*s.reads, *s.writes))
            merged = replace(merged, index=index)
        views = {source: View(merged, front + distance, source.nbytes)}
        if merged != target:
            views[target] = View(merged, front, target.nbytes)
    return replace(
        network,
        steps=tuple(_renamed(step, views) for step in network.steps),
        outputs=tuple(_view(view, views) for view in network.outputs),
    )


def _renamed(step: Step, views: Mapping[Storage, View]) -> Step:
    return replace(
        step,
        reads=tuple(_view(view, views) for view in step.reads),
        writes=tuple(_view(view, views) for view in step.writes),
    )


def _view(view: View, views: Mapping[Storage, View]) -> View:
    place = views.get(view.storage)
    return view if place is None else View(place.storage, place.offset + view.offset, view.nbytes)
