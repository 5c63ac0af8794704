"""Exact choice between two labels for many variables: the minimum cut of a graph.

A sum of costs of single variables and of pairs of them has its minimum where a cut of least
capacity separates the variables with label 1 from those with label 0 (Greig, Porteous, Seheult 1989),
provided that no pair likes to differ: cost(0,0) + cost(1,1) <= cost(0,1) + cost(1,0).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PairCosts = tuple[float, float, float, float]
"""Costs of the labels (0,0), (0,1), (1,0) and (1,1) of a pair; infinite for what cannot be."""

ATTEMPTS = 6
"""Most cuts for one problem with pairs that like to differ."""


@dataclass
class Labelling:
    """Variables with labels 0 and 1 and the sum of costs that is to be least.

    Costs are rounded to whole numbers.  ``clamped`` holds the numbers of the pairs (in the order they
    were added) that like to differ, after ``solve``: without any, its labels are the best there are.
    Of such a pair one mixed label at a time counts as dearer than it is, so that what is found is the best of
    all that do not use it; from there the search goes on with the other one raised, as long as it gains.
    """

    single: list[tuple[float, float]] = field(default_factory=list)
    pairs: list[tuple[int, int, PairCosts]] = field(default_factory=list)
    conversions: list[tuple[int, tuple[int, ...], float]] = field(default_factory=list)
    clamped: list[int] = field(default_factory=list)

    def variable(self, zero: float = 0.0, one: float = 0.0) -> int:
        """A new variable and what its labels cost by themselves; infinity forbids a label."""
        self.single.append((zero, one))
        return len(self.single) - 1

    def pair(self, first: int, second: int, costs: PairCosts) -> None:
        """What the labels of two different variables cost together; at least one of them is finite."""
        self.pairs.append((first, second, costs))

    def conversion(self, made: int, readers: Sequence[int], cost: float) -> None:
        """``cost``, once, if the label of any of ``readers`` is not that of ``made``."""
        others = tuple(dict.fromkeys(reader for reader in readers if reader != made))
        if others and cost > 0:
            self.conversions.append((made, others, cost))

    def total(self, labels: Sequence[int]) -> float:
        """The sum of all costs for one label a variable, not rounded."""
        singles = sum(costs[label] for costs, label in zip(self.single, labels, strict=True))
        pairs = sum(costs[2 * labels[a] + labels[b]] for a, b, costs in self.pairs)
        conversions = sum(
            cost
            for made, readers, cost in self.conversions
            if any(labels[reader] != labels[made] for reader in readers)
        )
        return singles + pairs + conversions

    def solve(self) -> list[int]:
        """Labels of least total; where several are, those with the fewest ones."""
        raised = {n: 1 if costs[1] > costs[2] else 2 for n, (*_, costs) in enumerate(self.pairs)}
        best = self._cut(raised)
        labels, tried = best, 1
        while self.clamped and tried < ATTEMPTS:
            # A mixed label in use stays as it is, so that a further cut can only gain.
            used = {n: 2 * labels[a] + labels[b] for n, (a, b, _) in enumerate(self.pairs)}
            raised = {n: 3 - (label if label in (1, 2) else raised[n]) for n, label in used.items()}
            labels, tried = self._cut(raised), tried + 1
            if self.total(labels) >= self.total(best) and tried > 2:
                break
            best = min(best, labels, key=self.total)
        return best

    def _cut(self, raised: Mapping[int, int]) -> list[int]:
        """One minimum cut; ``raised`` says which mixed label (1 or 2) of a pair may count as dearer."""
        finite = [cost for costs in self.single for cost in costs if math.isfinite(cost)]
        finite += [cost for *_, costs in self.pairs for cost in costs if math.isfinite(cost)]
        finite += [cost for *_, cost in self.conversions]
        impossible = 1 + sum(round(abs(cost)) + 1 for cost in finite)
        network = _Network(len(self.single) + 2)
        for variable, (zero, one) in enumerate(self.single):
            network.single(variable, _whole(one, impossible) - _whole(zero, impossible))
        self.clamped = [
            number
            for number, (first, second, costs) in enumerate(self.pairs)
            if network.pair(first, second, _completed(costs, impossible), raised[number])
        ]
        for made, readers, cost in self.conversions:
            if len(readers) == 1:
                network.pair(made, readers[0], (0, round(cost), round(cost), 0))
                continue
            any_one, all_ones = network.node(), network.node()
            network.pair(made, any_one, (0, round(cost), 0, 0))
            network.pair(made, all_ones, (0, 0, round(cost), 0))
            for reader in readers:
                network.pair(reader, any_one, (0, 0, impossible, 0))
                network.pair(reader, all_ones, (0, impossible, 0, 0))
        ones = network.cut()
        return [int(variable + 2 in ones) for variable in range(len(self.single))]


def _whole(cost: float, impossible: int) -> int:
    return round(cost) if math.isfinite(cost) else impossible


def _completed(costs: PairCosts, impossible: int) -> tuple[int, int, int, int]:
    """Infinite costs as large ones that keep to the condition of the cut wherever that is possible."""
    present = {labels: cost for labels, cost in enumerate(costs) if math.isfinite(cost)}
    values = [
        min(round(cost) + impossible * (labels ^ other).bit_count() for other, cost in present.items())
        for labels in range(4)
    ]
    return values[0], values[1], values[2], values[3]


class _Network:
    """A flow network whose cuts cost what labels cost: label 1 is the source's side (Dinic's algorithm)."""

    SOURCE, SINK = 0, 1

    def __init__(self, nodes: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(nodes)]
        self.heads: list[int] = []
        self.capacity: list[int] = []

    def node(self) -> int:
        """A new variable that only the network knows."""
        self.edges.append([])
        return len(self.edges) - 3

    def single(self, variable: int, one: int) -> None:
        """Label 1 costs ``one`` more than label 0."""
        if one > 0:
            self._edge(variable + 2, self.SINK, one)
        elif one < 0:
            self._edge(self.SOURCE, variable + 2, -one)

    def pair(self, first: int, second: int, costs: tuple[int, int, int, int], raised: int = 1) -> bool:
        """Costs of two labels; whether the mixed one that may be ``raised`` (1: 0,1; 2: 1,0) had to be."""
        both_zero, second_one, first_one, both_one = costs
        excess = both_zero + both_one - second_one - first_one
        if excess > 0:
            if raised == 1:
                second_one += excess
            else:
                first_one += excess
        self.single(first, first_one - both_zero)
        self.single(second, both_one - first_one)
        mixed = second_one + first_one - both_zero - both_one
        if mixed > 0:
            self._edge(second + 2, first + 2, mixed)
        return excess > 0

    def _edge(self, tail: int, head: int, capacity: int) -> None:
        self.edges[tail].append(len(self.heads))
        self.edges[head].append(len(self.heads) + 1)
        self.heads += [head, tail]
        self.capacity += [capacity, 0]

    def cut(self) -> set[int]:
        """The nodes on the source's side of a minimum cut, as few as there can be."""
        while True:
            level = self._levels()
            if self.SINK not in level:
                return set(level)
            self._block(level)

    def _levels(self) -> dict[int, int]:
        level = {self.SOURCE: 0}
        queue = deque([self.SOURCE])
        while queue:
            node = queue.popleft()
            for edge in self.edges[node]:
                head = self.heads[edge]
                if self.capacity[edge] and head not in level:
                    level[head] = level[node] + 1
                    queue.append(head)
        return level

    def _block(self, level: dict[int, int]) -> None:
        """Fill every path along the levels."""
        next_edge = [0] * len(self.edges)
        path: list[int] = []
        node = self.SOURCE
        while True:
            if node == self.SINK:
                flow = min(self.capacity[edge] for edge in path)
                for edge in path:
                    self.capacity[edge] -= flow
                    self.capacity[edge ^ 1] += flow
                full = next(i for i, edge in enumerate(path) if not self.capacity[edge])
                node = self.heads[path[full] ^ 1]
                del path[full:]
                continue
            while next_edge[node] < len(self.edges[node]):
                edge = self.edges[node][next_edge[node]]
                head = self.heads[edge]
                if self.capacity[edge] and level.get(head, -1) == level[node] + 1:
                    path.append(edge)
                    node = head
                    break
                next_edge[node] += 1
            else:
                if not path:
                    return
                node = self.heads[path.pop() ^ 1]
                next_edge[node] += 1
