"""Channels-last: convolutions in NHWC, transposes only where the graph needs them.

Why one layout: with channels innermost every kernel of a CNN vectorises over contiguous
memory whatever the width, stride, padding or kernel size, and any channel count is exact
without padding the activations.  ``docs/architecture.md`` has the reasons and the costs.

Why an own pass: TVM's ``ConvertLayout`` aborts on graphs it cannot infer a layout for (PP-OCR's
detector with scalar constants is one).  Here an operator that is not known to keep a layout
simply gets its operands in the original one.
"""

from __future__ import annotations

from typing import Any

from deploycc.lowering.folding import fold_constants
from deploycc.lowering.layout_rules import layout_rule
from deploycc.relax_graph import constant, constant_value, static_shape
from deploycc.tvm_api import ir, relax

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)


def channels_last(module: Any) -> Any:
    """``module`` with its 2-D convolutions in NHWC/HWIO and inverse transposes cancelled."""
    converted = _Converter(module["main"]).convert()
    if converted is not None:
        module["main"] = converted
    module["main"] = _TransposeCleaner(module).visit_expr(module["main"])
    return fold_constants(relax.transform.Normalize()(module))


class _Converter:
    """Re-emits the straight-line function ``main``, tracking which tensors exist in NHWC.

    ``last`` maps a variable of the old function to its NHWC tensor in the new one, ``first`` to
    its tensor in the original layout; the latter is made on demand, so that a transpose is
    emitted only where some operator needs it.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        self.builder = relax.BlockBuilder()
        self.first: dict[Any, Any] = {}
        self.last: dict[Any, Any] = {}
        self.last_tuples: dict[Any, Any] = {}

    def convert(self) -> Any | None:
        """The new function, or ``None`` where ``main`` is not one dataflow block."""
        body = self.function.body
        if not isinstance(body, relax.SeqExpr) or len(body.blocks) != 1:
            return None
        bindings = body.blocks[0].bindings
        if not all(isinstance(binding, relax.VarBinding) for binding in bindings):
            return None
        for parameter in self.function.params:
            self.first[parameter] = parameter
        with self.builder.function("main", list(self.function.params)):
            with self.builder.dataflow():
                for binding in bindings:
                    self._binding(binding.var, binding.value)
                result = self.builder.emit_output(self._original(body.body))
            self.builder.emit_func_output(result)
        return self.builder.get()["main"]

    def _binding(self, variable: Any, value: Any) -> None:
        if isinstance(value, relax.Call):
            handler = layout_rule(value)
            if handler is not None and self._has_last(value):
                emitted = handler(self, value)
                if emitted is not None:
                    made = self.builder.emit(emitted)  # only an emitted call has a type
                    if isinstance(made.ty, ir.TupleType):
                        self.last_tuples[variable] = made
                    elif made.ty.ndim == 4:
                        self.last[variable] = made
                    else:  # a reduction that leaves no image: both layouts are one
                        self.first[variable] = made
                    return
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.last_tuples:
            source = self.last_tuples[value.tuple_value]
            self.last[variable] = self.builder.emit(relax.TupleGetItem(source, value.index))
            return
        if isinstance(value, ir.Var):
            for table in (self.first, self.last, self.last_tuples):
                if value in table:
                    table[variable] = table[value]
            return
        self.first[variable] = self.builder.emit(self._rebuilt(value))

    def _has_last(self, call: Any) -> bool:
        if call.op.name == "relax.nn.conv2d":
            return True
        arguments = call.args[0].fields if isinstance(call.args[0], relax.Tuple) else call.args
        return any(isinstance(argument, ir.Var) and argument in self.last for argument in arguments)

    def _rebuilt(self, value: Any) -> Any:
        """``value`` over the new function's variables, all in the original layout."""
        if isinstance(value, relax.Call):
            return relax.Call(
                value.op, [self._original(a) for a in value.args], value.attrs, _type_arguments(value)
            )
        return self._original(value)

    def _original(self, expression: Any) -> Any:
        if isinstance(expression, relax.Tuple):
            return relax.Tuple([self._original(field) for field in expression.fields])
        if isinstance(expression, relax.TupleGetItem):
            return relax.TupleGetItem(self._original(expression.tuple_value), expression.index)
        if not isinstance(expression, ir.Var):
            return expression
        if expression not in self.first and expression in self.last:
            self.first[expression] = self.builder.emit(relax.op.permute_dims(self.last[expression], TO_NCHW))
        if expression not in self.first and expression in self.last_tuples:
            source = self.last_tuples[expression]
            parts = [self.builder.emit(relax.TupleGetItem(source, i)) for i in range(len(source.ty.fields))]
            self.first[expression] = relax.Tuple([relax.op.permute_dims(part, TO_NCHW) for part in parts])
        return self.first[expression]

    def nhwc(self, expression: Any) -> Any | None:
        """An operand in NHWC: itself if a scalar, transposed if constant, else the NHWC tensor."""
        value = constant_value(expression)
        if value is not None:
            if value.ndim == 0:
                return expression
            return constant(value.transpose(TO_NHWC)) if value.ndim == 4 else None
        if not isinstance(expression, ir.Var) or getattr(expression.ty, "ndim", -1) not in (0, 4):
            return None
        if expression.ty.ndim == 0:
            return self._original(expression)
        if expression not in self.last:
            source = self._original(expression)
            self.last[expression] = self.builder.emit(relax.op.permute_dims(source, TO_NHWC))
        return self.last[expression]


def _type_arguments(call: Any) -> Any:
    return call.ty_args if hasattr(call, "ty_args") else getattr(call, "sinfo_args", None)


def _is_transpose(expression: Any) -> bool:
    """Whether the expression permutes axes explicitly."""
    name = getattr(getattr(expression, "op", None), "name", "")
    return name == "relax.permute_dims" and expression.attrs.axes is not None


@relax.expr_functor.mutator
class _TransposeCleaner(relax.PyExprMutator):  # type: ignore[misc]
    """Composes neighbouring transposes; one that moves only extents of 1 becomes a reshape (a view)."""

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        if not _is_transpose(call):
            return call
        source, axes = call.args[0], [int(axis) for axis in call.attrs.axes]
        inner = self.lookup_binding(source) if isinstance(source, ir.Var) else None
        if inner is not None and _is_transpose(inner):
            inner_axes = [int(axis) for axis in inner.attrs.axes]
            axes = [inner_axes[axis] for axis in axes]
            source = inner.args[0]
        shape = static_shape(source)
        moved = [axis for axis in axes if shape[axis] != 1]
        if axes == list(range(len(axes))):
            return source
        if moved == sorted(moved):
            return relax.op.reshape(source, [shape[axis] for axis in axes])
        return relax.op.permute_dims(source, axes)
