"""Sequences of known length and optionals: bookkeeping only, no node is left of them."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from deploycc.importing.flattening.building import scalar_shape, split_up, stack, without_axis
from deploycc.importing.flattening.values import Absent, Scope, Tensors, Value, not_static
from deploycc.importing.flattening.walker import Walker
from deploycc.onnx_editor import attribute


def empty(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SequenceEmpty``."""
    return [Tensors((), int(attribute(node, "dtype", TensorProto.FLOAT)))]


def construct(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SequenceConstruct``."""
    return [Tensors(tuple(map(str, inputs)), walker.elem_type(str(inputs[0])))]


def length(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SequenceLength``."""
    items = _sequence(node, inputs[0]).items
    return [walker.constant(np.array(len(items), np.int64), f"{node.name}/length")]


def at(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SequenceAt``.  With a position of run time: a choice, where all tensors have one shape."""
    items = _sequence(node, inputs[0]).items
    position = str(inputs[1])
    if walker.known(position) is not None:
        return [items[_position(walker, node, position, len(items), len(items) - 1)]]
    shapes = {walker.shape(item) for item in items}
    if len(shapes) != 1 or None in shapes or len({walker.elem_type(item) for item in items}) != 1:
        raise not_static(
            node,
            "which tensor is taken out of a sequence is decided at run time",
            f"a position computed from the inputs ('{position}'), and tensors of different shapes",
            "a constant position, or tensors of one shape",
        )
    whole = stack(walker, scope, node, items)
    scalar = walker.add(scope, node, "Reshape", position, scalar_shape(walker))[0]
    return [*walker.add(scope, node, "Gather", whole, scalar, axis=0)]


def insert(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SequenceInsert``: behind the last one unless a position is given."""
    sequence = _sequence(node, inputs[0])
    items = list(sequence.items)
    where = len(items)
    if len(inputs) > 2 and inputs[2]:
        where = _position(walker, node, str(inputs[2]), len(items), len(items))
    items.insert(where, str(inputs[1]))
    return [Tensors(tuple(items), sequence.elem_type or walker.elem_type(str(inputs[1])))]


def erase(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SequenceErase``: the last one unless a position is given."""
    sequence = _sequence(node, inputs[0])
    items = list(sequence.items)
    where = len(items) - 1
    if len(inputs) > 1 and inputs[1]:
        where = _position(walker, node, str(inputs[1]), len(items), len(items) - 1)
    if not items:
        raise not_static(node, "something is taken out of an empty sequence", "no tensors", "at least one")
    del items[where]
    return [Tensors(tuple(items), sequence.elem_type)]


def split(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``SplitToSequence``: into ones without ``split``, into equal parts and a rest with a number."""
    source = str(inputs[0])
    shape = walker.shape(source)
    if shape is None:
        raise not_static(
            node, "a tensor of unknown size is split into a sequence", f"'{source}'", "a static shape"
        )
    axis = int(attribute(node, "axis", 0)) % len(shape)
    extent, keep = shape[axis], True
    if len(inputs) > 1 and inputs[1]:
        given = walker.known(str(inputs[1]))
        if given is None:
            raise not_static(
                node,
                "the sizes of a split are computed at run time",
                f"'{inputs[1]}' depends on the inputs",
                "constant sizes",
            )
        sizes = [int(size) for size in given.reshape(-1)]
        if given.ndim == 0:
            part = max(1, sizes[0])
            walker.check_length(node, extent // part)
            sizes = [min(part, extent - start) for start in range(0, extent, part)]
    else:
        walker.check_length(node, extent)
        sizes, keep = [1] * extent, bool(attribute(node, "keepdims", 1))
    if sum(sizes) != extent or any(size < 0 for size in sizes):
        raise not_static(
            node, "the sizes of a split do not add up", f"{sizes} of {extent}", f"sizes that make {extent}"
        )
    parts = split_up(walker, scope, node, source, sizes, axis)
    if not keep:
        parts = [without_axis(walker, scope, node, part, axis) for part in parts]
    return [Tensors(tuple(parts), walker.elem_type(source))]


def concatenate(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``ConcatFromSequence``."""
    items = _sequence(node, inputs[0]).items
    axis = int(attribute(node, "axis"))
    if not items:
        raise not_static(node, "an empty sequence is concatenated", "no tensors", "at least one")
    if attribute(node, "new_axis", 0):
        return [stack(walker, scope, node, items, axis)]
    return [*walker.add(scope, node, "Concat", *items, axis=axis)]


def optional(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``Optional``: what is in it, or nothing."""
    return [inputs[0] if inputs and inputs[0] else Absent()]


def has_element(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``OptionalHasElement``; a tensor is one that has."""
    there = bool(inputs) and inputs[0] != "" and not isinstance(inputs[0], Absent)
    return [walker.constant(np.array(there), f"{node.name}/there")]


def get_element(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """``OptionalGetElement``."""
    if isinstance(inputs[0], Absent) or inputs[0] == "":
        raise not_static(
            node, "something is taken out of an optional that holds nothing", "nothing", "an element"
        )
    return [inputs[0]]


def _sequence(node: NodeProto, value: Value) -> Tensors:
    if not isinstance(value, Tensors):
        raise not_static(node, f"{node.op_type} reads what is no sequence", str(value), "a sequence")
    return value


def _position(walker: Walker, node: NodeProto, name: str, count: int, last: int) -> int:
    value = walker.known(name)
    if value is None:
        raise not_static(
            node,
            "the make-up of a sequence is decided at run time",
            f"a position computed from the inputs ('{name}')",
            "a constant position",
        )
    position = int(value.reshape(-1)[0])
    if not -count <= position <= last:
        raise not_static(
            node,
            "a position outside of its sequence",
            f"{position} of {count} tensors",
            f"{-count} to {last}",
        )
    return position + count if position < 0 else position
