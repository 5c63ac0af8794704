"""An operator from a domain other than the standard one.

The importer looks operators up by name alone.  One of a vendor's domain that happens to carry a standard
name would be converted as the standard operator and compute something else.

Instead: export with standard operators, without the vendor's plugin for `torch.onnx.export`; in ONNX,
define the operator as a function inside the model (`onnx.helper.make_function`), which import replaces by
its body; or write a converter of your own for it
(`--op-dir`).  A body of standard operators gives what it says; compare it with the vendor's runtime once.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.custom_operators import installed
from deploycc.linting.subject import Subject, compiled_only
from deploycc.onnx_graph import DEFAULT_DOMAINS, all_nodes
from deploycc.op_support import converted_operators
from deploycc.types import Diagnostic

CODE = "DC405"
applies = compiled_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node of another domain, with the graver verdict where its name is a standard one's."""
    view = subject.view
    for node in all_nodes(view.model.graph):
        if node.domain in DEFAULT_DOMAINS or (node.domain, node.op_type) in installed():
            continue
        clash = node.op_type in converted_operators() or node.op_type == "Attention"
        yield Diagnostic(
            CODE,
            f"operator {node.op_type} of the domain '{node.domain}' "
            + ("would be taken for the standard operator of that name" if clash else "cannot be converted"),
            node=node.name,
            op=node.op_type,
            got=f"{node.domain}::{node.op_type}",
            need="operators of the standard domain",
            help="export with standard operators, define it as a function inside the model, "
            "or write a converter (--op-dir)",
            verdict="silently-wrong" if clash else "unsupported",
            source="apache-tvm 0.27.0.post1, onnx_frontend.py line 6607, seen in a run",
        )
