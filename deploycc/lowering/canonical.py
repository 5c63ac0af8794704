"""Relax rewrites that let TVM's layout pass see through elementwise operators.

The layout pass keeps a blocked or channels-last layout through a binary operator only if both
sides have the same rank or one is a scalar of rank 0.  ONNX models are full of constants of
shape ``[1]`` and ``[C,1,1]``, which would each cost two transposes.
"""

from __future__ import annotations

from typing import Any

from deploycc.relax_graph import constant, constant_value
from deploycc.tvm_api import relax

BINARY = frozenset(
    f"relax.{name}"
    for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "floor_divide", "mod")
    + ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
)


def canonicalize(module: Any) -> Any:
    """``module`` with constant operands of binary operators at rank 0 or full rank, and squares multiplied out."""
    module["main"] = _Canonicalizer(module).visit_expr(module["main"])
    return relax.transform.DeadCodeElimination()(module)


@relax.expr_functor.mutator
class _Canonicalizer(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        name = getattr(call.op, "name", "")
        if name not in BINARY:
            return call
        left, right = call.args
        exponent = constant_value(right) if name == "relax.power" else None
        if exponent is not None and exponent.size == 1 and exponent.ndim <= rank(left) and exponent.item() == 2.0:
            return relax.op.multiply(left, left)
        left, right = _lift(left, rank(right)), _lift(right, rank(left))
        if left is call.args[0] and right is call.args[1]:
            return call
        return relax.Call(call.op, [left, right], call.attrs)


def rank(expression: Any) -> int:
    """The rank of a tensor expression, -1 where unknown."""
    return int(expression.ty.ndim)


def _lift(expression: Any, other_rank: int) -> Any:
    """A constant of fewer dimensions than the other operand, reshaped to rank 0 or to the other's rank."""
    value = constant_value(expression)
    if value is None or value.ndim == 0 or other_rank <= 0:
        return expression
    if value.size == 1 and value.ndim <= other_rank:
        return constant(value.reshape(()))
    if value.ndim < other_rank:
        return constant(value.reshape((1,) * (other_rank - value.ndim) + value.shape))
    return expression
