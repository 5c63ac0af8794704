"""Nodes that flattening adds: a choice between two values, stacks, and tensors taken apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from deploycc.importing.flattening.values import Scope, Tensors, Value, at_run_time
from deploycc.importing.flattening.walker import Walker

_WHERE_AS: dict[int, int] = {
    TensorProto.BOOL: TensorProto.UINT8,
    TensorProto.INT16: TensorProto.INT32,
    TensorProto.UINT16: TensorProto.INT32,
    TensorProto.UINT64: TensorProto.INT64,
}
"""Types that ONNX Runtime has no ``Where`` for, and the one that holds all of their bits."""


def select(walker: Walker, scope: Scope, owner: NodeProto, condition: str, yes: Value, no: Value) -> Value:
    """``yes`` where the one boolean ``condition`` holds, else ``no``; both have one static shape."""
    if yes == no:
        return yes
    if isinstance(yes, Tensors) and isinstance(no, Tensors) and len(yes.items) == len(no.items):
        pairs = zip(yes.items, no.items, strict=True)
        chosen = [select(walker, scope, owner, condition, a, b) for a, b in pairs]
        return Tensors(tuple(map(str, chosen)), yes.elem_type)
    if not isinstance(yes, str) or not isinstance(no, str) or not yes or not no:
        raise at_run_time(
            owner,
            f"the sides of {owner.op_type} give different kinds of values",
            f"{_kind(yes)} or {_kind(no)}, by a condition that is computed at run time",
            "tensors of one shape on both sides",
            "build one network for each side and let the app choose",
        )
    shapes = walker.shape(yes), walker.shape(no)
    kind = walker.elem_type(yes)
    if shapes[0] is None or shapes[0] != shapes[1] or kind != walker.elem_type(no):
        raise at_run_time(
            owner,
            f"the size of a result of {owner.op_type} is decided at run time",
            f"{_extents(shapes[0])} or {_extents(shapes[1])}, by a condition computed from the inputs",
            "one shape, known in advance, whichever side is taken",
            "pad the smaller side to the larger one's size, or build one network for each side",
        )
    flag = condition
    if walker.shape(condition) != ():
        flag = walker.add(scope, owner, "Reshape", condition, scalar_shape(walker))[0]
    stand_in = _WHERE_AS.get(kind)
    if stand_in is None:
        return walker.add(scope, owner, "Where", flag, yes, no)[0]
    casts = [walker.add(scope, owner, "Cast", name, to=stand_in)[0] for name in (yes, no)]
    return walker.add(scope, owner, "Cast", walker.add(scope, owner, "Where", flag, *casts)[0], to=kind)[0]


def scalar_shape(walker: Walker) -> str:
    """The shape to give to ``Reshape`` for a scalar."""
    return walker.constant(np.zeros(0, np.int64), "scalar")


def stack(walker: Walker, scope: Scope, owner: NodeProto, parts: Sequence[str], axis: int = 0) -> str:
    """The tensors as one with a new axis."""
    rank = len(walker.shape(parts[0]) or ()) + 1
    axis = axis % rank if axis < 0 and walker.shape(parts[0]) is not None else axis
    rows = [_with_axes(walker, scope, owner, "Unsqueeze", part, axis) for part in parts]
    return walker.add(scope, owner, "Concat", *rows, axis=axis)[0]


def without_axis(walker: Walker, scope: Scope, owner: NodeProto, source: str, axis: int) -> str:
    """The tensor without an axis of extent 1."""
    return _with_axes(walker, scope, owner, "Squeeze", source, axis)


def _with_axes(walker: Walker, scope: Scope, owner: NodeProto, op: str, source: str, axis: int) -> str:
    if walker.opset < 13:
        return walker.add(scope, owner, op, source, axes=[axis])[0]
    axes = walker.constant(np.array([axis], np.int64), "axes")
    return walker.add(scope, owner, op, source, axes)[0]


def split_up(
    walker: Walker, scope: Scope, owner: NodeProto, source: str, sizes: Sequence[int], axis: int
) -> list[str]:
    """The parts of a tensor, as long as ``sizes`` along the axis."""
    if len(sizes) < 2:
        return [source] * len(sizes)
    if walker.opset < 13:
        return walker.add(
            scope, owner, "Split", source, outputs=len(sizes), axis=axis, split=[int(size) for size in sizes]
        )
    stored = walker.constant(np.array(sizes, np.int64), "sizes")
    return walker.add(scope, owner, "Split", source, stored, outputs=len(sizes), axis=axis)


def _kind(value: Value) -> str:
    return "a tensor" if isinstance(value, str) else type(value).__name__.lower()


def _extents(shape: tuple[int, ...] | None) -> str:
    return "an unknown size" if shape is None else "x".join(map(str, shape)) or "a scalar"
