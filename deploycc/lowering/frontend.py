"""ONNX to Relax through TVM's importer, its refusals told as diagnostics."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import onnx

from deploycc.lowering.converters import CONVERTERS
from deploycc.lowering.custom import custom_converters, with_own_names
from deploycc.lowering.folding import fold_constants
from deploycc.tracing import mark, rename
from deploycc.tvm_api import from_onnx, relax
from deploycc.types import DeployccError, Diagnostic


def import_onnx(proto: onnx.ModelProto, numbers: Mapping[tuple[int, int], int] | None = None) -> Any:
    """A Relax module whose function ``main`` computes ``proto``, weights as constants.

    ``numbers`` are those of tensors to be marked (``deploycc.tracing``), by node and output.

    Raises ``DeployccError`` (DC450) where the importer refuses an operator's form.
    """
    known = numbers or {}
    names: dict[Any, str] = {}

    def name_of(node: int, output: int) -> str:
        return mark(known[node, output]) if (node, output) in known else ""

    logging.getLogger("relax.frontend.onnx").setLevel(logging.ERROR)
    said = io.StringIO()  # the importer prints which operator it was at and leaves it out of what it raises
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            # Operators that count have one more output there (``deploycc.counting``).
            warnings.filterwarnings("ignore", "(?s).*Bad node spec for node", UserWarning)
            converters = {**CONVERTERS, **custom_converters()}
            module = from_onnx(with_own_names(proto), converters, name_of, names)
        module["main"] = rename(module["main"], names)
        module = relax.transform.DecomposeOpsForInference()(module)
        module = relax.transform.CanonicalizeBindings()(module)
        module = fold_constants(module)
    except DeployccError:
        raise
    except Exception as error:  # the importer raises every kind there is, AssertionError included
        raise DeployccError(_refusal(proto, error, said.getvalue())) from error
    return module


def _refusal(proto: onnx.ModelProto, error: Exception, said: str) -> Diagnostic:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    node = _blamed_node(proto, f"{said} {error}")
    return Diagnostic(
        code="DC450",
        message="TVM's ONNX importer does not take this model",
        node=node.name if node else "",
        op=node.op_type if node else "",
        got=reason[:400],
        need="operators in forms that the importer reads",
        help="rewrite the operator in the exporting code, or report the model: "
        "`deploycc build --dump-dir DIR` writes the graph the importer saw",
        verdict="unsupported",
    )


def _blamed_node(proto: onnx.ModelProto, text: str) -> onnx.NodeProto | None:
    """The node the importer's message names, by node name first and by operator if it is unique."""
    nodes: list[onnx.NodeProto] = list(proto.graph.node)
    for node in nodes:
        if node.name and node.name in text:
            return node
    mentioned = [node for node in nodes if f" {node.op_type}" in text or f"'{node.op_type}'" in text]
    likely = [node for node in mentioned if f"inputs: [{', '.join(node.input)}]" in text] or mentioned
    return likely[0] if len({node.op_type for node in likely}) == 1 else None
