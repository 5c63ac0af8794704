"""A tensor with more dimensions than the target takes.

Hardware and kernels are built for so many dimensions; a tensor of more fails when the graph is prepared,
often with no more than an error number.  Nearly always it comes from a `view` and `permute` that regroup
channels or pixels: pixel shuffle, channel shuffle, windows of attention.

Instead: with a batch of 1, leave the batch out inside the regrouping, which makes rank 6 rank 5.  For
upscaling use `nn.PixelShuffle`, which exports as `DepthToSpace`; for a channel shuffle index the channels
(`x[:, order]`), which exports as `Gather`, or use a 1x1 convolution with a permutation as weights. In ONNX,
`DepthToSpace` or `Gather(axis=1)` takes the place of `Reshape`, `Transpose`, `Reshape`.  Values stay the
same bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC212"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that reads or makes a computed tensor above the target's `max_rank`."""
    limit = subject.limit("max_rank")
    if limit is None:
        return
    view = subject.view
    for node in view.model.graph.node:
        for name in (*node.output, *node.input):
            kind = view.types.get(name)
            if kind is None or kind.shape is None or len(kind.shape) <= limit.value or view.is_constant(name):
                continue
            yield Diagnostic(
                CODE,
                f"a tensor of {len(kind.shape)} dimensions",
                node=node.name,
                op=node.op_type,
                tensor=name,
                got=f"rank {len(kind.shape)} ({shape_text(kind.shape)})",
                need=f"rank {limit.value} or less",
                help="leave the batch of 1 out inside the regrouping, or use DepthToSpace or Gather",
                verdict="unsupported",
                source=limit.source,
                fix=regrouping(node, view),
            )
            break


def regrouping(node: NodeProto, view: GraphView) -> str:
    """The rewrite of the `Reshape`, `Transpose`, `Reshape` that the node is part of, empty for none."""
    order = _transpose_of(node, view)
    if order is None or order.op_type != "Transpose":
        return ""
    permutation = tuple(NodeFacts(order, view).attr("perm") or ())
    if permutation == (0, 1, 4, 2, 5, 3):
        return "pixel-shuffle-to-depth-to-space"
    return "channel-shuffle-to-gather" if permutation == (0, 2, 1, 3, 4) else ""


def _transpose_of(node: NodeProto, view: GraphView) -> NodeProto | None:
    if node.op_type == "Transpose":
        return node
    if node.op_type != "Reshape":
        return None
    before = view.producers.get(node.input[0])
    if before is not None and before.op_type == "Transpose":
        return before
    behind = view.consumers.get(node.output[0], [])
    return behind[0] if len(behind) == 1 and behind[0].op_type == "Transpose" else None
