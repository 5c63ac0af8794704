"""Relax rewrites that spare the later stages the many forms of one operator.

The layout stage moves a binary operator to another layout only if both sides have the same rank or one
is a scalar of rank 0, and ONNX models are full of constants of shape ``[1]`` and ``[C,1,1]``.  Constant
weights of convolutions become HWIO, which is what schedules pack.
"""

from __future__ import annotations

import math
from typing import Any

from deploycc.relax_graph import Array, constant, constant_value
from deploycc.tvm_api import relax

BINARY = frozenset(
    f"relax.{name}"
    for name in (
        "add subtract multiply divide maximum minimum power floor_divide mod "
        "less less_equal greater greater_equal equal not_equal"
    ).split()
)

_DIVISIONS = frozenset(("relax.divide", "relax.floor_divide", "relax.mod"))


def canonicalize(module: Any) -> Any:
    """``module`` with constants beside images at rank 0 or full rank, squares multiplied, weights as HWIO."""
    module["main"] = _Canonicalizer(module).visit_expr(module["main"])
    return relax.transform.DeadCodeElimination()(module)


@relax.expr_functor.mutator
class _Canonicalizer(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        name = getattr(call.op, "name", "")
        if name == "relax.nn.conv2d":
            return _with_hwio_weights(call)
        if name not in BINARY:
            return call
        left, right = call.args
        exponent = constant_value(right) if name == "relax.power" else None
        if (
            exponent is not None
            and exponent.size == 1
            and exponent.ndim <= rank(left)
            and exponent.item() == 2.0
        ):
            return relax.op.multiply(left, left)
        divisor = constant_value(right) if name in _DIVISIONS else None
        if divisor is not None and divisor.size == 1 and divisor.item() == 0 and rank(left) > 0:
            # TVM refuses a division by a number 0 that is part of the code; infinities are the app's matter.
            right = constant(divisor.reshape((1,) * rank(left)))
        else:
            right = _lift(right, rank(left))
        left = _lift(left, rank(call.args[1]))
        if left is call.args[0] and right is call.args[1]:
            return call
        return relax.Call(call.op, [left, right], call.attrs)


def _with_hwio_weights(call: Any) -> Any:
    attributes = call.attrs
    weight = constant_value(call.args[1])
    layouts = (attributes.data_layout, attributes.kernel_layout, attributes.out_layout)
    if layouts != ("NCHW", "OIHW", "NCHW") or weight is None:
        return call
    return relax.op.nn.conv2d(
        call.args[0],
        constant(weight.transpose(2, 3, 1, 0)),
        strides=attributes.strides,
        padding=attributes.padding,
        dilation=attributes.dilation,
        groups=attributes.groups,
        kernel_layout="HWIO",
        out_dtype=attributes.out_dtype,
    )


def rank(expression: Any) -> int:
    """The rank of a tensor expression, -1 where unknown."""
    return int(expression.ty.ndim)


def _lift(expression: Any, other_rank: int) -> Any:
    """A constant beside an operand of ``other_rank``, at full rank or, if it is one plain number, rank 0.

    A number of rank 0 becomes part of the kernel's code, which is what bounds like 0 and 6 are worth.
    A learned scale is not: kept as a tensor of one element, kernels that differ in nothing else
    are one kernel, compiled once.
    """
    value = constant_value(expression)
    if value is None or other_rank <= 0 or value.ndim > other_rank:
        return expression
    if value.size == 1 and _is_plain(value):
        return expression if value.ndim == 0 else constant(value.reshape(()))
    if value.ndim < other_rank:
        return constant(value.reshape((1,) * (other_rank - value.ndim) + value.shape))
    return expression


def _is_plain(value: Array) -> bool:
    """Whether a scalar is an integer or a short binary fraction (3, 0.5), not a trained number."""
    number = value.item()
    return not isinstance(number, float) or not math.isfinite(number) or (number * 256).is_integer()
