"""Normalisation layers: folded into what comes before, or written in plain arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from deploycc.onnx_editor import Editor, Rewrite, attribute

Doubles = npt.NDArray[np.float64]


def fold_batch_norm(editor: Editor) -> int:
    """``BatchNormalization`` goes into a convolution beside it, else becomes ``Mul`` and ``Add``.

    Into the one before it, or the only reader behind it: a convolution or matrix product.

    ``y = (x - mean) * scale / sqrt(var + epsilon) + bias`` is affine a channel.  Refuses
    training mode, used statistics outputs, parameters computed at run time and mixed types.
    """
    return sum(
        batch_norm_into_neighbour(editor, node) or batch_norm_as_arithmetic(editor, node)
        for node in list(editor.nodes)
    )


def batch_norm_into_neighbour(editor: Editor, node: NodeProto) -> bool:
    """One ``BatchNormalization`` goes into the convolution before it or the only reader behind it.

    Refuses what ``fold_batch_norm`` refuses, and where no such neighbour can take it.
    """
    affine = _affine(editor, node)
    return affine is not None and (
        _into_convolution(editor, node, *affine) or _into_reader(editor, node, *affine)
    )


def batch_norm_as_arithmetic(editor: Editor, node: NodeProto) -> bool:
    """One ``BatchNormalization`` becomes ``Mul`` and ``Add``; refuses what ``fold_batch_norm`` refuses."""
    affine = _affine(editor, node)
    if affine is None:
        return False
    factor, offset = affine
    column = (len(factor), *[1] * (len(editor.types[node.input[0]].shape or ()) - 2))
    dtype = editor.dtype(node.input[0])
    new = Rewrite(editor, node)
    scaled = new.add("Mul", node.input[0], new.constant(factor.reshape(column).astype(dtype)))
    new.add("Add", scaled, new.constant(offset.reshape(column).astype(dtype)), output=node.output[0])
    new.done()
    return True


def _affine(editor: Editor, node: NodeProto) -> tuple[Doubles, Doubles] | None:
    if node.op_type != "BatchNormalization" or node.domain or attribute(node, "training_mode", 0):
        return None
    if editor.opset < 9 or any(editor.used(name) for name in node.output[1:]):
        return None
    kind = editor.types.get(node.input[0])
    if kind is None or kind.shape is None or len(kind.shape) < 2 or not kind.dtype.startswith("float"):
        return None
    stored = [editor.constant(name) for name in node.input[1:5]]
    same = [value for value in stored if value is not None and value.dtype.name == kind.dtype]
    if len(same) != 4:
        return None
    scale, bias, mean, variance = (value.astype(np.float64) for value in same)
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return factor, bias - mean * factor


def _into_convolution(editor: Editor, node: NodeProto, factor: Doubles, offset: Doubles) -> bool:
    source = node.input[0]
    convolution = editor.producers.get(source)
    if convolution is None or convolution.op_type not in ("Conv", "ConvTranspose") or convolution.domain:
        return False
    if source in editor.outputs or len(editor.consumers.get(source, [])) != 1:
        return False
    transposed = convolution.op_type == "ConvTranspose"
    if transposed and attribute(convolution, "group", 1) != 1:
        return False
    weights = editor.constant(convolution.input[1])
    has_bias = len(convolution.input) > 2 and bool(convolution.input[2])
    bias = editor.constant(convolution.input[2]) if has_bias else np.zeros(len(factor))
    if weights is None or bias is None:
        return False
    axis = 1 if transposed else 0
    column = [1] * weights.ndim
    column[axis] = -1
    new_weights = (weights.astype(np.float64) * factor.reshape(column)).astype(weights.dtype)
    new_bias = (bias.astype(np.float64) * factor + offset).astype(weights.dtype)
    merged = NodeProto()
    merged.CopyFrom(convolution)
    del merged.input[1:]
    merged.input.append(editor.add_constant(f"{convolution.name}/weights", new_weights))
    merged.input.append(editor.add_constant(f"{convolution.name}/bias", new_bias))
    merged.output[0] = node.output[0]
    editor.replace(convolution, [merged])
    editor.remove([node])
    return True


def _into_reader(editor: Editor, node: NodeProto, factor: Doubles, offset: Doubles) -> bool:
    """``W (f x + o) + b = (W f) x + (W o + b)``; refuses an offset where a convolution pads by zeros."""
    result = node.output[0]
    readers = editor.consumers.get(result, [])
    if result in editor.outputs or len(readers) != 1 or list(readers[0].input).count(result) != 1:
        return False
    reader = readers[0]
    if reader.domain or reader.input[0] != result or len(reader.input) < 2:
        return False
    weights = editor.constant(reader.input[1])
    has_bias = len(reader.input) > 2 and bool(reader.input[2])
    bias = editor.constant(reader.input[2]) if has_bias else np.zeros(1)
    if weights is None or bias is None or not weights.dtype.name.startswith("float"):
        return False
    if reader.op_type == "Conv":
        padded = any(attribute(reader, "pads", [])) or attribute(reader, "auto_pad", "NOTSET") not in (
            "NOTSET",
            "VALID",
        )
        if padded and np.any(offset):
            return False
        groups = attribute(reader, "group", 1)
        of_weight = (groups, len(weights) // groups, *weights.shape[1:])
        channel = (groups, 1, weights.shape[1], *[1] * (weights.ndim - 2))
    elif reader.op_type == "Gemm" and all(
        attribute(reader, name, usual) == usual
        for name, usual in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))
    ):
        by_row = bool(attribute(reader, "transB", 0))
        weights = weights if by_row else weights.T
        of_weight, channel = (1, *weights.shape), (1, 1, weights.shape[1])
    else:
        return False
    grouped = weights.astype(np.float64).reshape(of_weight)
    new_weights = (grouped * factor.reshape(channel)).reshape(weights.shape)
    shift = (grouped * offset.reshape(channel)).reshape(len(weights), -1).sum(axis=1)
    if reader.op_type == "Gemm" and not attribute(reader, "transB", 0):
        new_weights = new_weights.T
    merged = NodeProto()
    merged.CopyFrom(reader)
    del merged.input[:]
    merged.input.append(node.input[0])
    dtype = weights.dtype
    merged.input.append(editor.add_constant(f"{reader.name}/weights", new_weights.astype(dtype)))
    if has_bias or np.any(shift):
        new_bias = (bias.astype(np.float64) + shift).astype(dtype)
        merged.input.append(editor.add_constant(f"{reader.name}/bias", new_bias))
    editor.replace(reader, [merged])
    editor.remove([node])
    return True


def write_out_layer_norm(editor: Editor) -> int:
    """``LayerNormalization`` of float64, or whose statistics are used, becomes means and products.

    Refuses float16, unknown ranks and opsets before 18.
    """
    changed = 0
    for node in list(editor.nodes):
        if node.op_type != "LayerNormalization" or node.domain or editor.opset < 18:
            continue
        kind = editor.types.get(node.input[0])
        if kind is None or kind.shape is None or kind.dtype not in ("float32", "float64"):
            continue
        if kind.dtype == "float32" and not any(editor.used(name) for name in node.output[1:]):
            continue
        changed += layer_norm_as_arithmetic(editor, node)
    return changed


def layer_norm_as_arithmetic(editor: Editor, node: NodeProto) -> bool:
    """One ``LayerNormalization`` becomes means and products; refuses float16 and unknown ranks."""
    kind = editor.types.get(node.input[0])
    if node.op_type != "LayerNormalization" or node.domain or kind is None or kind.shape is None:
        return False
    if kind.dtype not in ("float32", "float64"):
        return False
    rank = len(kind.shape)
    new = Rewrite(editor, node)
    axes = list(range(attribute(node, "axis", -1) % rank, rank))
    epsilon = new.constant(np.array(attribute(node, "epsilon", 1e-5), editor.dtype(node.input[0])))
    mean_output, inverse_output = [*node.output, "", ""][1:3]
    mean = new.reduce("ReduceMean", node.input[0], axes, output=mean_output)
    centred = new.add("Sub", node.input[0], mean)
    variance = new.reduce("ReduceMean", new.add("Mul", centred, centred), axes)
    root = new.add("Sqrt", new.add("Add", variance, epsilon))
    inverse = new.add("Reciprocal", root, output=inverse_output)
    unit = new.add("Mul", centred, inverse)
    bias = node.input[2] if len(node.input) > 2 else ""
    scaled = new.add("Mul", unit, node.input[1], output="" if bias else node.output[0])
    if bias:
        new.add("Add", scaled, bias, output=node.output[0])
    new.done()
    return True


def write_out_rms_norm(editor: Editor) -> int:
    """``RMSNormalization`` over all axes becomes products and a mean; the importer's form fails there.

    Refuses types other than float32 and normalisations that leave an axis in front.
    """
    changed = 0
    for node in list(editor.nodes):
        if node.op_type != "RMSNormalization" or node.domain:
            continue
        kind = editor.types.get(node.input[0])
        if kind is None or kind.shape is None or kind.dtype != "float32":
            continue
        if attribute(node, "axis", -1) % len(kind.shape) != 0:
            continue
        new = Rewrite(editor, node)
        axes = new.constant(np.arange(len(kind.shape), dtype=np.int64))
        mean = new.add("ReduceMean", new.add("Mul", node.input[0], node.input[0]), axes, keepdims=1)
        epsilon = new.constant(np.array(attribute(node, "epsilon", 1e-5), np.float32))
        unit = new.add("Div", node.input[0], new.add("Sqrt", new.add("Add", mean, epsilon)))
        new.add("Mul", unit, node.input[1], output=node.output[0])
        new.done()
        changed += 1
    return changed


def write_out_lp_norm(editor: Editor) -> int:
    """``LpNormalization`` becomes a division by ``ReduceL1`` or ``ReduceL2``; a zero vector stays zero.

    Refuses types other than float32.
    """
    return sum(lp_norm_as_division(editor, node) for node in list(editor.nodes))


def lp_norm_as_division(editor: Editor, node: NodeProto) -> bool:
    """One node of ``write_out_lp_norm``."""
    if node.op_type != "LpNormalization" or node.domain or editor.dtype(node.input[0]) != "float32":
        return False
    new = Rewrite(editor, node)
    norm = new.reduce(f"ReduceL{attribute(node, 'p', 2)}", node.input[0], [attribute(node, "axis", -1)])
    positive = new.add("Max", norm, new.constant(np.finfo(np.float32).tiny))
    new.add("Div", node.input[0], positive, output=node.output[0])
    new.done()
    return True


def in_single_precision(editor: Editor) -> int:
    """Operators into which the importer mixes float32 constants are computed in float32 on float16 data.

    ``Elu``, ``LRN``, ``Selu``, ``ThresholdedRelu``, and ``GroupNormalization`` before opset 21:
    casts go around them.  Refuses ``MeanVarianceNormalization``, which no reference runs on float16.
    """
    changed = 0
    names = {"Elu", "LRN", "Selu", "ThresholdedRelu"}
    if editor.opset < 21:
        names.add("GroupNormalization")
    for node in list(editor.nodes):
        if node.op_type not in names or node.domain or editor.dtype(node.input[0]) != "float16":
            continue
        new = Rewrite(editor, node)
        single = editor.fresh(f"{node.name}/single")
        new.copy([new.add("Cast", name, to=TensorProto.FLOAT) for name in node.input], [single])
        new.add("Cast", single, output=node.output[0], to=TensorProto.FLOAT16)
        new.done()
        changed += 1
    return changed
