"""Detectors in small, written by hand: what an export of a two-stage one and of a YOLO looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper, parser

from deploycc.onnx_graph import Array, infer_shapes, opset_of, tensor_info
from deploycc.types import Model

TWO_STAGE = """
g (float[1,3,32,32] image) => (float[n,2] classes, float[n,4] boxes, float[n,4] shifts)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] most = {40}, int64[2] four = {-1, 4},
 int64[2] flat = {1, -1}, float[1] iou = {0.3}, float[1] low = {0.55}, float side = {8.0},
 int64 box_column = {2}, int64[1] rest = {-1}, int64[1] nothing = {0}>
{
  stem = Conv<pads=[1,1,1,1], strides=[2,2]>(image, stem_w)
  features = Relu(stem)
  deep = Conv<pads=[1,1,1,1], strides=[2,2]>(features, deep_w)
  backbone = Relu(deep)
  scores_map = Conv(backbone, score_w)
  shift_map = Conv(backbone, shift_w)
  scores_lively = Asinh(scores_map)
  scores_flat = Reshape(scores_lively, flat)
  scores = Sigmoid(scores_flat)
  shift_rows = Transpose<perm=[0,2,3,1]>(shift_map)
  shift_list = Reshape(shift_rows, four)
  shift_bounded = Tanh(shift_list)
  shift_pixels = Mul(shift_bounded, side)
  corners = Add(shift_pixels, anchors)
  all_boxes = Unsqueeze(corners, zero)
  all_scores = Unsqueeze(scores, zero)
  found = NonMaxSuppression(all_boxes, all_scores, most, iou, low)
  which = Gather<axis=1>(found, box_column)
  boxes = Gather<axis=0>(corners, which)
  count = Shape<start=0, end=1>(boxes)
  image_of = Expand(nothing, count)
  crops = RoiAlign<output_height=4, output_width=4, spatial_scale=0.25, sampling_ratio=2>
    (backbone, boxes, image_of)
  rows = Concat<axis=0>(count, rest)
  flat_crops = Reshape(crops, rows)
  hidden = Gemm<transB=1>(flat_crops, hidden_w, hidden_b)
  alive = Relu(hidden)
  classes_raw = Gemm<transB=1>(alive, class_w)
  classes = Softmax<axis=1>(classes_raw)
  shifts = Gemm<transB=1>(alive, move_w)
}"""
"""Backbone, proposals (8x8 places), NonMaxSuppression, RoiAlign, a head of two fully connected layers."""

YOLO = """
g (float[1,3,32,32] image) => (float[n,4] boxes, float[n] scores, int64[n] labels)
<int64[1] most = {20}, float[1] iou = {0.45}, float[1] low = {0.7}, int64[1] from0 = {0}, int64[1] to4 = {4},
 int64[1] to7 = {7}, int64[1] axis1 = {1}, int64[3] rows = {1, 7, -1}, int64 box = {2}, int64 label = {1},
 int64 zero = {0}, float side = {16.0}>
{
  c1 = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1)
  a1 = Sigmoid(c1)
  h1 = Mul(c1, a1)
  c2 = Conv<pads=[1,1,1,1], strides=[2,2]>(h1, w2)
  a2 = Asinh(c2)
  head = Conv(a2, w3)
  list = Reshape(head, rows)
  raw = Slice(list, from0, to4, axis1)
  logits = Slice(list, to4, to7, axis1)
  class_scores = Sigmoid(logits)
  moved = Tanh(raw)
  pixels = Mul(moved, side)
  cells = Add(pixels, grid)
  all_boxes = Transpose<perm=[0,2,1]>(cells)
  found = NonMaxSuppression<center_point_box=1>(all_boxes, class_scores, most, iou, low)
  which = Gather<axis=1>(found, box)
  labels = Gather<axis=1>(found, label)
  flat_boxes = Squeeze(all_boxes, from0)
  boxes = Gather<axis=0>(flat_boxes, which)
  places = Transpose<perm=[0,2,1]>(class_scores)
  flat_scores = Squeeze(places, from0)
  rows_of = Gather<axis=0>(flat_scores, which)
  label_columns = Unsqueeze(labels, axis1)
  picked = GatherElements<axis=1>(rows_of, label_columns)
  scores = Squeeze(picked, axis1)
}"""
"""Three convolutions, decoding of 8x8 cells and three classes, NonMaxSuppression at the end."""


def two_stage(path: Path) -> Path:
    """The two-stage detector as a file, with weights that give it a dozen boxes."""
    generator = np.random.default_rng(3)
    y, x = np.meshgrid(np.arange(8.0) * 4, np.arange(8.0) * 4, indexing="ij")
    anchors = np.stack([x, y, x + 9, y + 9], axis=-1).reshape(64, 4)
    weights = {
        "stem_w": _normal(generator, 8, 3, 3, 3),
        "deep_w": _normal(generator, 16, 8, 3, 3),
        "score_w": _normal(generator, 1, 16, 1, 1),
        "shift_w": _normal(generator, 4, 16, 1, 1),
        "anchors": anchors.astype(np.float32),
        "hidden_w": _normal(generator, 32, 256),
        "hidden_b": _normal(generator, 32),
        "class_w": _normal(generator, 2, 32),
        "move_w": _normal(generator, 4, 32),
    }
    onnx.save(with_weights(TWO_STAGE, weights), path)
    return path


def yolo(path: Path) -> Path:
    """The YOLO-like network as a file."""
    generator = np.random.default_rng(4)
    y, x = np.meshgrid(np.arange(8.0) * 4, np.arange(8.0) * 4, indexing="ij")
    grid = np.stack([x, y, np.full_like(x, 18), np.full_like(x, 18)]).reshape(1, 4, 64)
    weights = {
        "w1": _normal(generator, 8, 3, 3, 3),
        "w2": _normal(generator, 16, 8, 3, 3),
        "w3": _normal(generator, 7, 16, 1, 1),
        "grid": grid.astype(np.float32),
    }
    onnx.save(with_weights(YOLO, weights), path)
    return path


def with_weights(text: str, weights: Mapping[str, Array], opset: int = 18) -> ModelProto:
    """A graph in onnx's text form as a model, with arrays as initializers and names for its nodes."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    for index, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{index}"
    return proto


def model_of(proto: ModelProto) -> Model:
    """As simplify would hand it over."""
    typed = infer_shapes(proto)
    return Model(
        proto=typed,
        inputs=tuple(tensor_info(info) for info in typed.graph.input),
        outputs=tuple(tensor_info(info) for info in typed.graph.output),
        opset=opset_of(typed),
        sha256="",
        original=typed,
    )


def _normal(generator: np.random.Generator, *shape: int) -> Array:
    fan_in = int(np.prod(shape[1:])) or 1
    return (generator.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
