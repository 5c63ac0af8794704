"""``If``: the branch that is known to be taken, or both and a choice between their results."""

from __future__ import annotations

from onnx import NodeProto

from deploycc.importing.flattening.building import select
from deploycc.importing.flattening.values import Scope, Value
from deploycc.importing.flattening.walker import Walker
from deploycc.onnx_graph import attributes


def branch(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """What ``If`` gives.  With a condition that only a run tells both sides are computed.

    That is the same as long as neither side has an effect or fails: random numbers and divisions by
    integers of a run are refused, an index out of range is kept inside its tensor by the kernels.
    """
    graphs = attributes(node)
    condition = str(inputs[0])
    sides = {True: ("then", graphs["then_branch"].g), False: ("else", graphs["else_branch"].g)}
    taken = walker.boolean(condition)
    if taken is not None:
        where, graph = sides[taken]
        return walker.inline(graph, scope, f"{node.name}/{where}", node)
    results = []
    with walker.guarded(node):
        for where, graph in sides.values():
            results.append(walker.inline(graph, scope, f"{node.name}/{where}", node))
    return [select(walker, scope, node, condition, yes, no) for yes, no in zip(*results, strict=True)]
