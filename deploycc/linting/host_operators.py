"""Which nodes of a network the processor runs in a package for a GPU, and why.

What decides is how a node is lowered: to a routine in C (``deploycc.lowering.routines``), or to loops whose
order of reads and writes matters.  The schedule stage looks at the lowered function
(``deploycc.scheduling.placing``), this module at the node; a test holds the one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import NodeProto

from deploycc.banded import band_of
from deploycc.custom_operators import CFunction, installed
from deploycc.gpu_limits import LONGEST_SCAN, MOST_STEPS
from deploycc.linting.costs import extents
from deploycc.linting.evaluation import NodeFacts
from deploycc.onnx_graph import GraphView

LONGEST_PRODUCT = 1 << 18
"""Elements of a Fourier matrix beyond which a transform is a routine
(``deploycc.lowering.converters.signal``)."""

_STEPS = "each step needs the one before"
_SORTS = "it sorts"
_COUNTS = "how many rows it writes depends on the data"
_SAMPLES = "it reads at places that the network computes"
_WRITES = "it writes at places that the network computes, the later ones over the earlier"

_ALWAYS = {
    "CumProd": _STEPS,
    **dict.fromkeys(("TopK", "Unique"), _SORTS),
    **dict.fromkeys(("NonZero", "Compress"), _COUNTS),
    **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool", "DeformConv"), _SAMPLES),
    **dict.fromkeys(("ScatterElements", "ScatterND", "Scatter", "MaxUnpool"), _WRITES),
    "NonMaxSuppression": "each box depends on those that were kept before",
    "Det": "elimination goes row by row",
    "TfIdfVectorizer": "it looks words up in a table",
}


def why_on_host(node: NodeProto, view: GraphView) -> str:
    """Why the processor runs the node in a package for a GPU; empty for one that the GPU runs."""
    if (node.domain, node.op_type) in installed():
        lowering = installed()[node.domain, node.op_type].lowering
        return "its kernel is a C function" if isinstance(lowering, CFunction) else ""
    if node.domain:
        return ""
    if node.op_type in _SOMETIMES:
        return _SOMETIMES[node.op_type](node, view)
    return _ALWAYS.get(node.op_type, "")


def _max_pool(node: NodeProto, view: GraphView) -> str:
    return "it tells the places of its maxima" if len(node.output) > 1 and node.output[1] else ""


def _resize(node: NodeProto, view: GraphView) -> str:
    facts = NodeFacts(node, view)
    shape, dtype = extents(node.input[0], view), facts.dtype(facts.tensor("input", 0))
    linear = facts.attr("mode") == "linear" and shape is not None and len(shape) == 4
    rounded = linear and dtype in ("int8", "uint8", "int32")
    return f"it interpolates {dtype}, rounding at every step" if rounded else ""


def _product(node: NodeProto, view: GraphView) -> str:
    for place in (0, 1):
        name, other = node.input[place], node.input[1 - place]
        matrix, data = view.constant(name), extents(other, view)
        if matrix is None or matrix.ndim != 2 or view.is_constant(other) or data is None or len(data) < 2:
            continue
        plain = matrix.dtype in (np.float32, np.float64)
        if plain and band_of(matrix if place == 0 else matrix.T) is not None:
            return "of the stored matrix few numbers in a row count, and only those are multiplied"
    return ""


def _layer(node: NodeProto, view: GraphView) -> str:
    facts, shape = NodeFacts(node, view), extents(node.input[0], view)
    if shape is None:
        return ""
    return _STEPS if shape[1 if facts.attr("layout") else 0] > MOST_STEPS else ""


def _running_sum(node: NodeProto, view: GraphView) -> str:
    shape, axis = extents(node.input[0], view), view.constant(node.input[1])
    if shape is None or axis is None:
        return ""
    return _STEPS if shape[int(axis.item())] > LONGEST_SCAN else ""


def _transform(node: NodeProto, view: GraphView) -> str:
    facts = NodeFacts(node, view)
    shape = extents(node.input[0], view)
    axis = facts.attr("axis")
    if view.opset >= 20:
        given = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        axis = -2 if given is None else int(given.item())
    if shape is None or axis is None:
        return ""
    onesided, inverse = bool(facts.attr("onesided")), bool(facts.attr("inverse"))
    mirrored, extent = onesided and inverse, shape[axis]
    given = view.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    natural = 2 * (extent - 1) if mirrored else extent
    length = natural if given is None else int(given.item())
    samples = min(extent, length // 2 + 1 if mirrored else length)
    bins = length // 2 + 1 if onesided and not inverse else length
    return _long(samples * shape[-1] * bins * (1 if mirrored else 2))


def _frames(node: NodeProto, view: GraphView) -> str:
    facts = NodeFacts(node, view)
    signal = extents(node.input[0], view)
    window = node.input[2] if len(node.input) > 2 else ""
    frame = view.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    shape = extents(window, view) if window else None
    length = int(frame.item()) if frame is not None else shape[0] if shape else 0
    if signal is None or not length:
        return ""
    if window and not view.is_constant(window):
        return "its window is computed while the network runs"
    bins = length // 2 + 1 if facts.attr("onesided") else length
    return _long(length * (signal[2] if len(signal) > 2 else 1) * bins * 2)


def _long(elements: int) -> str:
    return "a transform so long is no product with a matrix" if elements > LONGEST_PRODUCT else ""


_SOMETIMES: Mapping[str, Callable[[NodeProto, GraphView], str]] = {
    "MaxPool": _max_pool,
    "Resize": _resize,
    "MatMul": _product,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _layer),
    "CumSum": _running_sum,
    "DFT": _transform,
    "STFT": _frames,
}
