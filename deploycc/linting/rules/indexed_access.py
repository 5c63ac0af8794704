"""Reading or writing by computed indices in the middle of the network.

`Gather`, `GatherElements`, `GatherND`, `ScatterElements` and `ScatterND` with indices that the network
computes touch memory in no order.  An accelerator moves whole blocks and does this element by element, if
it does at all; what comes before and behind waits.  `x[..., :2] = y` in PyTorch exports as `ScatterND`
although nothing about it is computed.

Instead: `torch.cat([y, x[..., 2:]], -1)` in place of the assignment; a product with a one-hot matrix for a
small table; sort and select in the app at the end.  In ONNX `Slice` and `Concat` for a `ScatterND` with
stored indices of a block: equal bit by bit, so that rewrite is safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting import costs
from deploycc.linting.layers import reaches_output
from deploycc.linting.subject import Subject, on_unit
from deploycc.linting.wording import bytes_text
from deploycc.onnx_graph import GraphView, used_names
from deploycc.types import Diagnostic

CODE = "DC426"
applies = on_unit

_INDEXED = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every such node with layers before and behind it; of `Gather`, those with computed indices."""
    view = subject.view
    alive = reaches_output(view)
    before, behind = _after_layers(view), _before_layers(view)
    for node in view.model.graph.node:
        if node.op_type not in _INDEXED or node.domain or node.name not in alive:
            continue
        stored = view.is_constant(node.input[1])
        if (stored and node.op_type != "ScatterND") or node.name not in before or node.name not in behind:
            continue
        yield Diagnostic(
            CODE,
            f"{node.op_type} in the middle of the network",
            node=node.name,
            op=node.op_type,
            got=f"{'stored' if stored else 'computed'} indices '{node.input[1]}', "
            f"{bytes_text(costs.nbytes(node.output[0], view))} of results",
            need="blocks: Slice, Concat, Split",
            help="write the assignment as Slice and Concat"
            if stored
            else "select at the end and in the app, or multiply by a one-hot matrix",
            severity="info",
            verdict="info",
            source=f"ONNX operator specification, {node.op_type}",
            fix="scatternd-to-concat" if stored else "",
        )


def _after_layers(view: GraphView) -> set[str]:
    """Nodes that depend on a layer."""
    reached: set[str] = set()
    found: set[str] = set()
    for node in view.model.graph.node:
        if reached & used_names(node):
            found.add(node.name)
            reached.update(node.output)
        elif node.op_type in _LAYERS:
            reached.update(node.output)
    return found


def _before_layers(view: GraphView) -> set[str]:
    """Nodes that a layer depends on."""
    needed: set[str] = set()
    found: set[str] = set()
    for node in reversed(list(view.model.graph.node)):
        if needed & set(node.output):
            found.add(node.name)
            needed |= used_names(node)
        elif node.op_type in _LAYERS:
            needed |= used_names(node)
    return found
