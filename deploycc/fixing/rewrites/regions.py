"""Regions of an image as samples on a grid.

Definition: the ONNX specification of RoiAlign and ONNX Runtime's kernel, which counts a sample more than
one pixel outside the image as 0 and moves others to the edge.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from deploycc.fixing.record import Fix
from deploycc.onnx_editor import Editor, Rewrite, attribute

MAX_SAMPLES = 1 << 22
"""Elements of the grid beyond which it costs more than it is worth."""


def roi_align(editor: Editor, node: NodeProto) -> bool:
    """Refuses the maximum, an adaptive number of samples, batches, unknown shapes, opsets before 16.

    Also types other than float32.
    """
    image, regions = editor.shape(node.input[0]), editor.shape(node.input[1])
    samples = attribute(node, "sampling_ratio", 0)
    if image is None or regions is None or image[0] != 1 or samples < 1 or editor.opset < 16:
        return False
    if attribute(node, "mode", "avg") != "avg" or editor.dtype(node.input[0]) != "float32":
        return False
    count = regions[0]
    tall, wide = attribute(node, "output_height", 1), attribute(node, "output_width", 1)
    rows, columns = tall * samples, wide * samples
    if not count or count * rows * columns > MAX_SAMPLES:
        return False
    new = Rewrite(editor, node)
    scaled = new.add("Mul", node.input[1], new.number(attribute(node, "spatial_scale", 1.0)))
    halved = attribute(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
    grids, masks = [], []
    # x and y in the order of a grid; both as [count, 1, 1], [count, rows, 1] and [count, 1, columns].
    for axis, (bins, places, extent) in enumerate(((wide, columns, image[3]), (tall, rows, image[2]))):
        first, last = (new.slice(scaled, [side], [side + 1], [1]) for side in (axis, axis + 2))
        reach = new.add("Sub", last, first)
        if halved:
            first = new.add("Sub", first, new.number(0.5))
        else:
            reach = new.add("Max", reach, new.number(1))
        # As ONNX Runtime adds it up: far outside the image another order rounds to another pixel's share.
        step = new.add("Div", reach, new.number(bins))
        sample = np.arange(places, dtype=np.float32).reshape(1, places)
        inner = new.add("Mul", step, new.constant(sample % samples + np.float32(0.5)))
        corner = new.add("Add", first, new.add("Mul", step, new.constant(sample // samples)))
        at = new.add("Add", corner, new.add("Div", inner, new.number(samples)))
        shape = [count, 1, columns] if axis == 0 else [count, rows, 1]
        at = new.reshape(at, shape)
        inside = new.add(
            "And",
            new.add("Not", new.add("Less", at, new.number(-1))),
            new.add("Not", new.add("Greater", at, new.number(extent))),
        )
        masks.append(new.add("Cast", inside, to=TensorProto.FLOAT))
        held = new.add("Clip", at, new.number(0), new.number(extent - 1))
        factor = 2 / (extent - 1) if extent > 1 else 0.0
        placed = new.add("Sub", new.add("Mul", held, new.number(factor)), new.number(1))
        full = new.add("Expand", placed, new.constant(np.array([count, rows, columns], np.int64)))
        grids.append(new.reshape(full, [1, count * rows, columns, 1]))
    grid = new.add("Concat", *grids, axis=3)
    attrs = {"mode": "bilinear" if editor.opset < 20 else "linear", "padding_mode": "border"}
    taken = new.add("GridSample", node.input[0], grid, align_corners=1, **attrs)
    mask = new.reshape(new.add("Mul", masks[1], masks[0]), [1, 1, count * rows, columns])
    kept = new.add("Mul", taken, mask)
    size = [samples, samples]
    mean = new.add("AveragePool", kept, kernel_shape=size, strides=size) if samples > 1 else kept
    apart = new.reshape(mean, [image[1], count, tall, wide])
    new.add("Transpose", apart, output=node.output[0], perm=[1, 0, 2, 3])
    new.done()
    return True


FIXES = (
    Fix(
        name="roialign-to-gridsample",
        headline="RoiAlign of one image as a grid, GridSample and an average",
        operators=("RoiAlign",),
        onnx="grid arithmetic, GridSample(align_corners=1, border), Mul with a mask, AveragePool",
        pytorch="F.avg_pool2d(F.grid_sample(x, grid, align_corners=True, padding_mode='border'), s)",
        apply=roi_align,
        effect="Rounding only; boxes may reach outside the image.",
        bound=1e-5,
    ),
)
