"""Concatenations and splits without kernels: what is left of them in a plan, and its numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.planning.codegen import source_of
from deploycc.planning.joins import place_parts, whole
from deploycc.planning.network import COPY, Step, Storage, View
from deploycc.types import Plan, Target
from tests.planning.harness import ARM64, ARMV7, X86_64, X86_64_V4, find_emulator, run_plan
from tests.scheduling.graphs import SEED, Case, Graph, build, compile_cases, reference, schedule, wrong

MOVES = ("concatenate", "split", "strided_slice")


def conv_relu(graph: Graph, x: str, channels: int, out: int) -> str:
    return graph.add("Relu", graph.conv(x, channels, out, (3, 3), pads=[1, 1, 1, 1]))


def dense_nested(graph: Graph) -> str:
    x = conv_relu(graph, graph.input(1, 3, 7, 5), 3, 5)
    for channels in (5, 8, 11):
        x = graph.add("Concat", x, conv_relu(graph, x, channels, 3), axis=1)
    return conv_relu(graph, x, 14, 4)


def dense_listed(graph: Graph) -> str:
    """As torchvision exports it: every concatenation lists all features so far."""
    features = [conv_relu(graph, graph.input(1, 3, 7, 5), 3, 5)]
    for channels in (5, 8, 11):
        joined = graph.add("Concat", *features, axis=1) if len(features) > 1 else features[0]
        features.append(conv_relu(graph, joined, channels, 3))
    return conv_relu(graph, graph.add("Concat", *features, axis=1), 14, 4)


def cross_stage(graph: Graph) -> str:
    """Half of the channels go through a branch, both halves come together again."""
    x = conv_relu(graph, graph.input(1, 3, 6, 9), 3, 10)
    left, right = graph.add("Split", x, graph.constant([3, 7]), results=2, axis=1)
    left = conv_relu(graph, left, 3, 4)
    right = conv_relu(graph, conv_relu(graph, right, 7, 5), 5, 7)
    return conv_relu(graph, graph.add("Concat", left, right, axis=1), 11, 6)


def output(graph: Graph) -> str:
    x = graph.input(1, 3, 5, 4)
    return graph.add("Concat", conv_relu(graph, x, 3, 2), conv_relu(graph, x, 3, 5), axis=1)


def of_leading_axis(graph: Graph) -> str:
    rows = [graph.add("Softmax", graph.input(count, 7), axis=1) for count in (1, 3)]
    return graph.add("Concat", *rows, axis=0)


def split_of_input(graph: Graph) -> tuple[str, ...]:
    a, b = graph.add("Split", graph.input(1, 5, 3, 7), graph.constant([1, 4]), results=2, axis=1)
    return conv_relu(graph, a, 1, 2), conv_relu(graph, b, 4, 3)


def slices(graph: Graph) -> tuple[str, ...]:
    """Rows of one channel, and channels from behind."""
    x = conv_relu(graph, graph.input(1, 3, 6, 9), 3, 5)

    def cut(starts: list[int], ends: list[int], axes: list[int]) -> str:
        return graph.add("Slice", x, *map(graph.constant, (starts, ends, axes)))

    return (
        conv_relu(graph, cut([2, 1], [3, 4], [1, 2]), 1, 3),
        conv_relu(graph, cut([-2], [2**31], [1]), 2, 3),
    )


def used_elsewhere(graph: Graph) -> tuple[str, ...]:
    """An operand with readers before and behind the concatenation."""
    a = conv_relu(graph, graph.input(1, 3, 6, 5), 3, 4)
    b = conv_relu(graph, a, 4, 3)
    joined = graph.add("Concat", a, b, axis=1)
    return conv_relu(graph, joined, 7, 4), conv_relu(graph, a, 4, 2)


FREE = {
    case.__name__: Case(case.__name__, case)
    for case in (
        dense_nested, dense_listed, cross_stage, output,
        of_leading_axis, split_of_input, slices, used_elsewhere,
    )
}  # fmt: skip
"""Graphs that need no kernel and no copy for what they join and cut."""


def with_input(graph: Graph) -> str:
    x = graph.input(1, 3, 6, 5)
    return conv_relu(graph, graph.add("Concat", x, conv_relu(graph, x, 3, 5), axis=1), 8, 4)


def with_constant(graph: Graph) -> str:
    made = conv_relu(graph, graph.input(1, 3, 6, 5), 3, 5)
    return conv_relu(graph, graph.add("Concat", made, graph.weight(1, 2, 6, 5), axis=1), 7, 4)


def twice(graph: Graph) -> str:
    a = conv_relu(graph, graph.input(1, 3, 6, 5), 3, 4)
    return conv_relu(graph, graph.add("Concat", a, a, axis=1), 8, 4)


def shown(graph: Graph) -> tuple[str, ...]:
    """An operand that is a graph output as well."""
    x = graph.input(1, 3, 6, 5)
    a, b = conv_relu(graph, x, 3, 2), conv_relu(graph, x, 3, 4)
    return conv_relu(graph, graph.add("Concat", a, b, axis=1), 6, 4), a


def in_two(graph: Graph) -> tuple[str, ...]:
    """An operand of two concatenations in which it has different neighbours."""
    x = graph.input(1, 3, 6, 5)
    a, b, c = (conv_relu(graph, x, 3, 4) for _ in range(3))
    first, second = graph.add("Concat", a, b, axis=1), graph.add("Concat", c, a, axis=1)
    return conv_relu(graph, first, 8, 4), conv_relu(graph, second, 8, 4)


def part_of_another(graph: Graph) -> str:
    """ShuffleNet's: one half goes on as it is."""
    x = conv_relu(graph, graph.input(1, 3, 6, 5), 3, 8)
    left, right = graph.add("Split", x, graph.constant([4, 4]), results=2, axis=1)
    return conv_relu(graph, graph.add("Concat", left, conv_relu(graph, right, 4, 4), axis=1), 8, 3)


