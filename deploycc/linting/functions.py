"""The functions that conditions may call; ``evaluation`` says what each means.

Each takes the node's facts, then its arguments, none of them unknown.  Tuples may hold unknown numbers:
what depends on one of these is ``UNKNOWN``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from onnx import GraphProto, ValueInfoProto

from deploycc.linting.facts import UNKNOWN, NodeFacts, Tensor
from deploycc.linting.language import ConditionError
from deploycc.linting.quantisation import quantised_dtype, stored
from deploycc.onnx_graph import tensor_type

_LONGEST_TEXT = 256
"""Longer texts are matched with no pattern: a model's maker should not choose how long that takes."""

_SMALL = 1 << 12
"""Stored values beyond this many elements are weights, not parameters; their value is unknown here."""


def indexed(value: Any, index: Any) -> Any:
    """``value[index]``, unknown beyond the end and of what is absent."""
    if value is UNKNOWN or index is UNKNOWN or value is None:
        return UNKNOWN
    if not isinstance(value, tuple):
        raise ConditionError(f"cannot index {value!r}")
    return value[index] if -len(value) <= index < len(value) else UNKNOWN


def _rank(facts: NodeFacts, tensor: Tensor) -> Any:
    shape = facts.shape(tensor)
    return UNKNOWN if shape is None else len(shape)


def _shape(facts: NodeFacts, tensor: Tensor) -> Any:
    shape = facts.shape(tensor)
    return UNKNOWN if shape is None else tuple(UNKNOWN if dim is None else dim for dim in shape)


def _dim(facts: NodeFacts, tensor: Tensor, axis: int) -> Any:
    return indexed(_shape(facts, tensor), axis)


def _numel(facts: NodeFacts, tensor: Tensor) -> Any:
    shape = facts.shape(tensor)
    if shape is None or None in shape:
        return UNKNOWN
    return math.prod(dim for dim in shape if dim is not None)


def _dtype(facts: NodeFacts, tensor: Tensor) -> Any:
    return facts.dtype(tensor) or UNKNOWN


def _value(facts: NodeFacts, tensor: Tensor) -> Any:
    stored = facts.view.constant(tensor.name) if tensor.name else None
    if stored is None or stored.size > _SMALL:
        return UNKNOWN
    return _nested(stored.tolist())


def _nested(value: Any) -> Any:
    return tuple(_nested(item) for item in value) if isinstance(value, list) else value


def _kind(letters: str) -> Callable[[NodeFacts, Tensor], Any]:
    def check(facts: NodeFacts, tensor: Tensor) -> Any:
        name = facts.dtype(tensor)
        return UNKNOWN if not name else name.startswith(tuple(letters.split()))

    return check


def _bits(facts: NodeFacts, tensor: Tensor) -> Any:
    digits = "".join(c for c in facts.dtype(tensor) or "" if c.isdigit())
    return int(digits) if digits else UNKNOWN


