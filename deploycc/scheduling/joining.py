"""Concatenations and slices that need no kernel, because their parts lie one behind the other in memory.

A part of a tensor becomes a view of it.  A concatenation becomes a program that the planner knows by
``JOINED``: what makes an operand then writes it where it belongs in the result, and only operands that
nothing can write there (inputs, parts of other tensors, one tensor twice) are copied.

It stays a kernel like any other, fused with its neighbours, where more than half of it would be copied,
or where something would be and its only reader could be fused with it: one pass over memory either way,
and the copies would come on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploycc.contiguous import CUTS, joins_runs, regions_of
from deploycc.relax_graph import constant_value, static_shape
from deploycc.tvm_api import ir, relax, te, topi, tvm
from deploycc.types import JOINED

_OPAQUE = 8
"""TVM's ``OpPatternKind.kOpaque``: fused with nothing."""

_ANCHORS = frozenset(
    f"relax.{name}"
    for name in ("nn.conv2d", "matmul", "concat", "nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d")
)
"""Readers that would not be fused behind a concatenation."""


def join_runs(module: Any) -> Any:
    """``module`` with views for contiguous parts, and marked programs for contiguous concatenations."""
    main = module["main"]
    body = main.body
    if not isinstance(body, relax.SeqExpr) or len(body.blocks) != 1:
        return module
    bindings = list(body.blocks[0].bindings)
    if not any(_named(binding.value, (*CUTS, "relax.concat")) for binding in bindings):
        return module
    return _Joiner(module, bindings).run()


def _named(expression: Any, names: Sequence[str]) -> bool:
    return getattr(getattr(expression, "op", None), "name", "") in names


