"""An element type that the operator does not take there.

Runtimes have kernels of an operator for some element types only.  Where the runtime says that it
computes in another type instead, the values may lose range and digits and nothing else happens;
otherwise the node is refused, or moved to the processor that has the kernel.

Instead: in PyTorch `model.float()` or `model.half()` before the export, in ONNX a `Cast` to one of the
types that are named in front of the operator.  A cast to fewer digits rounds what passes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import onnx
from onnx import NodeProto

from deploycc.lint_types import LintTarget
from deploycc.linting.subject import Subject
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic, Severity, Verdict

CODE = "DC417"


def applies(target: LintTarget) -> bool:
    """For targets whose operators deploycc does not convert itself."""
    return target.compiled is None


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every standard node whose row has element types and whose data has another one.

    A form older than the newest of the row is left out: the types are those of the newest.
    """
    table, target = subject.table, subject.target
    casts = subject.limit("casts")
    for node in subject.view.model.graph.node:
        row = None if node.domain else table.operators.get(node.op_type)
        if row is None or not row.types or node.op_type == "Constant":
            continue
        since, tensors = _data(node, subject.view)
        if row.opsets and since < max(row.opsets):
            continue
        wrong = next(((name, kind) for name, kind in tensors if kind not in row.types), None)
        if wrong is None:
            continue
        name, kind = wrong
        becomes = casts.value.get(kind, "") if casts is not None else ""
        severity: Severity = "error"
        verdict: Verdict = "unsupported"
        if becomes in row.types:
            severity, verdict = "info", "info"
            says, way_out = f"computes in {becomes} instead of {kind}", f"export the network in {becomes}"
        else:
            says = f"does not take {kind} there"
            way_out = f"cast the data to {row.types[0]} before it, or export the network in that type"
            if target.fallback:
                severity, verdict = "warning", "fallback"
                way_out = f"the runtime moves it to {target.fallback}, with copies there and back; {way_out}"
        yield Diagnostic(
            CODE,
            f"{node.op_type} {says}",
            node=node.name,
            op=node.op_type,
            got=f"{kind} in '{name}'",
            need=", ".join(row.types),
            help=way_out,
            severity=severity,
            verdict=verdict,
            source=casts.source if casts is not None and becomes in row.types else table.source(row.source),
            tensor=name,
        )


def _data(node: NodeProto, view: GraphView) -> tuple[int, list[tuple[str, str]]]:
    """The operator's version, and name and element type of the tensors of its first type parameter."""
    found = _signature(node.op_type, view.opset)
    if found is None:
        return 0, []
    since, inputs, outputs = found
    placed = [*zip(node.input, _repeated(inputs, len(node.input)), strict=False)]
    placed += zip(node.output, _repeated(outputs, len(node.output)), strict=False)
    # Conditions (B), counts (I) and indices (Tind) have names of their own.
    parameter = next((p for p in (*inputs, *outputs) if p[:1] in ("T", "V") and p != "Tind"), "")
    return since, [
        (name, kind.dtype)
        for name, formal in placed
        if name and formal == parameter and (kind := view.types.get(name)) is not None and kind.dtype
    ]


def _repeated(formals: tuple[str, ...], count: int) -> tuple[str, ...]:
    """A variadic operator's last formal parameter stands for all that follow."""
    return formals + formals[-1:] * max(0, count - len(formals))


@cache
def _signature(op: str, opset: int) -> tuple[int, tuple[str, ...], tuple[str, ...]] | None:
    try:
        schema = onnx.defs.get_schema(op, max(opset, 1), "")
    except onnx.defs.SchemaError:
        return None
    inputs = tuple(formal.type_str for formal in schema.inputs)
    outputs = tuple(formal.type_str for formal in schema.outputs)
    return int(schema.since_version), inputs, outputs
