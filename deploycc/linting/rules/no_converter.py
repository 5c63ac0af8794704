"""An operator that the engine does not take.

The compiler or converter refuses a graph that holds one.  For the targets that deploycc compiles for,
function operators of the standard were replaced by their bodies before.  Where the engine is one of several
behind a runtime, the others run what it does not take: then the network runs, in parts.

Instead: another form, which the finding's help names where one is known: in PyTorch the same function in
other words (`x * torch.sigmoid(x)` for `nn.SiLU`), in ONNX the operators that it consists of.  Or the
network is cut around it (`deploycc split`).
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.custom_operators import installed
from deploycc.linting.subject import Subject
from deploycc.onnx_graph import all_nodes
from deploycc.op_support import Missing, Operator, version_in
from deploycc.types import Diagnostic

CODE = "DC400"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node, those of subgraphs included, whose operator the table says is not taken."""
    table, target = subject.table, subject.target
    for node in all_nodes(subject.view.model.graph):
        if node.domain or (subject.compiled and node.op_type == "If"):
            continue
        if subject.compiled and ("", node.op_type) in installed():
            continue
        row = table.operators.get(node.op_type)
        late = row is not None and not version_in(target.version, row.versions)
        if (row is not None and not late) or (not subject.compiled and not table.knows(node.op_type)):
            continue
        refused = table.missing.get(node.op_type, Missing("")) if row is None else row
        yield Diagnostic(
            "DC416" if table.elsewhere else CODE,
            f"operator {node.op_type} does not run on {table.title}: {table.elsewhere} takes it"
            if table.elsewhere
            else f"operator {node.op_type} cannot be converted",
            node=node.name,
            op=node.op_type,
            got=f"{node.op_type} (opset {subject.view.opset})"
            + (f", {table.title} {target.version}" if late and target.version else ""),
            need=f"{table.title} {row.versions}" if row is not None else "operators with a converter",
            help=refused.help or "write it in other operators at export, or cut the graph around it",
            severity="warning" if table.elsewhere else "error",
            verdict="fallback" if table.elsewhere else "unsupported",
            source=_source(subject, refused),
            fix=refused.fix,
        )


def _source(subject: Subject, row: Operator | Missing) -> str:
    table = subject.table
    return table.source(row.source) or f"{table.title}, {table.version}: not in its list of operators"
