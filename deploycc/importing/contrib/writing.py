"""What the families write with: one node's inputs and attributes, and the standard nodes in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from deploycc.importing.flattening.building import split_up
from deploycc.importing.flattening.values import Refused, Scope, Value
from deploycc.importing.flattening.walker import Walker
from deploycc.onnx_editor import attribute
from deploycc.onnx_graph import Array
from deploycc.types import Diagnostic

DOMAIN = "com.microsoft"


class Writing:
    """One node being written in standard operators.

    ``known`` are its attributes that the family understands: any other one is refused (DC405), since
    what it would change is not known.
    """

    def __init__(
        self, walker: Walker, node: NodeProto, inputs: Sequence[Value], scope: Scope, known: str = ""
    ) -> None:
        self.walker, self.node, self._scope = walker, node, scope
        self._inputs = [str(value) for value in inputs]
        strange = sorted({found.name for found in node.attribute} - set(known.split()))
        if strange:
            raise self.not_understood(f"attributes {', '.join(strange)}", known or "no attributes")

    def not_understood(self, got: str, need: str) -> Refused:
        """DC405: a form whose meaning is not known well enough."""
        return Refused(
            Diagnostic(
                "DC405",
                f"operator {self.node.op_type} of the domain '{self.node.domain}' is not taken in this form",
                node=self.node.name,
                op=self.node.op_type,
                got=got,
                need=need,
                help="save the model before ONNX Runtime optimises it, or export with standard operators",
                verdict="unsupported",
            )
        )

    def input(self, index: int) -> str:
        """The name of an input, empty where it is left out."""
        return self._inputs[index] if index < len(self._inputs) else ""

    def only(self, count: int, least: int | tuple[int, ...] = 1) -> None:
        """Refuse more inputs than the first ``count``, and fewer than the first ``least`` or those given.

        ONNX Runtime's kernels do not look whether an input that they need is there.
        """
        for index in range(least) if isinstance(least, int) else least:
            if not self.input(index):
                raise self.not_understood(f"input {index} left out", "that input")
        more = [name for name in self._inputs[count:] if name]
        if more:
            raise self.not_understood(f"{count + len(more)} inputs ('{more[0]}')", f"the first {count}")

    def wants(self, index: int) -> bool:
        """Whether the node has that output."""
        return index < len(self.node.output) and bool(self.node.output[index])

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value."""
        return attribute(self.node, name, default)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's static extents; refused where they are open."""
        shape = self.walker.shape(name)
        if shape is None:
            raise self.not_understood(f"'{name}' has an open shape", "static shapes: bind them with --shape")
        return shape

    def rank(self, name: str) -> int:
        """The number of a tensor's axes; refused where that is open."""
        kind = self.walker.types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            raise self.not_understood(f"'{name}' has an open shape", "a known number of axes")
        return len(kind.tensor_type.shape.dim)

    def dtype(self, name: str) -> np.dtype[Any]:
        """A tensor's element type; refused where it is open."""
        kind = self.walker.elem_type(name)
        if not kind:
            raise self.not_understood(f"'{name}' has an open element type", "a known element type")
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind))

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A standard node; the name of its output."""
        return self.walker.add(self._scope, self.node, operator, *inputs, **attributes)[0]

    def number(self, value: float, like: str) -> str:
        """A stored scalar of the element type of ``like``."""
        return self.stored(np.array(value, self.dtype(like)))

    def stored(self, value: Array) -> str:
        """A stored tensor."""
        return self.walker.constant(value, f"{self.node.name}/constant")

    def whole(self, *values: int) -> str:
        """A stored list of int64."""
        return self.stored(np.array(values, np.int64))

    def reshape(self, source: str, *extents: int) -> str:
        """The tensor in another shape."""
        return self.op("Reshape", source, self.whole(*extents))

    def transpose(self, source: str, *order: int) -> str:
        """The tensor with its axes in another order."""
        return self.op("Transpose", source, perm=list(order))

    def reduce(self, operator: str, source: str, axis: int) -> str:
        """A reduction that keeps its axis."""
        if self.walker.opset >= (13 if operator == "ReduceSum" else 18):
            return self.op(operator, source, self.whole(axis), keepdims=1)
        return self.op(operator, source, axes=[axis], keepdims=1)

    def slice(self, source: str, start: int, end: int, axis: int, step: int = 1) -> str:
        """Part of a tensor along one axis."""
        if self.walker.opset < 10:
            raise self.not_understood(f"opset {self.walker.opset}", "opset 10 or newer")
        rows = [self.whole(value) for value in (start, end, axis, step)]
        return self.op("Slice", source, *rows)

    def split(self, source: str, sizes: Sequence[int], axis: int) -> list[str]:
        """The parts of a tensor along an axis."""
        return split_up(self.walker, self._scope, self.node, source, sizes, axis)

    def cast(self, source: str, dtype: np.dtype[Any] | str) -> str:
        """The tensor in another element type; itself where it has that."""
        if self.dtype(source) == np.dtype(dtype):
            return source
        return self.op("Cast", source, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def softmax(self, source: str) -> str:
        """Softmax over the last axis, written so that every opset reads it alike."""
        return self.op("Softmax", source, axis=self.rank(source) - 1)
