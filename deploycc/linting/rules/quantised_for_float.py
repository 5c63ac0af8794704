"""A quantised network for a part of the chip that computes in float.

This unit has no integer arithmetic for networks.  Notes of quantisation (`QuantizeLinear`,
`DequantizeLinear`) are then dropped, or run as layers that round and scale for nothing.

Instead: give this unit the float model: export before `convert_pt2e` in PyTorch; in ONNX, take out each
`QuantizeLinear` with its `DequantizeLinear` and store weights in float32.  Results then are those of the
float model, which differ from the quantised ones by the rounding that was left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.types import Diagnostic

CODE = "DC319"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding, where the target's `quantised` is `never` and the graph has `QuantizeLinear`."""
    limit = subject.limit("quantised")
    if limit is None or limit.value != "never":
        return
    nodes = [node for node in subject.view.model.graph.node if node.op_type == "QuantizeLinear"]
    if not nodes:
        return
    yield Diagnostic(
        CODE,
        "the network is quantised and this unit computes in float",
        node=nodes[0].name,
        op=nodes[0].op_type,
        got=f"{len(nodes)} QuantizeLinear",
        need="a float model",
        help="convert the float model for this unit, or use a unit that computes in integers",
        severity="warning",
        verdict="info",
        source=limit.source,
    )
