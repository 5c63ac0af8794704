"""What onnx's version converter gets wrong on the way to a newer opset, put right afterwards."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from deploycc.onnx_graph import GraphView, attributes, opset_of

_RESIZE_CHANGED = 11
"""Before this opset there was one coordinate rule; the converter leaves the newer default."""

_HARDMAX_CHANGED = 13
"""Before this opset ``Hardmax`` flattened its input into a matrix at ``axis``."""


def mend(before: ModelProto, after: ModelProto) -> None:
    """Correct ``after``, the converter's result for ``before``, in place.

    ``Resize`` gets the old rule (asymmetric coordinates, rounded down) and loses the crop box
    nobody reads; ``Hardmax`` over several axes is flattened and reshaped back.
    """
    opset = opset_of(before)
    if opset < _RESIZE_CHANGED:
        scaled = {
            node.output[0]: node for node in before.graph.node if node.op_type in ("Upsample", "Resize")
        }
        view = GraphView(after)
        for node in after.graph.node:
            if node.op_type == "Resize" and node.output[0] in scaled:
                scales = view.constant(node.input[2])
                _old_coordinates(
                    node, shrinks=scales is not None and bool((scales.astype(np.float64) < 1).any())
                )
    if opset < _HARDMAX_CHANGED:
        _old_hardmax(before, after)


def _old_coordinates(node: NodeProto, shrinks: bool) -> None:
    placing = ("coordinate_transformation_mode", "nearest_mode")
    for attribute in [found for found in node.attribute if found.name in placing]:
        node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    # The old text leaves the rounding open; ONNX Runtime rounds up where it shrinks.
    node.attribute.append(helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor"))
    node.input[1] = ""


def _old_hardmax(before: ModelProto, after: ModelProto) -> None:
    view = GraphView(before)
    old = {node.output[0]: node for node in before.graph.node if node.op_type == "Hardmax"}
    for index, node in reversed(list(enumerate(after.graph.node))):
        if node.op_type != "Hardmax" or node.output[0] not in old:
            continue
        kind = view.types.get(old[node.output[0]].input[0])
        if kind is None or kind.shape is None or not kind.static:
            continue
        given = attributes(old[node.output[0]]).get("axis")
        axis = (given.i if given is not None else 1) % len(kind.shape)
        dims = [int(dim or 0) for dim in kind.shape]
        if axis == len(dims) - 1:
            attribute = helper.make_attribute("axis", -1)
            _replace(after, index, [_with(node, [attribute], list(node.input), list(node.output))])
            continue
        flat, hit = f"{node.output[0]}/flat", f"{node.output[0]}/hit"
        shapes = {
            f"{node.output[0]}/matrix": [math.prod(dims[:axis]), math.prod(dims[axis:])],
            f"{node.output[0]}/shape": dims,
        }
        matrix, shape = shapes
        for name, value in shapes.items():
            after.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        _replace(
            after,
            index,
            [
                helper.make_node("Reshape", [node.input[0], matrix], [flat]),
                _with(node, [helper.make_attribute("axis", -1)], [flat], [hit]),
                helper.make_node("Reshape", [hit, shape], [node.output[0]]),
            ],
        )


def _with(node: NodeProto, attrs: list[object], inputs: list[str], outputs: list[str]) -> NodeProto:
    made = helper.make_node(node.op_type, inputs, outputs, name=node.name)
    made.attribute.extend(attrs)
    return made


def _replace(proto: ModelProto, index: int, nodes: list[NodeProto]) -> None:
    kept = [*list(proto.graph.node)[:index], *nodes, *list(proto.graph.node)[index + 1 :]]
    copies = []
    for node in kept:
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
