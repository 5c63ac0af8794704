"""A branch or an early end of a loop that is decided while the network runs.

A package is a straight list of calls.  Branches whose condition follows from constants and shapes are decided
when the model is read, and loops unrolled.  Where only a run decides, both sides are computed and one result
is chosen: the time of both is paid, and a loop with an early end always makes all its trips.

Instead: in PyTorch decide by a Python value, so that `torch.onnx.export` writes one side only; in ONNX, where
the sides are expensive, one network for each case between which the app chooses (`deploycc split` makes the
parts).  Where they are cheap nothing needs to be done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploycc.linting.subject import Subject, compiled_only
from deploycc.onnx_graph import all_nodes
from deploycc.types import Diagnostic

CODE = "DC407"
applies = compiled_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every ``If`` and ``Loop`` whose results are chosen, and every ``If`` that is left."""
    yield from _chosen(subject)
    for node in all_nodes(subject.view.model.graph):
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


def _chosen(subject: Subject) -> Iterator[Diagnostic]:
    nodes = subject.view.model.graph.node
    choices = {re.sub(r"/Where(_\d+)?$", "", node.name) for node in nodes if node.op_type == "Where"}
    for node in all_nodes(subject.original.model.graph):
        # A node inside a body is named after the nodes around it as well.
        if node.op_type not in ("If", "Loop") or node.domain or not node.name:
            continue
        if not any(choice == node.name or choice.endswith(f"/{node.name}") for choice in choices):
            continue
        inside = sum(f"{node.name}/" in other.name for other in nodes)
        branch = node.op_type == "If"
        yield Diagnostic(
            CODE,
            "both sides of a branch are computed, and one is chosen while the network runs"
            if branch
            else "a loop makes all its trips, though a condition may end it while the network runs",
            node=node.name,
            op=node.op_type,
            got=f"{inside} nodes that stand for it",
            need="a condition that follows from shapes" if branch else "a fixed number of trips",
            help="where that is expensive, build one network for each side and let the app choose"
            if branch
            else "where that is expensive, let the app run the loop around a network of its body",
            severity="warning",
            verdict="slow",
        )
