"""Which steps of two plans compute the same: by the model's nodes and tensors, wherever kernels end.

Steps that name the same nodes and tensors are pairs.  Of the rest, those that share a node or a tensor belong
together, directly or through others: where a boundary between kernels moved, both sides of it are in one
group.  Steps without any (copies) are aligned by what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from deploycc.diffing.types import Kind, Step

_KEYS: tuple[Callable[[Step], Hashable], ...] = (
    lambda step: (step.nodes, step.tensors, step.operators),
    lambda step: (step.nodes, step.tensors),
    lambda step: step.nodes,
)
"""What two steps must have in common to be a pair, tried in this order."""


@dataclass(frozen=True)
class Group:
    """Positions in the two plans that belong together; one side may be empty, not both."""

    a: tuple[int, ...]
    b: tuple[int, ...]

    @property
    def kind(self) -> Kind:
        """What happened to the steps, ``same`` for one step each, whatever its schedule."""
        if not self.a:
            return "added"
        if not self.b:
            return "removed"
        if len(self.a) == len(self.b) == 1:
            return "same"
        return "split" if len(self.a) == 1 else "merged" if len(self.b) == 1 else "regrouped"


def match(a: Sequence[Step], b: Sequence[Step]) -> tuple[tuple[Group, ...], Literal["nodes", "order"]]:
    """Groups that have every step once, in A's order and within that B's; and what they were found by.

    Without a node or tensor in both (another export, a package that has no names) it is by ``order``: steps
    with the same operators are aligned as lines of two texts are.
    """
    names_a, names_b = set().union(*map(_tokens, a)), set().union(*map(_tokens, b))
    if names_a & names_b:
        return tuple(_in_order(_by_names(a, b))), "nodes"
    return tuple(_in_order(_aligned(a, b, range(len(a)), range(len(b))))), "order"


def _tokens(step: Step) -> set[tuple[str, str]]:
    return {("node", name) for name in step.nodes} | {("tensor", name) for name in step.tensors}


def _by_names(a: Sequence[Step], b: Sequence[Step]) -> list[Group]:
    found: list[Group] = []
    left_a = {number for number, step in enumerate(a) if _tokens(step)}
    left_b = {number for number, step in enumerate(b) if _tokens(step)}
    for key in _KEYS:
        of_a, of_b = _places(a, sorted(left_a), key), _places(b, sorted(left_b), key)
        for value, places in of_a.items():
            # One node may be many kernels: unless there are as many in both, nobody knows which is which.
            if value and len(places) == len(of_b.get(value, ())):
                found += [Group((i,), (j,)) for i, j in zip(places, of_b[value], strict=True)]
                left_a.difference_update(places)
                left_b.difference_update(of_b[value])
    found += _connected(a, b, sorted(left_a), sorted(left_b))
    nameless = ([n for n, step in enumerate(steps) if not _tokens(step)] for steps in (a, b))
    return found + _aligned(a, b, *nameless)


def _places(
    steps: Sequence[Step], numbers: Sequence[int], key: Callable[[Step], Hashable]
) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for number in numbers:
        found.setdefault(key(steps[number]), []).append(number)
    return found


def _connected(
    a: Sequence[Step], b: Sequence[Step], left_a: Sequence[int], left_b: Sequence[int]
) -> Iterator[Group]:
    """Components of the graph in which steps that share a name are neighbours."""
    owner: dict[tuple[str, str], tuple[str, int]] = {}
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(member: tuple[str, int]) -> tuple[str, int]:
        while parent[member] != member:
            parent[member] = member = parent[parent[member]]
        return member

    shared = set().union(*(_tokens(a[i]) for i in left_a)) & set().union(*(_tokens(b[j]) for j in left_b))
    for side, steps, numbers in (("a", a, left_a), ("b", b, left_b)):
        for number in numbers:
            member = (side, number)
            parent[member] = member
            for token in _tokens(steps[number]) & shared:
                parent[root(member)] = root(owner.setdefault(token, member))
    groups: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    for member in parent:
        groups.setdefault(root(member), ([], []))[member[0] == "b"].append(member[1])
    return (Group(tuple(of_a), tuple(of_b)) for of_a, of_b in groups.values())


def _aligned(
    a: Sequence[Step], b: Sequence[Step], numbers_a: Sequence[int], numbers_b: Sequence[int]
) -> list[Group]:
    """Pairs of steps that do the same, in the order of both plans, and what is left of either."""
    keys_a, keys_b = ([_deed(steps[n]) for n in ns] for steps, ns in ((a, numbers_a), (b, numbers_b)))
    found: list[Group] = []
    paired_a: set[int] = set()
    paired_b: set[int] = set()
    for block in SequenceMatcher(None, keys_a, keys_b, autojunk=False).get_matching_blocks():
        for offset in range(block.size):
            i, j = numbers_a[block.a + offset], numbers_b[block.b + offset]
            found.append(Group((i,), (j,)))
            paired_a.add(i)
            paired_b.add(j)
    found += [Group((i,), ()) for i in numbers_a if i not in paired_a]
    return found + [Group((), (j,)) for j in numbers_b if j not in paired_b]


def _deed(step: Step) -> Hashable:
    return step.operators, step.operator, step.nbytes


def _in_order(groups: Sequence[Group]) -> list[Group]:
    """Groups by A's first step; those of B alone behind the group that has the step before theirs."""
    of_b = {number: group for group in groups for number in group.b}
    ordered = sorted((group for group in groups if group.a), key=lambda group: group.a)
    before: list[Group] = []
    behind: dict[Group, list[Group]] = {}
    last: Group | None = None
    for number in sorted(of_b):
        group = of_b[number]
        if group.a:
            last = group
        else:
            (before if last is None else behind.setdefault(last, [])).append(group)
    return before + [one for group in ordered for one in (group, *behind.get(group, ()))]
