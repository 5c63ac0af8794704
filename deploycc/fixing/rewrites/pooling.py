"""Pools without dilation and without rounding up, and means of a whole image."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.fixing.windows import attributes_of, pooled_extents, window
from deploycc.onnx_editor import Editor, Rewrite, attribute

MAX_TAPS = 81
"""More slices than this cost more than the pool."""

_NOT_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softplus", "Abs", "Sqrt", "HardSigmoid"})


def _lowest(editor: Editor, node: NodeProto) -> float:
    """What padding a maximum may be made with: 0 where nothing is below it, else the lowest finite value."""
    producer = editor.producers.get(node.input[0])
    dtype = editor.dtype(node.input[0])
    if dtype in ("uint8",) or (producer is not None and producer.op_type in _NOT_NEGATIVE):
        return 0.0
    return float(np.iinfo(dtype).min if dtype == "int8" else np.finfo(dtype).min)


def _plain(editor: Editor, node: NodeProto) -> bool:
    pooled = editor.dtype(node.input[0]) in ("float16", "float32", "float64", "int8", "uint8")
    return pooled and not (len(node.output) > 1 and editor.used(node.output[1]))


def dilation_to_slices(editor: Editor, node: NodeProto) -> bool:
    """Refuses no dilation, used indices, unknown shapes, windows of more than 81 taps, opsets before 10."""
    found = window(editor, node)
    if found is None or editor.opset < 10 or not _plain(editor, node):
        return False
    if all(d == 1 for d in found.dilations) or math.prod(found.kernel) > MAX_TAPS:
        return False
    axes = range(found.rank)
    after = pooled_extents(found, bool(attribute(node, "ceil_mode", 0)))
    # The last window may reach beyond the padding where the size is rounded up.
    behind = [
        max(0, (after[i] - 1) * found.strides[i] + found.reach[i] - found.begin[i] - found.data[i + 2])
        for i in axes
    ]
    new = Rewrite(editor, node)
    source = node.input[0]
    if any((*found.begin, *behind)):
        source = new.pad(source, [0, 0, *found.begin, 0, 0, *behind], _lowest(editor, node))
    taps = []
    for offset in np.ndindex(*found.kernel):
        starts = [offset[i] * found.dilations[i] for i in axes]
        ends = [starts[i] + (after[i] - 1) * found.strides[i] + 1 for i in axes]
        taps.append(new.slice(source, starts, ends, [i + 2 for i in axes], found.strides))
    new.add("Max" if len(taps) > 1 else "Identity", *taps, output=node.output[0])
    new.done()
    return True


def ceil_to_pad(editor: Editor, node: NodeProto) -> bool:
    """Refuses sizes that are not rounded up, used indices and unknown shapes."""
    found = window(editor, node)
    if found is None or not attribute(node, "ceil_mode", 0) or not _plain(editor, node):
        return False
    after = pooled_extents(found, rounded_up=True)
    behind = [
        (after[i] - 1) * found.strides[i]
        + found.reach[i]
        - (found.begin[i] + found.data[i + 2] + found.end[i])
        for i in range(found.rank)
    ]
    new = Rewrite(editor, node)
    source = node.input[0]
    if any(width > 0 for width in behind):
        widths = [max(0, width) for width in behind]
        source = new.pad(source, [0] * (2 + found.rank) + [0, 0, *widths], _lowest(editor, node))
    attrs = attributes_of(found)
    new.add("MaxPool", source, output=node.output[0], **attrs)
    new.done()
    return True


def global_pool(editor: Editor, node: NodeProto) -> bool:
    """Refuses unknown ranks and data without spatial axes."""
    kind = editor.types.get(node.input[0])
    if kind is None or kind.shape is None or len(kind.shape) < 3:
        return False
    new = Rewrite(editor, node)
    reduction = "ReduceMean" if node.op_type == "GlobalAveragePool" else "ReduceMax"
    new.reduce(reduction, node.input[0], list(range(2, len(kind.shape))), output=node.output[0])
    new.done()
    return True


def lp_pool(editor: Editor, node: NodeProto) -> bool:
    """Refuses other norms than the second, dilation, sizes rounded up, and types other than float32."""
    found = window(editor, node)
    if found is None or attribute(node, "p", 2) != 2 or editor.dtype(node.input[0]) != "float32":
        return False
    if any(d != 1 for d in found.dilations) or attribute(node, "ceil_mode", 0):
        return False
    new = Rewrite(editor, node)
    mean = new.add(
        "AveragePool",
        new.add("Mul", node.input[0], node.input[0]),
        kernel_shape=list(found.kernel),
        strides=list(found.strides),
        pads=[*found.begin, *found.end],
        count_include_pad=1,
    )
    total = new.add("Mul", mean, new.number(math.prod(found.kernel)))
    new.add("Sqrt", total, output=node.output[0])
    new.done()
    return True


FIXES = (
    Fix(
        name="maxpool-dilation-to-slices",
        headline="A dilated MaxPool as the maximum of its taps",
        operators=("MaxPool",),
        onnx="Pad (lowest value), Slice a tap, Max",
        pytorch="torch.stack([x[..., i : i + h, j : j + w] for i in taps for j in taps]).amax(0)",
        apply=dilation_to_slices,
        effect="The same numbers; a window of nothing but -inf gives the lowest finite value where it pads.",
    ),
    Fix(
        name="maxpool-ceil-to-pad",
        headline="A MaxPool that rounds its size up as one that pads behind",
        operators=("MaxPool",),
        onnx="Pad(0 after ReLU, else the lowest value), MaxPool(ceil_mode=0)",
        pytorch="F.max_pool2d(F.pad(x, (0, right, 0, bottom), value=0.0), k, s)  # after a ReLU",
        apply=ceil_to_pad,
        effect="The same numbers; a window of nothing but -inf gives the lowest finite value where it pads.",
    ),
    Fix(
        name="global-pool-to-reduce-mean",
        headline="A global pool as a reduction over the spatial axes",
        operators=("GlobalAveragePool", "GlobalMaxPool"),
        onnx="ReduceMean or ReduceMax over axes 2 and up",
        pytorch="x.mean((2, 3), keepdim=True)",
        apply=global_pool,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="lp-pool-to-average-pool",
        headline="LpPool of the second norm as an average of squares",
        operators=("LpPool",),
        onnx="Sqrt(k * AveragePool(x * x, count_include_pad=1))",
        pytorch="(F.avg_pool2d(x * x, k, s) * k * k).sqrt()",
        apply=lp_pool,
        effect=ROUNDING,
        bound=2e-6,
    ),
)
