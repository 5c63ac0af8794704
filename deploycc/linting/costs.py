"""What a node costs: multiply-adds, bytes, and the time that the target's peak allows.

The time is the roofline's: the larger of arithmetic and memory (Williams, Waterman and Patterson,
CACM 2009).  It is a lower bound, good for telling which layers matter, not for a promise.

Multiply-adds follow from each operator's definition in the ONNX standard; what only moves data has
none.  Bytes are those that must go through memory: every tensor once, a reshape none, an indexed read
what it picks; what a compiler keeps in a kernel or a cache (``kept_tensors``) needs none.
"""

from __future__ import annotations

import math
from collections.abc import Set
from functools import cache

from onnx import NodeProto

from deploycc.linting.evaluation import NodeFacts
from deploycc.onnx_graph import GraphView, used_names
from deploycc.types import Peak

_BITS = {"bool": 8, "float8": 8, "bfloat16": 16}

RENAMES = frozenset("Reshape Flatten Squeeze Unsqueeze Identity Dropout Shape Size Constant".split())
"""Operators that leave the data where it is: a runtime gives the same memory another shape."""

MOVES = RENAMES | frozenset(
    "Transpose Concat Split Slice Gather GatherElements GatherND ScatterND ScatterElements Pad Expand Tile "
    "DepthToSpace SpaceToDepth Cast CastLike ConstantOfShape ReverseSequence CenterCropPad Trilu OneHot "
    "Range EyeLike".split()
)
"""Operators without arithmetic."""

_PICKS = frozenset("Gather GatherElements GatherND Slice".split())
"""Operators that read as much as they write."""

ELEMENTWISE = frozenset(
    "Abs Add And BatchNormalization BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Cos Div "
    "Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish LeakyRelu Less LessOrEqual "
    "Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus "
    "Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor".split()
)
"""Operators that compilers put into the kernel that makes their operand."""

_TAPS = {"nearest": 0, "linear": 2, "cubic": 4}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_PASSES = {
    "Softmax": 3,
    "LogSoftmax": 3,
    "LayerNormalization": 3,
    "InstanceNormalization": 3,
    "GroupNormalization": 3,
    "RMSNormalization": 2,
    "MeanVarianceNormalization": 3,
    "LpNormalization": 2,
}
"""How often each element is read by arithmetic: maximum or mean, sum of powers or squares, scaling."""


def macs(node: NodeProto, view: GraphView) -> int:
    """Multiply-adds that the node computes, 0 where a shape is not known.

    Counted for convolutions, matrix products, recurrent layers, pools, resizes and reductions; one for
    each element that other operators compute, none for what only moves data.
    """
    out = extents(node.output[0], view) if node.output else None
    if node.op_type in MOVES and not node.domain:
        return 0
    if node.op_type in _GATES and not node.domain:
        return _recurrent(node, view)
    if out is None:
        return 0
    count = math.prod(out)
    return count if node.domain else _standard(node, view, count)


def _standard(node: NodeProto, view: GraphView, count: int) -> int:
    facts = NodeFacts(node, view)
    data, weights = _input(node, 0, view), _input(node, 1, view)
    match node.op_type:
        case "Conv" | "ConvInteger" | "DeformConv" if weights:
            return count * math.prod(weights[1:])
        case "QLinearConv":
            kernel = _input(node, 3, view)
            return count * math.prod(kernel[1:]) if kernel else 0
        case "ConvTranspose" if weights and data:
            return math.prod(data) * math.prod(weights[1:])
        case "MatMul" | "MatMulInteger" | "QLinearMatMul" if data:
            return count * data[-1]
        case "Gemm" if data:
            return count * data[0 if facts.attr("transA") else -1]
        case "MaxPool" | "AveragePool" | "LpPool":
            return count * math.prod(facts.attr("kernel_shape") or (1,))
        case "Resize" | "Upsample" if data:
            scaled = sum(a != b for a, b in zip(data, extents(node.output[0], view) or (), strict=False))
            taps: int = _TAPS.get(facts.attr("mode"), 2)
            return int(count * taps ** max(scaled, 1))
        case "GridSample" | "RoiAlign" if data:
            samples = max(facts.attr("sampling_ratio") or 1, 1) ** 2
            return count * 4 * samples
        case "Attention" if data and weights:
            # Scores and their product with the values; the inputs are (..., length, width).
            values = _input(node, 2, view) or weights
            return math.prod(data) * weights[-2] + math.prod(data[:-1]) * weights[-2] * values[-1]
        case "Einsum":
            return _einsum(node, view, facts.attr("equation") or "")
        case op if op in _PASSES:
            return count * _PASSES[op]
        case op if data and (op.startswith(("Reduce", "Global")) or op in ("ArgMax", "ArgMin", "CumSum")):
            return math.prod(data)
        case "TopK" if data:
            return math.prod(data) * max(data[-1].bit_length(), 1)
    return count


