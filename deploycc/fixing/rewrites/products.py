"""Matrix products: fully connected layers, ``Einsum``, and products that are convolutions."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.onnx_editor import Editor, Rewrite, attribute


def fully_connected(editor: Editor, node: NodeProto) -> bool:
    """Refuses a second factor computed at run time, and what has this form."""
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    first, second = attribute(node, "transA", 0), attribute(node, "transB", 0)
    weights = editor.constant(node.input[1])
    if weights is None or (alpha == 1.0 and beta == 1.0 and not first and second):
        return False
    new = Rewrite(editor, node)
    data = new.add("Transpose", node.input[0], perm=[1, 0]) if first else node.input[0]
    rows = weights if second else weights.T
    stored = new.constant(np.ascontiguousarray(rows * np.asarray(alpha, rows.dtype)))
    inputs = [data, stored]
    if len(node.input) > 2 and node.input[2] and beta != 0.0:
        bias = editor.constant(node.input[2])
        if beta == 1.0:
            inputs.append(node.input[2])
        elif bias is not None:
            inputs.append(new.constant(bias * np.asarray(beta, bias.dtype)))
        else:
            inputs.append(new.add("Mul", node.input[2], new.number(beta)))
    new.add("Gemm", *inputs, output=node.output[0], transB=1)
    new.done()
    return True


def flattened_to_conv(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but a ``Gemm`` behind a flattened 4-D image, without factors, with stored weights.

    The bias must be stored, one value a column.
    """
    plain = [attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0), attribute(node, "transA", 0)]
    weights, flat = editor.constant(node.input[1]), editor.producers.get(node.input[0])
    if plain != [1.0, 1.0, 0] or weights is None or flat is None or flat.domain:
        return False
    image, flattened = editor.shape(flat.input[0]), editor.shape(node.input[0])
    if flat.op_type not in ("Flatten", "Reshape") or image is None or len(image) != 4:
        return False
    if flattened != (image[0], math.prod(image[1:])) or weights.dtype.name not in ("float16", "float32"):
        return False
    rows = weights if attribute(node, "transB", 0) else weights.T
    columns = rows.shape[0]
    bias = None
    if len(node.input) > 2 and node.input[2]:
        bias = editor.constant(node.input[2])
        if bias is None or bias.size not in (1, columns) or (bias.ndim == 2 and bias.shape[0] != 1):
            return False
    new = Rewrite(editor, node)
    stored = [new.constant(np.ascontiguousarray(rows.reshape(columns, *image[1:])))]
    if bias is not None:
        stored.append(new.constant(np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (columns,)))))
    pixel = new.add("Conv", flat.input[0], *stored, kernel_shape=list(image[2:]))
    new.add("Flatten", pixel, output=node.output[0], axis=1)
    new.done()
    return True


def batched(editor: Editor, node: NodeProto) -> bool:
    """Refuses a second factor that is no stored matrix, a first one of rank 2 or less, unknown shapes."""
    weights, shape = editor.constant(node.input[1]), editor.shape(node.input[0])
    if weights is None or weights.ndim != 2 or shape is None or len(shape) < 3:
        return False
    new = Rewrite(editor, node)
    rows = new.reshape(node.input[0], [math.prod(shape[:-1]), shape[-1]])
    made = new.add("MatMul", rows, node.input[1])
    new.reshape(made, [*shape[:-1], weights.shape[1]], output=node.output[0])
    new.done()
    return True


def einsum(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but two operands of static shape without an ellipsis or a letter twice in one of them.

    Also a letter that is summed over in one operand alone.
    """
    equation = attribute(node, "equation", "").replace(" ", "")
    left, arrow, result = equation.partition("->")
    operands = left.split(",")
    shapes = [editor.shape(name) for name in node.input]
    if len(operands) != 2 or len(shapes) != 2 or not arrow or "." in equation:
        return False
    if any(len(set(letters)) != len(letters) for letters in (*operands, result)):
        return False
    extents: dict[str, int] = {}
    for letters, shape in zip(operands, shapes, strict=True):
        if shape is None or len(shape) != len(letters):
            return False
        for letter, extent in zip(letters, shape, strict=True):
            if extents.setdefault(letter, extent) != extent:
                return False  # one of them is broadcast
    a, b = operands
    batch = [x for x in result if x in a and x in b]
    rows = [x for x in result if x in a and x not in b]
    columns = [x for x in result if x in b and x not in a]
    summed = [x for x in a if x in b and x not in result]
    if set(a) - set(batch + rows + summed) or set(b) - set(batch + columns + summed):
        return False

    def size(letters: list[str]) -> int:
        return math.prod(extents[x] for x in letters)

    new = Rewrite(editor, node)
    common = [extents[x] for x in batch]
    first = _arranged(new, node.input[0], a, batch + rows + summed)
    second = _arranged(new, node.input[1], b, batch + summed + columns)
    if len(rows) != 1 or len(summed) != 1:
        first = new.reshape(first, [*common, size(rows), size(summed)])
    if len(columns) != 1 or len(summed) != 1:
        second = new.reshape(second, [*common, size(summed), size(columns)])
    made = batch + rows + columns
    reshaped = len(rows) != 1 or len(columns) != 1
    turned = made != list(result)
    last = node.output[0]
    product = new.add("MatMul", first, second, output="" if reshaped or turned else last)
    if reshaped:
        product = new.reshape(product, [extents[x] for x in made], output="" if turned else last)
    if turned:
        new.add("Transpose", product, output=last, perm=[made.index(x) for x in result])
    new.done()
    return True


def _arranged(new: Rewrite, source: str, letters: str, order: list[str]) -> str:
    perm = [letters.index(x) for x in order]
    return source if perm == sorted(perm) else new.add("Transpose", source, perm=perm)


FIXES = (
    Fix(
        name="gemm-to-fully-connected",
        headline="Gemm as a fully connected layer: factors folded, the weights stored a row an output",
        operators=("Gemm",),
        onnx="Gemm(transB=1) with alpha and beta in the constants; Transpose in front for transA",
        pytorch="nn.Linear",
        apply=fully_connected,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="flatten-gemm-to-conv",
        headline="A fully connected layer on a flattened image as a convolution over all of it",
        operators=("Gemm",),
        onnx="Conv(kernel=HxW), Flatten",
        pytorch="nn.Conv2d(c, m, (h, w))(x).flatten(1)",
        apply=flattened_to_conv,
        effect=ROUNDING,
        bound=5e-6,
    ),
    Fix(
        name="batch-to-one-matmul",
        headline="A product of a tensor with a stored matrix as one of two matrices",
        operators=("MatMul",),
        onnx="Reshape to rank 2, MatMul, Reshape",
        pytorch="(x.flatten(0, -2) @ w).unflatten(0, x.shape[:-1])",
        apply=batched,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="einsum-to-matmul",
        headline="Einsum of two operands as a matrix product",
        operators=("Einsum",),
        onnx="Transpose, Reshape, MatMul, Reshape, Transpose, those of them that are needed",
        pytorch="torch.matmul",
        apply=einsum,
        effect=ROUNDING,
        bound=2e-6,
    ),
)
