"""What follows a convolution or matrix product is in its kernel, and is computed right there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from deploycc.planning import plan
from deploycc.planning.network import Network, Storage, read_network
from deploycc.planning.planner import without_joins
from deploycc.simplifying import simplify
from deploycc.types import Limits, Model, Program
from tests.planning.harness import X86_64, run_plan
from tests.scheduling.graphs import Case, Graph, build, compile_cases, reference, schedule, wrong

MOVES = frozenset({"transpose", "pad", "reshape", "expand_dims", "squeeze", "strided_slice", "concatenate"})
"""Operators that only move data: a kernel of these alone changes the layout of what others compute."""

Operand = Callable[[Graph, str, Sequence[int], Sequence[int]], str]
"""Adds one epilogue: graph, what it follows, that one's shape, and the shape of one number a channel."""


@dataclass(frozen=True)
class Producer:
    """A convolution or product: ``build`` adds it and returns its name; axis ``channel`` has the channels.

    ``kernels`` is how many a network of it and an elementwise operator takes: two where its result has to
    be put into another order first.
    """

    name: str
    shape: tuple[int, ...]
    build: Callable[[Graph], str]
    channel: int = 1
    kernels: int = 1

    def __repr__(self) -> str:
        return self.name

    @property
    def of_channel(self) -> tuple[int, ...]:
        """The shape that has one element a channel and broadcasts along the other axes."""
        return (self.shape[self.channel], *[1] * (len(self.shape) - 1 - self.channel))


def _transposed(graph: Graph, kernel: int, stride: int, pad: int) -> str:
    weight = graph.constant((graph.rng.standard_normal((6, 12, kernel, kernel)) / 6).astype(np.float32))
    attributes = {"strides": [stride, stride], "pads": [pad] * 4}
    return str(graph.add("ConvTranspose", graph.input(1, 6, 7, 9), weight, graph.weight(12), **attributes))


def _squeezed(graph: Graph) -> str:
    columns = graph.conv(graph.input(1, 5, 33, 1), 5, 9, (5, 1), pads=[2, 0, 2, 0])
    return str(graph.add("Squeeze", columns, graph.constant(np.array([3], np.int64))))


PRODUCERS = [
    Producer("dense", (1, 12, 9, 11), lambda g: g.conv(g.input(1, 7, 9, 11), 7, 12, (3, 3), pads=[1] * 4)),
    Producer("pointwise", (1, 19, 7, 9), lambda g: g.conv(g.input(1, 8, 7, 9), 8, 19, (1, 1))),
    Producer(
        "depthwise",
        (1, 13, 5, 10),
        lambda g: g.conv(g.input(1, 13, 9, 10), 13, 13, (3, 3), pads=[1] * 4, group=13, strides=[2, 1]),
    ),
    Producer(
        "grouped", (1, 12, 9, 8), lambda g: g.conv(g.input(1, 8, 9, 8), 8, 12, (3, 3), pads=[1] * 4, group=4)
    ),
    Producer("one-dimensional", (1, 9, 33), lambda g: g.conv(g.input(1, 5, 33), 5, 9, (5,), pads=[2, 2])),
    Producer("columns squeezed", (1, 9, 33), _squeezed),
    Producer("transposed", (1, 12, 14, 18), lambda g: _transposed(g, 2, 2, 0), kernels=2),
    Producer("transposed, cut", (1, 12, 14, 18), lambda g: _transposed(g, 4, 2, 1), kernels=2),
    Producer("transposed, stride 1", (1, 12, 7, 9), lambda g: _transposed(g, 3, 1, 1)),
    Producer("matmul", (2, 5, 18), lambda g: g.add("MatMul", g.input(2, 5, 11), g.weight(11, 18)), channel=2),
    Producer(
        "gemm", (7, 20), lambda g: g.add("Gemm", g.input(7, 11), g.weight(11, 20), g.weight(20)), channel=1
    ),
]


def _number(graph: Graph, value: float) -> str:
    return graph.constant(np.float32(value))


def _gelu_by_hand(graph: Graph, y: str) -> str:
    raised = graph.add(
        "Add", graph.add("Erf", graph.add("Div", y, _number(graph, math.sqrt(2)))), _number(graph, 1)
    )
    return str(graph.add("Mul", graph.add("Mul", y, raised), _number(graph, 0.5)))


def _hard_swish_by_hand(graph: Graph, y: str) -> str:
    gate = graph.add("Clip", graph.add("Add", y, _number(graph, 3)), _number(graph, 0), _number(graph, 6))
    return str(graph.add("Div", graph.add("Mul", y, gate), _number(graph, 6)))


