"""Resizing an image as numbers: which elements of an axis make one of the result's, with which weights.

Coordinates are in float32, step by step as ONNX Runtime computes them (``upsample.cc``: weights of a wide row
would else differ in the fifth digit); which element is nearest is decided as in TVM's
``topi.image.resize2d``, for which the linter knows where it would be another.  Nearest takes one element,
linear two, cubic four (Keys' kernel, as in ONNX's Resize).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.relax_graph import constant, static_shape
from deploycc.scheduling.kernel import TASK_ANNOTATION, child_blocks
from deploycc.scheduling.primitives import inline_elementwise
from deploycc.scheduling.written.strides import loads_of
from deploycc.scheduling.written.writing import FusedKernel, NotWritable
from deploycc.tvm_api import te

RESAMPLE_ANNOTATION = "deploycc.resample"
"""On the block of a resize: its ``Resampling`` as JSON."""

MODES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")
ROUNDING = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
NEAR = np.float32(1e-5)
"""What TVM adds before it rounds down, so that 2.9999998 is 3."""

Indices = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Resampling:
    """How an image is resized; ``last`` says that its channels lie last (NHWC)."""

    method: str
    mode: str
    rounding: str
    cubic: float
    exclude: bool
    last: bool

    @classmethod
    def of(cls, call: Any) -> Resampling | None:
        """The resampling of a Relax call of ``image.resize2d``, ``None`` where it is another's to compute."""
        attributes = call.attrs
        found = cls(
            str(attributes.method),
            str(attributes.coordinate_transformation_mode),
            str(attributes.rounding_method),
            float(attributes.cubic_alpha),
            bool(attributes.cubic_exclude),
            str(attributes.layout) == "NHWC",
        )
        known = found.mode in MODES and str(attributes.layout) in ("NCHW", "NHWC")
        if found.method == "nearest_neighbor":
            known = known and found.rounding in ROUNDING
        else:
            known = known and found.method in ("linear", "cubic")
        dtypes = {str(call.args[0].ty.dtype), str(call.ty.dtype)}
        return found if known and dtypes == {"float32"} else None

    def table(self, extent: int, out: int) -> tuple[Indices, Weights]:
        """What element ``i`` of the result's axis is made of: indices and weights [elements, out]."""
        place = self._coordinates(extent, out)
        if self.method == "nearest_neighbor":
            chosen = self._rounded(place, extent, out)
            return np.clip(chosen, 0, extent - 1)[None].astype(np.int32), np.ones((1, out), np.float32)
        whole = np.floor(place)
        part = (place - whole).astype(np.float32)
        first, weights = (0, [1 - part, part]) if self.method == "linear" else (-1, self._cubic(part))
        places = np.stack([whole + first + number for number in range(len(weights))]).astype(np.int64)
        table = np.stack(weights).astype(np.float32)
        if self.method == "cubic" and self.exclude:
            table = np.where((places < 0) | (places >= extent), np.float32(0), table)
            table = (table / table.sum(0)).astype(np.float32)
        return np.clip(places, 0, extent - 1).astype(np.int32), table

    def _coordinates(self, extent: int, out: int) -> Weights:
        x, half = np.arange(out).astype(np.float32), np.float32(0.5)
        if self.mode == "align_corners":
            first, last = np.float32(extent - 1), np.float32(max(out - 1, 1))
            return x * (first / last) if self.method == "nearest_neighbor" else x * first / last
        if self.mode == "pytorch_half_pixel" and out == 1:
            return np.zeros(1, np.float32)
        if self.mode != "asymmetric":
            x = x + half
        if self.method == "nearest_neighbor":
            x = x * (np.float32(extent) / np.float32(out))
        else:
            x = x / (np.float32(out) / np.float32(extent))
        return x if self.mode in ("asymmetric", "tf_half_pixel_for_nn") else x - half

    def _rounded(self, place: Weights, extent: int, out: int) -> npt.NDArray[np.int64]:
        if self.mode == "asymmetric" and self.rounding == "floor" and out % extent == 0:
            return np.arange(out) // (out // extent)
        half = np.float32(0.5)
        added, down = {
            "floor": (NEAR, True),
            "ceil": (-NEAR, False),
            "round_prefer_floor": (-half, False),
            "round_prefer_ceil": (half, True),
        }[self.rounding]
        rounded: npt.NDArray[np.int64] = (np.floor if down else np.ceil)(place + added).astype(np.int64)
        return rounded

    def _cubic(self, part: Weights) -> list[Weights]:
        a, t, t2 = np.float32(self.cubic), part, part * part
        t3 = t2 * t
        return [
            a * (t3 - 2 * t2 + t),
            (a + 2) * t3 - (3 + a) * t2 + 1,
            -(a + 2) * t3 + (3 + 2 * a) * t2 - a * t,
            -a * t3 + a * t2,
        ]


