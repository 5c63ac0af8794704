"""ONNX rewrites that only serve the lowering (exact; users never see them in a report).

* ``ConvTranspose`` with one group becomes a convolution that computes all output phases as
  channels, then ``DepthToSpace``: TVM would dilate the input with zeros and multiply by them,
  ``stride_h * stride_w`` times the work.
* One-dimensional convolution and pooling become two-dimensional ones of height 1.
* Elementwise operators behind a convolution whose result lost an axis (by the rule above, or by a ``Squeeze``
  of the model) are done before it: a change of rank between a convolution and its activation would keep
  them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from deploycc.types import ModelTensor

_UNARY = frozenset(
    "Abs Clip Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Relu Selu Sigmoid Softplus Sqrt "
    "Swish Tanh".split()
)
_BINARY = frozenset("Add Div Max Min Mul PRelu Sub".split())
HEIGHT, WIDTH = 2, 3
"""Axes of NCHW that a one-dimensional image lacks one of."""


@dataclass(frozen=True)
class Rewritten:
    """A rewritten graph and what its tensors are of the model's.

    ``tensors[numbers[i, j]]`` is the one that node ``i`` has as its output ``j``.
    """

    proto: onnx.ModelProto
    tensors: tuple[ModelTensor, ...]
    numbers: Mapping[tuple[int, int], int]


def rewrite_onnx(proto: onnx.ModelProto) -> Rewritten:
    """A copy of ``proto`` with the rewrites of this module applied."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    editor = _Editor(result)
    nodes: list[onnx.NodeProto] = []
    sources: list[onnx.NodeProto] = []
    for node in result.graph.node:
        made = editor.rewrite(node)
        nodes.extend(made)
        sources += [node] * len(made)
    known = {name for node in proto.graph.node for name in node.output if name}
    # A tensor at another rank has the elements of the model's, in the same order.
    models = {name: name for name in known} | {inner: name for name, (inner, _) in editor.raised.items()}
    numbers: dict[tuple[int, int], int] = {}
    tensors: list[ModelTensor] = []
    for number, (node, source) in enumerate(zip(nodes, sources, strict=True)):
        for output, name in enumerate(node.output):
            numbers[number, output] = len(tensors)
            tensors.append(ModelTensor(models.get(name, ""), source.name))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.value_info[:]
    return Rewritten(shape_inference.infer_shapes(result, data_prop=True), tuple(tensors), numbers)