def _recurrent(node: NodeProto, view: GraphView) -> int:
    """Steps x batch x directions x gates x hidden x (inputs + hidden), of ``W`` and ``R``."""
    data, weights, recurrent = (_input(node, index, view) for index in range(3))
    if not data or not weights or not recurrent:
        return 0
    return data[0] * data[1] * (math.prod(weights) + math.prod(recurrent))


def _einsum(node: NodeProto, view: GraphView, equation: str) -> int:
    """The extents of all letters: one multiply-add for each combination of indices."""
    sizes: dict[str, int] = {}
    for index, term in enumerate(equation.replace(" ", "").partition("->")[0].split(",")):
        dims = _input(node, index, view)
        if dims is None or len(dims) != len(term):
            return 0
        sizes.update(zip(term, dims, strict=True))
    return math.prod(sizes.values())


def bytes_moved(node: NodeProto, view: GraphView, kept: Set[str] = frozenset()) -> int:
    """Bytes of everything the node reads and writes, each tensor once; unknown ones count nothing.

    ``kept`` are tensors that never go through memory (``kept_tensors``).
    """
    if node.op_type in RENAMES and not node.domain:
        return 0
    read = used_names(node)
    picked = 0
    if node.op_type in _PICKS and not node.domain:
        read = read - {node.input[0]}
        picked = sum(nbytes(name, view) for name in node.output) if node.input[0] not in kept else 0
    names = {*read, *node.output} - kept
    return picked + sum(nbytes(name, view) for name in names if name)


def kept_tensors(view: GraphView, *, fuses: bool, cache_bytes: int) -> frozenset[str]:
    """Computed tensors that need no memory: fused away, or small enough to stay in the cache.

    With ``fuses`` the result of a node that one elementwise node reads stays in registers.  A tensor of
    at most half of ``cache_bytes`` is still cached when it is read next.  Stored weights are not, as the
    whole network's pass through the cache in between, unless weights and activations fit in together or
    several nodes read the same small ones (the steps of a recurrent layer).
    """
    stored = {name: nbytes(name, view) for name in view.initializers}
    if sum(stored.values()) + peak_activations(view) <= cache_bytes:
        kept = set(stored)
    else:
        shared = (name for name in stored if len(view.consumers.get(name, ())) > 1)
        kept = {name for name in shared if stored[name] <= cache_bytes // 2}
    for name in view.producers:
        if name in view.outputs or view.is_constant(name):
            continue
        readers = view.consumers.get(name, [])
        fused = fuses and len(readers) == 1 and readers[0].op_type in ELEMENTWISE
        if fused or 0 < nbytes(name, view) <= cache_bytes // 2:
            kept.add(name)
    return frozenset(kept)


def nbytes(name: str, view: GraphView) -> int:
    """Bytes of a tensor, 0 where its shape or type is not known."""
    dims, kind = extents(name, view), view.types.get(name)
    if dims is None or kind is None:
        return 0
    return math.prod(dims) * bits(kind.dtype) // 8


@cache
def bits(dtype: str) -> int:
    """Bits of an element; 0 for strings and unknown types."""
    for name, size in _BITS.items():
        if dtype.startswith(name):
            return size
    digits = "".join(c for c in dtype if c.isdigit())
    return int(digits) if digits else 0


def seconds(macs_: int, moved: int, peak: Peak | None) -> float | None:
    """The least time at the target's peak, ``None`` where that is not known."""
    return None if peak is None else max(2 * macs_ / peak.flops, moved / peak.bytes_per_second)


def peak_activations(view: GraphView) -> int:
    """The most bytes of activations alive at once when the nodes run in graph order."""
    last: dict[str, int] = {}
    for index, node in enumerate(view.model.graph.node):
        for name in used_names(node):
            last[name] = index
    end = len(view.model.graph.node)
    for name in view.outputs:
        last[name] = end
    alive = sum(nbytes(i.name, view) for i in view.model.graph.input if i.name not in view.initializers)
    most = alive
    ending: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in view.initializers:
            ending.setdefault(index, []).append(name)
    for index, node in enumerate(view.model.graph.node):
        if node.op_type != "Constant":
            alive += sum(nbytes(name, view) for name in node.output if name in last)
        most = max(most, alive)
        alive -= sum(nbytes(name, view) for name in ending.get(index, []) if not view.is_constant(name))
    return most


def extents(name: str, view: GraphView) -> tuple[int, ...] | None:
    """The shape of a tensor, ``None`` where an extent or the rank is not known."""
    kind = view.types.get(name)
    if kind is None or kind.shape is None:
        return None
    dims = tuple(dim for dim in kind.shape if dim is not None)
    return dims if len(dims) == len(kind.shape) else None


def _input(node: NodeProto, index: int, view: GraphView) -> tuple[int, ...] | None:
    return extents(node.input[index], view) if index < len(node.input) and node.input[index] else None
