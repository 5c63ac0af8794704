"""``If``: the branch that is known to be taken, or both and a choice between their results."""

from __future__ import annotations

from onnx import GraphProto, NodeProto

from deploycc.importing.flattening.building import select
from deploycc.importing.flattening.values import Refused, Scope, Value
from deploycc.importing.flattening.walker import Walker
from deploycc.onnx_graph import attributes
from deploycc.types import Diagnostic


def branch(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """What ``If`` gives.  With a condition that only a run tells both sides are computed.

    That is the same as long as neither side has an effect or fails: random numbers and divisions by
    integers of a run are refused, an index out of range is kept inside its tensor by the kernels.  A side
    that does not take the shapes it gets is left out (DC463): taking it would be an error.
    """
    graphs = attributes(node)
    condition = str(inputs[0])
    sides = {True: ("then", graphs["then_branch"].g), False: ("else", graphs["else_branch"].g)}
    taken = walker.boolean(condition)
    if taken is not None:
        where, graph = sides[taken]
        return walker.inline(graph, scope, f"{node.name}/{where}", node)
    results: list[list[Value]] = []
    unfit: list[Diagnostic] = []
    for where, graph in sides.values():
        made, doubt = _tried(walker, node, scope, where, graph)
        if made is not None:
            results.append(made)
        if doubt is not None:
            unfit.append(doubt)
    if len(results) == 1:
        walker.notes.append(_left_out(node, unfit[0], condition))
        return results[0]
    if not results:
        raise Refused(unfit[0])
    return [select(walker, scope, node, condition, yes, no) for yes, no in zip(*results, strict=True)]


def _tried(
    walker: Walker, node: NodeProto, scope: Scope, where: str, graph: GraphProto
) -> tuple[list[Value] | None, Diagnostic | None]:
    """One side's results, or what in it does not take the shapes it gets.

    No run can take such a side: the engine would end there.  What was emitted of it is taken back.
    """
    doubts, mark = len(walker.doubts), walker.mark()
    refusal: Refused | None = None
    made: list[Value] | None = None
    with walker.guarded(node):
        try:
            made = walker.inline(graph, scope, f"{node.name}/{where}", node)
        except Refused as error:
            refusal = error
    if len(walker.doubts) == doubts:
        if refusal is not None:
            raise refusal
        return made, None
    walker.roll_back(mark)
    return None, walker.doubts[doubts]


def _left_out(node: NodeProto, doubt: Diagnostic, condition: str) -> Diagnostic:
    return Diagnostic(
        "DC463",
        "a branch cannot run with these shapes and is left out",
        node=node.name,
        op=node.op_type,
        got=f"{doubt.op} '{doubt.node}' in it: {doubt.got}",
        need="shapes that both branches take",
        help=f"the package computes the other branch whatever '{condition}' is; for this one build another "
        "package with --shape of its size",
        severity="warning",
        verdict="fallback",
    )
