"""A tensor whose shape is not known before the network runs.

A package plans all its memory when it is built.  With static inputs only operators whose output size
depends on data (or on values computed at run time) leave a shape open.

Instead: make the values that decide it constants: `x.reshape(1, 8, -1)` with numbers in place of computed
sizes, `torch.arange(10)` in place of `torch.arange(n)`; in ONNX, an initialiser as the second input of
`Reshape`, `Expand` or `Range`.  Or keep the full size and mask, or cut the graph there (`deploycc split`).
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, compiled_only
from deploycc.onnx_graph import TensorType
from deploycc.types import Diagnostic

CODE = "DC207"
applies = compiled_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node where the shapes go from known to unknown; not those further down.

    Nodes that `counted-rows` names already are left out.
    """
    view = subject.view
    counts = subject.model.counts
    told = {fault.node for fault in counts.faults} if counts is not None else set()
    for node in view.model.graph.node:
        known = all(_static(view.types.get(name)) for name in node.input if name)
        open_outputs = [name for name in node.output if view.used(name) and not _static(view.types.get(name))]
        if not known or not open_outputs or node.name in told or node.op_type in ("If", "Loop", "Scan"):
            continue
        kind = view.types.get(open_outputs[0])
        yield Diagnostic(
            CODE,
            f"the shape of '{open_outputs[0]}' is not known before the network runs",
            node=node.name,
            op=node.op_type,
            got=_text(kind),
            need="a static shape",
            help="make the values that decide it constants, or cut the graph here",
            verdict="unsupported",
        )


def _static(kind: TensorType | None) -> bool:
    return kind is not None and kind.static


def _text(kind: TensorType | None) -> str:
    if kind is None or kind.shape is None:
        return "unknown rank"
    return "x".join("?" if dim is None else str(dim) for dim in kind.shape)