def emit_resize(builder: Any, call: Any, resampling: Resampling) -> Any:
    """A tensor program for ``call`` that reads indices and weights from tables, constants of the network."""
    axes = (1, 2) if resampling.last else (2, 3)
    shape, given = static_shape(call), static_shape(call.args[0])
    tables = [array for axis in axes for array in resampling.table(given[axis], shape[axis])]
    weighted = len(tables[0]) > 1

    def define(data: Any, rows: Any, row_weights: Any, columns: Any, column_weights: Any) -> Any:
        def element(*index: Any) -> Any:
            y, x = (index[axis] for axis in axes)
            total = None
            for k in range(int(rows.shape[0])):
                for m in range(int(columns.shape[0])):
                    place = list(index)
                    place[axes[0]] = rows[k, y].astype("int64")
                    place[axes[1]] = columns[m, x].astype("int64")
                    value = data[tuple(place)]
                    if weighted:
                        value = value * (row_weights[k, y] * column_weights[m, x])
                    total = value if total is None else total + value
            return total

        attributes = {RESAMPLE_ANNOTATION: json.dumps(asdict(resampling))}
        return te.compute(shape, element, name="resample", attrs=attributes)

    return builder.call_te(define, call.args[0], *map(constant, tables), primfunc_name_hint="resize2d")


@dataclass(frozen=True)
class Resize:
    """A resize in a kernel: its tables as numbers, and the buffers that have them.

    ``weights`` has no buffers where the nearest element is taken.
    """

    resampling: Resampling
    rows: tuple[Indices, Weights]
    columns: tuple[Indices, Weights]
    indices: tuple[Any, Any]
    weights: tuple[Any, Any] | None


def read_resize(sch: Any) -> tuple[Resize, FusedKernel]:
    """The resize of the kernel that ``sch`` is a schedule of, and what is fused behind it.

    Raises ``NotWritable`` where there is none that ``emit_resize`` made, or more stands around it.
    """
    blocks = [b for b in child_blocks(sch) if RESAMPLE_ANNOTATION in sch.get(b).annotations]
    if len(blocks) != 1:
        raise NotWritable(f"{len(blocks)} resizes of images")
    resampling = Resampling(**json.loads(str(sch.get(blocks[0]).annotations[RESAMPLE_ANNOTATION])))
    sch.annotate(blocks[0], TASK_ANNOTATION, 0)
    inline_elementwise(sch)
    node = sch.get(blocks[0])
    loads = loads_of(node.body.value)
    image = next(load for load in loads if len(load.source.ty.shape) == 4)
    axes = (1, 2) if resampling.last else (2, 3)
    found = [loads_of(image.indices[axis]) for axis in axes]
    if any(len(part) != 1 for part in found):
        raise NotWritable("indices are not read from tables")
    weights: list[Any] = []
    for load in loads:
        table = len(load.source.ty.shape) == 2 and str(load.source.ty.dtype) == "float32"
        if table and not any(load.source.same_as(other) for other in weights):
            weights.append(load.source)
    kernel = FusedKernel.behind(sch, image.source, None, node, [node])
    if not any(image.source.same_as(parameter) for parameter in kernel.function.params):
        raise NotWritable("what is resized is computed in the same kernel")
    given, out = ([int(b.ty.shape[axis]) for axis in axes] for b in (image.source, node.writes[0].source))
    rows, columns = (resampling.table(*pair) for pair in zip(given, out, strict=True))
    if len(rows[0]) > 1 and not weights:
        raise NotWritable("weights are not read from tables")
    buffers = (weights[0], weights[-1]) if len(rows[0]) > 1 else None
    return Resize(resampling, rows, columns, (found[0][0].source, found[1][0].source), buffers), kernel
