"""Images from columns, resized images, and pooling with the places of its maxima."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.banded import band_of
from deploycc.graph_rewrites.interpolation import coordinates
from deploycc.lowering.converters.sampling import agree, in_routine_type, numbers, suffix
from deploycc.lowering.routines import FOLDER, call_routine
from deploycc.relax_graph import constant_value
from deploycc.tvm_api import OnnxOpConverter, importer_converter, relax, te, tirx

_POOLING = FOLDER / "pooling.c"


class Col2Im(OnnxOpConverter):  # type: ignore[misc]
    """Each pixel is the sum of what the blocks that cover it have at its place; any number of dimensions."""

    @classmethod
    def _impl_v18(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        image = [int(extent) for extent in numbers(inputs[1]).tolist()]
        block = [int(extent) for extent in numbers(inputs[2]).tolist()]
        rank = len(image)
        strides, dilations, pads = (
            [int(number) for number in attr.get(name, [neutral] * count)]
            for name, neutral, count in (("strides", 1, rank), ("dilations", 1, rank), ("pads", 0, 2 * rank))
        )
        # How often the block is laid along each axis.
        laid = [
            (image[i] + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
            for i in range(rank)
        ]

        batch, rows, _ = (int(extent) for extent in inputs[0].ty.shape)
        if rows % math.prod(block):
            raise ValueError(f"{rows} rows are no whole number of blocks {block}")
        agree("the input", inputs[0], [batch, rows, math.prod(laid)])

        def gather(data: Any) -> Any:
            taps = [te.reduce_axis((0, extent), f"tap_{i}") for i, extent in enumerate(block)]

            def pixel(n: Any, c: Any, *at: Any) -> Any:
                inside, tap, place = [], tirx.const(0, "int64"), tirx.const(0, "int64")
                for i in range(rank):
                    offset = at[i] + pads[i] - taps[i] * dilations[i]
                    step = tirx.floordiv(offset, strides[i])
                    inside += [step >= 0, step < laid[i], tirx.floormod(offset, strides[i]) == 0]
                    tap, place = tap * block[i] + taps[i], place * laid[i] + step
                value = data[n, c * math.prod(block) + tap, place]
                return te.sum(
                    tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, str(data.dtype))), axis=taps
                )

            return te.compute([batch, rows // math.prod(block), *image], pixel, name="col2im")

        return bb.emit_te(gather, inputs[0])


def _window(shape: Sequence[int], attr: Any) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations, padding in front and results along each spatial axis of a pool."""
    sizes, kernel = list(shape[2:]), [int(extent) for extent in attr["kernel_shape"]]
    rank = len(kernel)
    strides, dilations, pads = (
        [int(number) for number in attr.get(name, [neutral] * count)]
        for name, neutral, count in (("strides", 1, rank), ("dilations", 1, rank), ("pads", 0, 2 * rank))
    )
    automatic = attr.get("auto_pad", b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        results = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
        whole = [
            max(0, (results[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - sizes[i])
            for i in range(rank)
        ]
        fronts = [pad // 2 if automatic == b"SAME_UPPER" else pad - pad // 2 for pad in whole]
        return kernel, strides, dilations, fronts, results
    if automatic == b"VALID":
        pads = [0] * (2 * rank)
    results = []
    for i in range(rank):
        room = sizes[i] + pads[i] + pads[rank + i] - (kernel[i] - 1) * dilations[i] - 1
        count = (-(-room // strides[i]) if attr.get("ceil_mode", 0) else room // strides[i]) + 1
        # A window that would begin behind the image is none.
        results.append(count - (attr.get("ceil_mode", 0) and (count - 1) * strides[i] >= sizes[i] + pads[i]))
    return kernel, strides, dilations, pads[:rank], results


class MaxPool(importer_converter("MaxPool")):  # type: ignore[misc]
    """With the output ``Indices`` a routine, else Relax's own operator.

    An index counts through the whole input tensor; ``storage_order`` 1 counts the places of an image
    column by column, its channels and the batch as before (as ONNX Runtime does).
    """

    @classmethod
    def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        if int(attr.get("tvm_custom", {}).get("num_outputs", 1)) < 2:
            return super()._impl_v1(bb, inputs, attr, params)
        data = in_routine_type(bb, inputs[0])
        shape = [int(extent) for extent in data.ty.shape]
        kernel, strides, dilations, fronts, results = _window(shape, attr)
        missing = [1] * (3 - len(kernel))
        sizes = [*missing, *shape[2:]]
        depth, height, width = sizes
        steps = [height * width, width, 1]
        if attr.get("storage_order", 0):
            # The first spatial axis runs fastest.
            rank = len(kernel)
            steps = [math.prod(shape[2 : 2 + i]) for i in range(rank)]
            steps = [0] * (3 - rank) + steps
        placed = [shape[0], shape[1], *results]
        made = call_routine(
            bb,
            _POOLING,
            f"dcc_max_pool_{suffix(data)}",
            [data],
            [(placed, str(data.ty.dtype)), (placed, "int64")],
            [
                *(shape[0] * shape[1], depth, height, width),
                *(*missing, *results, *missing, *kernel, *missing, *strides, *missing, *dilations),
                *(*(0 for _ in missing), *fronts, *steps),
            ],
        )
        made = bb.emit(made)
        maxima = bb.normalize(relax.op.astype(relax.TupleGetItem(made, 0), str(inputs[0].ty.dtype)))
        return relax.Tuple([maxima, bb.normalize(relax.TupleGetItem(made, 1))])


class MaxUnpool(OnnxOpConverter):  # type: ignore[misc]
    """Values at the places that ``MaxPool`` says, zero elsewhere; a place outside the result is left out."""

    @classmethod
    def _impl_v9(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        values = in_routine_type(bb, inputs[0])
        shape = [int(extent) for extent in values.ty.shape]
        agree("the list of places", inputs[1], shape)
        kernel = [int(extent) for extent in attr["kernel_shape"]]
        rank = len(kernel)
        strides = [int(stride) for stride in attr.get("strides", [1] * rank)]
        pads = [int(pad) for pad in attr.get("pads", [0] * (2 * rank))]
        sizes = [(shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank)]
        if len(inputs) > 2 and inputs[2] is not None:
            sizes = [int(extent) for extent in numbers(inputs[2]).tolist()][-rank:]
        size = [*shape[:2], *sizes]
        made = call_routine(
            bb,
            _POOLING,
            f"dcc_max_unpool_{suffix(values)}",
            [values, inputs[1]],
            [(size, str(values.ty.dtype))],
            [math.prod(shape), math.prod(size)],
        )
        return relax.op.astype(made, str(inputs[0].ty.dtype))


class Resize(importer_converter("Resize")):  # type: ignore[misc]
    """Linear interpolation of integer images by a routine that rounds as ONNX Runtime does."""

    @classmethod
    def _impl_v18(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data = inputs[0]
        shape, dtype = [int(extent) for extent in data.ty.shape], str(data.ty.dtype)
        if attr.get("mode", b"nearest") != b"linear" or dtype not in _INTEGERS or len(shape) != 4:
            return super()._impl_v18(bb, inputs, attr, params)
        given = [constant_value(value) for value in (*inputs, None, None)[2:4] if value is not None]
        chosen = next(value for value in given if value is not None and value.size)
        sizes = [int(size) for size in chosen] if chosen.dtype.kind == "i" else _scaled(shape, chosen)
        mode = attr.get("coordinate_transformation_mode", b"half_pixel").decode()
        across, along = (_neighbours(shape[axis], sizes[axis], mode) for axis in (2, 3))
        places, weights = (np.concatenate([*across[i], *along[i]]) for i in (0, 1))
        return call_routine(
            bb,
            FOLDER / "resizing.c",
            f"dcc_resize_bilinear_{_INTEGERS[dtype]}",
            [data, relax.const(places, "int32"), relax.const(weights, "float32")],
            [([*shape[:2], *sizes[2:]], dtype)],
            [shape[0] * shape[1], *shape[2:], *sizes[2:]],
        )


class MatMul(importer_converter("MatMul")):  # type: ignore[misc]
    """A product with a banded constant matrix, which is what a resized axis is, by a routine.

    Of a row as long as the image only the pixels under a filter count: a dense product would multiply by
    zeros ten times and more.
    """

    @classmethod
    def _impl_v13(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        for place, data in ((0, inputs[1]), (1, inputs[0])):
            matrix, dtype = constant_value(inputs[place]), str(data.ty.dtype)
            if matrix is None or matrix.ndim != 2 or constant_value(data) is not None or data.ty.ndim < 2:
                continue
            band = band_of(matrix if place == 0 else matrix.T) if dtype in ("float32", "float64") else None
            if band is None:
                continue
            starts, weights = band
            shape = [int(extent) for extent in data.ty.shape]
            axis = len(shape) - 2 + place
            result = [*shape[:axis], len(starts), *shape[axis + 1 :]]
            return call_routine(
                bb,
                FOLDER / "banded.c",
                f"dcc_banded_product_{suffix(data)}",
                [data, relax.const(starts, "int32"), relax.const(weights.astype(dtype), dtype)],
                [(result, dtype)],
                [
                    *(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])),
                    *weights.shape,
                ],
            )
        return super()._impl_v13(bb, inputs, attr, params)


_INTEGERS = {"int8": "i8", "uint8": "u8", "int32": "i32"}
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def _scaled(shape: Sequence[int], scales: npt.NDArray[Any]) -> list[int]:
    return [
        math.floor(np.float32(extent) * np.float32(scale))
        for extent, scale in zip(shape, scales, strict=True)
    ]


def _neighbours(before: int, after: int, mode: str) -> tuple[Pair, Pair]:
    """The two neighbours of each sample along an axis, and their weights."""
    where = np.arange(after, dtype=np.float32)
    if before != after:
        scale = float(np.float32(after) / np.float32(before))
        where = coordinates(before, after, scale, mode)
    where = np.clip(where, np.float32(0), np.float32(before - 1))
    first = where.astype(np.int32)
    second = np.minimum(first + 1, before - 1).astype(np.int32)
    far, near = np.abs(where - second.astype(np.float32)), np.abs(where - first.astype(np.float32))
    far[first == second] = near[first == second] = 0.5
    return (first, second), (far.astype(np.float32), near.astype(np.float32))


CONVERTERS: dict[str, type] = {
    "Col2Im": Col2Im,
    "MatMul": MatMul,
    "MaxPool": MaxPool,
    "MaxUnpool": MaxUnpool,
    "Resize": Resize,
}
