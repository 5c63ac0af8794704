"""Which steps belong together: rules that hold for any two plans, and the cases that people meet."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deploycc.diffing.matching import Group, match
from deploycc.diffing.types import Step
from tests.diffing.manifests import step

MIRRORED = {"added": "removed", "removed": "added", "merged": "split", "split": "merged"}
NAMES = st.sampled_from("abcdefgh")


def numbered(steps: list[Step]) -> list[Step]:
    return [
        step(number, one.nodes, one.tensors, one.operators, nbytes=one.nbytes)
        for number, one in enumerate(steps)
    ]


@st.composite
def plans(draw: st.DrawFn) -> list[Step]:
    """Steps of any names, some with none, some alike."""
    made = draw(
        st.lists(
            st.tuples(
                st.lists(NAMES, max_size=3, unique=True),
                st.lists(NAMES.map(str.upper), max_size=2, unique=True),
                st.sampled_from([("conv2d",), ("add", "relu"), ("Concat",)]),
            ),
            max_size=12,
        )
    )
    return numbered([step(0, *one) for one in made])


@st.composite
def partitions(draw: st.DrawFn) -> tuple[list[Step], list[Step], list[Group]]:
    """One chain of nodes in kernels of two kinds, and the groups between the boundaries of both."""
    count = draw(st.integers(1, 14))
    inner = st.sets(st.integers(1, count - 1)) if count > 1 else st.just(set())
    ends = [sorted({*draw(inner), count}) for _ in "ab"]
    sides = []
    for of in ends:
        starts = [0, *of[:-1]]
        sides.append(
            numbered(
                [step(0, [f"n{i}" for i in range(i, j)], [f"t{j}"]) for i, j in zip(starts, of, strict=True)]
            )
        )
    groups, at = [], [0, 0]
    for end in sorted(set(ends[0]) & set(ends[1])):
        to = [of.index(end) + 1 for of in ends]
        groups.append(Group(tuple(range(at[0], to[0])), tuple(range(at[1], to[1]))))
        at = to
    return sides[0], sides[1], groups


def kinds(a: list[Step], b: list[Step]) -> Counter[str]:
    return Counter(group.kind for group in match(a, b)[0])


@given(plans(), plans())
def test_every_step_is_in_one_group(a: list[Step], b: list[Step]) -> None:
    groups, _ = match(a, b)
    assert sorted(i for group in groups for i in group.a) == list(range(len(a)))
    assert sorted(j for group in groups for j in group.b) == list(range(len(b)))
    assert all(group.a or group.b for group in groups)


@given(plans(), plans())
def test_groups_are_in_the_order_of_a(a: list[Step], b: list[Step]) -> None:
    firsts = [group.a[0] for group in match(a, b)[0] if group.a]
    assert firsts == sorted(firsts)


@given(plans())
def test_a_plan_beside_itself_is_the_same(a: list[Step]) -> None:
    groups, _ = match(a, a)
    assert groups == tuple(Group((i,), (i,)) for i in range(len(a)))


@given(plans(), plans())
def test_the_other_way_round_is_the_mirror(a: list[Step], b: list[Step]) -> None:
    there, back = kinds(a, b), kinds(b, a)
    assert {MIRRORED.get(kind, kind): count for kind, count in there.items()} == dict(back)


@given(partitions())
def test_groups_lie_between_the_boundaries_that_both_have(
    drawn: tuple[list[Step], list[Step], list[Group]],
) -> None:
    a, b, groups = drawn
    assert list(match(a, b)[0]) == groups


@given(plans(), st.data())
def test_a_step_taken_away_is_removed_and_nothing_else(a: list[Step], data: st.DataObject) -> None:
    own = numbered([step(0, [f"n{i}"], [f"t{i}"]) for i in range(len(a) + 2)])
    gone = data.draw(st.integers(0, len(own) - 1))
    rest = numbered(own[:gone] + own[gone + 1 :])
    assert kinds(own, rest) == Counter(same=len(rest), removed=1)
    assert kinds(rest, own) == Counter(same=len(rest), added=1)


def test_one_node_in_several_kernels() -> None:
    three, two = ([step(i, ["lstm"]) for i in range(count)] for count in (3, 2))
    assert kinds(three, three) == Counter(same=3)
    assert kinds(three, two) == Counter(regrouped=1)


def test_copies_have_no_names_and_are_aligned() -> None:
    copy, join = step(0, operators=["Identity"]), step(0, operators=["Concat"])
    conv = step(0, ["conv"])
    a, b = numbered([conv, copy, join]), numbered([conv, join, join])
    assert match(a, b)[0] == (
        Group((0,), (0,)), Group((), (2,)), Group((1,), ()), Group((2,), (1,))
    ) or kinds(a, b) == Counter(same=2, added=1, removed=1)  # fmt: skip


def test_a_model_of_other_names_is_matched_by_order() -> None:
    a = numbered(
        [step(0, [name], [name], [kind]) for name, kind in zip("xyz", ("conv2d", "add", "pool"), strict=True)]
    )
    b = numbered(
        [step(0, [name], [name], [kind]) for name, kind in zip("pq", ("conv2d", "pool"), strict=True)]
    )
    groups, matched_by = match(a, b)
    assert matched_by == "order"
    assert groups == (Group((0,), (0,)), Group((1,), ()), Group((2,), (1,)))


def test_nothing_beside_something() -> None:
    assert match([], [])[0] == ()
    assert kinds([], [step(0, ["n"])]) == Counter(added=1)
