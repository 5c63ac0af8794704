"""An opset that is newer than the converter's list.

The list of operators names the opsets that brought each form.  A model of a newer opset has forms that the
list does not have; the converter may read them by the older rules, refuse them, or know more than its list
tells.

Instead: `torch.onnx.export(..., opset_version=N)` with the opset that the finding names; in ONNX,
`onnx.version_converter.convert_version(model, N)`, then compare both in ONNX Runtime.  An older opset
computes the same where the converter finds a form for every operator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import onnx

from deploycc.linting.subject import Subject, external_only
from deploycc.types import Diagnostic

CODE = "DC178"
applies = external_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding, if an operator has attributes, inputs or outputs that its newest listed form has not."""
    table, opset = subject.table, subject.view.opset
    used = Counter(node.op_type for node in subject.view.model.graph.node if not node.domain)
    listed = {op: row.opsets for op, row in table.operators.items() if op in used and row.opsets}
    newer = [
        op
        for op, opsets in sorted(listed.items())
        if _since(op, opset) > max(opsets) and _form(op, opset) != _form(op, max(opsets))
    ]
    if not newer:
        return
    first = next(node for node in subject.view.model.graph.node if node.op_type in newer)
    best = next((n for n in range(opset, 6, -1) if all(_listed(o, n, v) for o, v in listed.items())), 0)
    yield Diagnostic(
        CODE,
        f"opset {opset} has operators in forms that the converter's list does not name",
        node=first.name,
        op=first.op_type,
        got=", ".join(f"{op} of {_since(op, opset)} (newest listed {max(listed[op])})" for op in newer[:4])
        + (f" and {len(newer) - 4} more" if len(newer) > 4 else ""),
        need=f"opset {best}, which the list covers for every operator here" if best else "listed forms",
        help=f"export with opset_version={best}"
        if best
        else "export with an older opset, or try the converter",
        severity="warning",
        verdict="info",
        source=table.source(table.operators[newer[0]].source),
    )


@cache
def _since(operator: str, opset: int) -> int:
    try:
        return int(onnx.defs.get_schema(operator, opset, "").since_version)
    except onnx.defs.SchemaError:
        return 0


def _listed(operator: str, opset: int, versions: tuple[int, ...]) -> bool:
    """Whether the opset has the operator in one of the listed forms, or one that takes more types only."""
    since = _since(operator, opset)
    forms = (_form(operator, version) for version in versions)
    return since in versions or (since > 0 and _form(operator, opset) in forms)


@cache
def _form(operator: str, opset: int) -> object:
    """Attributes with their defaults, inputs and outputs: versions with the same differ in types only."""
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None
    attributes = {
        name: (str(attribute.type), attribute.required, attribute.default_value.SerializeToString())
        for name, attribute in schema.attributes.items()
    }
    return attributes, [formal.name for formal in schema.inputs], [formal.name for formal in schema.outputs]
