"""A softmax over another axis than the last.

Kernels take the maximum and the sum along contiguous memory.  For another axis the converter puts a
transpose before and behind; some releases refuse it.  On images in channels-last order the axis of the
channels is the last one already, so there it may cost nothing.

Instead: arrange the tensor so that the classes come last: `x.permute(0, 2, 3, 1).softmax(-1)`; in ONNX
`Transpose`, `Softmax(axis=-1)`, `Transpose`.  For a mask of the most likely class leave the softmax out:
`argmax` gives the same without it.  The values stay the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC427"
applies = external_only

_FLATTENS_BEFORE = 13
"""Before this opset `Softmax` normalised over all axes from `axis` on."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `Softmax` and `LogSoftmax` (opset 13 and newer) over an axis with others behind it."""
    view = subject.view
    if view.opset < _FLATTENS_BEFORE:
        return
    for node in view.model.graph.node:
        if node.op_type not in ("Softmax", "LogSoftmax") or node.domain:
            continue
        kind = view.types.get(node.input[0])
        axis = NodeFacts(node, view).attr("axis")
        if kind is None or kind.shape is None or axis is None:
            continue
        rank = len(kind.shape)
        behind = kind.shape[axis % rank + 1 :] if rank else ()
        if all(dim == 1 for dim in behind):
            continue
        yield Diagnostic(
            CODE,
            f"{node.op_type} over axis {axis % rank} of {rank}",
            node=node.name,
            op=node.op_type,
            got=f"axis {axis} of {shape_text(kind.shape)}",
            need=f"axis {rank - 1}",
            help="put the classes last, or leave the softmax out where only the largest counts",
            severity="info",
            verdict="info",
            source="ONNX operator specification, Softmax: along one axis",
            fix="softmax-last-axis" if node.op_type == "Softmax" else "",
        )
