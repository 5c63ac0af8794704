"""Which nodes a target's table refuses, for rules that speak only where the table does, or does not."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from onnx import ModelProto, NodeProto

from deploycc.linting.subject import Subject
from deploycc.linting.table import check_conditions
from deploycc.onnx_graph import GraphView
from deploycc.op_support import version_in

_STOPS = ("unsupported", "silently-wrong", "fallback")


def refused(subject: Subject, view: GraphView, nodes: Sequence[NodeProto]) -> set[str]:
    """Names of those of ``nodes``, all of ``view``, that the target does not run itself or runs wrongly.

    By its lists of operators, units and releases, and by its conditions.  An operator of which the table
    knows nothing is not refused.
    """
    table, target = subject.table, subject.target
    found = set()
    for node in nodes:
        row = table.operators.get(node.op_type)
        known = row is not None or node.op_type in table.missing or subject.compiled
        elsewhere = row is not None and target.unit and target.unit not in (*row.units, *row.partly)
        if known and (row is None or not version_in(target.version, row.versions) or elsewhere):
            found.add(node.name)
    only = copy.copy(view)
    only.model = ModelProto()
    only.model.opset_import.extend(view.model.opset_import)
    only.model.graph.node.extend(nodes)
    return found | {d.node for d in check_conditions(only, target, target.engine) if d.verdict in _STOPS}
