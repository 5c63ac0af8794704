"""``Resize`` in the forms the importer reads right, and exact other operators for the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from deploycc.graph_rewrites.interpolation import (
    Floats,
    antialias_matrix,
    coordinates,
    cropped_coordinates,
    interpolation_matrix,
    nearest,
)
from deploycc.onnx_editor import Editor, Rewrite, attribute, drop_attribute

MAX_MATRIX = 1 << 22
"""Elements of an interpolation matrix beyond which the product would cost more than it is worth."""

_LARGEST_EXTENT = float(1 << 31)


def drop_empty_resize_inputs(editor: Editor) -> int:
    """Empty ``roi``, ``scales`` and ``sizes`` constants become absent inputs.

    Old exporters write them; the importer takes an empty ``scales`` beside ``sizes`` for a
    present one.  ONNX gives an empty tensor and an absent input one meaning; refuses opsets before 13,
    in which ``roi`` and ``scales`` may be empty and not absent.
    """
    changed = 0
    for node in editor.nodes:
        if node.op_type != "Resize" or node.domain or editor.opset < 13:
            continue
        for index in range(1, len(node.input)):
            value = editor.constant(node.input[index]) if node.input[index] else None
            if value is not None and value.size == 0:
                node.input[index] = ""
                changed += 1
        while node.input and not node.input[-1]:
            del node.input[-1]
    return changed


def name_all_resize_axes(editor: Editor) -> int:
    """``Resize`` with the attribute ``axes`` gets scales or sizes for every dimension instead.

    Refuses cropping, aspect policies, sizes computed at run time and inputs of unknown shape.
    """
    changed = 0
    for node in editor.nodes:
        axes = attribute(node, "axes") if node.op_type == "Resize" and not node.domain else None
        shape = editor.shape(node.input[0]) if axes is not None else None
        if (
            axes is None
            or shape is None
            or attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch"
        ):
            continue
        if attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
            continue
        slot = 3 if len(node.input) > 3 and node.input[3] else 2
        given = editor.constant(node.input[slot]) if len(node.input) > slot and node.input[slot] else None
        if given is None:
            continue
        full = np.ones(len(shape), np.float32) if slot == 2 else np.array(shape, np.int64)
        full[[axis % len(shape) for axis in axes]] = given
        node.input[slot] = editor.add_constant(f"{node.name}/resize", full)
        drop_attribute(node, "axes")
        changed += 1
    return changed


def upsample_to_resize(editor: Editor) -> int:
    """``Upsample`` becomes ``Resize`` with asymmetric coordinates rounded down, which is its definition.

    Refuses scales computed at run time and opsets without that ``Resize`` (before 11).
    """
    changed = 0
    for node in list(editor.nodes):
        if node.op_type != "Upsample" or node.domain or editor.opset < 11:
            continue
        scales = editor.constant(node.input[1]) if len(node.input) > 1 else None
        if scales is None:
            continue
        new = Rewrite(editor, node)
        new.add(
            "Resize",
            *(node.input[0], "", node.input[1]),
            output=node.output[0],
            mode=attribute(node, "mode", "nearest"),
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        new.done()
        changed += 1
    return changed


@dataclass(frozen=True)
class _Axis:
    """One resized dimension: extents before and after, and the scale that places the samples.

    ``part`` is where the crop box begins and ends along it, as shares of the extent.
    """

    index: int
    before: int
    after: int
    scale: float
    part: tuple[float, float] = (0.0, 1.0)


def resize_by_axis(editor: Editor) -> int:
    """What the importer gets wrong in ``Resize`` becomes ``Gather`` (nearest) or ``MatMul`` an axis.

    That is: scales that lead to no whole number, resized batch or channels, aspect policies, antialiasing,
    crop boxes, ``half_pixel_symmetric``, ``align_corners`` to one pixel, ranks other than 3 to 5.  Linear
    and cubic interpolation are separable and linear, so a constant matrix an axis is exact.

    Refuses sizes and crop boxes computed at run time, interpolation of integers, matrices of more than
    ``MAX_MATRIX`` elements, and what ONNX itself is not of one mind about.
    """
    changed = 0
    for node in list(editor.nodes):
        if node.op_type != "Resize" or node.domain or editor.opset < 13:
            continue
        axes = _axes(editor, node)
        if not axes or _disputed(node, axes) or not _needs_it(node, axes, editor):
            continue
        if _rewritten(editor, node, axes):
            changed += 1
    return changed


def _axes(editor: Editor, node: NodeProto) -> list[_Axis] | None:
    shape = editor.shape(node.input[0])
    if shape is None:
        return None
    rank = len(shape)
    named = [axis % rank for axis in attribute(node, "axes", range(rank))]
    part = _crop_box(editor, node, named, rank)
    scales = editor.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    sizes = editor.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    factors, after = [1.0] * rank, list(shape)
    if part is None:
        return None
    if scales is not None and scales.size == len(named):
        for axis, factor in zip(named, scales.reshape(-1).tolist(), strict=True):
            if not (factor > 0 and shape[axis] * factor < _LARGEST_EXTENT):
                return None
            factors[axis], after[axis] = factor, math.floor(shape[axis] * np.float32(factor))
    elif sizes is not None and sizes.size == len(named):
        wanted = {axis: int(size) for axis, size in zip(named, sizes.reshape(-1).tolist(), strict=True)}
        ratios = [size / shape[axis] for axis, size in wanted.items()]
        policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
        common = min(ratios) if policy == "not_larger" else max(ratios)
        for axis, size in wanted.items():
            stretched = policy == "stretch"
            factors[axis] = size / shape[axis] if stretched else common
            after[axis] = size if stretched else math.floor(common * shape[axis] + 0.5)
    else:
        return None
    axes = [_Axis(i, shape[i], after[i], factors[i], part[i]) for i in range(rank)]
    if any(axis.after < 1 for axis in axes):
        return None
    if attribute(node, "antialias", 0):
        return [axis for axis in axes if axis.before != axis.after]
    return [
        axis for axis in axes if axis.before != axis.after or axis.scale != 1.0 or axis.part != (0.0, 1.0)
    ]


def _crop_box(
    editor: Editor, node: NodeProto, named: list[int], rank: int
) -> list[tuple[float, float]] | None:
    """Where the box of ``tf_crop_and_resize`` begins and ends along each axis; ``None`` if not constant."""
    part = [(0.0, 1.0)] * rank
    if attribute(node, "coordinate_transformation_mode") != "tf_crop_and_resize":
        return part
    box = editor.constant(node.input[1]) if node.input[1] else None
    if box is None or box.size != 2 * len(named):
        return None
    corners = box.reshape(-1)
    for place, axis in enumerate(named):
        part[axis] = float(corners[place]), float(corners[len(named) + place])
    return part


def _fractional(axis: _Axis) -> bool:
    return abs(axis.scale * axis.before - axis.after) > 1e-6 * axis.after


def _disputed(node: NodeProto, axes: list[_Axis]) -> bool:
    """What implementations differ in.

    ``align_corners`` by a scale that leads to no whole number: onnx's tests divide by the size before it is
    rounded down, ONNX Runtime by the one after.  A crop box along an axis that keeps its extent: ONNX
    Runtime then leaves the axis as it is.
    """
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if mode == "tf_crop_and_resize":
        return any(axis.scale == 1.0 and axis.part != (0.0, 1.0) for axis in axes)
    return mode == "align_corners" and any(axis.after > 1 and _fractional(axis) for axis in axes)


def _needs_it(node: NodeProto, axes: list[_Axis], editor: Editor) -> bool:
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rank = len(editor.shape(node.input[0]) or ())
    return (
        any(axis.index < 2 for axis in axes)
        or rank not in (3, 4, 5)
        or mode in ("half_pixel_symmetric", "tf_crop_and_resize")
        or attribute(node, "antialias", 0) == 1
        or attribute(node, "axes") is not None
        or attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch"
        or (mode == "align_corners" and any(axis.after == 1 for axis in axes))
        or any(map(_fractional, axes))
    )


def _rewritten(editor: Editor, node: NodeProto, axes: list[_Axis]) -> bool:
    mode = attribute(node, "mode", "nearest")
    dtype = editor.dtype(node.input[0])
    if mode == "nearest" and attribute(node, "antialias", 0):
        return False
    if mode != "nearest" and (
        dtype not in ("float16", "float32", "float64") or any(a.before * a.after > MAX_MATRIX for a in axes)
    ):
        return False
    placing = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rank = len(editor.shape(node.input[0]) or ())
    new = Rewrite(editor, node)
    # Sums of half precision would round at each axis.
    half = dtype == "float16" and mode != "nearest"
    at = new.add("Cast", node.input[0], to=TensorProto.FLOAT) if half else node.input[0]
    outside: npt.NDArray[np.bool_] = np.zeros((1,) * rank, np.bool_)
    for axis in axes:
        if placing == "tf_crop_and_resize":
            where = cropped_coordinates(axis.before, axis.after, *axis.part)
            beyond = np.less(where, 0) | np.greater(where, axis.before - 1)
            outside = outside | beyond.reshape([-1 if i == axis.index else 1 for i in range(rank)])
        else:
            where = coordinates(axis.before, axis.after, axis.scale, placing)
        if mode == "nearest":
            picked = nearest(where, attribute(node, "nearest_mode", "round_prefer_floor"), axis.before)
            at = new.add("Gather", at, new.constant(picked), axis=axis.index)
        else:
            weights = _weights(node, axis, where).astype(np.float64 if dtype == "float64" else np.float32)
            at = _product(new, at, axis.index, rank, weights)
    if outside.any():
        value = np.array(attribute(node, "extrapolation_value", 0.0), np.float32 if half else dtype)
        at = new.add("Where", new.constant(outside), new.constant(value), at)
    if half:
        at = new.add("Cast", at, to=TensorProto.FLOAT16)
    new.done(node.output[0])
    return True


def _weights(node: NodeProto, axis: _Axis, where: Floats) -> Floats:
    cubic = attribute(node, "cubic_coeff_a", -0.75) if attribute(node, "mode") == "cubic" else None
    exclude_outside = bool(attribute(node, "exclude_outside", 0))
    if attribute(node, "antialias", 0):
        return antialias_matrix(where, axis.before, axis.scale, cubic, exclude_outside)
    return interpolation_matrix(where, axis.before, cubic, exclude_outside)


def _product(new: Rewrite, source: str, axis: int, rank: int, weights: npt.NDArray[Any]) -> str:
    """``target[..., m, ...] = sum over n of weights[m, n] * source[..., n, ...]`` along ``axis``."""
    if axis == rank - 2:
        return new.add("MatMul", new.constant(weights), source)
    right = new.constant(np.ascontiguousarray(weights.T))
    if axis == rank - 1:
        return new.add("MatMul", source, right)
    swap = list(range(rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    multiplied = new.add("MatMul", new.add("Transpose", source, perm=swap), right)
    return new.add("Transpose", multiplied, perm=swap)
