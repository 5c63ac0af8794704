"""Values of integer expressions of lowered loops, for all rounds of the loops at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deploycc.tvm_api import ir, structural_walk, tirx

Array = np.ndarray[Any, Any]


class NotKnownError(Exception):
    """Something that cannot be enumerated."""


def variables_of(expression: Any) -> list[Any]:
    """Every mention of a variable in ``expression``."""
    found: list[Any] = []
    structural_walk(expression, (ir.Var, found.append), order="pre")
    return found


def monotone(expression: Any) -> bool:
    """Whether sums, differences, products with constants, minima and maxima are all there is."""
    if isinstance(expression, tirx.IntImm | ir.Var):
        return True
    if isinstance(expression, tirx.Add | tirx.Sub | tirx.Min | tirx.Max):
        return monotone(expression.a) and monotone(expression.b)
    if isinstance(expression, tirx.Mul):
        constant = isinstance(expression.a, tirx.IntImm) or isinstance(expression.b, tirx.IntImm)
        return constant and monotone(expression.a) and monotone(expression.b)
    return isinstance(expression, tirx.Cast) and monotone(expression.value)


_BINARY: tuple[tuple[Any, Any], ...] = (
    (tirx.Add, np.add),
    (tirx.Sub, np.subtract),
    (tirx.Mul, np.multiply),
    (tirx.Min, np.minimum),
    (tirx.Max, np.maximum),
    (tirx.FloorDiv, np.floor_divide),
    (tirx.FloorMod, np.mod),
    (tirx.LT, np.less),
    (tirx.LE, np.less_equal),
    (tirx.GT, np.greater),
    (tirx.GE, np.greater_equal),
    (tirx.EQ, np.equal),
    (tirx.NE, np.not_equal),
    (tirx.And, np.logical_and),
    (tirx.Or, np.logical_or),
)


def values_of(expression: Any, known: Mapping[Any, Any], binds: Mapping[Any, Any]) -> Array:
    """``expression`` as an array over the rounds of the loops, whose variables have the values ``known``.

    ``binds`` are expressions of other variables.  Raises ``NotKnownError`` for what depends on data.
    """
    if isinstance(expression, tirx.IntImm):
        return np.array(int(expression.value), np.int64)
    if isinstance(expression, ir.Var):
        if expression in known:
            return np.asarray(known[expression])
        if expression in binds:
            return values_of(binds[expression], known, binds)
        raise NotKnownError
    for kind, function in _BINARY:
        if isinstance(expression, kind):
            result = function(values_of(expression.a, known, binds), values_of(expression.b, known, binds))
            return np.asarray(result)
    if isinstance(expression, tirx.Div | tirx.Mod):
        a, b = values_of(expression.a, known, binds), values_of(expression.b, known, binds)
        quotient = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
        return np.asarray(quotient if isinstance(expression, tirx.Div) else a - b * quotient)
    if isinstance(expression, tirx.Cast):
        return values_of(expression.value, known, binds)
    if isinstance(expression, tirx.Not):
        return np.logical_not(values_of(expression.a, known, binds))
    if isinstance(expression, tirx.Select):
        parts = (expression.condition, expression.true_value, expression.false_value)
        return np.where(*(values_of(part, known, binds) for part in parts))
    raise NotKnownError
