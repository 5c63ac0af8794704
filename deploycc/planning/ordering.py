"""Another order of the same steps in which less is live at once.

Which order needs least is NP-hard (it is register allocation with one register a byte).  Networks are mostly
chains with a few branches, so a beam search does: of all orders of the first n steps the best few are kept,
by the most that was live so far and what is live now.  Orders that reach the given one's peak are dropped.
Where a single step needs as much as the peak for what it reads and writes, no order can help.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from deploycc.planning.lifetimes import live_parts
from deploycc.planning.memory import Tensor
from deploycc.planning.network import Network, Step, Storage, View

_STATES = 30_000
"""Orders looked at for all steps together: some two seconds."""
_MOST_STEPS = 1500
"""Longer networks keep their order: the search takes time with the square of their length."""
_WIDEST = 64


def reorder(network: Network, elsewhere: Collection[Storage]) -> Network:
    """``network`` in an order with the least peak that was found, itself if none is lower.

    Every byte is written by one step only.  Storages ``elsewhere`` take no room in the arena.
    """
    graph = _Graph(network, elsewhere)
    if graph.count > _MOST_STEPS or graph.peak <= graph.least:
        return network
    order = _search(graph)
    return network if order is None else replace(network, steps=tuple(network.steps[i] for i in order))


@dataclass(frozen=True)
class _State:
    """The steps done, as bits; what is live behind them, and the most that was."""

    peak: int
    live: int
    done: int
    step: int
    before: _State | None

    def order(self) -> tuple[int, ...]:
        """The steps from the first one on."""
        steps: list[int] = []
        state: _State | None = self
        while state is not None and state.before is not None:
            steps.append(state.step)
            state = state.before
        return tuple(reversed(steps))


_START = _State(0, 0, 0, -1, None)


_Flat = Sequence[tuple[Storage, Tensor]]


class _Graph:
    """Steps as numbers: what each waits for, what it writes, and which parts it may be the last to read."""

    def __init__(self, network: Network, elsewhere: Collection[Storage]) -> None:
        steps = network.steps
        self.count = len(steps)
        parts = live_parts(steps, network.outputs)
        flat = [(storage, part) for storage, found in parts.items() for part in found]
        self.sizes = [0 if storage in elsewhere else part.nbytes for storage, part in flat]
        self.readers = [0] * len(flat)
        self.made: list[list[int]] = [[] for _ in steps]
        self.read: list[list[int]] = [[] for _ in steps]
        self.waits = [0] * self.count
        self.next: list[list[int]] = [[] for _ in steps]
        numbers: dict[Storage, list[int]] = {}
        for number, (storage, part) in enumerate(flat):
            numbers.setdefault(storage, []).append(number)
            self.made[part.first].append(number)
        for index, step in enumerate(steps):
            for number in self._parts_of(step, numbers, flat):
                self.readers[number] |= 1 << index
                self.read[index].append(number)
                self.waits[index] |= 1 << flat[number][1].first
                self.next[flat[number][1].first].append(index)
        for view in network.outputs:
            for number in self._overlapping(view, numbers, flat):
                self.readers[number] |= 1 << self.count  # never done: it lives to the end
        self.peak = self._given_peak()
        self.least = max(
            (sum(self.sizes[n] for n in {*self.read[i], *self.made[i]}) for i in range(self.count)), default=0
        )

    def _parts_of(self, step: Step, numbers: dict[Storage, list[int]], flat: _Flat) -> list[int]:
        found = [number for view in step.reads for number in self._overlapping(view, numbers, flat)]
        return list(dict.fromkeys(found))

    @staticmethod
    def _overlapping(view: View, numbers: dict[Storage, list[int]], flat: _Flat) -> list[int]:
        found = []
        for number in numbers.get(view.storage, ()):
            part = flat[number][1]
            if part.offset < view.offset + view.nbytes and view.offset < part.offset + part.nbytes:
                found.append(number)
        return found

    def _given_peak(self) -> int:
        state = _START
        for step in range(self.count):
            state = self.after(state, step)
        return state.peak

    def after(self, state: _State, step: int) -> _State:
        """``state`` once ``step`` is done as well."""
        done = state.done | 1 << step
        now = state.live + sum(self.sizes[number] for number in self.made[step])
        ended = [n for n in (*self.read[step], *self.made[step]) if not self.readers[n] & ~done]
        live = now - sum(self.sizes[number] for number in ended)
        return _State(max(state.peak, now), live, done, step, state)


def _search(graph: _Graph) -> tuple[int, ...] | None:
    width = max(2, min(_WIDEST, _STATES // max(graph.count, 1)))
    states = [(_START, frozenset(i for i in range(graph.count) if not graph.waits[i]))]
    for _ in range(graph.count):
        best: dict[int, tuple[_State, frozenset[int]]] = {}
        for state, ready in states:
            for step in sorted(ready):
                reached = graph.after(state, step)
                known = best.get(reached.done)
                if reached.peak >= graph.peak or (known and _key(known[0]) <= _key(reached)):
                    continue
                freed = (n for n in graph.next[step] if not graph.waits[n] & ~reached.done)
                best[reached.done] = (reached, ready - {step} | frozenset(freed))
        states = sorted(best.values(), key=lambda item: _key(item[0]))[:width]
    return states[0][0].order() if states else None


def _key(state: _State) -> tuple[int, int]:
    return state.peak, state.live
