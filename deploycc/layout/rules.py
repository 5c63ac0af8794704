"""How each operator that does not care for the layout is written in NHWC: one rule an operator.

A rule takes operands in NHWC and a Relax call in NCHW and returns the call in NHWC, or ``None`` where this
form of the operator (a missing attribute, an operand of another rank) stays in NCHW.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from deploycc.relax_graph import constant, constant_value
from deploycc.tvm_api import ir, relax

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
AXIS_IN_NHWC = {0: 0, 1: 3, 2: 1, 3: 2}

ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (
        "add subtract multiply divide maximum minimum power floor_divide mod floor_mod "
        "less less_equal greater greater_equal equal not_equal logical_and logical_or logical_xor where "
        "nn.relu nn.gelu nn.gelu_tanh nn.silu nn.leakyrelu nn.softplus nn.relu6 "
        "sigmoid tanh exp log sqrt rsqrt abs negative ceil floor round sign erf clip square "
        "sin cos tan logical_not isnan isinf isfinite astype"
    ).split()
)
REDUCTIONS = frozenset(f"relax.{name}" for name in ("mean", "sum", "max", "min", "prod", "variance", "std"))
POOLS = {
    "relax.nn.max_pool2d": relax.op.nn.max_pool2d,
    "relax.nn.avg_pool2d": relax.op.nn.avg_pool2d,
}


class Operands(Protocol):
    """What a rule reads."""

    def nhwc(self, expression: Any) -> Any | None:
        """``expression`` in NHWC, ``None`` where it has no such form; numbers of rank 0 as they are."""

    def original(self, expression: Any) -> Any:
        """``expression`` with its axes in the model's order."""


Rule = Callable[[Operands, Any], Any]


def rule_of(call: Any) -> Rule | None:
    """The rule of a call's operator, ``None`` where it is not known to take another layout."""
    name = getattr(call.op, "name", "")
    if name in ELEMENTWISE:
        return _elementwise
    if name in REDUCTIONS:
        return _reduction
    if name in POOLS:
        return _pool
    return RULES.get(name)


def is_elementwise(call: Any) -> bool:
    """Whether a call computes each element of its result from the same element of its operands."""
    return getattr(call.op, "name", "") in ELEMENTWISE or getattr(call.op, "name", "") == "relax.nn.prelu"


def rank(expression: Any) -> int:
    """The rank of a tensor expression, -1 for anything else and where it is unknown."""
    return int(getattr(expression.ty, "ndim", -1))


def permutation(expression: Any) -> tuple[int, ...] | None:
    """The axes of a call that permutes them one by one, ``None`` for anything else."""
    name = getattr(getattr(expression, "op", None), "name", "")
    if name != "relax.permute_dims" or expression.attrs.axes is None:
        return None
    return tuple(int(axis) for axis in expression.attrs.axes)


def constant_in_nhwc(expression: Any) -> Any | None:
    """A constant beside an image: itself if a scalar, transposed if an image, else ``None``."""
    value = constant_value(expression)
    if value is None or value.ndim not in (0, 4):
        return None
    return expression if value.ndim == 0 else constant(value.transpose(TO_NHWC))


def _elementwise(operands: Operands, call: Any) -> Any | None:
    arguments = [operands.nhwc(argument) for argument in call.args]
    if any(argument is None for argument in arguments):
        return None
    return relax.Call(call.op, arguments, call.attrs)


def _pool(operands: Operands, call: Any) -> Any | None:
    attributes = call.attrs
    data = operands.nhwc(call.args[0])
    if attributes.layout != "NCHW" or data is None:
        return None
    return POOLS[call.op.name](
        data,
        pool_size=attributes.pool_size,
        strides=attributes.strides,
        padding=attributes.padding,
        dilation=attributes.dilation,
        ceil_mode=attributes.ceil_mode,
        count_include_pad=attributes.count_include_pad,
        layout="NHWC",
    )


def _adaptive_pool(operands: Operands, call: Any) -> Any | None:
    data = operands.nhwc(call.args[0])
    if call.attrs.layout != "NCHW" or data is None:
        return None
    return relax.op.nn.adaptive_avg_pool2d(data, call.attrs.output_size, layout="NHWC")


