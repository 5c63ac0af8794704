"""Nodes that give their input on as it is.

`Identity`, `Dropout` in inference, a `Cast` to the type that the tensor has, a `Transpose` that keeps the
order, a `Concat` or `Sum` of one, a `Reshape` to the same shape, a `Pad` by nothing.  Runtimes that do not
remove them copy the tensor, and each stands between a convolution and the activation that should be fused
with it.

Instead: in PyTorch leave out the call (`x.to(x.dtype)`, `x.contiguous()`, `nn.Identity`, `nn.Dropout`
disappear with `model.eval()` and constant folding); in ONNX, let the readers read the node's input. Values
stay the same bit by bit, so the rewrite is safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject, external_only
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC176"
applies = external_only

_ALONE = ("Concat", "Sum", "Max", "Min", "Mean")


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for the original graph that counts them by operator."""
    view = subject.original
    found = [node for node in view.model.graph.node if not node.domain and _passes_on(node, view)]
    if not found:
        return
    operators = sorted({node.op_type for node in found})
    parts = [f"{sum(n.op_type == op for n in found)} {op}" for op in operators]
    yield Diagnostic(
        CODE,
        "nodes that change nothing",
        node=found[0].name,
        op=found[0].op_type,
        got=f"{', '.join(parts)}; the first is '{found[0].name}'",
        need="none of them",
        help="let the readers read the node's input",
        severity="info",
        verdict="info",
        source="ONNX operator specification",
        fix="drop-identities",
    )


def _passes_on(node: NodeProto, view: GraphView) -> bool:
    facts = NodeFacts(node, view)
    if node.op_type == "Identity":
        return not view.is_constant(node.input[0])
    if node.op_type == "Dropout":
        return not (len(node.input) > 2 and node.input[2]) and not any(map(view.used, node.output[1:]))
    before, after = view.types.get(node.input[0]) if node.input else None, view.types.get(node.output[0])
    if before is None or before != after or not before.static or view.is_constant(node.input[0]):
        return False
    if node.op_type == "Transpose":
        order = facts.attr("perm")
        return order is not None and list(order) == sorted(order)
    if node.op_type == "Pad":
        amounts = view.constant(node.input[1]) if len(node.input) > 1 else None
        return amounts is not None and not amounts.any()
    return node.op_type in ("Cast", "Reshape", "Expand") or (node.op_type in _ALONE and len(node.input) == 1)
