"""Operators of quantised numbers as float operators between ``DequantizeLinear`` and ``QuantizeLinear``."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from deploycc.fixing.record import Fix
from deploycc.onnx_editor import Editor, Rewrite, attribute
from deploycc.onnx_graph import attributes


def _per_axis(editor: Editor, scale: str, opset: int) -> bool | None:
    """Whether the scale is one a channel; ``None`` where that is not known or the opset has no axis."""
    shape = editor.shape(scale)
    if shape is None or len(shape) > 1:
        return None
    several = len(shape) == 1 and shape[0] != 1
    return None if several and opset < 13 else several


def convolution(editor: Editor, node: NodeProto) -> bool:
    """Refuses opsets before 10, scales of unknown shape, and scales or bias computed at run time.

    Also scales a channel before opset 13.
    """
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.input[:8]
    bias = node.input[8] if len(node.input) > 8 else ""
    several = _per_axis(editor, w_scale, editor.opset)
    if several is None or editor.opset < 10:
        return False
    new = Rewrite(editor, node)
    inputs = [
        new.add("DequantizeLinear", x, _scalar(editor, new, x_scale), _scalar(editor, new, x_zero)),
        new.add("DequantizeLinear", w, w_scale, w_zero, axis=0)
        if several
        else new.add("DequantizeLinear", w, _scalar(editor, new, w_scale), _scalar(editor, new, w_zero)),
    ]
    if bias:
        stored = [editor.constant(name) for name in (bias, x_scale, w_scale)]
        if any(value is None for value in stored):
            return False
        whole, of_x, of_w = (value for value in stored if value is not None)
        inputs.append(
            new.constant(
                whole.astype(np.float32)
                * of_x.reshape(-1).astype(np.float32)
                * of_w.reshape(-1).astype(np.float32)
            )
        )
    kept = {name: attribute(node, name) for name in attributes(node)}
    made = new.add("Conv", *inputs, **kept)
    scale, zero = _scalar(editor, new, y_scale), _scalar(editor, new, y_zero)
    new.add("QuantizeLinear", made, scale, zero, output=node.output[0])
    new.done()
    return True


def _scalar(editor: Editor, new: Rewrite, name: str) -> str:
    """A parameter of one element as a scalar; a stored one is stored anew."""
    value = editor.constant(name)
    if value is not None and value.size == 1 and value.ndim:
        return new.constant(value.reshape(()))
    return name


def product(editor: Editor, node: NodeProto) -> bool:
    """Refuses opsets before 10 and scales that are not one number."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.input
    if editor.opset < 10 or any(_per_axis(editor, s, 99) is not False for s in (a_scale, b_scale, y_scale)):
        return False
    new = Rewrite(editor, node)
    first = new.add("DequantizeLinear", a, _scalar(editor, new, a_scale), _scalar(editor, new, a_zero))
    second = new.add("DequantizeLinear", b, _scalar(editor, new, b_scale), _scalar(editor, new, b_zero))
    made = new.add("MatMul", first, second)
    scale, zero = _scalar(editor, new, y_scale), _scalar(editor, new, y_zero)
    new.add("QuantizeLinear", made, scale, zero, output=node.output[0])
    new.done()
    return True


def integer(editor: Editor, node: NodeProto) -> bool:
    """Refuses zero points that are not one number, and sums beyond 2^24, which float32 does not hold."""
    weights = editor.shape(node.input[1])
    zeros = [name for name in node.input[2:4] if name]
    if weights is None or any(editor.shape(name) not in ((), (1,)) for name in zeros):
        return False
    terms = np.prod(weights[1:] if node.op_type == "ConvInteger" else weights[-2:-1])
    if terms * 255 * 255 > 1 << 24:
        return False
    new = Rewrite(editor, node)
    inputs = []
    for index, name in enumerate(node.input[:2]):
        wide = new.add("Cast", name, to=TensorProto.FLOAT)
        zero = node.input[2 + index] if len(node.input) > 2 + index else ""
        if zero:
            wide = new.add("Sub", wide, new.add("Cast", _scalar(editor, new, zero), to=TensorProto.FLOAT))
        inputs.append(wide)
    kept = {name: attribute(node, name) for name in attributes(node)}
    made = new.add("Conv" if node.op_type == "ConvInteger" else "MatMul", *inputs, **kept)
    new.add("Cast", made, output=node.output[0], to=TensorProto.INT32)
    new.done()
    return True


def quantised(editor: Editor, node: NodeProto) -> bool:
    """Refuses scales of unknown shape, integer sums that float32 does not hold, and opsets before 10."""
    if node.op_type == "QLinearConv":
        return convolution(editor, node)
    if node.op_type == "QLinearMatMul":
        return product(editor, node)
    return integer(editor, node)


FIXES = (
    Fix(
        name="qlinear-to-qdq",
        headline="Quantised operators as float ones between DequantizeLinear and QuantizeLinear",
        operators=("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
        onnx="DequantizeLinear, Conv or MatMul, QuantizeLinear; Cast and Sub around integer ones",
        pytorch="quantise with the QDQ format: quant_format=QuantFormat.QDQ",
        apply=quantised,
        effect="A result that lies between two quantised values may be rounded to the other one: "
        "off by one step.",
        bound=2e-2,
        safety="unsafe",
    ),
)
