"""Pixels moved into channels by strided slices.

Four `Slice`s that take every second pixel and a `Concat` (YOLO's Focus) read the image four times in steps
of two, which accelerators do element by element or not at all, for what one convolution does in a pass.

Instead: `nn.Conv2d(c, 4 * c, 2, stride=2, bias=False)` with fixed one-hot weights, or
`nn.PixelUnshuffle(2)` with the channels of the next layer permuted; in ONNX one `Conv` of kernel and stride
2, or `SpaceToDepth`. The convolution with one-hot weights gives the same values bit by bit, so the rewrite
is safe; in 8 bits the weights 0 and 1 are exact as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject, on_unit
from deploycc.linting.wording import shape_text
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC423"
applies = on_unit

_PARTS = 4
_DEPTH = 2
"""Exporters write one slice over both axes, or one for each."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `Concat` along the channels of four slices of one tensor, each of every second pixel."""
    view = subject.view
    for node in view.model.graph.node:
        if node.op_type != "Concat" or node.domain or len(node.input) != _PARTS:
            continue
        sources = {_source(name, view) for name in node.input}
        if NodeFacts(node, view).attr("axis") != 1 or len(sources) != 1 or "" in sources:
            continue
        source = sources.pop()
        kind, made = view.types.get(source), view.types.get(node.output[0])
        if kind is None or kind.shape is None or len(kind.shape) != 4:
            continue
        yield Diagnostic(
            CODE,
            "pixels are moved into channels by strided slices",
            node=node.name,
            op=node.op_type,
            tensor=source,
            got=f"{shape_text(kind.shape)} to {shape_text(made.shape if made else None)}, "
            "four slices of step 2",
            need="one Conv of kernel and stride 2, or SpaceToDepth",
            help="write it as a convolution with one-hot weights",
            severity="warning",
            verdict="slow",
            source="ONNX operator specification, Slice and Concat",
            fix="focus-to-conv",
        )


def _source(name: str, view: GraphView) -> str:
    """The tensor that slices of step 2 along both axes of an image took ``name`` from, empty for none."""
    strided: set[int] = set()
    for _ in range(_DEPTH):
        maker = view.producers.get(name)
        if maker is None or maker.op_type != "Slice" or maker.domain:
            break
        strided |= _strided_axes(maker, view)
        name = maker.input[0]
    return name if strided == {2, 3} else ""


def _strided_axes(node: NodeProto, view: GraphView) -> set[int]:
    axes = view.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    steps = view.constant(node.input[4]) if len(node.input) > 4 and node.input[4] else None
    if axes is None or steps is None:
        return set()
    pairs = zip(np.atleast_1d(axes), np.atleast_1d(steps), strict=True)
    return {int(axis) % 4 for axis, step in pairs if int(step) == 2}
