"""Activations in terms of ReLU, clip, exponential and sigmoid.

Definitions: the ONNX specification of each operator.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.graph_rewrites.activations import clip_as_min_max
from deploycc.onnx_editor import Editor, Rewrite, attribute

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""Defaults of the operator's schema."""


def _float_data(editor: Editor, node: NodeProto) -> bool:
    return editor.dtype(node.input[0]).startswith("float")


def hard_swish(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x = node.input[0]
    clipped = new.add("Clip", new.add("Add", x, new.number(3)), new.number(0), new.number(6))
    new.add("Div", new.add("Mul", x, clipped), new.number(6), output=node.output[0])
    new.done()
    return True


def prelu(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float; the slope may be computed at run time."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x, slope = node.input[0], node.input[1]
    below = new.add("Relu", new.add("Neg", x))
    value = editor.constant(slope)
    factor = new.add("Neg", slope) if value is None else new.constant(np.negative(value))
    new.add("Add", new.add("Relu", x), new.add("Mul", factor, below), output=node.output[0])
    new.done()
    return True


def _softplus(new: Rewrite, x: str, output: str = "") -> str:
    """``Relu(x) + Log(1 + Exp(-|x|))``: no exponential of anything above 0, so nothing overflows."""
    decay = new.add("Exp", new.add("Neg", new.add("Abs", x)))
    return new.add(
        "Add", new.add("Relu", x), new.add("Log", new.add("Add", decay, new.number(1))), output=output
    )


def softplus(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    _softplus(new, node.input[0], node.output[0])
    new.done()
    return True


def mish(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x = node.input[0]
    new.add("Mul", x, new.add("Tanh", _softplus(new, x)), output=node.output[0])
    new.done()
    return True


def _below_zero(new: Rewrite, x: str) -> str:
    """``Min(x, 0)`` as ``-Relu(-x)``: every unit has a ReLU, not every one a Min."""
    return new.add("Neg", new.add("Relu", new.add("Neg", x)))


def celu(editor: Editor, node: NodeProto) -> bool:
    """Refuses an alpha that is not above 0, and what is no float."""
    alpha = attribute(node, "alpha", 1.0)
    if not _float_data(editor, node) or alpha <= 0:
        return False
    new = Rewrite(editor, node)
    x = node.input[0]
    low = _below_zero(new, x)
    scaled = low if alpha == 1.0 else new.add("Div", low, new.number(alpha))
    curve = new.add("Sub", new.add("Exp", scaled), new.number(1))
    curve = curve if alpha == 1.0 else new.add("Mul", curve, new.number(alpha))
    new.add("Add", new.add("Relu", x), curve, output=node.output[0])
    new.done()
    return True


def elu(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x, alpha = node.input[0], attribute(node, "alpha", 1.0)
    curve = new.add("Sub", new.add("Exp", _below_zero(new, x)), new.number(1))
    curve = curve if alpha == 1.0 else new.add("Mul", curve, new.number(alpha))
    new.add("Add", new.add("Relu", x), curve, output=node.output[0])
    new.done()
    return True


def selu(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    unit = new.add("Elu", node.input[0], alpha=attribute(node, "alpha", SELU_ALPHA))
    new.add("Mul", unit, new.number(attribute(node, "gamma", SELU_GAMMA)), output=node.output[0])
    new.done()
    return True


def softsign(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x = node.input[0]
    new.add("Div", x, new.add("Add", new.add("Abs", x), new.number(1)), output=node.output[0])
    new.done()
    return True


def swish(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x, alpha = node.input[0], attribute(node, "alpha", 1.0)
    scaled = x if alpha == 1.0 else new.add("Mul", x, new.number(alpha))
    new.add("Mul", x, new.add("Sigmoid", scaled), output=node.output[0])
    new.done()
    return True


def gelu(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x = node.input[0]
    if attribute(node, "approximate", "none") == "tanh":
        cube = new.add("Mul", new.add("Mul", x, x), x)
        inner = new.add("Add", x, new.add("Mul", cube, new.number(0.044715)))
        curve = new.add("Tanh", new.add("Mul", inner, new.number(np.sqrt(2 / np.pi))))
    else:
        curve = new.add("Erf", new.add("Mul", x, new.number(np.sqrt(0.5))))
    half = new.add("Mul", x, new.number(0.5))
    new.add("Mul", half, new.add("Add", curve, new.number(1)), output=node.output[0])
    new.done()
    return True


def hard_sigmoid(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float, and opsets before 11, where bounds of ``Clip`` are attributes."""
    if not _float_data(editor, node) or editor.opset < 11:
        return False
    new = Rewrite(editor, node)
    scaled = new.add("Mul", node.input[0], new.number(attribute(node, "alpha", 0.2)))
    moved = new.add("Add", scaled, new.number(attribute(node, "beta", 0.5)))
    new.add("Clip", moved, new.number(0), new.number(1), output=node.output[0])
    new.done()
    return True


def _mask(editor: Editor, new: Rewrite, comparison: str, x: str, than: str) -> str:
    kinds = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
    return new.add("Cast", new.add(comparison, x, than), to=kinds[editor.dtype(x)])


def shrink(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float, and a negative lambda, where both sides overlap."""
    limit, bias = attribute(node, "lambd", 0.5), attribute(node, "bias", 0.0)
    if not _float_data(editor, node) or limit < 0:
        return False
    new = Rewrite(editor, node)
    x = node.input[0]
    sides = []
    # Max and Min keep infinities out of the products with a mask of 0.
    for comparison, bound, edge, move in (("Greater", limit, "Max", -bias), ("Less", -limit, "Min", bias)):
        stored = new.number(bound)
        value = new.add(edge, x, stored)
        value = new.add("Add", value, new.number(move)) if bias else value
        sides.append(new.add("Mul", value, _mask(editor, new, comparison, x, stored)))
    new.add("Add", *sides, output=node.output[0])
    new.done()
    return True


def thresholded_relu(editor: Editor, node: NodeProto) -> bool:
    """Refuses what is no float."""
    if not _float_data(editor, node):
        return False
    new = Rewrite(editor, node)
    x, bound = node.input[0], new.number(attribute(node, "alpha", 1.0))
    mask = _mask(editor, new, "Greater", x, bound)
    new.add("Mul", new.add("Max", x, bound), mask, output=node.output[0])
    new.done()
    return True


def clip(editor: Editor, node: NodeProto) -> bool:
    """Refuses bounds computed at run time, NaN bounds, and opsets before 8, where Max does not broadcast."""
    return editor.opset >= 8 and clip_as_min_max(editor, node)


FIXES = (
    Fix(
        name="clip-to-min-max",
        headline="Clip in terms of Max and Min (Relu for a lower bound of 0)",
        operators=("Clip",),
        onnx="Min(Max(x, low), high)",
        pytorch="torch.minimum(torch.maximum(x, low), high)",
        apply=clip,
    ),
    Fix(
        name="hardswish-to-clip",
        headline="HardSwish in terms of Clip",
        operators=("HardSwish",),
        onnx="x * Clip(x + 3, 0, 6) / 6",
        pytorch="x * F.relu6(x + 3) / 6",
        apply=hard_swish,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="hard-sigmoid-to-clip",
        headline="HardSigmoid in terms of Clip",
        operators=("HardSigmoid",),
        onnx="Clip(alpha * x + beta, 0, 1)",
        pytorch="F.relu6(x + 3) / 6",
        apply=hard_sigmoid,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="prelu-to-relu",
        headline="PRelu as two ReLUs",
        operators=("PRelu",),
        onnx="Relu(x) + (-slope) * Relu(-x)",
        pytorch="F.relu(x) - slope * F.relu(-x)",
        apply=prelu,
    ),
    Fix(
        name="softplus-to-log",
        headline="Softplus in terms of Log and Exp",
        operators=("Softplus",),
        onnx="Relu(x) + Log(1 + Exp(-Abs(x)))",
        pytorch="F.relu(x) + torch.log(1 + torch.exp(-x.abs()))",
        apply=softplus,
        effect="Rounding only; below about -16 in float32 the result is 0 where Softplus has e^x.",
        bound=1e-6,
    ),
    Fix(
        name="mish-to-tanh",
        headline="Mish in terms of Tanh, Log and Exp",
        operators=("Mish",),
        onnx="x * Tanh(Relu(x) + Log(1 + Exp(-Abs(x))))",
        pytorch="x * torch.tanh(F.relu(x) + torch.log(1 + torch.exp(-x.abs())))",
        apply=mish,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="celu-to-relu",
        headline="Celu in terms of Relu and Exp",
        operators=("Celu",),
        onnx="Relu(x) + alpha * (Exp(-Relu(-x) / alpha) - 1)",
        pytorch="F.relu(x) + alpha * (torch.exp(-F.relu(-x) / alpha) - 1)",
        apply=celu,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="elu-to-exp",
        headline="Elu in terms of Relu and Exp",
        operators=("Elu",),
        onnx="Relu(x) + alpha * (Exp(-Relu(-x)) - 1)",
        pytorch="F.relu(x) + alpha * (torch.exp(-F.relu(-x)) - 1)",
        apply=elu,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="selu-to-elu",
        headline="Selu as a scaled Elu",
        operators=("Selu",),
        onnx="gamma * Elu(x, alpha)",
        pytorch="1.0507010 * F.elu(x, alpha=1.6732632)",
        apply=selu,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="softsign-to-div",
        headline="Softsign as a division",
        operators=("Softsign",),
        onnx="x / (1 + Abs(x))",
        pytorch="x / (1 + x.abs())",
        apply=softsign,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="swish-to-sigmoid",
        headline="Swish (SiLU) in terms of Sigmoid",
        operators=("Swish",),
        onnx="x * Sigmoid(alpha * x)",
        pytorch="x * torch.sigmoid(x)",
        apply=swish,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="gelu-to-erf",
        headline="Gelu in terms of Erf or Tanh",
        operators=("Gelu",),
        onnx="0.5 * x * (1 + Erf(x / sqrt(2)))",
        pytorch="0.5 * x * (1 + torch.erf(x / 2 ** 0.5))",
        apply=gelu,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="shrink-to-mul",
        headline="Shrink as products with masks",
        operators=("Shrink",),
        onnx="(Max(x, l) - b) * Cast(x > l) + (Min(x, -l) + b) * Cast(x < -l)",
        pytorch="(x.clamp(min=l) - b) * (x > l) + (x.clamp(max=-l) + b) * (x < -l)",
        apply=shrink,
        effect="The same numbers but for NaN, which Shrink makes 0.",
    ),
    Fix(
        name="thresholded-relu-to-mul",
        headline="ThresholdedRelu as a product with a mask",
        operators=("ThresholdedRelu",),
        onnx="Max(x, alpha) * Cast(x > alpha)",
        pytorch="x.clamp(min=alpha) * (x > alpha)",
        apply=thresholded_relu,
        effect="The same numbers but for NaN, which ThresholdedRelu makes 0.",
    ),
)
