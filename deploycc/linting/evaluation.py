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
``matches(text, pattern)`` (the whole text, a regular expression), ``same_padding(sizes, kernel, strides)``
(what auto_pad SAME adds along each axis, both sides together; below 0 it would crop), ``default(x, y)``
(``y`` where ``x`` is absent), ``overlap(x, y)`` (the tuples share an item), ``fixed(t, axis, ...)`` (those
extents are known before the network runs; of all axes where none is named), ``stored(t)`` (constant, or
what DequantizeLinear makes of a constant), ``quantised(t)`` (the element type in a program that computes
on integers: what DequantizeLinear makes ``t`` of or QuantizeLinear makes of it).

Of a graph attribute, ``attr(body)``: ``names(g)``, ``ranks(g)`` and ``shapes(g)`` of its outputs, and
``input_shapes(g)``.

A fact that is not known (an extent, a run-time value) makes what depends on it unknown, by
Kleene's logic: ``false and unknown`` is false, ``true or unknown`` is true.  Only true fires.
``absent`` equals nothing but itself; calculating with it or indexing it gives unknown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from deploycc.linting.facts import UNKNOWN, NodeFacts, Tensor, Unknown, since
from deploycc.linting.functions import FUNCTIONS, indexed
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
    UnfitValueError,
)
from deploycc.onnx_graph import attributes

__all__ = ["UNKNOWN", "NodeFacts", "Tensor", "evaluate", "holds"]

_WORDS = {("dims", 0), ("producer_attr", 1)}
"""Functions, and which of their arguments is a bare word."""


def holds(expression: Expression, facts: NodeFacts) -> bool:
    """Whether the condition is true of the node; unknown is not true.

    Raises ``ConditionError`` where it is not a condition at all (a number, an unknown name).
    """
    value = evaluate(expression, facts)
    if not isinstance(value, (bool, np.bool_, Unknown)):
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
            return indexed(evaluate(value, facts), evaluate(index, facts))
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
            return since(facts.node.op_type, facts.view.opset, facts.node.domain) or UNKNOWN
        case "domain":
            return facts.node.domain
        case "inputs":
            return len(facts.node.input)
        case "outputs":
            return len(facts.node.output)
    raise ConditionError(f"no fact is called '{name}'")


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
    except (TypeError, ArithmeticError, ValueError) as error:
        raise UnfitValueError(f"{left!r} {sign} {right!r}: {error}") from None


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
    if function not in FUNCTIONS:
        raise ConditionError(f"no function is called '{function}'")
    values = [
        _word(function, argument) if (function, index) in _WORDS else evaluate(argument, facts)
        for index, argument in enumerate(arguments)
    ]
    if UNKNOWN in values:
        return UNKNOWN
    try:
        return FUNCTIONS[function](facts, *values)
    except (TypeError, AttributeError, ArithmeticError, ValueError, IndexError) as error:
        if None in values:
            return UNKNOWN
        raise UnfitValueError(f"{function}: {error}") from None


def _word(function: str, argument: Expression) -> str:
    if not isinstance(argument, Name):
        raise ConditionError(f"{function}() takes a bare word there")
    return argument.name
