"""An opset outside the range that the converter reads.

The converter's documents name the opsets it knows.  Outside them it stops, or warns and reads operators by
rules that may have changed.

Instead: `torch.onnx.export(..., opset_version=N)` with an opset of the range; in ONNX,
`onnx.version_converter.convert_version(model, N)`, then compare both in ONNX Runtime.  Converted models
compute the same where the converter of ONNX has a rule for every operator.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import NodeProto

from deploycc.linting.subject import Subject
from deploycc.op_support import Limit, version_in
from deploycc.types import Diagnostic

CODE = "DC179"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for the model (`opsets`), or for each operator of a version outside `operator_versions`."""
    view = subject.view
    nodes = [node for node in view.model.graph.node if not node.domain]
    limit = subject.limit("opsets")
    if nodes and limit is not None and not version_in(str(view.opset), limit.value):
        yield _finding(f"opset {view.opset} is outside the range", nodes[0], f"opset {view.opset}", limit)
    limit = subject.limit("operator_versions")
    for node in nodes if limit is not None else ():
        assert limit is not None
        since = _since(node.op_type, view.opset)
        if since and not version_in(str(since), limit.value):
            got = f"{node.op_type} version {since}"
            yield _finding("an operator's version is outside the range", node, got, limit)


def _finding(message: str, node: NodeProto, got: str, limit: Limit) -> Diagnostic:
    return Diagnostic(
        CODE,
        message,
        node=node.name,
        op=node.op_type,
        got=got,
        need=str(limit.value),
        help="export with an opset of the range",
        severity="warning",
        verdict="info",
        source=limit.source,
    )


def _since(operator: str, opset: int) -> int:
    try:
        return int(onnx.defs.get_schema(operator, opset, "").since_version)
    except onnx.defs.SchemaError:
        return 0
