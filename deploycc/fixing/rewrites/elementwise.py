"""Elementwise operators with fewer operands or plainer ones."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.graph_rewrites.forms import infinity_by_comparison
from deploycc.onnx_editor import Editor, Rewrite

MAX_POWER = 8
"""Products a power may become: three squarings."""


def power(editor: Editor, node: NodeProto) -> bool:
    """Refuses exponents other than one stored whole number from 1 to 8, and what would broadcast the base."""
    exponent, base = editor.constant(node.input[1]), editor.shape(node.input[0])
    if exponent is None or exponent.size != 1 or not editor.dtype(node.input[0]):
        return False
    value = float(exponent.reshape(()))
    if not value.is_integer() or not 1 <= value <= MAX_POWER:
        return False
    if exponent.ndim and (base is None or exponent.ndim > len(base)):
        return False
    if editor.dtype(node.input[0]) in ("bool", "int8", "uint8", "int16", "uint16"):
        return False
    new = Rewrite(editor, node)
    x, count = node.input[0], int(value)
    if count == 1:
        new.add("Identity", x, output=node.output[0])
        new.done()
        return True
    square, made = x, ""
    while count:
        last = count == 1
        if count & 1:
            made = new.add("Mul", made, square, output=node.output[0] if last else "") if made else square
        count >>= 1
        if count:
            only = count == 1 and not made
            square = new.add("Mul", square, square, output=node.output[0] if only else "")
    new.done()
    return True


def pairs(editor: Editor, node: NodeProto) -> bool:
    """Refuses two operands of ``Max`` and ``Min``, and opsets before 8, where they do not broadcast."""
    if editor.opset < 8 or (node.op_type != "Sum" and len(node.input) == 2):
        return False
    operator = "Add" if node.op_type == "Sum" else node.op_type
    new = Rewrite(editor, node)
    if len(node.input) == 1:
        new.add("Identity", node.input[0], output=node.output[0])
    else:
        at = node.input[0]
        for index, name in enumerate(node.input[1:], start=2):
            at = new.add(operator, at, name, output=node.output[0] if index == len(node.input) else "")
    new.done()
    return True


def mean(editor: Editor, node: NodeProto) -> bool:
    """Refuses opsets before 8, where it does not broadcast."""
    if editor.opset < 8:
        return False
    new = Rewrite(editor, node)
    at = node.input[0]
    for name in node.input[1:]:
        at = new.add("Add", at, name)
    factor = np.array(1 / len(node.input), editor.dtype(node.input[0]) or "float32")
    new.add("Mul", at, new.constant(factor), output=node.output[0])
    new.done()
    return True


def sign_of_infinity(editor: Editor, node: NodeProto) -> bool:
    """Refuses ``IsInf`` of both signs or of none."""
    return infinity_by_comparison(editor, node)


FIXES = (
    Fix(
        name="pow-to-mul",
        headline="A whole power as products",
        operators=("Pow",),
        onnx="Mul(x, x)",
        pytorch="x * x",
        apply=power,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="sum-to-add",
        headline="Sum as Add, two at a time",
        operators=("Sum",),
        onnx="Add(Add(a, b), c)",
        pytorch="a + b + c",
        apply=pairs,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="mean-to-add",
        headline="Mean of several tensors as Add, two at a time, and a product",
        operators=("Mean",),
        onnx="Add(Add(a, b), c) * (1 / 3)",
        pytorch="(a + b + c) / 3",
        apply=mean,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="max-min-pairs",
        headline="Max or Min of many tensors two at a time",
        operators=("Max", "Min"),
        onnx="Max(Max(a, b), c)",
        pytorch="torch.maximum(torch.maximum(a, b), c)",
        apply=pairs,
    ),
    Fix(
        name="isinf-to-compare",
        headline="IsInf of one sign as IsInf and a comparison with 0",
        operators=("IsInf",),
        onnx="And(IsInf(x), x > 0)",
        pytorch="torch.isinf(x) & (x > 0)",
        apply=sign_of_infinity,
    ),
)
