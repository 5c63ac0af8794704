"""``Resize`` in the forms the importer reads right, and exact other operators for the rest.

Formulas: the ONNX specification of Resize (coordinate transformations, nearest modes, cubic
weights after Keys 1981 with ``cubic_coeff_a``).  Coordinates are computed in float32, as
ONNX Runtime does, so that ties round the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from deploycc.onnx_editor import Editor, Rewrite, attribute, drop_attribute

MAX_MATRIX = 1 << 22
"""Elements of an interpolation matrix beyond which the product would cost more than it is worth."""

Floats = npt.NDArray[np.float32]


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
    """One resized dimension: extents before and after, and the scale that places the samples."""

    index: int
    before: int
    after: int
    scale: float


def resize_by_axis(editor: Editor) -> int:
    """What the importer gets wrong in ``Resize`` becomes ``Gather`` (nearest) or ``MatMul`` an axis.

    That is: scales that lead to no whole number, resized batch or channels, aspect policies,
    ``half_pixel_symmetric``, ``align_corners`` to one pixel, ranks other than 3 to 5.  Linear
    and cubic interpolation are separable and linear, so a constant matrix an axis is exact.

    Refuses cropping, antialiasing, sizes computed at run time, interpolation of anything but
    float32, matrices of more than ``MAX_MATRIX`` elements, and what ONNX itself is not of one mind about.
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
    if shape is None or attribute(node, "axes") is not None:
        return None
    if attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize" or attribute(
        node, "antialias", 0
    ):
        return None
    scales = editor.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    sizes = editor.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if scales is not None and scales.size == len(shape):
        factors = [float(value) for value in scales]
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            return None
        after = [
            math.floor(extent * np.float32(factor)) for extent, factor in zip(shape, factors, strict=True)
        ]
    elif sizes is not None and sizes.size == len(shape):
        after = [int(value) for value in sizes]
        policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
        factors = [size / extent for size, extent in zip(after, shape, strict=True)]
        if policy != "stretch":
            common = min(factors) if policy == "not_larger" else max(factors)
            factors = [common] * len(shape)
            after = [math.floor(common * extent + 0.5) for extent in shape]
    else:
        return None
    rows = zip(shape, after, factors, strict=True)
    axes = [_Axis(i, before, m, scale) for i, (before, m, scale) in enumerate(rows)]
    if any(axis.after < 1 for axis in axes):
        return None
    return [axis for axis in axes if axis.before != axis.after or axis.scale != 1.0]


def _fractional(axis: _Axis) -> bool:
    return abs(axis.scale * axis.before - axis.after) > 1e-6 * axis.after


def _disputed(node: NodeProto, axes: list[_Axis]) -> bool:
    """``align_corners`` by a scale that leads to no whole number.

    onnx's tests divide by the size before it is rounded down, ONNX Runtime by the one after.
    """
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    return mode == "align_corners" and any(axis.after > 1 and _fractional(axis) for axis in axes)


def _needs_it(node: NodeProto, axes: list[_Axis], editor: Editor) -> bool:
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rank = len(editor.shape(node.input[0]) or ())
    return (
        any(axis.index < 2 for axis in axes)
        or rank not in (3, 4, 5)
        or mode == "half_pixel_symmetric"
        or attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch"
        or (mode == "align_corners" and any(axis.after == 1 for axis in axes))
        or any(map(_fractional, axes))
    )