def _one(operator: str, **attributes: float | str) -> Operand:
    return lambda graph, y, shape, channel: str(graph.add(operator, y, **attributes))


def _clip(low: float, high: float) -> Operand:
    return lambda graph, y, shape, channel: str(
        graph.add("Clip", y, _number(graph, low), _number(graph, high))
    )


EPILOGUES: dict[str, Operand] = {
    "bias": lambda g, y, shape, channel: g.add("Add", y, g.weight(*channel)),
    "residual": lambda g, y, shape, channel: g.add("Add", y, g.input(*shape)),
    "residual, relu": lambda g, y, shape, channel: g.add("Relu", g.add("Add", g.input(*shape), y)),
    "relu": _one("Relu"),
    "relu6": _clip(0, 6),
    "clip": _clip(-0.3, 0.7),
    "prelu of one slope": lambda g, y, shape, channel: g.add("PRelu", y, g.weight(1)),
    "prelu": lambda g, y, shape, channel: g.add("PRelu", y, g.weight(*channel)),
    "leaky relu": _one("LeakyRelu", alpha=0.1),
    "hard swish": _one("HardSwish"),
    "hard swish by hand": lambda g, y, shape, channel: _hard_swish_by_hand(g, y),
    "hard sigmoid": _one("HardSigmoid", alpha=0.17, beta=0.4),
    "silu": lambda g, y, shape, channel: g.add("Mul", y, g.add("Sigmoid", y)),
    "gelu": _one("Gelu"),
    "gelu by tanh": _one("Gelu", approximate="tanh"),
    "gelu by hand": lambda g, y, shape, channel: _gelu_by_hand(g, y),
    "sigmoid": _one("Sigmoid"),
    "tanh": _one("Tanh"),
    "elu": _one("Elu"),
    "scale and shift": lambda g, y, shape, channel: g.add(
        "Add", g.add("Mul", y, g.weight(*channel)), g.weight(*channel)
    ),
    "map": lambda g, y, shape, channel: g.add("Add", y, g.weight(1, *shape[len(shape) - len(channel) + 1 :])),
    "columns": lambda g, y, shape, channel: g.add("Mul", y, g.weight(shape[-1])),
    "gate": lambda g, y, shape, channel: g.add("Mul", y, g.input(*channel)),
    "gate, residual": lambda g, y, shape, channel: g.add(
        "Add", g.add("Mul", y, g.input(*channel)), g.input(*shape)
    ),
}


def _case(producer: Producer, name: str) -> Case:
    def add(graph: Graph) -> str:
        return EPILOGUES[name](graph, producer.build(graph), producer.shape, producer.of_channel)

    return Case(name, add)


def kernels_of_outputs(program: Program) -> list[list[str]]:
    """For each graph output the operators of the kernels it takes; those that only move data left out."""
    operators = {choice.task: choice.operators for choice in program.choices}
    network = without_joins(read_network(program.module, operators), program.module)
    return [
        [" ".join(operators[name]) for name in names if not MOVES.issuperset(operators[name])]
        for names in (_leading_to(network, view.storage) for view in network.outputs)
    ]


def _leading_to(network: Network, output: Storage) -> list[str]:
    needed, names = {output}, []
    for step in reversed(network.steps):
        if needed.intersection(view.storage for view in step.writes):
            needed.update(view.storage for view in step.reads)
            names.append(step.function)
    return names[::-1]


COMBINATIONS = [f"{data}->{out}" for data in ("NCHW", "NHWC") for out in ("NCHW", "NHWC")]


QUICK = ("dense", "grouped", "transposed", "matmul")


@pytest.mark.parametrize(
    "producer",
    [p if p.name in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in PRODUCERS],
    ids=repr,
)
def test_what_follows_is_in_the_same_kernel(producer: Producer) -> None:
    built = build([_case(producer, name) for name in EPILOGUES], opset=20)
    program = schedule(built.model, X86_64)
    found = dict(zip(EPILOGUES, kernels_of_outputs(program), strict=True))
    apart = {name: kernels for name, kernels in found.items() if len(kernels) > producer.kernels}
    assert apart == {}
    assert all(kernels[0].startswith(("conv2d", "matmul")) for kernels in found.values())
    got = run_plan(plan(program, X86_64), built.feeds, X86_64)
    assert wrong(built, got, reference(built.model.proto, built.feeds)) == []


