"""What a node costs: multiply-adds, bytes, and the time that the target's peak allows.

The time is the roofline's: the larger of arithmetic and memory (Williams, Waterman and Patterson,
CACM 2009).  It is a lower bound, good for telling which layers matter, not for a promise.
"""

from __future__ import annotations

import math

from onnx import NodeProto

from deploycc.onnx_graph import GraphView, attributes, used_names
from deploycc.types import Peak

_BITS = {"bool": 8, "float8": 8, "bfloat16": 16}


def macs(node: NodeProto, view: GraphView) -> int:
    """Multiply-adds of a convolution or matrix product; one for each element of anything else.

    0 where a shape is not known.
    """
    out = _extents(node.output[0], view) if node.output else None
    if out is None:
        return 0
    count = math.prod(out)
    if node.domain:
        return count
    weights = _extents(node.input[1], view) if len(node.input) > 1 and node.input[1] else None
    data = _extents(node.input[0], view) if node.input and node.input[0] else None
    match node.op_type:
        case "Conv" | "ConvInteger" if weights:
            return count * math.prod(weights[1:])
        case "QLinearConv" if len(node.input) > 3:
            kernel = _extents(node.input[3], view)
            return count * math.prod(kernel[1:]) if kernel else 0
        case "ConvTranspose" if weights and data:
            return math.prod(data) * math.prod(weights[1:])
        case "MatMul" | "MatMulInteger" if data:
            return count * data[-1]
        case "Gemm" if data:
            transposed = attributes(node).get("transA")
            return count * data[0 if transposed is not None and transposed.i else -1]
    return count


def bytes_moved(node: NodeProto, view: GraphView) -> int:
    """Bytes of everything the node reads and writes, each tensor once; unknown ones count nothing."""
    return sum(nbytes(name, view) for name in (*sorted(used_names(node)), *node.output) if name)


def nbytes(name: str, view: GraphView) -> int:
    """Bytes of a tensor, 0 where its shape or type is not known."""
    extents, kind = _extents(name, view), view.types.get(name)
    if extents is None or kind is None:
        return 0
    return math.prod(extents) * bits(kind.dtype) // 8


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


def _extents(name: str, view: GraphView) -> tuple[int, ...] | None:
    kind = view.types.get(name)
    if kind is None or kind.shape is None:
        return None
    dims = tuple(dim for dim in kind.shape if dim is not None)
    return dims if len(dims) == len(kind.shape) else None
