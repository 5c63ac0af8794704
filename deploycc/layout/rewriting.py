"""``main`` written anew in the layouts that were chosen, with transposes where they differ."""

from __future__ import annotations

from typing import Any

from deploycc.layout.graph import LAYOUTS, Layouts
from deploycc.layout.rules import TO_NCHW, TO_NHWC, constant_in_nhwc, permutation, rank
from deploycc.relax_graph import constant_value, static_shape
from deploycc.tracing import same_mark
from deploycc.tvm_api import ir, relax


def rewrite(module: Any, bindings: list[Any], layouts: Layouts) -> Any:
    """``module`` in ``layouts``; ``bindings`` are its ``main``'s."""
    module = ir.IRModule(dict(module.functions))
    module["main"] = _Writer(module["main"], layouts).write(bindings)
    module["main"] = _TransposeCleaner(module).visit_expr(module["main"])
    module = relax.transform.CanonicalizeBindings()(relax.transform.Normalize()(module))
    return relax.transform.DeadCodeElimination()(module)


class _Writer:
    """Re-emits the straight-line function ``main``, tracking which tensors exist in which layout.

    ``last`` maps a variable of the old function to its NHWC tensor in the new one, ``first`` to
    its tensor in the original layout; the one it was not made in is made on demand, once.
    """

    def __init__(self, function: Any, layouts: Layouts) -> None:
        self.function = function
        self.layouts = layouts
        self.builder = relax.BlockBuilder()
        self.first: dict[Any, Any] = {}
        self.last: dict[Any, Any] = {}
        self.last_tuples: dict[Any, Any] = {}

    def write(self, bindings: list[Any]) -> Any:
        """The new function."""
        for parameter in self.function.params:
            self.first[parameter] = parameter
        with self.builder.function("main", list(self.function.params)):
            with self.builder.dataflow():
                for binding in bindings:
                    self._binding(binding.var, binding.value)
                result = self.builder.emit_output(self.original(self.function.body.body))
            self.builder.emit_func_output(result)
        return self.builder.get()["main"]

    def _binding(self, variable: Any, value: Any) -> None:
        if variable in self.layouts.convolutions:
            labels = self.layouts.convolutions[variable]
            name = same_mark(variable, last=bool(labels[1]))
            made = self.builder.emit(self._convolution(value, *(LAYOUTS[label] for label in labels)), name)
            (self.last if labels[1] else self.first)[variable] = made
        elif variable in self.layouts.rewrites:
            name = same_mark(variable, last=rank(variable) == 4)
            made = self.builder.emit(
                self.layouts.rewrites[variable](self), name
            )  # only emitted it has a type
            if isinstance(made.ty, ir.TupleType):
                self.last_tuples[variable] = made
            elif made.ty.ndim == 4:
                self.last[variable] = made
            else:  # a reduction that leaves no image: both layouts are one
                self.first[variable] = made
        elif isinstance(value, relax.TupleGetItem) and value.tuple_value in self.last_tuples:
            source = self.last_tuples[value.tuple_value]
            name = same_mark(variable, last=True)
            self.last[variable] = self.builder.emit(relax.TupleGetItem(source, value.index), name)
        elif isinstance(value, ir.Var):
            for table in (self.first, self.last, self.last_tuples):
                if value in table:
                    table[variable] = table[value]
        else:
            self.first[variable] = self.builder.emit(self._rebuilt(value), same_mark(variable))

    def _convolution(self, call: Any, data_layout: str, out_layout: str) -> Any:
        attributes = call.attrs
        data = self.nhwc(call.args[0]) if data_layout == "NHWC" else self.original(call.args[0])
        return relax.op.nn.conv2d(
            data,
            call.args[1],
            strides=attributes.strides,
            padding=attributes.padding,
            dilation=attributes.dilation,
            groups=attributes.groups,
            data_layout=data_layout,
            kernel_layout="HWIO",
            out_layout=out_layout,
            out_dtype=attributes.out_dtype,
        )

    def _rebuilt(self, value: Any) -> Any:
        """``value`` over the new function's variables, all in the original layout."""
        if isinstance(value, relax.Call):
            arguments = [self.original(argument) for argument in value.args]
            return relax.Call(value.op, arguments, value.attrs, _type_arguments(value))
        return self.original(value)

    def original(self, expression: Any) -> Any:
        """``expression`` with its axes in the model's order."""
        if isinstance(expression, relax.Tuple):
            return relax.Tuple([self.original(field) for field in expression.fields])
        if isinstance(expression, relax.TupleGetItem):
            return relax.TupleGetItem(self.original(expression.tuple_value), expression.index)
        if not isinstance(expression, ir.Var):
            return expression
        if expression not in self.first and expression in self.last:
            turned = relax.op.permute_dims(self.last[expression], TO_NCHW)
            self.first[expression] = self.builder.emit(turned, same_mark(expression))
        if expression not in self.first and expression in self.last_tuples:
            source = self.last_tuples[expression]
            parts = [self.builder.emit(relax.TupleGetItem(source, i)) for i in range(len(source.ty.fields))]
            self.first[expression] = relax.Tuple([relax.op.permute_dims(part, TO_NCHW) for part in parts])
        return self.first[expression]

    def nhwc(self, expression: Any) -> Any | None:
        """``expression`` in NHWC, ``None`` where it has no such form; numbers of rank 0 as they are."""
        if constant_value(expression) is not None:
            return constant_in_nhwc(expression)
        if not isinstance(expression, ir.Var) or rank(expression) not in (0, 4):
            return None
        if rank(expression) == 0:
            return self.original(expression)
        if expression not in self.last:
            source = self.original(expression)
            turned = relax.op.permute_dims(source, TO_NHWC)
            self.last[expression] = self.builder.emit(turned, same_mark(expression, last=True))
        return self.last[expression]


def _type_arguments(call: Any) -> Any:
    return call.ty_args if hasattr(call, "ty_args") else getattr(call, "sinfo_args", None)


@relax.expr_functor.mutator
class _TransposeCleaner(relax.PyExprMutator):  # type: ignore[misc]
    """Composes neighbouring transposes; one that moves only extents of 1 becomes a reshape (a view)."""

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        axes = permutation(call)
        if axes is None:
            return call
        source = call.args[0]
        inner: Any = self.lookup_binding(source) if isinstance(source, ir.Var) else None
        inner_axes = permutation(inner)
        if inner_axes is not None:
            axes = tuple(inner_axes[axis] for axis in axes)
            source = inner.args[0]
        shape = static_shape(source)
        moved = [axis for axis in axes if shape[axis] != 1]
        if list(axes) == list(range(len(axes))):
            return source
        if moved == sorted(moved):
            return relax.op.reshape(source, [shape[axis] for axis in axes])
        return relax.op.permute_dims(source, axes)
