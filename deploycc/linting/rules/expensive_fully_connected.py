"""A fully connected layer that holds much of the network's weights.

Each weight is read for one multiply-add, so the layer runs at the speed of memory, not of arithmetic, and
it fills the package.  Behind a `Flatten` of a feature map it is usually far larger than it needs to be.

Instead: `nn.AdaptiveAvgPool2d(1)` before the layer, which divides its weights by the size of the map, or a
bottleneck of two smaller layers; train again.  In ONNX, `Flatten` and `Gemm` can be written as one `Conv`
with a kernel of the map's size, which spares an NPU the change of layout: the same sum in another order,
equal up to rounding (5e-6), so that rewrite is safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting import costs
from deploycc.linting.layers import FullyConnected, fully_connected
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text, percent_text
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC424"

_SHARE = 0.25
_LEAST = 1 << 20
"""A quarter of the weights and at least 1 MiB."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every product with a stored matrix of at least 1 MiB and a quarter of all weights."""
    view = subject.view
    total = sum(costs.nbytes(name, view) for name in view.initializers) or 1
    arithmetic = sum(macs for macs, _ in subject.costs.values()) or 1
    for layer in fully_connected(view):
        held = costs.nbytes(layer.weights, view)
        if held < _LEAST or held / total < _SHARE:
            continue
        peak = subject.target.peak
        reading = f", {1e3 * held / peak.bytes_per_second:.2g} ms to read" if peak else ""
        share = subject.costs[layer.node.name][0] / arithmetic
        yield Diagnostic(
            CODE,
            "a fully connected layer holds much of the network",
            node=layer.node.name,
            op=layer.node.op_type,
            tensor=layer.weights,
            got=f"{layer.inputs} x {layer.outputs} weights, {bytes_text(held)} "
            f"({percent_text(held / total)} of all) for {percent_text(share)} of the multiply-adds{reading}",
            need="less than a quarter of the weights in one layer",
            help="pool before the layer, or put a bottleneck of two smaller ones in its place",
            severity="info",
            verdict="info",
            source="the graph itself",
            fix="" if subject.compiled or not _flattens(layer, view) else "flatten-gemm-to-conv",
        )


def _flattens(layer: FullyConnected, view: GraphView) -> bool:
    maker = view.producers.get(layer.node.input[0])
    if layer.node.op_type != "Gemm" or maker is None or maker.op_type not in ("Flatten", "Reshape"):
        return False
    before = costs.extents(maker.input[0], view)
    return before is not None and len(before) == 4 and before[2] * before[3] > 1
