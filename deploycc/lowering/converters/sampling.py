"""Samples at coordinates that are known only at run time, by routines that read nothing outside the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from deploycc.lowering.routines import FOLDER, call_routine
from deploycc.relax_graph import Array, constant_value
from deploycc.tvm_api import OnnxOpConverter, relax

_SOURCE = FOLDER / "sampling.c"


def in_routine_type(bb: Any, value: Any) -> Any:
    """``value`` in a type that routines have: float16 as float32, which holds it exactly."""
    return bb.normalize(relax.op.astype(value, "float32")) if str(value.ty.dtype) == "float16" else value


def suffix(value: Any) -> str:
    """Which of a routine's functions is for the element type of ``value``."""
    return {"float32": "f32", "float64": "f64", "int8": "i8", "uint8": "u8"}[str(value.ty.dtype)]


def numbers(value: Any) -> Array:
    """The elements of a parameter.  Raises ``ValueError`` if it is computed at run time."""
    known = constant_value(value)
    if known is None:
        raise ValueError("a parameter is computed at run time")
    return known


def agree(what: str, value: Any, shape: Sequence[int]) -> None:
    """Raises ``ValueError`` unless ``value`` has the ``shape`` a routine will read of it.

    A routine checks nothing, and nobody but ONNX Runtime has looked at these extents before.
    """
    have = [int(extent) for extent in value.ty.shape]
    if have != list(shape):
        raise ValueError(f"{what} is {have}, where the other inputs need {list(shape)}")


