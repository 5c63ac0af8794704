"""What conditions can ask about a node, and the evaluator.

Facts: ``opset`` (the model's), ``domain``, ``inputs`` and ``outputs`` (how many the node
lists), ``input[i]``, ``output[i]``.

Functions: ``attr(name)`` (the schema's default where not given, else ``absent``),
``given(name)`` (the attribute is on the node), ``present(t)``, ``const(t)``, ``value(t)``
(nested tuples, or a number for a scalar), ``dtype(t)``, ``rank(t)``, ``shape(t)``,
``dim(t, axis)``, ``numel(t)``, ``ranked(t)`` (its rank is known), ``used(t)`` (read by a
node or returned), ``returned(t)``
(a graph output), ``is_float(t)``, ``is_int(t)``, ``bits(t)``, ``len(x)``, ``min(x)``, ``max(x)``,
``fractional(x, y)`` (some product of the two lists, element by element, is no integer),
``producer(t)`` (the operator that makes it, ``''`` for none), ``consumers(t)`` (the operators that read
it, a tuple), ``producer_attr(t, name)`` and ``producer_input(t, i)`` (an attribute and an input of the
node that makes it), ``version`` (the operator's own, the opset that brought this form of it),
``product(x)``, ``total(x)``, ``abs(x)`` (of a number or every number of a tuple), ``ceil(x)``,
``slice(x, start, end)``, ``odd(x, n)`` (some number of the tuple is no multiple of n), ``above(x, y)``
(some number of the one tuple is larger than that of the other at its place), ``static(t)`` (every extent
is known; never unknown), ``dims(input, axis)`` (that extent of every tensor the node lists on that side),
``matches(text, pattern)`` (the whole text, a regular expression).

A fact that is not known (an extent, a run-time value) makes what depends on it unknown, by
Kleene's logic: ``false and unknown`` is false, ``true or unknown`` is true.  Only true fires.
``absent`` equals nothing but itself; calculating with it or indexing it gives unknown.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from deploycc.linting.language import (
    Binary,
    Call,
    ConditionError,
    Expression,
    Index,
    Items,
    Literal,
    Name,
    Unary,
)
from deploycc.onnx_graph import GraphView, attributes


class _Unknown:
    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = _Unknown()
_WORDS = {("dims", 0), ("producer_attr", 1)}
"""Functions, and which of their arguments is a bare word."""

_LONGEST_TEXT = 256
"""Longer texts are matched with no pattern: a model's maker should not choose how long that takes."""

_SMALL = 1 << 12
"""Stored values beyond this many elements are weights, not parameters; their value is unknown here."""


@dataclass(frozen=True)
class Tensor:
    """A node's input or output by name; the empty name is an absent one."""

    name: str


@dataclass(frozen=True)
class NodeFacts:
    """One node of one graph, for conditions and for Python rules."""

    node: NodeProto
    view: GraphView

    def tensor(self, side: str, index: int) -> Tensor:
        """Input or output ``index``; absent where the node does not list it."""
        names = self.node.input if side == "input" else self.node.output
        return Tensor(names[index] if index < len(names) else "")

    def attr(self, name: str) -> Any:
        """The attribute's Python value, its default in the schema, or ``None``."""
        found = attributes(self.node).get(name)
        if found is None:
            found = _defaults(self.node.op_type, self.view.opset, self.node.domain).get(name)
        if found is None:
            return None
        value = helper.get_attribute_value(found)
        return tuple(_text(item) for item in value) if isinstance(value, list) else _text(value)

    def shape(self, tensor: Tensor) -> tuple[int | None, ...] | None:
        """Extents, ``None`` for each that is not known; ``None`` where the rank is not."""
        kind = self.view.types.get(tensor.name)
        return kind.shape if kind else None

    def dtype(self, tensor: Tensor) -> str | None:
        """The element type's name."""
        kind = self.view.types.get(tensor.name)
        return kind.dtype if kind else None


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@cache
def _defaults(op: str, opset: int, domain: str) -> dict[str, onnx.AttributeProto]:
    try:
        schema = onnx.defs.get_schema(op, max(opset, 1), domain)
    except onnx.defs.SchemaError:
        return {}
    return {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}


@cache
def _since(op: str, opset: int, domain: str) -> int:
    try:
        return int(onnx.defs.get_schema(op, max(opset, 1), domain).since_version)
    except onnx.defs.SchemaError:
        return 0


def holds(expression: Expression, facts: NodeFacts) -> bool:
    """Whether the condition is true of the node; unknown is not true.

    Raises ``ConditionError`` where it is not a condition at all (a number, an unknown name).
    """
    value = evaluate(expression, facts)
    if not isinstance(value, (bool, np.bool_, _Unknown)):
        raise ConditionError(f"not a condition: {value!r}")
    return value is not UNKNOWN and bool(value)