@relax.expr_functor.mutator
class _Joiner(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, module: Any, bindings: Sequence[Any]) -> None:
        super().__init__(module)
        self.module = module
        self.values: Mapping[Any, Any] = {binding.var: binding.value for binding in bindings}
        self.readers: dict[Any, list[Any]] = {}
        for binding in bindings:
            for variable in relax.analysis.free_vars(binding.value):
                self.readers.setdefault(variable, []).append(binding.value)
        self.results = set(_results(module["main"].body.body, self.values))
        self.placed: set[Any] = set()
        self.joins: list[tuple[list[Any], Any]] = []
        self.changed = False

    def run(self) -> Any:
        main = self.visit_expr(self.module["main"])
        if not self.changed:
            return self.module
        self.builder_.update_func(self.module.get_global_var("main"), main)
        module = relax.transform.CanonicalizeBindings()(self.builder_.get())
        return relax.transform.DeadCodeElimination()(module)  # what made an empty operand

    def visit_var_binding_(self, binding: Any) -> None:
        value = binding.value
        if _named(value, CUTS):
            parts = self._parts(value)
            if parts is not None:
                self.changed = True
                self._define(binding, parts)
                return
        if _named(value, ("relax.concat",)):
            joined = self._join(binding.var, value)
            if joined is not None:
                self.changed = True
                self._define(binding, joined)
                return
        super().visit_var_binding_(binding)

    def _define(self, binding: Any, value: Any) -> None:
        variable = self.visit_var_def(binding.var)
        self.builder_.emit_normalized(relax.VarBinding(variable, self.builder_.normalize(value)))

    def _parts(self, call: Any) -> Any | None:
        """The views that take the place of a cut: of the whole, one or a tuple of them."""
        regions = regions_of(call)
        shape = static_shape(call.args[0])
        offsets = None if regions is None else [region.offset_in(shape) for region in regions]
        if regions is None or offsets is None or any(offset is None for offset in offsets):
            return None
        if constant_value(call.args[0]) is not None:
            return None
        source = self.visit_expr(call.args[0])
        dtype = str(call.args[0].ty.dtype)
        width = _bytes_of(dtype)
        views = [
            self.builder_.emit(relax.op.memory.view(source, region.extents, dtype, offset * width))
            for region, offset in zip(regions, offsets, strict=True)
            if offset is not None
        ]
        return relax.Tuple(views) if _named(call, ("relax.split",)) else views[0]

    def _join(self, variable: Any, call: Any) -> Any | None:
        """What to compute instead of a concatenation, ``variable``; ``None`` where it stays as it is."""
        given = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        axis = call.attrs.axis
        fields = [field for field in given if 0 not in static_shape(field)]
        if not fields or axis is None:
            return None
        if len(fields) == 1:
            return self.visit_expr(fields[0])
        marked = self._marked_join(variable, fields, int(axis))
        if marked is None and len(fields) < len(given):  # no loop can be tiled by an extent of 0
            return relax.op.concat([self.visit_expr(field) for field in fields], int(axis))
        return marked

    def _marked_join(self, variable: Any, fields: list[Any], axis: int) -> Any | None:
        if not joins_runs(static_shape(variable), axis):
            return None
        fields = self._with_earlier(fields)
        placeable = [number for number, field in enumerate(fields) if self._placeable(field, fields[:number])]
        sizes = [static_shape(field)[axis] for field in fields]
        copied = sum(sizes) - sum(sizes[number] for number in placeable)
        readers = self.readers.get(variable, [])
        fusable = len(readers) == 1 and not _named(readers[0], tuple(_ANCHORS))
        if 2 * copied > sum(sizes) or (copied and fusable):
            return None
        self.placed.update(fields[number] for number in placeable)
        self.joins.append((fields, variable))
        return self._marked([self.visit_expr(field) for field in fields], axis, variable.ty)

    def _with_earlier(self, fields: list[Any]) -> list[Any]:
        """``fields`` with an earlier join in place of its operands, wherever they follow one another.

        Exporters write a dense block as concatenations of all features so far: each is the one before it
        and one more, and so needs no place for its own copies.
        """
        for parts, whole in self.joins:  # in program order: an earlier one may be the first part of a later
            starts = range(len(fields) - len(parts) + 1)
            same = (n for n in starts if all(map(_same, parts, fields[n : n + len(parts)])))
            start = next(same, None)
            if start is not None:
                fields = [*fields[:start], whole, *fields[start + len(parts) :]]
        return fields

    def _placeable(self, field: Any, before: Sequence[Any]) -> bool:
        """Whether the kernel that makes ``field`` can write it into the result of a concatenation."""
        value = self.values.get(field) if isinstance(field, ir.Var) else None
        if not isinstance(value, relax.Call) or _named(value, CUTS) or field in self.results:
            return False
        return field not in self.placed and not any(field.same_as(other) for other in before)

    def _marked(self, operands: Sequence[Any], axis: int, result: Any) -> Any:
        shapes = [static_shape(operand) for operand in operands]
        dtype = str(result.dtype)
        tensors = [te.placeholder(shape, dtype, f"part{i}") for i, shape in enumerate(shapes)]
        program = te.create_prim_func([*tensors, topi.concatenate(tensors, axis)])
        program = program.with_attrs({"op_pattern": _OPAQUE, JOINED: True, "tirx.noalias": True})
        name = self.builder_.add_func(program, "concatenate")
        return relax.call_tir(name, relax.Tuple(list(operands)), result)


def _same(first: Any, second: Any) -> bool:
    return bool(first.same_as(second))


def _results(expression: Any, values: Mapping[Any, Any]) -> list[Any]:
    """The variables that a function's result consists of."""
    if isinstance(expression, relax.Tuple):
        return [variable for field in expression.fields for variable in _results(field, values)]
    if not isinstance(expression, ir.Var):
        return []
    value = values.get(expression)
    inner = _results(value, values) if isinstance(value, ir.Var | relax.Tuple) else []
    return [expression, *inner]


def _bytes_of(dtype: str) -> int:
    return -(-int(tvm.DataType(dtype).bits) // 8)