class DeformConv(OnnxOpConverter):  # type: ignore[misc]
    """What each kernel tap reads, by a routine, and a matrix product with the weights.

    The taps are sampled bilinearly at their place plus an offset; outside the image is zero (Dai et al.,
    Deformable Convolutional Networks, 2017), and a mask multiplies them (Zhu et al., 2019).
    """

    @classmethod
    def _impl_v19(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, weight, offset, bias, mask = (*inputs, None, None)[:5]
        dtype = str(data.ty.dtype)
        image, shift = in_routine_type(bb, data), in_routine_type(bb, offset)
        scale = shift if mask is None else in_routine_type(bb, mask)
        batch, channels, height, width = (int(extent) for extent in data.ty.shape)
        filters, members, kernel_height, kernel_width = (int(extent) for extent in weight.ty.shape)
        rows, columns = (int(extent) for extent in list(offset.ty.shape)[2:])
        pads = [int(pad) for pad in attr.get("pads", [0, 0, 0, 0])]
        groups, kernel = int(attr.get("group", 1)), kernel_height * kernel_width
        parts = int(attr.get("offset_group", 1))
        if channels % parts or filters % groups:
            raise ValueError(f"{channels} channels in {parts} parts, {filters} filters in {groups} groups")
        agree("the weight", weight, [filters, channels // groups, kernel_height, kernel_width])
        agree("the offset", offset, [batch, parts * kernel * 2, rows, columns])
        if mask is not None:
            agree("the mask", mask, [batch, parts * kernel, rows, columns])
        if bias is not None:
            agree("the bias", bias, [filters])
        sampled = call_routine(
            bb,
            _SOURCE,
            f"dcc_deform_columns_{suffix(image)}",
            [image, shift, scale],
            [((batch, channels, kernel, rows * columns), str(image.ty.dtype))],
            [
                *(int(mask is not None), batch, channels, height, width, parts),
                *(kernel_height, kernel_width, rows, columns),
                *(int(stride) for stride in attr.get("strides", [1, 1])),
                *(int(dilation) for dilation in attr.get("dilations", [1, 1])),
                *pads[:2],
            ],
        )
        taps = members * kernel
        # As few axes as there are: a plain product is scheduled best.
        outer = [extent for extent in (batch, groups) if extent > 1]
        flat = bb.normalize(relax.op.reshape(sampled, [*outer, taps, rows * columns]))
        front = [groups] if groups > 1 else []
        matrix = in_routine_type(bb, weight)
        matrix = bb.normalize(relax.op.reshape(matrix, [*front, filters // groups, taps]))
        made = bb.normalize(relax.op.matmul(matrix, flat))
        made = bb.normalize(relax.op.reshape(made, [batch, filters, rows, columns]))
        if bias is not None:
            column = relax.op.reshape(in_routine_type(bb, bias), [1, filters, 1, 1])
            made = bb.normalize(relax.op.add(made, bb.normalize(column)))
        return relax.op.astype(made, dtype)


class RoiAlign(OnnxOpConverter):  # type: ignore[misc]
    """Means or maxima of bilinear samples of boxes (He et al., Mask R-CNN, 2017).

    The maximum is one of the weighted neighbours of the samples, as ONNX Runtime and onnx's evaluator
    have it.  A box of an image that there is not is taken from the nearest image that there is.
    """

    @classmethod
    def _impl_v10(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        return cls._aligned(bb, inputs, attr, half_pixel=False)

    @classmethod
    def _impl_v16(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        half = attr.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
        return cls._aligned(bb, inputs, attr, half_pixel=half)

    @classmethod
    def _aligned(cls, bb: Any, inputs: Any, attr: Any, half_pixel: bool) -> Any:
        dtype = str(inputs[0].ty.dtype)
        data, boxes = (in_routine_type(bb, value) for value in inputs[:2])
        batch, channels, height, width = (int(extent) for extent in data.ty.shape)
        count = int(boxes.ty.shape[0])
        rows, columns = int(attr.get("output_height", 1)), int(attr.get("output_width", 1))
        agree("the list of boxes", boxes, [count, 4])
        agree("the list of their images", inputs[2], [count])
        made = call_routine(
            bb,
            _SOURCE,
            f"dcc_roi_align_{suffix(data)}",
            [data, boxes, inputs[2]],
            [((count, channels, rows, columns), str(data.ty.dtype))],
            [
                *(batch, channels, height, width, count, rows, columns, int(attr.get("sampling_ratio", 0))),
                *(int(attr.get("mode", b"avg") == b"max"), int(half_pixel)),
                float(attr.get("spatial_scale", 1.0)),
            ],
        )
        return relax.op.astype(made, dtype)


class MaxRoiPool(OnnxOpConverter):  # type: ignore[misc]
    """The largest pixel of each bin of boxes at whole pixels (Girshick, Fast R-CNN, 2015)."""

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, boxes = (in_routine_type(bb, value) for value in inputs)
        batch, channels, height, width = (int(extent) for extent in data.ty.shape)
        count = int(boxes.ty.shape[0])
        agree("the list of boxes", boxes, [count, 5])
        rows, columns = (int(extent) for extent in attr["pooled_shape"])
        made = call_routine(
            bb,
            _SOURCE,
            f"dcc_max_roi_pool_{suffix(data)}",
            [data, boxes],
            [((count, channels, rows, columns), str(data.ty.dtype))],
            [batch, channels, height, width, count, rows, columns, float(attr.get("spatial_scale", 1.0))],
        )
        return relax.op.astype(made, str(inputs[0].ty.dtype))


class GridSample(OnnxOpConverter):  # type: ignore[misc]
    """Samples of images and volumes at the places of a grid, which are worked out once for all channels.

    The cubic weights are Keys' with a = -0.75.
    """

    @classmethod
    def _impl_v16(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data, grid = (in_routine_type(bb, value) for value in inputs)
        shape, places = ([int(extent) for extent in value.ty.shape] for value in (data, grid))
        axes = len(shape) - 2
        agree("the grid", grid, [shape[0], *places[1:-1], axes])
        if axes not in (2, 3) or len(places) != axes + 2 or str(grid.ty.dtype) != str(data.ty.dtype):
            raise ValueError(f"a grid of {places} for an input of {shape}, or of another type")
        mode = attr.get("mode", b"linear").decode().removeprefix("bi")
        made = call_routine(
            bb,
            FOLDER / "grid.c",
            f"dcc_grid_sample_{suffix(data)}",
            [data, grid],
            [((*shape[:2], *places[1:-1]), str(data.ty.dtype))],
            [
                *(*shape[:2], *[1] * (3 - axes), *shape[2:], math.prod(places[1:-1]), axes),
                ("nearest", "linear", "cubic").index(mode),
                (b"zeros", b"border", b"reflection").index(attr.get("padding_mode", b"zeros")),
                int(attr.get("align_corners", 0)),
            ],
        )
        return relax.op.astype(made, str(inputs[0].ty.dtype))


CONVERTERS: dict[str, type] = {
    "DeformConv": DeformConv,
    "GridSample": GridSample,
    "MaxRoiPool": MaxRoiPool,
    "RoiAlign": RoiAlign,
}
