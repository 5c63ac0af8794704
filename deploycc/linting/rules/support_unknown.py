"""An operator of which no source tells whether the engine takes it.

Unknown is said as unknown: it is neither a promise nor a refusal.  The converter itself answers the
question.

Instead: try the converter on a model with this operator alone (`torch.onnx.export` of the one module; in
ONNX, `onnx.utils.extract_model`).  If it takes it, ignore the finding with that as the reason; if not,
write it in operators that are listed.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.lint_types import LintTarget
from deploycc.linting.subject import Subject
from deploycc.onnx_graph import DEFAULT_DOMAINS
from deploycc.types import Diagnostic

CODE = "DC414"


def applies(target: LintTarget) -> bool:
    """For targets whose operators deploycc does not convert itself."""
    return target.compiled is None


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node whose operator the table does not know, those of other domains included."""
    for node in subject.view.model.graph.node:
        standard = node.domain in DEFAULT_DOMAINS
        if standard and node.op_type == "Constant":
            continue
        if standard and subject.table.knows(node.op_type):
            continue
        name = node.op_type if standard else f"{node.domain}::{node.op_type}"
        yield Diagnostic(
            CODE,
            f"whether {name} is taken is not known",
            node=node.name,
            op=node.op_type,
            got=f"{name} (opset {subject.view.opset})",
            need="an operator that a source tells of",
            help="try the converter; if it takes the operator, ignore this with that as the reason",
            severity="warning",
            verdict="info",
            source=f"{subject.table.title}, {subject.table.version}: not in its lists",
        )