def _rewritten(editor: Editor, node: NodeProto, axes: list[_Axis]) -> bool:
    mode = attribute(node, "mode", "nearest")
    if mode != "nearest" and (
        editor.dtype(node.input[0]) != "float32" or any(a.before * a.after > MAX_MATRIX for a in axes)
    ):
        return False
    placing = attribute(node, "coordinate_transformation_mode", "half_pixel")
    rank = len(editor.shape(node.input[0]) or ())
    new = Rewrite(editor, node)
    at = node.input[0]
    for axis in axes:
        output = node.output[0] if axis is axes[-1] else editor.fresh(f"{node.output[0]}/axis{axis.index}")
        where = coordinates(axis.before, axis.after, axis.scale, placing)
        if mode == "nearest":
            picked = nearest(where, attribute(node, "nearest_mode", "round_prefer_floor"), axis.before)
            new.add("Gather", at, new.constant(picked), output=output, axis=axis.index)
        else:
            weights = interpolation_matrix(
                where,
                axis.before,
                cubic=attribute(node, "cubic_coeff_a", -0.75) if mode == "cubic" else None,
                exclude_outside=bool(attribute(node, "exclude_outside", 0)),
            )
            _product(new, at, output, axis.index, rank, weights)
        at = output
    new.done()
    return True


def _product(new: Rewrite, source: str, target: str, axis: int, rank: int, weights: Floats) -> None:
    """``target[..., m, ...] = sum over n of weights[m, n] * source[..., n, ...]`` along ``axis``."""
    if axis == rank - 2:
        new.add("MatMul", new.constant(weights), source, output=target)
        return
    right = new.constant(np.ascontiguousarray(weights.T))
    if axis == rank - 1:
        new.add("MatMul", source, right, output=target)
        return
    swap = list(range(rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    multiplied = new.add("MatMul", new.add("Transpose", source, perm=swap), right)
    new.add("Transpose", multiplied, output=target, perm=swap)


def coordinates(before: int, after: int, scale: float, mode: str) -> Floats:
    """Where each of the ``after`` samples lies among the ``before`` ones."""
    at = np.arange(after, dtype=np.float32)
    factor = np.float32(scale)
    half = np.float32(0.5)
    if mode == "asymmetric":
        return (at / factor).astype(np.float32)
    if mode == "align_corners":
        step = np.float32(before - 1) / np.float32(after - 1) if after > 1 else np.float32(0)
        return (at * step).astype(np.float32)
    if mode == "pytorch_half_pixel" and after == 1:
        return np.zeros(1, np.float32)
    centred = ((at + half) / factor - half).astype(np.float32)
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(after) / np.float32(factor * np.float32(before))
        centred += np.float32(before) / np.float32(2) * (np.float32(1) - adjustment)
    return centred


def nearest(where: Floats, rounding: str, extent: int) -> npt.NDArray[np.int64]:
    """The index read for each sample: rounded as ``nearest_mode`` says, and inside the image."""
    half = np.float32(0.5)
    rounded = {
        "floor": np.floor(where),
        "ceil": np.ceil(where),
        "round_prefer_ceil": np.floor(where + half),
    }.get(rounding, np.ceil(where - half))
    indices: npt.NDArray[np.int64] = np.clip(rounded, 0, extent - 1).astype(np.int64)
    return indices


def interpolation_matrix(where: Floats, extent: int, cubic: float | None, exclude_outside: bool) -> Floats:
    """Weights ``[samples, extent]`` of linear (``cubic=None``) or cubic interpolation at ``where``.

    Taps beyond the edge take the edge's value, or are left out with the rest scaled to sum 1.
    """
    weights = np.zeros((len(where), extent), np.float64)
    for row, x in enumerate(where):
        base = math.floor(x)
        ratio = float(x) - base
        if cubic is None:
            taps = {base: 1.0 - ratio, base + 1: ratio}
        else:
            taps = dict(zip(range(base - 1, base + 3), _cubic_weights(ratio, cubic), strict=True))
        if exclude_outside and cubic is not None:
            taps = {index: weight for index, weight in taps.items() if 0 <= index < extent}
            total = sum(taps.values())
            taps = {index: weight / total for index, weight in taps.items()}
        for index, weight in taps.items():
            weights[row, min(max(index, 0), extent - 1)] += weight
    return weights.astype(np.float32)


def _cubic_weights(t: float, a: float) -> list[float]:
    return [
        ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
        ((a + 2) * t - (a + 3)) * t * t + 1,
        ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1,
        ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a,
    ]
