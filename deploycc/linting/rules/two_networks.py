"""A detector that is two networks with decisions between them.

`NonMaxSuppression` keeps as many boxes as there are objects, `RoiAlign` and `MaxRoiPool` cut features out
at boxes that the network itself found.  Both are decisions on data: short, branching, on small tensors.  An
accelerator is no help there, and a compiler that lays everything out beforehand cannot hold their open
sizes.  Behind `RoiAlign` a second network runs once for each box or on a fixed number of them.

Instead: cut the model there.  `deploycc split` makes backbone and heads, the decisions as a part for the
app or the CPU, and the second stage on a fixed number of boxes.  In PyTorch, export `model.backbone` with
the heads and `model.roi_heads.box_head` apart; in ONNX, end the graph at raw boxes and scores.  A
`RoiAlign` with `avg`, `output_half_pixel`, a batch of 1 and a stored number of boxes can also be written as
`GridSample` and `AveragePool`, equal up to 1e-6 for boxes inside the image.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from deploycc.linting.costs import extents
from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject
from deploycc.linting.wording import counted, names_text
from deploycc.onnx_graph import GraphView, used_names
from deploycc.types import Diagnostic

CODE = "DC425"

_DECISIONS = ("NonMaxSuppression", "RoiAlign", "MaxRoiPool")
_LAYERS = ("Conv", "Gemm", "MatMul", "ConvTranspose")


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding at the first such node: what stands before it, and how much of a network behind."""
    view = subject.view
    nodes = [n for n in view.model.graph.node if n.op_type in _DECISIONS and not n.domain]
    if not nodes:
        return
    first = nodes[0]
    behind = _behind(nodes, view)
    layers = [node for node in behind if node.op_type in _LAYERS]
    cut = [name for name in first.input if name and not view.is_constant(name)]
    yield Diagnostic(
        CODE,
        f"{first.op_type} divides the model into "
        + ("two networks" if layers else "a network and what follows its decisions"),
        node=first.name,
        op=first.op_type,
        got=f"decisions on data in {counted(len(nodes), 'node')}; "
        f"behind them {counted(len(behind), 'node')}, {counted(len(layers), 'layer')} with weights",
        need=f"a network that ends at {names_text(cut)}" + (" and one that begins behind" if layers else ""),
        help="deploycc split makes the parts and the pipeline that calls them",
        # A package can hold a fixed number of boxes; what it cannot hold the table refuses.
        severity="info" if subject.compiled else "warning",
        verdict="info",
        source=f"ONNX operator specification, {first.op_type}",
        fix="roialign-to-gridsample" if _as_grid(first, view) else "",
    )


def _behind(nodes: list[NodeProto], view: GraphView) -> list[NodeProto]:
    """Every node that depends on one of ``nodes``, themselves left out, in graph order."""
    reached = {name for node in nodes for name in node.output}
    own = {node.name for node in nodes}
    found = []
    for node in view.model.graph.node:
        if node.name not in own and reached & used_names(node):
            reached.update(node.output)
            found.append(node)
    return found


def _as_grid(node: NodeProto, view: GraphView) -> bool:
    if node.op_type != "RoiAlign":
        return False
    facts = NodeFacts(node, view)
    data, boxes = extents(node.input[0], view), extents(node.input[1], view)
    return (
        facts.attr("mode") == "avg"
        and facts.attr("coordinate_transformation_mode") == "output_half_pixel"
        and bool(facts.attr("sampling_ratio"))
        and data is not None
        and data[0] == 1
        and boxes is not None
    )