def evaluate(expression: Expression, facts: NodeFacts) -> Any:
    """The value of an expression, ``UNKNOWN`` where a fact is missing."""
    match expression:
        case Literal(value):
            return value
        case Name(name):
            return _fact(name, facts)
        case Items(items):
            values = tuple(evaluate(item, facts) for item in items)
            return UNKNOWN if UNKNOWN in values else values
        case Index(Name(("input" | "output") as side), index):
            return facts.tensor(side, int(evaluate(index, facts)))
        case Index(value, index):
            return _indexed(evaluate(value, facts), evaluate(index, facts))
        case Unary(sign, operand):
            value = evaluate(operand, facts)
            if value is UNKNOWN:
                return UNKNOWN
            return (not value) if sign == "not" else -value
        case Binary("and" | "or" as word, left, right):
            return _kleene(word, evaluate(left, facts), lambda: evaluate(right, facts))
        case Binary(sign, left, right):
            return _binary(sign, evaluate(left, facts), evaluate(right, facts))
        case Call(function, arguments):
            return _call(function, arguments, facts)
    raise ConditionError(f"no such expression: {expression!r}")


def _fact(name: str, facts: NodeFacts) -> Any:
    match name:
        case "opset":
            return facts.view.opset
        case "version":
            return _since(facts.node.op_type, facts.view.opset, facts.node.domain) or UNKNOWN
        case "domain":
            return facts.node.domain
        case "inputs":
            return len(facts.node.input)
        case "outputs":
            return len(facts.node.output)
    raise ConditionError(f"no fact is called '{name}'")


def _indexed(value: Any, index: Any) -> Any:
    if value is UNKNOWN or index is UNKNOWN or value is None:
        return UNKNOWN
    if not isinstance(value, tuple):
        raise ConditionError(f"cannot index {value!r}")
    return value[index] if -len(value) <= index < len(value) else UNKNOWN


def _kleene(word: str, left: Any, right: Callable[[], Any]) -> Any:
    decisive = word == "or"
    if left is not UNKNOWN and bool(left) is decisive:
        return decisive
    other = right()
    if other is not UNKNOWN and bool(other) is decisive:
        return decisive
    return UNKNOWN if UNKNOWN in (left, other) else not decisive


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}


def _binary(sign: str, left: Any, right: Any) -> Any:
    if sign in ("in", "not in") and isinstance(right, tuple) and UNKNOWN in right:
        return (sign == "in") if left is not UNKNOWN and left in right else UNKNOWN
    if sign in ("==", "!="):
        same = _same(left, right)
        return same if sign == "==" or same is UNKNOWN else not same
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if sign not in ("in", "not in") and (left is None or right is None):
        return UNKNOWN
    try:
        return _OPERATORS[sign](left, right)
    except (TypeError, ZeroDivisionError) as error:
        raise ConditionError(f"{left!r} {sign} {right!r}: {error}") from None


def _same(left: Any, right: Any) -> Any:
    """Equality by Kleene's logic: one place that differs decides, whatever is not known at another."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        places = [_same(a, b) for a, b in zip(left, right, strict=False)]
        if len(left) != len(right) or any(place is False for place in places):
            return False
        return UNKNOWN if UNKNOWN in places else True
    return UNKNOWN if left is UNKNOWN or right is UNKNOWN else bool(left == right)


def _call(function: str, arguments: tuple[Expression, ...], facts: NodeFacts) -> Any:
    if function in ("attr", "given"):
        if len(arguments) != 1 or not isinstance(arguments[0], Name):
            raise ConditionError(f"{function}() takes the name of an attribute")
        name = arguments[0].name
        return facts.attr(name) if function == "attr" else name in attributes(facts.node)
    if function not in _FUNCTIONS:
        raise ConditionError(f"no function is called '{function}'")
    values = [
        _word(function, argument) if (function, index) in _WORDS else evaluate(argument, facts)
        for index, argument in enumerate(arguments)
    ]
    if UNKNOWN in values or None in values:
        return UNKNOWN
    try:
        return _FUNCTIONS[function](facts, *values)
    except (TypeError, AttributeError) as error:
        raise ConditionError(f"{function}: {error}") from None


def _word(function: str, argument: Expression) -> str:
    if not isinstance(argument, Name):
        raise ConditionError(f"{function}() takes a bare word there")
    return argument.name


def _rank(facts: NodeFacts, tensor: Tensor) -> Any:
    shape = facts.shape(tensor)
    return UNKNOWN if shape is None else len(shape)


def _shape(facts: NodeFacts, tensor: Tensor) -> Any:
    shape = facts.shape(tensor)
    return UNKNOWN if shape is None else tuple(UNKNOWN if dim is None else dim for dim in shape)


def _dim(facts: NodeFacts, tensor: Tensor, axis: int) -> Any:
    return _indexed(_shape(facts, tensor), axis)


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


def _static(facts: NodeFacts, tensor: Tensor) -> bool:
    shape = facts.shape(tensor)
    return shape is not None and None not in shape


def _matches(_: NodeFacts, text: str, pattern: str) -> Any:
    return UNKNOWN if len(text) > _LONGEST_TEXT else re.fullmatch(pattern, text) is not None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
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
    "slice": lambda _, value, start, end: tuple(value[start:end]),
}
