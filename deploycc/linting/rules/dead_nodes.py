"""Nodes whose results nothing reads.

They compute what no graph output depends on.  A converter may drop them, may run them, or may fail on an
operator that nobody needs.  Now and then it is a mistake: an output that the export forgot.

Instead: in PyTorch, return the tensor from `forward` or do not compute it.  In ONNX, remove the nodes, or
add the tensor to the graph's outputs.  Removing them changes no result, so the rewrite is safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.layers import reaches_output
from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import counted, names_text
from deploycc.types import Diagnostic

CODE = "DC172"
applies = external_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for each end of the original graph that is no output, with what only leads there."""
    view = subject.original
    alive = reaches_output(view)
    dead = [node for node in view.model.graph.node if node.name not in alive]
    ends = [node for node in dead if not any(name in view.consumers for name in node.output)]
    if not ends:
        return
    yield Diagnostic(
        CODE,
        "part of the graph computes what nothing reads",
        node=ends[-1].name,
        op=ends[-1].op_type,
        got=f"{counted(len(dead), 'node')} that lead to no output: {names_text(n.name for n in dead)}",
        need="nodes that an output depends on",
        help="remove them, or return the result if an output was forgotten",
        severity="info",
        verdict="info",
        source="the graph itself",
        fix="drop-dead-nodes",
    )
