"""Kernels for recurrent layers: the stand-ins that lowering left become loops, their weights are packed.

It happens before fusion, since packed weights of a layer whose weights are computed at run time are one more
kernel, and results that nobody reads are left out.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from deploycc.gpu_limits import MOST_STEPS
from deploycc.recurrent_cells import RECURRENT, Cell
from deploycc.relax_graph import constant, constant_value
from deploycc.scheduling.kernel import DEVICE_CELL, WRITTEN
from deploycc.scheduling.written.device_recurrent import device_tiling
from deploycc.scheduling.written.recurrent_kernel import write_cell
from deploycc.scheduling.written.recurrent_tiling import Tiling
from deploycc.tvm_api import ir, relax, tirx
from deploycc.types import Target

_OPAQUE = 8
"""TVM's ``OpPatternKind.kOpaque``: fused with nothing."""


def write_recurrent_layers(module: Any, target: Target) -> Any:
    """``module`` with a kernel for ``target`` in the place of every recurrent layer."""
    cells = {
        variable.name_hint: Cell.from_text(str(function.attrs[RECURRENT]))
        for variable, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc) and RECURRENT in (function.attrs or ())
    }
    return _Writing(module, cells, target).run() if cells else module


@relax.expr_functor.mutator
class _Writing(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, module: Any, cells: dict[str, Cell], target: Target) -> None:
        super().__init__(module)
        self.module, self.cells, self.target = module, cells, target
        self.readers: dict[Any, dict[int, Any]] = {}
        self.made: dict[Any, dict[int, Any]] = {}
        for block in module["main"].body.blocks:
            for binding in block.bindings:
                if isinstance(binding.value, relax.TupleGetItem):
                    index = int(binding.value.index)
                    self.readers.setdefault(binding.value.tuple_value, {}).setdefault(index, binding.var)

    def run(self) -> Any:
        main = next(variable for variable in self.module.functions if variable.name_hint == "main")
        self.builder_.update_func(main, self.visit_expr(self.module["main"]))
        return relax.transform.DeadCodeElimination()(self.builder_.get())

    def visit_var_binding_(self, binding: Any) -> None:
        value = binding.value
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.made:
            self.set_var_remap(binding.var, self.made[value.tuple_value][int(value.index)])
        elif self._cell_of(value) is not None:
            self._write(binding.var, value)
        else:
            super().visit_var_binding_(binding)

    def _cell_of(self, value: Any) -> Cell | None:
        if not isinstance(value, relax.Call) or not value.args or not isinstance(value.args[0], ir.GlobalVar):
            return None
        return self.cells.get(value.args[0].name_hint)

    def _write(self, variable: Any, call: Any) -> None:
        """Emit the layer's kernel in the place of its stand-in, for the results that are read."""
        cell = self.cells[call.args[0].name_hint]
        # Without known readers (within a branch, say) all results stay.
        readers = self.readers.get(variable, {})
        used = sorted(readers) or list(range(len(cell.results)))
        cell = replace(cell, results=tuple(cell.results[index] for index in used))
        on_device = bool(self.target.gpus) and cell.steps <= MOST_STEPS
        tiling = device_tiling(cell) if on_device else Tiling.of(cell, self.target)
        projected, recurrent, *others = (self.visit_expr(argument) for argument in call.args[1].fields)
        packed = [self._packed(product, recurrent) for product in tiling.products]
        dtypes = {name: str(operand.ty.dtype) for name, operand in zip(cell.operands, others, strict=True)}
        written = json.dumps({"schedule": "recurrent", "knobs": tiling.knobs()}, sort_keys=True)
        attributes = {"op_pattern": _OPAQUE, "tirx.noalias": True, WRITTEN: written}
        if on_device:
            attributes[DEVICE_CELL] = cell.to_text()
        kernel = write_cell(cell, tiling, dtypes, attributes)
        name = self.builder_.add_func(kernel, cell.kind.lower())
        kinds = [relax.TensorType(cell.shape(result), "float32") for result in cell.results]
        made = relax.call_tir(name, [projected, *packed, *others], kinds if len(kinds) > 1 else kinds[0])
        if not readers:
            self.set_var_remap(variable, self._named(variable, made))
            return
        if len(used) == 1:
            self.made[variable] = {used[0]: self._named(readers[used[0]], made)}
            return
        whole = self._named(variable, made)
        self.made[variable] = {
            index: self._named(readers[index], relax.TupleGetItem(whole, place))
            for place, index in enumerate(used)
        }

    def _named(self, variable: Any, value: Any) -> Any:
        """A new variable of the old one's name, by which the tensor of the model is known."""
        value = self.builder_.normalize(value)
        kind = relax.DataflowVar if isinstance(variable, relax.DataflowVar) else relax.Var
        made = kind(variable.name, value.ty)
        self.builder_.emit_normalized(relax.VarBinding(made, value))
        return made

    def _packed(self, product: Any, weights: Any) -> Any:
        value = constant_value(weights)
        if value is not None:
            return constant(product.pack(value))
        return self.builder_.emit_te(product.packing, weights, primfunc_name_hint="pack_recurrent_weights")
