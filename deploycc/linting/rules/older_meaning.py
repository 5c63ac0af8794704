"""An operator that would be read with another opset's meaning.

The importer takes its newest implementation that is not newer than the model's opset; where all are newer
it silently takes the oldest.  That is harmless as long as the operator did not change between the two
opsets, and wrong otherwise.  Models below opset 18 are lifted at import, so this is met only where lifting
failed.

Instead: `torch.onnx.export(..., opset_version=18)` or newer; in ONNX,
`onnx.version_converter.convert_version(model, 18)`, whose message says which node it could not lift.
Compare old and new in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from deploycc.linting.subject import Subject, compiled_only
from deploycc.onnx_graph import all_nodes
from deploycc.op_support import table
from deploycc.types import Diagnostic

CODE = "DC406"
applies = compiled_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every standard node whose oldest implementation belongs to a later version of the operator."""
    view = subject.view
    if any(-1 in info.shape for info in subject.model.inputs):
        return  # a model with open dimensions is not lifted yet; with its shapes it will be
    versions = table()["operators"]
    for node in all_nodes(view.model.graph):
        implemented = versions.get(node.op_type)
        if node.domain or not implemented or view.opset >= min(implemented):
            continue
        model_version = _version(node.op_type, view.opset)
        read_version = _version(node.op_type, min(implemented))
        if model_version == read_version:
            continue
        yield Diagnostic(
            CODE,
            f"{node.op_type} of opset {view.opset} would be read as that of opset {min(implemented)}",
            node=node.name,
            op=node.op_type,
            got=f"{node.op_type} version {model_version}",
            need=f"{node.op_type} version {read_version} or newer",
            help="export the model again with opset 18 or newer",
            verdict="silently-wrong",
            source="apache-tvm 0.27.0.post1, onnx_frontend.py line 339, read in the source",
        )


def _version(operator: str, opset: int) -> int:
    try:
        return int(onnx.defs.get_schema(operator, opset, "").since_version)
    except onnx.defs.SchemaError:
        return 0