COPIED = {
    case.__name__: Case(case.__name__, case)
    for case in (with_input, with_constant, twice, shown, in_two, part_of_another)
}
"""Graphs with one operand that has to be copied."""


def batch_of_two(graph: Graph) -> str:
    x = graph.input(2, 3, 6, 5)
    return conv_relu(
        graph, graph.add("Concat", conv_relu(graph, x, 3, 2), conv_relu(graph, x, 3, 3), axis=1), 5, 4
    )


def split_of_batch(graph: Graph) -> tuple[str, ...]:
    x = conv_relu(graph, graph.input(2, 3, 6, 5), 3, 5)
    a, b = graph.add("Split", x, graph.constant([2, 3]), results=2, axis=1)
    return conv_relu(graph, a, 2, 2), conv_relu(graph, b, 3, 2)


def first_of_batch(graph: Graph) -> str:
    """A slice that reads each element where it writes it, the only reader of a convolution."""
    x = graph.conv(graph.input(2, 3, 6, 5), 3, 5, (3, 3), pads=[1, 1, 1, 1])
    return conv_relu(graph, graph.add("Slice", x, *map(graph.constant, ([0], [2], [1]))), 2, 2)


def of_rows(graph: Graph) -> str:
    x = graph.input(1, 3, 6, 5)
    return conv_relu(
        graph, graph.add("Concat", conv_relu(graph, x, 3, 2), conv_relu(graph, x, 3, 2), axis=2), 2, 4
    )


APART = {
    case.__name__: Case(case.__name__, case)
    for case in (batch_of_two, split_of_batch, first_of_batch, of_rows)
}
"""Graphs whose parts do not lie one behind the other."""


def empty(graph: Graph) -> str:
    x = graph.input(1, 3, 6, 5)
    nothing = graph.add("Slice", conv_relu(graph, x, 3, 2), *map(graph.constant, ([0], [0], [1])))
    return graph.add("Concat", conv_relu(graph, x, 3, 2), nothing, axis=1)


def with_activation(graph: Graph) -> str:
    x = graph.input(1, 3, 6, 5)
    parts = [conv_relu(graph, x, 3, count) for count in (2, 5)]
    return conv_relu(graph, graph.add("Sigmoid", graph.add("Concat", *parts, axis=1)), 7, 3)


