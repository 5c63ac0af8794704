"""Tensors in float64.

Accelerators have no double precision: converters cast to float32 without a word, or refuse.  A CPU computes
it at half the width, and moves twice the bytes.  Doubles nearly always come from a Python number or a NumPy
array that was mixed in.

Instead: `model.float()` and `torch.tensor(value, dtype=torch.float32)`; in ONNX, store the constant in
float32 and drop the casts around it.  Results keep 7 digits in place of 16.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import counted
from deploycc.types import Diagnostic

CODE = "DC316"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for the original graph, at the first node that makes a float64 tensor."""
    view = subject.original
    found = [
        (node, name)
        for node in view.model.graph.node
        for name in node.output
        if node.op_type != "Constant" and (kind := view.types.get(name)) and kind.dtype == "float64"
    ]
    if not found:
        return
    node, name = found[0]
    casts = subject.limit("casts")
    cast = casts.value.get("float64") if casts is not None else None
    yield Diagnostic(
        CODE,
        "the network computes in float64" + (f", which becomes {cast}" if cast else ""),
        node=node.name,
        op=node.op_type,
        tensor=name,
        got=f"float64 in {counted(len(found), 'tensor')}, the first '{name}'",
        need="float32",
        help="cast constants and inputs to float32 at export",
        severity="info" if subject.compiled else "warning",
        verdict="info",
        source=casts.source
        if casts is not None and cast
        else "IEEE 754-2019: binary64 has twice the bits of binary32",
    )
