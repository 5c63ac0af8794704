"""A branch or loop that is decided while the network runs.

A package is a straight list of calls.  Branches whose condition is constant were taken out by folding; what
is left cannot be laid out in advance.

Instead: compute both sides and choose: `torch.where(cond, a, b)` in place of `if`, in ONNX `Where`; or
export one network for each case and let the app choose (`deploycc split` makes the parts).  `Where` gives
the same values as long as neither side fails on the other's inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, compiled_only
from deploycc.onnx_graph import all_nodes
from deploycc.types import Diagnostic

CODE = "DC407"
applies = compiled_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every ``If`` that is left; ``Loop`` and ``Scan`` have no converter and are told by that rule."""
    view = subject.view
    for node in all_nodes(view.model.graph):
        if node.op_type != "If" or node.domain:
            continue
        yield Diagnostic(
            CODE,
            "a branch is decided while the network runs",
            node=node.name,
            op=node.op_type,
            got=f"a condition computed from the inputs ('{node.input[0]}')",
            need="a straight network",
            help="compute both sides and choose with Where, or build one network for each",
            verdict="unsupported",
        )