def moved(plan: Plan) -> list[str]:
    """The calls that copy or only move data."""
    return [c.symbol for c in plan.calls if c.symbol == COPY or any(m in c.symbol for m in MOVES)]


@pytest.fixture(scope="module")
def compiled() -> Callable[[str], Plan]:
    """The plan of a case by its name."""
    cases = {**FREE, **COPIED, **APART, "with_activation": Case("with_activation", with_activation)}
    return lambda name: compile_cases(build([cases[name]]), layouts="NCHW->NCHW")


@pytest.mark.parametrize("name", [*FREE, "with_activation"])
def test_contiguous_parts_need_neither_kernel_nor_copy(compiled: Callable[[str], Plan], name: str) -> None:
    assert moved(compiled(name)) == []


@pytest.mark.parametrize("name", COPIED)
def test_an_operand_that_cannot_be_placed_is_copied(compiled: Callable[[str], Plan], name: str) -> None:
    assert moved(compiled(name)) == [COPY]


@pytest.mark.parametrize("name", APART)
def test_parts_that_lie_apart_have_a_kernel(compiled: Callable[[str], Plan], name: str) -> None:
    found = moved(compiled(name))
    assert found
    assert COPY not in found


def test_a_concatenation_that_is_an_output_is_written_where_the_caller_wants_it() -> None:
    built = build([FREE["output"]])
    result = compile_cases(built, layouts="NCHW->NCHW")
    assert result.arena_bytes == 0
    places = [(call.arguments[-1].kind, call.arguments[-1].offset) for call in result.calls]
    assert sorted(places) == [("output", 0), ("output", 2 * 5 * 4 * 4)]


@pytest.mark.parametrize(
    "layouts",
    [
        pytest.param("NCHW->NCHW", marks=pytest.mark.slow),
        pytest.param("NHWC->NHWC", marks=pytest.mark.slow),
        None,
    ],
)
def test_numbers(layouts: str | None) -> None:
    cases = [*FREE.values(), *COPIED.values(), *APART.values(), Case("empty", empty)]
    built = build([*cases, Case("with_activation", with_activation)])
    got = run_plan(compile_cases(built, layouts=layouts), built.feeds, X86_64)
    assert wrong(built, got, reference(built.model.proto, built.feeds)) == []


def test_numbers_emulated() -> None:
    target = ARM64
    if find_emulator(target) is None:
        pytest.skip(f"{target.emulator[0]} is not installed")
    built = build([FREE["dense_listed"], FREE["cross_stage"], COPIED["twice"]])
    got = run_plan(compile_cases(built, target, layouts="NCHW->NCHW"), built.feeds, target)
    assert wrong(built, got, reference(built.model.proto, built.feeds)) == []


# ---- drawn graphs --------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["conv", "relu", "concat", "concat3", "split", "slice"]), *[st.integers(0, 99)] * 3
    ),
    min_size=3,
    max_size=9,
)


