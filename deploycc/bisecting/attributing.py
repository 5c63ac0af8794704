"""Which of a step's nodes is wrong, as far as values tell: a step fuses several, and leaves one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploycc.bisecting.errors import scaled_error, tolerance_of
from deploycc.bisecting.graph import Graph
from deploycc.bisecting.judging import Judge
from deploycc.onnx_graph import Array
from deploycc.reference import ReferenceFailed

ELEMENTWISE = frozenset(
    """Abs Add And BatchNormalization Cast Ceil Celu Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater
    GreaterOrEqual HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log Max Min Mish Mul Neg Not Or
    PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Tanh Where Xor""".split()
)
"""Operators each of whose results depends on the operands at the same place alone."""

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Constant"})
"""Operators that compute nothing, and leave the elements in their order."""

MOVING = VIEWS | {"Transpose"}
"""Operators that compute nothing."""

_SCATTERED = 8.0
"""A curve of three monotone pieces goes up and down its own range less often than this."""

_OVERFLOWS = 4
"""Between values that overflow and those that do not there are two bounds, and some that are equal."""

_POINTS = 2048
"""So many points of a channel are looked at."""


@dataclass(frozen=True)
class Attribution:
    """``order``: nodes by number, the most suspicious first; ``told``: the first follows from the values."""

    order: tuple[int, ...]
    told: bool
    reason: str


def attribute(
    judge: Judge, nodes: Sequence[int], values: Mapping[str, Array], got: Array, name: str
) -> Attribution:
    """Order ``nodes``, which make ``name`` of ``values``, by how well each explains ``got``."""
    graph = judge.graph
    working = [i for i in nodes if graph.nodes[i].op_type not in VIEWS] or list(nodes)
    if len(working) == 1:
        return Attribution(tuple(working), True, "")
    left_out = _left_out(judge, nodes, values, got, name, working)
    if left_out is not None:
        node = graph.nodes[left_out]
        rest = [i for i in working if i != left_out]
        return Attribution(
            (left_out, *rest), True, f"the result is what comes out without {node.op_type} '{node.name}'"
        )
    moving = [i for i in working if graph.nodes[i].op_type in MOVING]
    heavy = [i for i in working if graph.nodes[i].op_type not in ELEMENTWISE | MOVING]
    light = [i for i in working if i not in heavy and i not in moving]
    if not heavy:
        return Attribution((*light, *moving), False, "")
    last = heavy[-1]
    behind = [i for i in light if i > last]
    scattered = _scattered(judge, nodes, values, got, name, last) if behind else True
    rest = [i for i in reversed(heavy) if i != last] + light + moving
    if scattered is None:
        return Attribution((last, *rest), False, "")
    node = graph.nodes[last]
    if scattered:
        why = f"no elementwise function of what {node.op_type} '{node.name}' should give makes this result"
        return Attribution((last, *rest), bool(behind) and len(heavy) == 1, why if behind else "")
    others = [i for i in working if i not in behind]
    return Attribution(
        (*behind, *others),
        False,
        f"the result is a function of what {node.op_type} '{node.name}' should give, but not the model's",
    )


def _left_out(
    judge: Judge,
    nodes: Sequence[int],
    values: Mapping[str, Array],
    got: Array,
    name: str,
    working: Sequence[int],
) -> int | None:
    """A node without which the result is right."""
    graph = judge.graph
    for index in working:
        node = graph.nodes[index]
        kind = graph.type_of(node.output[0])
        for operand in node.input:
            if operand in graph.initializers or kind is None or graph.type_of(operand) != kind:
                continue
            try:
                without = judge.computed_without(nodes, values, name, index, operand)
            except ReferenceFailed:
                continue
            if scaled_error(without, got) <= tolerance_of(got):
                return index
    return None


def _scattered(
    judge: Judge, nodes: Sequence[int], values: Mapping[str, Array], got: Array, name: str, last: int
) -> bool | None:
    """Whether ``got`` is no function of what node ``last`` should give; ``None`` if that cannot be told.

    A channel's points are sorted by what the node should give.  Elementwise nodes behind it, right or
    wrong, make a curve of these points; a wrong operator scatters them.
    """
    graph = judge.graph
    middle, end, channels_last = _moved(graph, nodes, last)
    if not _chain(graph, nodes, end, middle):
        return None
    try:
        should, expected = judge.computed(nodes, values, [middle, name])
    except ReferenceFailed:
        return None
    if should.shape != got.shape or got.ndim < 3 or got.dtype.kind != "f":
        return None
    if channels_last:
        should, got, expected = (np.moveaxis(a, -1, 1) for a in (should, got, expected))
    points = int(np.prod(got.shape[2:]))
    if points < 32:
        return None
    x, y, want = (a.reshape(-1, points).astype(np.float64) for a in (should, got, expected))
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = np.logical_not(
            np.abs(y - want) <= 1e-4 * np.max(np.abs(want[np.isfinite(want)]), initial=1e-30)
        )
    rows = np.argsort(-wrong.sum(axis=1))[:32]
    told = False
    for row in rows:
        if wrong[row].sum() < 4:
            continue
        told = True
        if not np.isfinite(y[row]).all():
            if _by_size(x[row], y[row]):
                continue
            return True
        if _ups_and_downs(x[row], y[row], np.asarray(wrong[row], bool)) > _SCATTERED:
            return True
    return False if told else None


def _moved(graph: Graph, nodes: Sequence[int], last: int) -> tuple[str, int, bool]:
    """What a node gives once it was moved, the node that moves it last, and if channels are last then."""
    name, channels_last = graph.nodes[last].output[0], False
    while True:
        readers = [i for i in graph.consumers.get(name, ()) if i in nodes]
        if len(readers) != 1 or graph.nodes[readers[0]].op_type != "Transpose":
            return name, last, channels_last
        last = readers[0]
        perm = next((list(a.ints) for a in graph.nodes[last].attribute if a.name == "perm"), [])
        if perm not in ([0, 2, 3, 1], [0, 3, 1, 2]):
            return name, last, channels_last
        name, channels_last = graph.nodes[last].output[0], perm == [0, 2, 3, 1]


def _by_size(x: Array, y: Array) -> bool:
    """Whether values beyond some bounds are not finite and those between are: an overflow."""
    bad = np.logical_not(np.isfinite(y[np.argsort(x, kind="stable")]))
    return int(np.count_nonzero(bad[1:] != bad[:-1])) <= _OVERFLOWS


def _ups_and_downs(x: Array, y: Array, wrong: Array) -> float:
    """How many times its own range a curve through the points goes up and down."""
    chosen = np.flatnonzero(wrong)[: _POINTS // 2]
    others = np.flatnonzero(np.logical_not(wrong))
    if others.size:
        chosen = np.concatenate([chosen, others[:: max(1, 2 * others.size // _POINTS)]])
    order = chosen[np.argsort(x[chosen], kind="stable")]
    span = float(np.ptp(y[order]))
    return float(np.sum(np.abs(np.diff(y[order])))) / span if span else 0.0


def _chain(graph: Graph, nodes: Sequence[int], last: int, middle: str) -> bool:
    """Whether behind ``last`` there are only elementwise nodes of ``middle`` and constants a channel."""
    depend = {middle}
    for index in nodes:
        if index <= last:
            continue
        node = graph.nodes[index]
        if not set(node.input) & depend:
            continue
        if node.op_type not in ELEMENTWISE:
            return False
        if any(name not in depend and name not in graph.initializers for name in node.input if name):
            kind = [graph.type_of(name) for name in node.input if name and name not in depend]
            if any(k is None or k.shape is None or np.prod([n or 0 for n in k.shape[2:]]) > 1 for k in kind):
                return False
        depend.update(node.output)
    return True
