"""Computed tensors in int64.

ONNX wants 64-bit integers for indices and shapes, accelerators have 32-bit ones.  Converters narrow them,
which is right as long as the values fit; casts between both appear around `Gather`, `TopK` and `ArgMax`.

Instead: in PyTorch `.to(torch.int32)` behind `argmax`, `topk` and `arange` where the result leaves the
network; in ONNX, `Cast` to int32 right behind the operator.  Values below 2^31 stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import counted
from deploycc.types import Diagnostic

CODE = "DC317"
applies = external_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for the graph, at the first node that makes an int64 tensor while the network runs."""
    view = subject.view
    found = [
        (node, name)
        for node in view.model.graph.node
        for name in node.output
        if node.op_type != "Constant" and (kind := view.types.get(name)) and kind.dtype == "int64"
    ]
    if not found:
        return
    node, name = found[0]
    returned = [
        out for out in sorted(view.outputs) if (kind := view.types.get(out)) and kind.dtype == "int64"
    ]
    yield Diagnostic(
        CODE,
        "the network computes in int64",
        node=node.name,
        op=node.op_type,
        tensor=name,
        got=f"int64 in {counted(len(found), 'tensor')}, the first '{name}'"
        + (f"; the output '{returned[0]}' is one" if returned else ""),
        need="int32, where the values allow it",
        help="cast to int32 behind the operator that makes the indices",
        severity="info",
        verdict="info",
        source="ONNX operator specification: indices and shapes are int64",
    )
