"""Operators to tensor programs: the chosen schedule's own algorithm where it has one.

TVM's legalisation serves everything else; where that is known to be poor (pooling over a whole
image) an expression of ours takes its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from deploycc.operators import Algorithm, Conv2d, Operator
from deploycc.relax_graph import constant, constant_value, describe, static_shape
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.library import Selection
from deploycc.scheduling.resizing import RESAMPLE_ANNOTATION, Resampling, emit_resize
from deploycc.tvm_api import ir, relax, s_tir, structural_walk, te, tirx, topi
from deploycc.types import DeployccError

INJECTIVE = 2
"""TVM's ``OpPatternKind.kInjective``: fused with what it reads only if that is injective too."""
OPAQUE = 8
"""TVM's ``OpPatternKind.kOpaque``: fused with nothing."""
OUT_ELEMENTWISE_FUSABLE = 4
"""TVM's ``OpPatternKind.kOutEWiseFusable``: elementwise consumers may be fused behind the operator."""


def legalize(module: Any, selections: Mapping[Operator, Selection]) -> Any:
    """``module`` with every operator as a call of a tensor program.

    The main block of a program that a selection computed carries ``TASK_ANNOTATION``.  Raises
    ``DeployccError`` (DC460) for an algorithm that fails or computes another shape.
    """
    failures: list[DeployccError] = []

    def anchored(fallback: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def emit(builder: Any, call: Any) -> Any:
            operator = describe(call)
            selection = selections.get(operator) if operator is not None else None
            if operator is None or selection is None or selection.schedule.compute is None:
                return fallback(builder, call)
            try:
                with selection.schedule.blamed("compute"):
                    algorithm = selection.schedule.compute(selection.match, selection.knobs)
                    return _emit_algorithm(builder, call, algorithm, operator)
            except DeployccError as error:
                failures.append(error)
                raise

        return emit

    overrides = {
        "relax.nn.conv2d": anchored(_plain_convolution),
        "relax.matmul": anchored(_registered("relax.matmul")),
        "relax.nn.adaptive_avg_pool2d": _global_average_pool,
        "relax.nn.instance_norm": _instance_norm,
        "relax.image.resize2d": _resize,
        "relax.strided_slice": _slice,
    }
    try:
        legal = relax.transform.LegalizeOps(overrides)(module)
    except Exception:
        if failures:  # what is raised through TVM comes out as another exception
            raise failures[0] from None
        raise
    return _mark_fusable(legal)


def _registered(name: str) -> Callable[[Any, Any], Any]:
    operator = ir.Op.get(name)

    def emit(builder: Any, call: Any) -> Any:
        return operator.get_attr("FLegalize")(builder, call)

    return emit


def _plain_convolution(builder: Any, call: Any) -> Any:
    """A convolution that no schedule computes; TVM's own gives the layout it reads, no other."""
    attributes = call.attrs
    if attributes.data_layout == attributes.out_layout:
        return _registered("relax.nn.conv2d")(builder, call)
    axes = (0, 2, 3, 1) if attributes.out_layout == "NHWC" else (0, 3, 1, 2)

    def convolve(data: Any, weight: Any) -> Any:
        result = topi.nn.conv(
            data,
            weight,
            [int(stride) for stride in attributes.strides],
            [int(pad) for pad in attributes.padding],
            [int(step) for step in attributes.dilation],
            int(attributes.groups),
            attributes.data_layout,
            attributes.kernel_layout,
            attributes.out_dtype or None,
        )
        return topi.transpose(result, axes)

    return builder.call_te(convolve, *call.args, primfunc_name_hint="conv2d")


def _emit_algorithm(builder: Any, call: Any, algorithm: Algorithm, operator: Operator) -> Any:
    data = call.args[0]
    top, left, bottom, right = algorithm.pads
    if any(algorithm.pads):
        before, after = [0, top, left, 0], [0, bottom, right, 0]
        if isinstance(operator, Conv2d) and operator.data_layout == "NCHW":
            before, after = [0, 0, top, left], [0, 0, bottom, right]
        padded = builder.call_te(topi.nn.pad, data, before, after, 0.0, primfunc_name_hint="pad")
        data = builder.emit(padded)
    value = constant_value(call.args[1])
    assert value is not None, "describe() only accepts constant weights"
    weights = constant(algorithm.pack(value))
    name = "conv2d" if isinstance(operator, Conv2d) else "matmul"
    result = builder.normalize(builder.call_te(algorithm.define, data, weights, primfunc_name_hint=name))
    made, needed = (static_shape(result), str(result.ty.dtype)), (static_shape(call), str(call.ty.dtype))
    if made != needed:
        raise ValueError(f"it computes {made[1]}{made[0]}, the operator gives {needed[1]}{needed[0]}")
    return result


def _global_average_pool(builder: Any, call: Any) -> Any:
    attributes = call.attrs
    size = [int(extent) for extent in attributes.output_size] if attributes.output_size is not None else None
    if attributes.layout not in ("NHWC", "NCHW") or size not in ([1], [1, 1]):
        return _registered("relax.nn.adaptive_avg_pool2d")(builder, call)
    axes = [attributes.layout.index(axis) for axis in "HW"]
    height, width = (static_shape(call.args[0])[axis] for axis in axes)

    def average(data: Any) -> Any:
        total = topi.sum(data, axis=axes, keepdims=True)
        return topi.multiply(total, tirx.const(1.0 / (height * width), data.dtype))

    return builder.call_te(average, call.args[0], primfunc_name_hint="global_average_pool")


def _instance_norm(builder: Any, call: Any) -> Any:
    """By differences from the mean: TVM's own takes the mean's square from the mean of the squares."""
    attributes = call.attrs
    axes = [int(axis) for axis in attributes.axes]
    shape = static_shape(call.args[0])
    size = math.prod(shape[axis] for axis in axes)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    channel = int(attributes.channel_axis)

    def normalize(data: Any, scale: Any, shift: Any) -> Any:
        def total(value: Callable[..., Any], name: str) -> Any:
            reduced = [te.reduce_axis((0, shape[axis]), f"k{axis}") for axis in axes]

            def summed(*outer: Any) -> Any:
                places = dict(zip([*kept, *axes], [*outer, *reduced], strict=True))
                return te.sum(value(*(places[axis] for axis in range(len(shape)))), axis=reduced)

            return te.compute([shape[axis] for axis in kept], summed, name=name)

        def outer(places: Any) -> list[Any]:
            return [places[axis] for axis in kept]

        sums = total(lambda *i: data[i], "sum")
        mean = te.compute(sums.shape, lambda *i: sums[i] / size, name="mean")
        squares = total(lambda *i: (data[i] - mean[(*outer(i),)]) * (data[i] - mean[(*outer(i),)]), "squares")

        def result(*i: Any) -> Any:
            variance = squares[(*outer(i),)] / size + tirx.const(float(attributes.epsilon), data.dtype)
            factor = tirx.rsqrt(variance)
            return (data[i] - mean[(*outer(i),)]) * (factor * scale[i[channel]]) + shift[i[channel]]

        return te.compute(shape, result, name="instance_norm")

    return builder.call_te(normalize, *call.args, primfunc_name_hint="instance_norm")


def _resize(builder: Any, call: Any) -> Any:
    resampling = Resampling.of(call)
    if resampling is None:
        return _registered("relax.image.resize2d")(builder, call)
    return emit_resize(builder, call, resampling)


def _slice(builder: Any, call: Any) -> Any:
    """A slice that runs backwards stays a kernel of its own.

    Fused with a reshape it reads at ``(c - i) % n``, of which TVM 0.27 makes ``-(i % -n)`` when it flattens
    the buffer: ``c`` is lost, and the result is silently wrong.
    """
    result = _registered("relax.strided_slice")(builder, call)
    strides = call.args[4].fields if len(call.args) > 4 else ()
    if any(int(stride.value) < 0 for stride in strides):
        program = result.args[0]
        builder.update_func(program, builder.get()[program].with_attr("op_pattern", OPAQUE))
    return result


def _mark_fusable(module: Any) -> Any:
    """Tell TVM's fusion that programs with an anchor take elementwise consumers behind them.

    A slice from the start on reads every element where it writes it, so TVM takes it for elementwise; behind
    an operator it would leave a kernel that computes another shape than its schedule's.
    """
    for variable, function in module.functions.items():
        if not isinstance(function, tirx.PrimFunc) or _is_opaque(function):
            continue
        if variable.name_hint.startswith("strided_slice"):
            module.update_func(variable, function.with_attr("op_pattern", INJECTIVE))
        elif _has_anchor(function):
            module.update_func(variable, function.with_attr("op_pattern", OUT_ELEMENTWISE_FUSABLE))
    return module


def _is_opaque(function: Any) -> bool:
    return "op_pattern" in (function.attrs or {}) and int(function.attrs["op_pattern"]) == OPAQUE


def _has_anchor(function: Any) -> bool:
    """Whether a block of the program carries an operator, or a resize with its tables."""
    found = []

    def visit(block: Any) -> None:
        found.append(any(name in block.annotations for name in (TASK_ANNOTATION, RESAMPLE_ANNOTATION)))

    structural_walk(function.body, (s_tir.SBlock, visit), order="pre")
    return any(found)


def fused_operators(module: Any) -> dict[str, tuple[str, ...]]:
    """The operators in every kernel of a module that is fused but not yet flattened, in program order.

    They have the names of the tensor programs that stand for them, without the number TVM gives to the
    second one of a name and without what tells a copy that is not fused (``cutting.py``).
    """
    found: dict[str, tuple[str, ...]] = {}
    for variable, function in module.functions.items():
        if isinstance(function, tirx.PrimFunc):
            found[variable.name_hint] = (_operator_name(variable.name_hint),)
        elif variable.name_hint != "main":
            calls: list[str] = []

            def visit(expression: Any, calls: list[str] = calls) -> None:
                if isinstance(expression, relax.Call) and isinstance(expression.args[0], ir.GlobalVar):
                    calls.append(_operator_name(expression.args[0].name_hint))

            relax.analysis.post_order_visit(function, visit)
            found[variable.name_hint] = tuple(calls)
    return found


def _operator_name(program: str) -> str:
    return re.sub(r"(?<=[a-z_])\d*(_alone\d*)?$", "", program).removeprefix("tir_").strip("_") or program
