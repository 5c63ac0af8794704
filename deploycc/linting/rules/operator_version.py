"""A version of an operator that the converter's list does not name.

The list names the opsets that brought each form of an operator.  A newer form may well be taken; the
source does not say so.  A runtime that looks its kernels up by the form (the limit `exact_forms`) moves
any other to another processor.

Instead: `torch.onnx.export(..., opset_version=N)` with an opset that has a listed form; in ONNX,
`onnx.version_converter.convert_version(model, N)`.  Or try the converter: if it takes the form, ignore the
finding with that as the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from deploycc.lint_types import LintTarget
from deploycc.linting.subject import Subject
from deploycc.types import Diagnostic

CODE = "DC415"


def applies(target: LintTarget) -> bool:
    """For targets whose operators deploycc does not convert itself."""
    return target.compiled is None


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every standard node whose operator's version is not among those of its row."""
    table, fallback = subject.table, subject.target.fallback
    moved = bool(fallback) and subject.limit("exact_forms") is not None
    for node in subject.view.model.graph.node:
        row = None if node.domain else table.operators.get(node.op_type)
        if row is None or not row.opsets:
            continue
        try:
            since = onnx.defs.get_schema(node.op_type, subject.view.opset, "").since_version
        except onnx.defs.SchemaError:
            continue
        if since in row.opsets:
            continue
        yield Diagnostic(
            CODE,
            f"{node.op_type} of opset {since} is not in the converter's list",
            node=node.name,
            op=node.op_type,
            got=f"{node.op_type} version {since} (model opset {subject.view.opset})",
            need=f"version {', '.join(map(str, row.opsets))}",
            help=(f"the runtime moves it to {fallback}, with copies there and back; " if moved else "")
            + f"export with an opset that has version {max(row.opsets)}, or try the converter",
            severity="warning" if moved else "info",
            verdict="fallback" if moved else "info",
            source=table.source(row.source),
        )
