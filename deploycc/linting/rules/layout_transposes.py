"""Images are put into another order between layers.

Transposes between channels first and channels last are left over from a model of another framework, or
stand around an operator that wants the other order.  Each is a pass over memory that computes nothing.

Instead: keep one order through the network: `nn.LayerNorm` over channels as `nn.GroupNorm(1, c)` or written
with `mean(1)`, `nn.Linear` on channels as a 1x1 `nn.Conv2d`; convert from TensorFlow with
`--inputs-as-nchw`.  In ONNX, move the `Transpose` through elementwise operators until it meets its
opposite.  Reordering changes no value; another normalisation is another network.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting import costs
from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text, counted, percent_text
from deploycc.types import Diagnostic

CODE = "DC429"

_ORDERS = ((0, 2, 3, 1), (0, 3, 1, 2))
_SHARE = 0.05
"""Of all bytes that the network moves; a warning from there on."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding, at the largest of them, where two or more move images of several channels."""
    view = subject.view
    found = [
        node
        for node in view.model.graph.node
        if node.op_type == "Transpose"
        and not node.domain
        and tuple(NodeFacts(node, view).attr("perm") or ()) in _ORDERS
        and 1 not in (costs.extents(node.input[0], view) or (1, 1))[1:]
    ]
    if len(found) < 2:
        return
    moved = {node.name: costs.bytes_moved(node, view) for node in found}
    total = sum(costs.bytes_moved(node, view) for node in view.model.graph.node) or 1
    share = sum(moved.values()) / total
    largest = max(found, key=lambda node: moved[node.name])
    yield Diagnostic(
        CODE,
        "images change between channels first and channels last inside the network",
        node=largest.name,
        op=largest.op_type,
        got=f"{counted(len(found), 'Transpose')}, {bytes_text(sum(moved.values()))} moved, "
        f"{percent_text(share)} of the network's",
        need="one order from input to output",
        help="keep channels first, with GroupNorm and 1x1 convolutions in place of LayerNorm and Linear",
        severity="warning" if share >= _SHARE else "info",
        verdict="slow" if share >= _SHARE else "info",
        source="the graph itself",
    )
