"""Float operators between ``DequantizeLinear`` and ``QuantizeLinear`` as operators on integers.

What is fused is what ONNX Runtime fuses by default and computes exactly on integers: convolutions and matrix
products (sums in int32, one product with the scales, one rounding) and operators that only move or compare
elements.  Other operators stay float ones between the two, which is what ONNX says they are; ONNX Runtime
has fast approximations for some of them (``QLinearAdd``), different ones on different processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from deploycc.onnx_editor import Editor, Rewrite, attribute
from deploycc.onnx_graph import Array, attributes

_EIGHT_BITS = ("int8", "uint8")

_MOVING = frozenset(
    "Expand Flatten Gather GatherElements Identity Reshape Slice Squeeze Tile Transpose Unsqueeze".split()
)
"""Operators whose result has elements of their first input and no others."""


@dataclass(frozen=True)
class _Quantised:
    """A tensor of 8-bit (or, of a bias, 32-bit) integers with its scale and zero point, which are stored.

    ``names`` are those of the integers, the scale and the zero point (empty for none) in the graph, ``scale``
    and ``zero`` the arrays of the latter two.
    """

    names: tuple[str, str, str]
    dtype: str
    scale: Any
    zero: Any
    axis: int

    @property
    def whole(self) -> bool:
        """Whether one scale serves the whole tensor."""
        return bool(self.scale.size == 1 and self.zero.size == 1)

    def same(self, other: _Quantised) -> bool:
        """Whether both tensors mean the same by the same integer."""
        return (
            self.whole
            and other.whole
            and self.dtype == other.dtype
            and bool(self.scale.reshape(()) == other.scale.reshape(()))
            and bool(self.zero.reshape(()) == other.zero.reshape(()))
        )


def _parameters(
    editor: Editor, node: NodeProto, names: tuple[str, str, str], dtype: str
) -> _Quantised | None:
    scale = editor.constant(names[1])
    zero = editor.constant(names[2]) if names[2] else np.zeros((), dtype or "uint8")
    if scale is None or zero is None or scale.dtype != np.float32 or attribute(node, "block_size", 0):
        return None
    return _Quantised(names, dtype, scale, zero, attribute(node, "axis", 1))


def _third(node: NodeProto) -> str:
    return node.input[2] if len(node.input) > 2 else ""


def _source(editor: Editor, name: str) -> _Quantised | None:
    """What ``DequantizeLinear`` makes the tensor ``name`` of, if that is what makes it."""
    node = editor.producers.get(name)
    if node is None or node.op_type != "DequantizeLinear" or node.domain:
        return None
    names = (node.input[0], node.input[1], _third(node))
    return _parameters(editor, node, names, editor.dtype(node.input[0]))


def _result(editor: Editor, node: NodeProto) -> _Quantised | None:
    """What a ``QuantizeLinear`` makes of its input."""
    return _parameters(
        editor, node, (node.output[0], node.input[1], _third(node)), editor.dtype(node.output[0])
    )


def fuse_quantised(editor: Editor) -> int:
    """Operators between ``DequantizeLinear`` and ``QuantizeLinear`` become operators on integers.

    Refuses scales that are computed or blocked, other types than 8 bits, results that are read by others than
    the ``QuantizeLinear``, and a bias of another scale than the product's.
    """
    return sum(
        _fused(editor, node)
        for node in list(editor.nodes)
        if node.op_type == "QuantizeLinear" and not node.domain
    )


def _fused(editor: Editor, last: NodeProto) -> bool:
    result = _result(editor, last)
    node = _only_read_here(editor, last.input[0])
    if result is None or node is None or result.dtype not in _EIGHT_BITS or not result.whole:
        return False
    if node.op_type == "Relu" and result.zero.item() == np.iinfo(result.dtype).min:
        # What is below 0 is saturated to the same integer.
        before = _only_read_here(editor, node.input[0])
        if before is not None and before.op_type in ("Conv", "Gemm", "MatMul"):
            node = before
    if node.domain:
        return False
    data = _source(editor, node.input[0])
    if data is None or data.dtype not in _EIGHT_BITS or not data.whole:
        return False
    if node.op_type in _MOVING or node.op_type == "MaxPool":
        return _moved(editor, last, node, data, result)
    if node.op_type == "Conv":
        return _convolution(editor, last, node, data, result)
    if node.op_type == "MatMul":
        return _product(editor, last, node, data, result)
    return node.op_type == "Gemm" and _gemm(editor, last, node, data, result)


def _only_read_here(editor: Editor, name: str) -> NodeProto | None:
    """The node that makes ``name``, if only one node reads that."""
    if name in editor.outputs or len(editor.consumers.get(name, ())) != 1:
        return None
    return editor.producers.get(name)


def _moved(editor: Editor, last: NodeProto, node: NodeProto, data: _Quantised, result: _Quantised) -> bool:
    if (
        not data.same(result)
        or len(node.output) > 1
        or (node.op_type == "MaxPool" and data.scale.item() <= 0)
    ):
        return False
    new = Rewrite(editor, last)
    kept = {name: attribute(node, name) for name in attributes(node)}
    new.add(node.op_type, data.names[0], *node.input[1:], output=last.output[0], **kept)
    new.done()
    return True


def _zero(new: Rewrite, tensor: _Quantised) -> str:
    return tensor.names[2] or new.constant(np.zeros(tensor.scale.shape, tensor.dtype))


def _scalar(new: Rewrite, value: Array) -> str:
    return new.constant(value.reshape(()))


def _three(new: Rewrite, tensor: _Quantised) -> tuple[str, str, str]:
    """Integers, scale and zero point as quantised operators take them: numbers as scalars."""
    zero = tensor.zero.astype(tensor.dtype)
    if tensor.whole:
        return tensor.names[0], _scalar(new, tensor.scale), _scalar(new, zero)
    return tensor.names[0], tensor.names[1], _zero(new, tensor)


def _whole_bias(editor: Editor, name: str, data: _Quantised, weights: _Quantised) -> Array | None:
    """The int32 bias behind ``name``, if its scale is that of the products."""
    bias = _source(editor, name)
    value = None if bias is None else editor.constant(bias.names[0])
    if bias is None or value is None or bias.dtype != "int32" or bias.zero.any():
        return None
    wanted = data.scale.astype(np.float64) * weights.scale.astype(np.float64)
    if bias.scale.size not in (1, value.size) or not np.allclose(bias.scale, wanted, rtol=1e-5, atol=0):
        return None
    return value.reshape(-1)


def _multiplied_here(left: _Quantised, right: _Quantised, result: _Quantised) -> bool:
    """Whether ONNX Runtime multiplies these types: int8 by int8 only."""
    kinds = (left.dtype, right.dtype)
    return result.dtype == left.dtype and right.dtype in _EIGHT_BITS and kinds != ("int8", "uint8")


def _convolution(
    editor: Editor, last: NodeProto, node: NodeProto, data: _Quantised, result: _Quantised
) -> bool:
    weights = _source(editor, node.input[1])
    shape = editor.shape(node.input[1])
    if weights is None or not _multiplied_here(data, weights, result) or shape is None:
        return False
    if not weights.whole and weights.axis % len(shape) != 0:
        return False
    bias = None
    if _third(node):
        bias = _whole_bias(editor, _third(node), data, weights)
        if bias is None:
            return False
    new = Rewrite(editor, last)
    kept = {name: attribute(node, name) for name in attributes(node)}
    inputs = [*_three(new, data), *_three(new, weights), *_three(new, result)[1:]]
    if bias is not None:
        inputs.append(new.constant(bias))
    new.add("QLinearConv", *inputs, output=last.output[0], **kept)
    new.done()
    return True


def _right_side(editor: Editor, node: NodeProto, axis: int) -> _Quantised | None:
    """The second factor of a product, with one scale or one along ``axis``."""
    right, shape = _source(editor, node.input[1]), editor.shape(node.input[1])
    if right is None or right.dtype not in _EIGHT_BITS or shape is None:
        return None
    return right if right.whole or (len(shape) == 2 and right.axis % 2 == axis) else None


def _product(editor: Editor, last: NodeProto, node: NodeProto, data: _Quantised, result: _Quantised) -> bool:
    right = _right_side(editor, node, 1)
    if right is None or not _multiplied_here(data, right, result):
        return False
    new = Rewrite(editor, last)
    inputs = [*_three(new, data), *_three(new, right), *_three(new, result)[1:]]
    new.add("QLinearMatMul", *inputs, output=last.output[0])
    new.done()
    return True


def _gemm(editor: Editor, last: NodeProto, node: NodeProto, data: _Quantised, result: _Quantised) -> bool:
    """A convolution of images of one pixel: ``QLinearMatMul`` has no bias."""
    turned = bool(attribute(node, "transB", 0))
    right, shape = _right_side(editor, node, 0 if turned else 1), editor.shape(node.input[0])
    value = None if right is None else editor.constant(right.names[0])
    plain = attribute(node, "alpha", 1.0) == 1.0 and not attribute(node, "transA", 0)
    if right is None or not _multiplied_here(data, right, result):
        return False
    if value is None or not plain or shape is None or -1 in shape:
        return False
    bias = None
    if _third(node):
        bias = _whole_bias(editor, _third(node), data, right)
        filters = value.shape[0 if turned else 1]
        if bias is None or bias.size != filters or attribute(node, "beta", 1.0) != 1.0:
            return False
    new = Rewrite(editor, last)
    weights = new.constant((value if turned else value.T)[:, :, None, None])
    image = new.reshape(data.names[0], [*shape, 1, 1])
    inputs = [image, *_three(new, data)[1:], weights, *_three(new, right)[1:], *_three(new, result)[1:]]
    if bias is not None:
        inputs.append(new.constant(bias))
    made = new.add("QLinearConv", *inputs, kernel_shape=[1, 1])
    new.reshape(made, [shape[0], value.shape[0 if turned else 1]], output=last.output[0])
    new.done()
    return True


def multiply_as_integers(editor: Editor) -> int:
    """``MatMul`` of dequantised tensors becomes ``MatMulInteger``, ``Cast`` and a product with the scales.

    ONNX Runtime does so where no ``QuantizeLinear`` follows.  Refuses what ``fuse_quantised`` does.
    """
    return sum(
        _multiplied(editor, node)
        for node in list(editor.nodes)
        if node.op_type == "MatMul" and not node.domain and editor.used(node.output[0])
    )


def _multiplied(editor: Editor, node: NodeProto) -> bool:
    left, right = _source(editor, node.input[0]), _right_side(editor, node, 1)
    readers = editor.consumers.get(node.output[0], ())
    if left is None or right is None or left.dtype not in _EIGHT_BITS or not left.whole:
        return False
    if not _multiplied_here(left, right, left):
        return False
    if any(reader.op_type == "QuantizeLinear" for reader in readers):
        return False
    new = Rewrite(editor, node)
    first, second = _three(new, left), _three(new, right)
    total = new.add("MatMulInteger", first[0], second[0], first[2], second[2])
    scale = left.scale.reshape(()) * (right.scale.reshape(()) if right.whole else right.scale)
    floats = new.add("Cast", total, to=TensorProto.FLOAT)
    new.add("Mul", floats, new.constant(np.asarray(scale, np.float32)), output=node.output[0])
    new.done()
    return True


def fold_dequantised(editor: Editor) -> int:
    """``DequantizeLinear`` of a stored tensor becomes the stored floats: nothing took it as integers.

    Refuses results above the editor's budget and those of types that are no arrays.
    """
    folded = []
    for node in editor.nodes:
        if node.op_type != "DequantizeLinear" or node.domain or node.output[0] in editor.outputs:
            continue
        given = [editor.constant(name) for name in node.input if name]
        if any(value is None for value in given):
            continue
        value, scale = given[0], given[1]
        assert value is not None
        assert scale is not None
        nbytes = value.size * scale.dtype.itemsize
        if nbytes > editor.budget or scale.dtype not in (np.float32, np.float16):
            continue
        made = _dequantised(node, value, scale, given[2] if len(given) > 2 else None)
        if made is None:
            continue
        editor.budget -= nbytes
        editor.redirect(node.output[0], editor.add_constant(node.output[0], made))
        folded.append(node)
    editor.remove(folded)
    return len(folded)


def _dequantised(node: NodeProto, value: Array, scale: Array, zero: Array | None) -> Array | None:
    if value.dtype.kind == "f" or "float" in value.dtype.name:
        return None
    axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)

    def placed(parameter: Any) -> Any:
        if block:
            repeated = np.repeat(parameter, block, axis)
            return repeated.take(np.arange(value.shape[axis]), axis)
        if parameter.size == 1:
            return parameter.reshape(())
        shape = [1] * value.ndim
        shape[axis] = parameter.size
        return parameter.reshape(shape)

    whole = value.astype(np.int32)
    if zero is not None:
        whole = whole - placed(zero.astype(np.int32))
    return np.asarray((whole.astype(np.float32) * placed(scale.astype(np.float32))).astype(scale.dtype))