def _around(kernel: tuple[int, int], group: int, size: tuple[int, int]) -> Case:
    def make(graph: Graph) -> str:
        x = graph.input(1, 16, *size)
        pads = [extent // 2 for extent in kernel] * 2
        return str(
            graph.add("Relu", graph.add("Add", graph.conv(x, 16, 16, kernel, pads=pads, group=group), x))
        )

    return Case(f"around {kernel} of {group} groups, {size}", make)


AROUND = [
    _around((1, 1), 1, (9, 13)),
    _around((1, 1), 1, (4, 16)),
    _around((3, 3), 1, (9, 13)),
    _around((3, 3), 16, (8, 16)),
]


@pytest.mark.parametrize("layouts", COMBINATIONS)
def test_a_kernel_may_add_its_own_input(layouts: str) -> None:
    built = build(AROUND)
    planned = compile_cases(built, X86_64, layouts=layouts)
    assert wrong(built, run_plan(planned, built.feeds), reference(built.model.proto, built.feeds)) == []


def _gated(graph: Graph) -> str:
    x = graph.input(1, 10, 5, 9)
    gate = graph.add("Sigmoid", graph.conv(graph.input(1, 6, 1, 1), 6, 10, (1, 1)))
    return str(graph.add("Relu", graph.add("Sub", graph.add("Mul", x, gate), graph.input(1, 10, 5, 9))))


@pytest.mark.parametrize("layouts", ["NCHW->NCHW", "NHWC->NCHW"])
def test_a_gate_is_computed_once_a_channel(layouts: str) -> None:
    built = build([Case("gated", _gated)])
    program = schedule(built.model, X86_64, layouts=layouts)
    (kernels,) = kernels_of_outputs(program)
    assert kernels == ["conv2d add sigmoid", "multiply subtract relu"]
    got = run_plan(plan(program, X86_64), built.feeds)
    assert wrong(built, got, reference(built.model.proto, built.feeds)) == []


def _simplified(case: Case) -> tuple[Model, dict[str, np.ndarray]]:
    built = build([case], opset=17)
    return simplify(built.model, Limits()), built.feeds


def _norm(graph: Graph, y: str, channels: int) -> str:
    parameters = [graph.weight(channels) for _ in range(3)]
    variance = graph.constant((np.abs(graph.rng.standard_normal(channels)) + 0.5).astype(np.float32))
    return str(graph.add("BatchNormalization", y, *parameters, variance))


def _norm_behind(graph: Graph) -> str:
    return str(graph.add("Relu", _norm(graph, graph.conv(graph.input(1, 5, 9, 8), 5, 11, (3, 3)), 11)))


def _norm_in_front(graph: Graph) -> str:
    return graph.conv(_norm(graph, graph.input(1, 5, 9, 8), 5), 5, 11, (3, 3), strides=[2, 1])


def _norm_of_a_concatenation(graph: Graph) -> str:
    parts = [graph.conv(graph.input(1, 4, 9, 8), 4, size, (3, 3)) for size in (5, 6)]
    return graph.conv(_norm(graph, graph.add("Concat", *parts, axis=1), 11), 11, 7, (1, 1))


def _norm_of_a_pooled(graph: Graph) -> str:
    pooled = graph.add("GlobalAveragePool", graph.conv(graph.input(1, 4, 9, 8), 4, 11, (3, 3)))
    flat = _norm(graph, graph.add("Flatten", pooled), 11)
    return str(graph.add("Gemm", flat, graph.weight(11, 6), graph.weight(6)))


def _padded(graph: Graph) -> str:
    padded = graph.add("Pad", graph.input(1, 5, 9, 8), graph.constant([0, 0, 0, 1, 0, 0, 1, 3]))
    return str(graph.add("Relu", graph.conv(padded, 5, 11, (3, 3), strides=[2, 2], pads=[1, 0, 0, 0])))


@pytest.mark.parametrize(
    ("case", "kernels"),
    [
        (Case("batch norm behind", _norm_behind), 1),
        (Case("batch norm in front", _norm_in_front), 1),
        # Two convolutions write their results where the concatenation has them.
        (Case("batch norm of a concatenation", _norm_of_a_concatenation), 3),
        (Case("batch norm of a pooled image", _norm_of_a_pooled), 3),
        (Case("padding on three sides", _padded), 1),
    ],
    ids=repr,
)
def test_norms_and_padding_are_no_kernels(case: Case, kernels: int) -> None:
    model, feeds = _simplified(case)
    assert not {"BatchNormalization", "Pad"} & {node.op_type for node in model.proto.graph.node}
    program = schedule(model, X86_64)
    (found,) = kernels_of_outputs(program)
    assert len(found) == kernels, found
    assert not any("pad" in choice.operators and len(choice.operators) > 1 for choice in program.choices)
    got = run_plan(plan(program, X86_64), feeds, X86_64)
    want = reference(model.proto, feeds)
    np.testing.assert_allclose(got[0], want[0], atol=2e-5)