class _Editor:
    """Rewrites node by node; knows constants and shapes, and makes fresh names."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.graph = proto.graph
        self.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.constants = {i.name: numpy_helper.to_array(i) for i in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
        self.shapes = {
            v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        self.shapes |= {name: array.shape for name, array in self.constants.items()}
        self.names = {o for n in self.graph.node for o in n.output} | set(self.constants) | set(self.shapes)
        self.raised: dict[str, tuple[str, int]] = {}
        """Tensors of rank 3 that exist at rank 4: that one's name, and its axis of extent 1 beyond them."""
        self.convolved = {n.output[0] for n in self.graph.node if n.op_type == "Conv"}

    def fresh(self, base: str) -> str:
        """A tensor name that is not in the graph yet."""
        name, count = base, 0
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        self.names.add(name)
        return name

    def constant(self, base: str, array: np.ndarray) -> str:
        """Add an initializer and return its name."""
        name = self.fresh(base)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        self.constants[name] = array
        self.shapes[name] = array.shape
        return name

    def rewrite(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that take ``node``'s place; ``[node]`` where no rewrite applies."""
        if node.domain not in ("", "ai.onnx"):
            return [node]
        rank = len(self.shapes.get(node.input[0], ())) if node.input else 0
        if node.op_type == "ConvTranspose" and rank in (3, 4):
            return self._conv_transpose(node, rank)
        if node.op_type in ("Conv", "MaxPool", "AveragePool") and rank == 3 and len(node.output) == 1:
            return self._one_dimensional(node)
        if node.op_type == "Squeeze" and node.input[0] in self.convolved and rank == 4:
            return self._squeezed(node)
        if node.op_type in _UNARY | _BINARY or node.op_type == "BatchNormalization":
            return self._elementwise(node)
        return [node]

    def _one_dimensional(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = list(node.input)
        if node.op_type == "Conv":
            if inputs[1] not in self.constants:
                return [node]
            inputs[1] = self.constant(f"{node.name}_weight_2d", self.constants[inputs[1]][:, :, None, :])
        for key in ("kernel_shape", "strides", "dilations"):
            if key in attributes:
                attributes[key] = [1, *attributes[key]]
        if "pads" in attributes:
            left, right = attributes["pads"]
            attributes["pads"] = [0, left, 0, right]
        before: list[onnx.NodeProto] = []
        inputs[0] = self._raise(node.input[0], before, HEIGHT)
        return [*before, *self._lowered(node, inputs, attributes, HEIGHT)]

    def _squeezed(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Remember what a squeeze of rows or columns begins with: elementwise readers are done there."""
        axes = next((tuple(a.ints) for a in node.attribute if a.name == "axes"), None)
        if len(node.input) > 1 and node.input[1] in self.constants:
            axes = tuple(self.constants[node.input[1]].reshape(-1).tolist())
        axis = axes[0] % 4 if axes is not None and len(axes) == 1 else -1
        if axis in (HEIGHT, WIDTH):
            self.raised[node.output[0]] = (node.input[0], axis)
        return [node]

    def _elementwise(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """An elementwise operator on a tensor that was made with one more axis, done there."""
        operands = list(node.input if node.op_type in _BINARY else node.input[:1])
        axis = next((self.raised[name][1] for name in operands if name in self.raised), None)
        if axis is None or len(node.output) != 1:
            return [node]
        if len(self.shapes.get(node.output[0], ())) != 3 or not all(name in self.shapes for name in operands):
            return [node]
        before: list[onnx.NodeProto] = []
        inputs = list(node.input)
        for index, name in enumerate(operands):
            inputs[index] = self._raise(name, before, axis)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return [*before, *self._lowered(node, inputs, attributes, axis)]

    def _raise(self, name: str, before: list[onnx.NodeProto], axis: int) -> str:
        """``name`` with one more axis, ``axis`` of rank 4; what that takes is added to ``before``."""
        rank = len(self.shapes[name])
        place = rank - 3 + axis
        if place <= 0:
            return name  # it has no axis in front of the new one, which comes by broadcasting
        inner, known = self.raised.get(name, ("", -1))
        if known == axis:
            return inner
        value = self.constants.get(name)
        if value is not None:
            return self.constant(f"{name}_raised", np.expand_dims(value, place))
        inner = self.fresh(f"{name}_raised")
        if known < 0:
            self.raised[name] = (inner, axis)
        before.append(self._unsqueeze(name, inner, place))
        return inner

    def _lowered(
        self, node: onnx.NodeProto, inputs: list[str], attributes: dict[str, Any], axis: int
    ) -> list[onnx.NodeProto]:
        """``node`` on ``inputs`` of rank 4, and its result without ``axis``, as it is in the model."""
        inner = self.fresh(f"{node.name}_2d")
        self.raised[node.output[0]] = (inner, axis)
        return [
            helper.make_node(node.op_type, inputs, [inner], name=node.name, **attributes),
            self._squeeze(inner, node.output[0], axis),
        ]

    def _unsqueeze(self, source: str, result: str, axis: int) -> onnx.NodeProto:
        if self.opset < 13:
            return helper.make_node("Unsqueeze", [source], [result], name=result, axes=[axis])
        axes = self.constant(f"{result}_axes", np.array([axis], np.int64))
        return helper.make_node("Unsqueeze", [source, axes], [result], name=result)

    def _squeeze(self, source: str, result: str, axis: int) -> onnx.NodeProto:
        if self.opset < 13:
            return helper.make_node("Squeeze", [source], [result], name=f"{result}_squeeze", axes=[axis])
        axes = self.constant(f"{result}_axes", np.array([axis], np.int64))
        return helper.make_node("Squeeze", [source, axes], [result], name=f"{result}_squeeze")

    def _conv_transpose(self, node: onnx.NodeProto, rank: int) -> list[onnx.NodeProto]:
        """Phase decomposition.

        With stride s and kernel k, output row ``y = s*i + phase`` sums ``x[i - j] * w[s*j + phase]``
        over ``j < ceil(k/s)``: a convolution of the unstrided input with the flipped sub-kernel
        of each phase.  All phases are computed as channels and interleaved; the padding is then
        a slice of the full result, and output_padding rows past it are zeros of the sum.
        """
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight = self.constants.get(node.input[1])
        shape = self.shapes.get(node.input[0], ())
        result_shape = self.shapes.get(node.output[0], ())
        simple = (
            weight is not None
            and attributes.get("group", 1) == 1
            and all(d == 1 for d in attributes.get("dilations", [1, 1]))
            and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", "NOTSET")
            and all(shape)
            and len(result_shape) == rank
        )
        if not simple or weight is None:
            return [node]
        spatial = rank - 2
        if spatial == 1:
            weight = weight[:, :, None, :]
        strides = [1] * (2 - spatial) + list(attributes.get("strides", [1] * spatial))
        pads = list(attributes.get("pads", [0] * (2 * spatial)))
        begins = [0] * (2 - spatial) + pads[:spatial]
        sizes = [1] * (2 - spatial) + list(result_shape[2:])
        if strides[0] != strides[1] and spatial == 2:
            return [node]
        channels_in, channels_out, kernel_h, kernel_w = weight.shape
        s_h, s_w = strides
        taps_h, taps_w = -(-kernel_h // s_h), -(-kernel_w // s_w)
        padded = np.zeros((channels_in, channels_out, taps_h * s_h, taps_w * s_w), weight.dtype)
        padded[:, :, :kernel_h, :kernel_w] = weight
        # [ci, co, tap_h, phase_h, tap_w, phase_w] -> [phase_h, phase_w, co, ci, tap_h, tap_w], taps flipped.
        phases = padded.reshape(channels_in, channels_out, taps_h, s_h, taps_w, s_w)
        phases = phases.transpose(3, 5, 1, 0, 2, 4)[..., ::-1, ::-1]
        phases = phases.reshape(s_h * s_w * channels_out, channels_in, taps_h, taps_w)

        name = node.name or node.output[0]
        height, width = [1] * (2 - spatial) + list(shape[2:])
        # Whole groups of rows that the padding cuts off need not be computed: the convolution pads less.
        top, rows, begins[0] = _rows(height, taps_h, s_h, begins[0], sizes[0])
        left, columns, begins[1] = _rows(width, taps_w, s_w, begins[1], sizes[1])
        bottom, right = rows - height - top + taps_h - 1, columns - width - left + taps_w - 1
        inputs = [node.input[0], self.constant(f"{name}_phases", phases)]
        bias = self.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if len(node.input) > 2 and node.input[2]:
            if bias is None:
                return [node]
            inputs.append(self.constant(f"{name}_bias", np.tile(bias, s_h * s_w)))
        nodes: list[onnx.NodeProto] = []
        if spatial == 1:
            raised = self.fresh(f"{name}_raised")
            nodes.append(self._unsqueeze(inputs[0], raised, 2))
            inputs[0] = raised
        convolved = self.fresh(f"{name}_conv")
        nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [convolved],
                name=name,
                kernel_shape=[taps_h, taps_w],
                pads=[top, left, bottom, right],
                strides=[1, 1],
            )
        )
        current = convolved
        if s_h == s_w and s_h > 1:
            spread = self.fresh(f"{name}_spread")
            nodes.append(
                helper.make_node("DepthToSpace", [current], [spread], name=spread, blocksize=s_h, mode="DCR")
            )
            current = spread
        elif s_w > 1:  # one-dimensional: [1, s*co, 1, w] -> [1, co, 1, w*s]
            current = self._interleave_width(nodes, current, name, shape[0], channels_out, columns, s_w)
        if [rows * s_h, columns * s_w] != sizes or any(begins):
            cut = self.fresh(f"{name}_cut")
            nodes.append(self._slice(current, cut, begins, sizes))
            current = cut
        if spatial == 1:
            nodes.append(self._squeeze(current, node.output[0], 2))
        else:
            nodes[-1].output[0] = node.output[0]
        return nodes

    def _interleave_width(
        self,
        nodes: list[onnx.NodeProto],
        source: str,
        name: str,
        batch: int,
        channels: int,
        columns: int,
        stride: int,
    ) -> str:
        split, turned, joined = (self.fresh(f"{name}_{part}") for part in ("split", "turned", "joined"))
        apart = self.constant(f"{name}_apart", np.array([batch, stride, channels, 1, columns], np.int64))
        together = self.constant(
            f"{name}_together", np.array([batch, channels, 1, columns * stride], np.int64)
        )
        nodes += [
            helper.make_node("Reshape", [source, apart], [split], name=split),
            helper.make_node("Transpose", [split], [turned], name=turned, perm=[0, 2, 3, 4, 1]),
            helper.make_node("Reshape", [turned, together], [joined], name=joined),
        ]
        return joined

    def _slice(self, source: str, result: str, begins: list[int], sizes: list[int]) -> onnx.NodeProto:
        ends = [b + s for b, s in zip(begins, sizes, strict=True)]
        if self.opset < 10:
            return helper.make_node(
                "Slice", [source], [result], name=result, axes=[2, 3], starts=begins, ends=ends
            )
        constants = [
            self.constant(f"{result}_{part}", np.array(values, np.int64))
            for part, values in (("starts", begins), ("ends", ends), ("axes", [2, 3]))
        ]
        return helper.make_node("Slice", [source, *constants], [result], name=result)


def _rows(extent: int, taps: int, stride: int, begin: int, size: int) -> tuple[int, int, int]:
    """How a convolution of ``taps`` gives groups of ``stride`` rows, of which ``size`` from ``begin`` count.

    Returns the rows of zeros in front of the ``extent`` input rows, how many groups to compute, and where in
    them the result then begins.  Rows past the input are zeros too (output_padding takes such).
    """
    skipped = min(begin // stride, taps - 1)
    begin -= skipped * stride
    groups = max(-(-(begin + size) // stride), extent - skipped)
    return taps - 1 - skipped, groups, begin
