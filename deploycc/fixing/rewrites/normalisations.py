"""Normalisations in plain arithmetic, and softmax along the last axis.

Definitions: the ONNX specification of each operator.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.graph_rewrites.normalising import (
    batch_norm_as_arithmetic,
    layer_norm_as_arithmetic,
    lp_norm_as_division,
)
from deploycc.onnx_editor import Editor, Rewrite, attribute


def lp_normalization(editor: Editor, node: NodeProto) -> bool:
    """Refuses types other than float32."""
    return lp_norm_as_division(editor, node)


def batch_norm(editor: Editor, node: NodeProto) -> bool:
    """Refuses training mode, used statistics, and parameters computed at run time or of another type."""
    return batch_norm_as_arithmetic(editor, node)


def layer_norm(editor: Editor, node: NodeProto) -> bool:
    """Refuses float16 (its statistics are float32) and unknown ranks."""
    return layer_norm_as_arithmetic(editor, node)


def group_norm(editor: Editor, node: NodeProto) -> bool:
    """Refuses unknown shapes and float16 (its statistics are float32)."""
    shape = editor.shape(node.input[0])
    if shape is None or editor.dtype(node.input[0]) != "float32" or len(shape) < 3:
        return False
    groups = attribute(node, "num_groups")
    new = Rewrite(editor, node)
    grouped = new.reshape(node.input[0], [shape[0], groups, math.prod(shape[1:]) // groups])
    epsilon = attribute(node, "epsilon", 1e-5)
    if editor.opset < 21:  # one scale and bias a group, as InstanceNormalization has them
        normal = new.add("InstanceNormalization", grouped, *node.input[1:3], epsilon=epsilon)
        new.reshape(normal, shape, output=node.output[0])
    else:
        unit = [new.constant(np.full(groups, value, np.float32)) for value in (1, 0)]
        normal = new.add("InstanceNormalization", grouped, *unit, epsilon=epsilon)
        column = [shape[1], *[1] * (len(shape) - 2)]
        scale, bias = (_column(editor, new, name, column) for name in node.input[1:3])
        scaled = new.add("Mul", new.reshape(normal, shape), scale)
        new.add("Add", scaled, bias, output=node.output[0])
    new.done()
    return True


def _column(editor: Editor, new: Rewrite, name: str, shape: list[int]) -> str:
    value = editor.constant(name)
    return new.reshape(name, shape) if value is None else new.constant(value.reshape(shape))


def instance_norm(editor: Editor, node: NodeProto) -> bool:
    """Refuses unknown shapes, float16, and data without spatial axes."""
    shape = editor.shape(node.input[0])
    if shape is None or editor.dtype(node.input[0]) != "float32" or len(shape) < 3:
        return False
    new = Rewrite(editor, node)
    axes = list(range(2, len(shape)))
    mean = new.reduce("ReduceMean", node.input[0], axes)
    centred = new.add("Sub", node.input[0], mean)
    variance = new.reduce("ReduceMean", new.add("Mul", centred, centred), axes)
    root = new.add("Sqrt", new.add("Add", variance, new.number(attribute(node, "epsilon", 1e-5))))
    column = [shape[1], *[1] * len(axes)]
    scale, bias = (_column(editor, new, name, column) for name in node.input[1:3])
    scaled = new.add("Mul", new.add("Div", centred, root), scale)
    new.add("Add", scaled, bias, output=node.output[0])
    new.done()
    return True


def softmax(editor: Editor, node: NodeProto) -> bool:
    """Refuses the last axis, unknown ranks, and opsets before 13, where the axis cuts the shape in two."""
    kind = editor.types.get(node.input[0])
    if kind is None or kind.shape is None or editor.opset < 13:
        return False
    rank = len(kind.shape)
    axis = attribute(node, "axis", -1) % max(rank, 1)
    if axis >= rank - 1:
        return False
    swap = list(range(rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    new = Rewrite(editor, node)
    turned = new.add("Transpose", node.input[0], perm=swap)
    normal = new.add(node.op_type, turned, axis=-1)
    new.add("Transpose", normal, output=node.output[0], perm=swap)
    new.done()
    return True


def reduce_l2(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float, and axes computed at run time."""
    if not editor.dtype(node.input[0]).startswith("float"):
        return False
    new = Rewrite(editor, node)
    squares = new.add("Mul", node.input[0], node.input[0])
    keep, noop = attribute(node, "keepdims", 1), attribute(node, "noop_with_empty_axes", 0)
    axes = attribute(node, "axes")
    if len(node.input) > 1 and node.input[1]:
        stored = editor.constant(node.input[1])
        if stored is None:
            return False
        axes = [int(axis) for axis in stored.reshape(-1)]
    if not axes and noop:
        return False
    if axes:
        total = new.reduce("ReduceSum", squares, axes, keepdims=bool(keep))
    else:
        total = new.add("ReduceSum", squares, keepdims=keep)
    new.add("Sqrt", total, output=node.output[0])
    new.done()
    return True


FIXES = (
    Fix(
        name="lp-normalization-to-reduce",
        headline="LpNormalization as a division by the norm",
        operators=("LpNormalization",),
        onnx="x / Max(ReduceL2(x), tiny)",
        pytorch="x / x.norm(p=2, dim=1, keepdim=True).clamp(min=1e-12)",
        apply=lp_normalization,
        effect="Rounding only; a zero vector stays zero.",
        bound=1e-6,
    ),
    Fix(
        name="batchnorm-to-mul-add",
        headline="BatchNormalization as a product and a sum",
        operators=("BatchNormalization",),
        onnx="x * (scale / sqrt(var + epsilon)) + (bias - mean * ...)",
        pytorch="fuse it before export: torch.nn.utils.fusion.fuse_conv_bn_eval",
        apply=batch_norm,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="layernorm-to-reduce",
        headline="LayerNormalization in means and products",
        operators=("LayerNormalization",),
        onnx="ReduceMean, Sub, Mul, ReduceMean, Add, Sqrt, Reciprocal, Mul, Mul, Add",
        pytorch="(x - x.mean(-1, True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt() * w + b",
        apply=layer_norm,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="group-norm-to-instance-norm",
        headline="GroupNormalization as InstanceNormalization between reshapes",
        operators=("GroupNormalization",),
        onnx="Reshape, InstanceNormalization, Reshape, Mul, Add",
        pytorch="F.instance_norm(x.reshape(n, groups, -1)).reshape(x.shape) * w + b",
        apply=group_norm,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="instance-norm-to-reduce",
        headline="InstanceNormalization in means and products",
        operators=("InstanceNormalization",),
        onnx="ReduceMean, Sub, Mul, ReduceMean, Add, Sqrt, Div, Mul, Add",
        pytorch="(x - x.mean((2, 3), True)) / (x.var((2, 3), False, keepdim=True) + eps).sqrt() * w + b",
        apply=instance_norm,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="softmax-last-axis",
        headline="Softmax along the last axis, between transposes",
        operators=("Softmax", "LogSoftmax"),
        onnx="Transpose, Softmax(axis=-1), Transpose",
        pytorch="x.transpose(1, -1).softmax(-1).transpose(1, -1)",
        apply=softmax,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="reduce-l2-to-sqrt",
        headline="ReduceL2 as the root of a sum of squares",
        operators=("ReduceL2",),
        onnx="Sqrt(ReduceSum(x * x))",
        pytorch="(x * x).sum(dim, keepdim=True).sqrt()",
        apply=reduce_l2,
        effect="Rounding only; squares above the type's range are infinite.",
        bound=1e-6,
    ),
)