def _reduction(operands: Operands, call: Any) -> Any | None:
    axes = call.attrs.axis
    data = operands.nhwc(call.args[0])
    if axes is None or data is None:
        return None
    moved = sorted(AXIS_IN_NHWC[int(axis) % 4] for axis in axes)
    if not call.attrs.keepdims and 3 not in moved and not {1, 2} <= set(moved):
        return None  # what is left would still be in another order
    function = getattr(relax.op, call.op.name.removeprefix("relax."))
    return function(data, moved, keepdims=call.attrs.keepdims)


def _axis_moved(function: Callable[[Any, int], Any]) -> Rule:
    """The rule of a unary operator with one ``axis`` attribute."""

    def rule(operands: Operands, call: Any) -> Any | None:
        data = operands.nhwc(call.args[0])
        return None if data is None else function(data, AXIS_IN_NHWC[int(call.attrs.axis) % 4])

    return rule


def _prelu(operands: Operands, call: Any) -> Any | None:
    data = operands.nhwc(call.args[0])
    if data is None or constant_value(call.args[1]) is None:
        return None
    return relax.op.nn.prelu(data, call.args[1], axis=AXIS_IN_NHWC[int(call.attrs.axis) % 4])


def _concat(operands: Operands, call: Any) -> Any | None:
    fields = call.args[0].fields if isinstance(call.args[0], relax.Tuple) else None
    if fields is None or call.attrs.axis is None:
        return None
    parts = [operands.nhwc(field) for field in fields]
    if any(part is None for part in parts):
        return None
    return relax.op.concat(parts, axis=AXIS_IN_NHWC[int(call.attrs.axis) % 4])


def _split(operands: Operands, call: Any) -> Any | None:
    data = operands.nhwc(call.args[0])
    sections = call.attrs.indices_or_sections
    if data is None:
        return None
    sections = int(sections) if isinstance(sections, int | ir.Expr) else [int(index) for index in sections]
    return relax.op.split(data, sections, axis=AXIS_IN_NHWC[int(call.attrs.axis) % 4])


def _resize2d(operands: Operands, call: Any) -> Any | None:
    attributes = call.attrs
    data = operands.nhwc(call.args[0])
    if attributes.layout != "NCHW" or data is None:
        return None
    return relax.op.image.resize2d(
        data,
        call.args[1],
        roi=tuple(float(r) for r in attributes.roi),
        layout="NHWC",
        method=attributes.method,
        coordinate_transformation_mode=attributes.coordinate_transformation_mode,
        rounding_method=attributes.rounding_method,
        cubic_alpha=attributes.cubic_alpha,
        cubic_exclude=attributes.cubic_exclude,
        extrapolation_value=attributes.extrapolation_value,
    )


def _numbers(expression: Any) -> list[int] | None:
    """The integers of a tuple of constants."""
    if not isinstance(expression, relax.Tuple):
        return None
    values = [getattr(field, "value", None) for field in expression.fields]
    return None if any(not isinstance(value, int) for value in values) else [int(value) for value in values]  # type: ignore[arg-type]


def _strided_slice(operands: Operands, call: Any) -> Any | None:
    data = operands.nhwc(call.args[0])
    axes = _numbers(call.args[1])
    rest = [_numbers(argument) for argument in call.args[2:]]
    if data is None or axes is None or any(part is None for part in rest):
        return None
    moved = [AXIS_IN_NHWC[axis % 4] for axis in axes]
    return relax.op.strided_slice(data, moved, *rest, assume_inbound=call.attrs.assume_inbound)


def _pad(operands: Operands, call: Any) -> Any | None:
    data = operands.nhwc(call.args[0])
    width = [int(extent) for extent in call.attrs.pad_width]
    if data is None or len(width) != 8:
        return None
    n, c, h, w = (width[2 * axis : 2 * axis + 2] for axis in range(4))
    return relax.op.nn.pad(data, [*n, *h, *w, *c], call.attrs.pad_mode, call.attrs.pad_value)


RULES: dict[str, Rule] = {
    "relax.strided_slice": _strided_slice,
    "relax.nn.pad": _pad,
    "relax.nn.adaptive_avg_pool2d": _adaptive_pool,
    "relax.nn.prelu": _prelu,
    "relax.nn.softmax": _axis_moved(lambda data, axis: relax.op.nn.softmax(data, axis)),
    "relax.nn.log_softmax": _axis_moved(lambda data, axis: relax.op.nn.log_softmax(data, axis)),
    "relax.concat": _concat,
    "relax.split": _split,
    "relax.image.resize2d": _resize2d,
}