def _flat(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _extreme(pick: Callable[[list[Any]], Any]) -> Callable[[NodeFacts, Any], Any]:
    def of(_: NodeFacts, value: Any) -> Any:
        leaves = _flat(value)
        return UNKNOWN if UNKNOWN in leaves or not leaves else pick(leaves)

    return of


def _fractional(_: NodeFacts, left: tuple[Any, ...], right: tuple[Any, ...]) -> Any:
    if UNKNOWN in left or UNKNOWN in right:
        return UNKNOWN
    products = [a * b for a, b in zip(left, right, strict=False)]
    # Scales are float32: 1.6666666 x 3 is meant to be 5.
    if not all(math.isfinite(p) for p in products):
        return True
    return any(abs(p - round(p)) > 1e-6 * max(1.0, abs(p)) for p in products)


def _producer(facts: NodeFacts, tensor: Tensor) -> Any:
    node = facts.view.producers.get(tensor.name)
    return node.op_type if node is not None else ""


def _consumers(facts: NodeFacts, tensor: Tensor) -> Any:
    return tuple(node.op_type for node in facts.view.consumers.get(tensor.name, []))


def _of_numbers(combine: Callable[[list[Any]], Any]) -> Callable[[NodeFacts, Any], Any]:
    def of(_: NodeFacts, value: Any) -> Any:
        leaves = _flat(value)
        return UNKNOWN if UNKNOWN in leaves or None in leaves else combine(leaves)

    return of


def _abs(_: NodeFacts, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_abs(_, item) for item in value)
    return value if value is UNKNOWN else abs(value)


def _odd(_: NodeFacts, value: Any, divisor: int) -> Any:
    leaves = _flat(value)
    return UNKNOWN if UNKNOWN in leaves or None in leaves else any(leaf % divisor for leaf in leaves)


def _above(_: NodeFacts, left: tuple[Any, ...], right: tuple[Any, ...]) -> Any:
    found = [
        UNKNOWN if UNKNOWN in pair or None in pair else pair[0] > pair[1]
        for pair in zip(left, right, strict=False)
    ]
    return True if True in found else UNKNOWN if UNKNOWN in found else False


def _dims(facts: NodeFacts, side: str, axis: int) -> Any:
    names = {"input": facts.node.input, "output": facts.node.output}.get(side)
    if names is None:
        raise ConditionError(f"dims() is of input or output, not of '{side}'")
    return tuple(_dim(facts, Tensor(name), axis) for name in names if name)


def _producer_attr(facts: NodeFacts, tensor: Tensor, name: str) -> Any:
    node = facts.view.producers.get(tensor.name)
    return UNKNOWN if node is None else NodeFacts(node, facts.view).attr(name)


def _producer_input(facts: NodeFacts, tensor: Tensor, index: int) -> Any:
    node = facts.view.producers.get(tensor.name)
    return UNKNOWN if node is None else NodeFacts(node, facts.view).tensor("input", index)


def _same_padding(_: NodeFacts, sizes: Any, kernel: Any, strides: Any) -> Any:
    """ONNX operator specification, auto_pad SAME of pools and Conv: an output extent is ceil(n / stride)."""
    axes = tuple(zip(sizes, kernel, strides, strict=False))
    if any(UNKNOWN in axis for axis in axes):
        return UNKNOWN
    return tuple((-(-n // stride) - 1) * stride + window - n for n, window, stride in axes)


def _static(facts: NodeFacts, tensor: Tensor) -> bool:
    shape = facts.shape(tensor)
    return shape is not None and None not in shape


def _matches(_: NodeFacts, text: str, pattern: str) -> Any:
    return UNKNOWN if len(text) > _LONGEST_TEXT else re.fullmatch(pattern, text) is not None


def _fixed(facts: NodeFacts, tensor: Tensor, *axes: int) -> Any:
    shape = facts.shape(tensor)
    if shape is None:
        return UNKNOWN
    wanted = axes or range(len(shape))
    return all(shape[axis] is not None for axis in wanted if -len(shape) <= axis < len(shape))


def _graph_shapes(infos: Iterable[ValueInfoProto]) -> tuple[Any, ...]:
    kinds = [tensor_type(info) for info in infos]
    return tuple(
        UNKNOWN
        if kind is None or kind.shape is None
        else tuple(UNKNOWN if dim is None else dim for dim in kind.shape)
        for kind in kinds
    )


def _graph_ranks(_: NodeFacts, graph: GraphProto) -> Any:
    return tuple(s if s is UNKNOWN else len(s) for s in _graph_shapes(graph.output))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "present": lambda facts, tensor: bool(tensor.name),
    "const": lambda facts, tensor: bool(tensor.name) and facts.view.is_constant(tensor.name),
    "used": lambda facts, tensor: facts.view.used(tensor.name),
    "returned": lambda facts, tensor: tensor.name in facts.view.outputs,
    "value": _value,
    "dtype": _dtype,
    "rank": _rank,
    "shape": _shape,
    "dim": _dim,
    "numel": _numel,
    "ranked": lambda facts, tensor: facts.shape(tensor) is not None,
    "is_float": _kind("float bfloat double"),
    "is_int": _kind("int uint"),
    "bits": _bits,
    "len": lambda _, value: len(value),
    "min": _extreme(min),
    "max": _extreme(max),
    "fractional": _fractional,
    "producer": _producer,
    "consumers": _consumers,
    "product": _of_numbers(math.prod),
    "total": _of_numbers(sum),
    "abs": _abs,
    "ceil": lambda _, value: math.ceil(value),
    "odd": _odd,
    "above": _above,
    "static": _static,
    "dims": _dims,
    "matches": _matches,
    "producer_attr": _producer_attr,
    "producer_input": _producer_input,
    "same_padding": _same_padding,
    "stored": lambda facts, tensor: stored(tensor.name, facts.view),
    "default": lambda _, value, other: other if value is None else value,
    "overlap": lambda _, left, right: UNKNOWN if UNKNOWN in (*left, *right) else bool({*left} & {*right}),
    "fixed": _fixed,
    "quantised": lambda facts, tensor: quantised_dtype(tensor.name, facts.view) or UNKNOWN,
    "names": lambda _, graph: tuple(info.name for info in graph.output),
    "ranks": _graph_ranks,
    "shapes": lambda _, graph: _graph_shapes(graph.output),
    "input_shapes": lambda _, graph: _graph_shapes(graph.input),
    "slice": lambda _, value, start, end: tuple(value[start:end]),
}
"""By name."""
