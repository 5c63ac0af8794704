"""A batch normalisation behind a convolution that could be part of its weights.

In inference `BatchNormalization` is one factor and one summand for each channel.  Behind a `Conv`,
`ConvTranspose` or `Gemm` that nothing else reads, both belong into weights and bias.  Left apart it costs a
pass over memory where the converter does not fold it, and it spoils quantisation: weights and scale are
quantised one after the other, each with its own rounding.

Instead: in PyTorch `torch.nn.utils.fusion.fuse_conv_bn_eval(conv, bn)`, or export with constant folding
on.  In ONNX, weights times `scale / sqrt(var + epsilon)` and bias `(bias - mean) * scale / sqrt(var +
epsilon) + B`.  Results differ by rounding only, some 1e-6 of the largest value in float32, so the rewrite
is safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, external_only
from deploycc.types import Diagnostic

CODE = "DC171"
applies = external_only

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `BatchNormalization` of the original graph that alone reads a linear layer; all stored."""
    view = subject.original
    for node in view.model.graph.node:
        if node.op_type != "BatchNormalization" or node.domain:
            continue
        linear = view.producers.get(node.input[0])
        if linear is None or linear.op_type not in _LINEAR or linear.domain:
            continue
        alone = len(view.consumers[node.input[0]]) == 1 and node.input[0] not in view.outputs
        stored = all(view.is_constant(name) for name in (*node.input[1:], *linear.input[1:]) if name)
        trains = any(view.used(name) for name in node.output[1:])
        if alone and stored and not trains:
            yield Diagnostic(
                CODE,
                f"BatchNormalization could be part of the {linear.op_type} before it",
                node=node.name,
                op=node.op_type,
                got=f"{linear.op_type} '{linear.name}' followed by BatchNormalization",
                need=f"one {linear.op_type} with scaled weights",
                help="fold it into weights and bias before conversion and before quantisation",
                severity="info",
                verdict="info",
                source="ONNX operator specification, BatchNormalization: the formula of inference",
                fix="batchnorm-fold",
            )
