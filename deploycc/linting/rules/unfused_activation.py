"""An activation that does not become part of the layer before it.

An NPU writes a convolution's or product's result once, with the activations that it knows applied on the
way. Any other activation is a layer of its own: the tensor is written, read, computed and written again,
and in 8 bits it is rounded once more.

Instead: train with an activation of the list: `nn.Hardswish` for `nn.SiLU`, `nn.GELU` or `nn.Mish`,
`nn.ReLU` for `nn.ELU` and `nn.Softplus`, `nn.Hardsigmoid` as `clip(x / 6 + 0.5, 0, 1)` for `nn.Sigmoid`; in
ONNX `HardSwish`, `Relu`, `Clip`.  `HardSwish` can be written as `x * Clip(x + 3, 0, 6) / 6` with the same
result up to 1e-7.  The others are other functions (`Hardswish` differs from `SiLU` by up to 0.15), so the
network must be trained on for a while; no rewrite does that.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from deploycc.linting import costs
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text, percent_text
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC420"

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ACTIVATIONS = frozenset(
    "Celu Clip Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Sigmoid Softplus Softsign "
    "Swish Tanh ThresholdedRelu".split()
)
_SHARE = 0.01
"""Of all bytes that the network moves: what is below is not worth training again for."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every activation behind a linear layer that is not in the target's `fused_activations`.

    Behind means on its result, or on that plus a bias.  A warning from 1 % of the network's traffic on.
    """
    limit = subject.limit("fused_activations")
    if limit is None:
        return
    view = subject.view
    total = sum(costs.bytes_moved(node, view) for node in view.model.graph.node) or 1
    for node in view.model.graph.node:
        if node.op_type not in _ACTIVATIONS or node.domain or node.op_type in limit.value:
            continue
        layer = _layer_before(node.input[0], view)
        if layer is None:
            continue
        moved = costs.nbytes(node.input[0], view) + costs.nbytes(node.output[0], view)
        counts = moved / total >= _SHARE and node.output[0] not in view.outputs
        gate = _gates(node, view)
        yield Diagnostic(
            CODE,
            f"{node.op_type} does not fuse with the {layer.op_type} before it",
            node=node.name,
            op=node.op_type,
            got=f"{node.op_type}{' times its own input (Swish)' if gate else ''} behind '{layer.name}', "
            f"{bytes_text(moved)} moved, {percent_text(moved / total)} of the network's",
            need=f"one of {', '.join(limit.value)}",
            help="train with HardSwish" if gate else "train with an activation of the list",
            severity="warning" if counts else "info",
            verdict="slow" if counts else "info",
            source=limit.source,
            fix="hardswish-to-clip" if node.op_type == "HardSwish" else "",
        )


def _layer_before(name: str, view: GraphView) -> NodeProto | None:
    maker = view.producers.get(name)
    if maker is not None and maker.op_type == "Add":
        data = [operand for operand in maker.input if not view.is_constant(operand)]
        maker = view.producers.get(data[0]) if len(data) == 1 else None
    return maker if maker is not None and maker.op_type in _LINEAR and not maker.domain else None


def _gates(node: NodeProto, view: GraphView) -> bool:
    """Whether it is the sigmoid of ``x * sigmoid(x)``."""
    readers = view.consumers.get(node.output[0], [])
    return node.op_type == "Sigmoid" and any(r.op_type == "Mul" and node.input[0] in r.input for r in readers)
