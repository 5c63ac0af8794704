"""A result that may leave the range of float16.

The unit keeps what it computes in float16, which ends at 65504: `exp(x)` does so from x = 11.09 on, a
square from 256 on, a sum of squares of n elements from 256 / sqrt(n).  Whether a network comes there
depends on its inputs; this names the places where nothing in the graph keeps it away.

Instead: subtract the largest value before `Exp` (`torch.softmax` does), divide before squaring (`(x /
n).pow(2).sum()`), clamp before it (`x.clamp(-255, 255)`), use `nn.LayerNorm` and `nn.InstanceNorm` in place
of sums written out.  In ONNX, `Clip`, `Softmax`, `LayerNormalization`.  A clamp changes results only beyond
its bounds.  Or look at the largest values on real inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from deploycc.linting.costs import extents
from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC315"

_LARGEST = 65504.0
_UNIT = frozenset("Sigmoid HardSigmoid Softmax Tanh Erf Sin Cos Sign Softsign LpNormalization".split())
_SAME = frozenset(
    "Relu Abs Neg Identity Reshape Flatten Transpose Squeeze Unsqueeze Slice Gather Split MaxPool "
    "AveragePool GlobalAveragePool GlobalMaxPool ReduceMax ReduceMin ReduceMean Concat".split()
)
_SUMS = frozenset("ReduceSum ReduceSumSquare ReduceL2 ReduceL1".split())
_DEPTH = 12


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `Exp`, square and sum without a bound that keeps it below 65504; `float16_intermediates`."""
    limit = subject.limit("float16_intermediates")
    if limit is None or not limit.value:
        return
    view = subject.view
    for node in view.model.graph.node:
        found = None if node.domain else _result(node, view)
        if found is None or found[0] <= _LARGEST:
            continue
        largest, what = found
        yield Diagnostic(
            CODE,
            f"{node.op_type} may leave the range of float16",
            node=node.name,
            op=node.op_type,
            tensor=node.output[0],
            got=what + (" of values without a bound" if math.isinf(largest) else f", up to {largest:.3g}"),
            need="results up to 65504",
            help="clamp or scale what goes in, or check the largest values on real inputs",
            severity="info",
            verdict="info",
            source=limit.source,
        )


def _result(node: NodeProto, view: GraphView) -> tuple[float, str] | None:
    """The largest result and what it is of, for the operators that grow; ``None`` for others."""
    if node.op_type == "Exp":
        if _below_zero(node.input[0], view):
            return None
        bound = _bound(node.input[0], view)
        return (math.exp(bound) if bound < 700 else math.inf), "exp"
    if node.op_type == "Pow":
        power = view.constant(node.input[1])
        exponent = float(power.max()) if power is not None and power.size else 0.0
        if exponent <= 1:
            return None
        return _bound(node.input[0], view) ** exponent, f"power {exponent:g}"
    if node.op_type == "Mul" and node.input[0] == node.input[1]:
        return _bound(node.input[0], view) ** 2, "square"
    if node.op_type in _SUMS:
        before, after = extents(node.input[0], view), extents(node.output[0], view)
        if before is None or after is None or not math.prod(after):
            return None
        count = math.prod(before) // math.prod(after)
        bound = _bound(node.input[0], view)
        each = bound if node.op_type in ("ReduceSum", "ReduceL1") else bound**2
        return each * count, f"sum over {count} elements"
    return None


def _below_zero(name: str, view: GraphView) -> bool:
    """Whether the largest element was subtracted, or the sign makes it negative: exp is then at most 1."""
    maker = view.producers.get(name)
    if maker is None:
        return False
    if maker.op_type == "Sub":
        taken = view.producers.get(maker.input[1])
        return taken is not None and taken.op_type == "ReduceMax" and taken.input[0] == maker.input[0]
    if maker.op_type == "Neg":
        inner = view.producers.get(maker.input[0])
        return inner is not None and inner.op_type in ("Abs", "Relu", "Softplus")
    return False


def _bound(name: str, view: GraphView, depth: int = _DEPTH) -> float:
    """The largest magnitude that the tensor can have, infinite where nothing bounds it."""
    if view.is_constant(name):
        value = view.constant(name)
        return float(np.abs(value).max(initial=0)) if value is not None and value.dtype.kind in "fiu" else 1.0
    maker = view.producers.get(name)
    if maker is None or maker.domain or depth == 0:
        return math.inf
    if maker.op_type in _UNIT:
        return 1.0
    if maker.op_type == "Clip":
        facts = NodeFacts(maker, view)
        ends = [view.constant(end) if end else None for end in maker.input[1:]]
        known = [float(end) for end in ends if end is not None and end.size == 1]
        known += [end for end in (facts.attr("min"), facts.attr("max")) if isinstance(end, float)]
        return max(map(abs, known)) if len(known) == 2 else math.inf
    if maker.op_type in _SAME:
        data = maker.input if maker.op_type == "Concat" else maker.input[:1]
        return max(_bound(operand, view, depth - 1) for operand in data)
    if maker.op_type in ("Add", "Sub"):
        return sum(_bound(operand, view, depth - 1) for operand in maker.input)
    if maker.op_type == "Mul":
        factors = [_bound(operand, view, depth - 1) for operand in maker.input]
        return math.inf if math.inf in factors else math.prod(factors)
    return math.inf