def drawn_case(drawn: list[tuple[str, int, int, int]], batch: int) -> Case:
    """A graph that applies each step to tensors that are there, and shows what nobody read and one more."""

    def add(graph: Graph) -> list[str]:
        there = [(graph.input(batch, 3, 5, 3), 3)]
        read: set[str] = set()

        def pick(number: int) -> tuple[str, int]:
            chosen = there[-1 - number % len(there)]
            read.add(chosen[0])
            return chosen

        for kind, a, b, c in drawn:
            x, channels = pick(a)
            if kind == "conv":
                there.append((graph.conv(x, channels, 1 + b % 5, (3, 3), pads=[1, 1, 1, 1]), 1 + b % 5))
            elif kind == "relu":
                there.append((graph.add("Relu", x), channels))
            elif kind.startswith("concat"):
                parts = [(x, channels), pick(b), *([pick(c)] if kind == "concat3" else [])]
                joined = graph.add("Concat", *(name for name, _ in parts), axis=1)
                there.append((joined, sum(count for _, count in parts)))
            elif channels > 1:
                first = 1 + b % (channels - 1)
                if kind == "split":
                    sizes = [first, channels - first]
                    names = graph.add("Split", x, graph.constant(sizes), results=2, axis=1)
                    there.extend(zip(names, sizes, strict=True))
                else:
                    cut = graph.add("Slice", x, *map(graph.constant, ([first - 1], [first + 1], [1])))
                    there.append((cut, 2))
        results = [name for name, _ in there[1:] if name not in read] or [there[-1][0]]
        extra = there[len(there) // 2][0]
        return list(dict.fromkeys([*results, *([extra] if len(there) // 2 else [])]))

    return Case("drawn", add)


def test_drawn_graphs_compute_what_onnx_runtime_does() -> None:
    cases: list[Case] = []

    @settings(max_examples=12, deadline=None, database=None)
    @given(steps, st.sampled_from([1, 1, 1, 2]))
    def collect(drawn: list[tuple[str, int, int, int]], batch: int) -> None:
        cases.append(replace(drawn_case(drawn, batch), name=f"{batch} {drawn}"))

    collect()
    built = build(cases)
    got = run_plan(compile_cases(built, layouts="NCHW->NCHW"), built.feeds, X86_64)
    assert wrong(built, got, reference(built.model.proto, built.feeds)) == [], f"seed {SEED}"


# ---- the rule itself -----------------------------------------------------------------------------


def test_nested_joins_add_their_offsets_up() -> None:
    a, b, ab, c, cab = (Storage("temporary", i, n) for i, n in enumerate((4, 8, 12, 16, 28)))
    steps = [
        Step("f", (), (whole(a),)),
        Step("f", (whole(a),), (whole(b),)),
        Step("join", (whole(a), whole(b)), (whole(ab),)),
        Step("f", (whole(ab),), (whole(c),)),
        Step("join2", (whole(c), whole(ab)), (whole(cab),)),
        Step("f", (View(ab, 4, 8),), (whole(Storage("temporary", 9, 4)),)),
    ]
    placed, outputs = place_parts(steps, [whole(cab), View(b, 4, 4)], {"join", "join2"})
    assert [(step.reads, step.writes) for step in placed[:3]] == [
        ((), (View(cab, 16, 4),)),
        ((View(cab, 16, 4),), (View(cab, 20, 8),)),
        ((View(cab, 16, 12),), (View(cab, 0, 16),)),
    ]
    assert placed[3].reads == (View(cab, 20, 8),)
    assert outputs == (whole(cab), View(cab, 24, 4))


def test_a_join_that_does_not_add_up_is_our_bug() -> None:
    a, b = Storage("temporary", 0, 4), Storage("temporary", 1, 12)
    with pytest.raises(ValueError, match="joins 4 bytes to 12"):
        place_parts([Step("f", (), (whole(a),)), Step("join", (whole(a),), (whole(b),))], [], {"join"})


# ---- alignment -----------------------------------------------------------------------------------


def alignments(llvm: str) -> list[int]:
    """What each load and store through an argument of ``@kernel`` takes its address to be a multiple of."""
    parameters = re.search(r"^define [^@\n]*@kernel\(([^\n]*)\)", llvm, re.MULTILINE)
    assert parameters is not None
    arguments = set(re.findall(r"(%[\w.]+)(?:,|$)", parameters[1]))
    derived = dict(re.findall(r"(%[\w.]+) = getelementptr [^\n]*?ptr (%[\w.]+)", llvm))
    found = []
    for pointer, alignment in re.findall(r"(?:load|store) [^\n]*?ptr (%[\w.]+), align (\d+)", llvm):
        while pointer in derived:
            pointer = derived[pointer]
        if pointer in arguments:
            found.append(int(alignment))
    return found


@pytest.mark.parametrize("target", [X86_64_V4, ARM64, ARMV7], ids=lambda t: t.name)
def test_kernels_count_on_no_more_than_the_alignment_of_an_element(target: Target) -> None:
    """A part of a joint tensor can begin at any of its elements."""
    case = Case("conv", lambda g: conv_relu(g, g.input(1, 3, 5, 7), 3, 2))
    program = schedule(build([case]).model, target, layouts="NCHW->NCHW")
    (kernel,) = (f for v, f in program.module.functions.items() if v.name_hint != "main")
    found = alignments(source_of(kernel, target, "ll"))
    assert found
    assert max(found) == 4
