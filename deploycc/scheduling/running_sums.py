"""Running sums for a GPU: each element adds up all before it, so that none waits for another."""

from __future__ import annotations

from typing import Any

from deploycc.gpu_limits import LONGEST_SCAN
from deploycc.relax_graph import static_shape
from deploycc.tvm_api import ir, relax, te, tirx


def with_parallel_sums(module: Any) -> Any:
    """``module`` with a reduction in the place of every running sum of at most ``LONGEST_SCAN`` elements."""
    main = next(variable for variable in module.functions if variable.name_hint == "main")
    return _Sums(module, main).run()


@relax.expr_functor.mutator
class _Sums(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, module: Any, main: Any) -> None:
        super().__init__(module)
        self.module, self.main = module, main

    def run(self) -> Any:
        self.builder_.update_func(self.main, self.visit_expr(self.module[self.main]))
        return self.builder_.get()

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        if not isinstance(call.op, ir.Op) or call.op.name != "relax.cumsum" or call.attrs.axis is None:
            return call
        (data,) = call.args
        shape = static_shape(data)
        axis = int(call.attrs.axis) % len(shape)
        if shape[axis] > LONGEST_SCAN:
            return call
        exclusive, dtype = bool(call.attrs.exclusive), str(call.ty.dtype)

        def summed(operand: Any) -> Any:
            earlier = te.reduce_axis((0, shape[axis]), "earlier")

            def element(*indices: Any) -> Any:
                last = indices[axis]
                place = [*indices[:axis], earlier.var, *indices[axis + 1 :]]
                taken = earlier.var < last if exclusive else earlier.var <= last
                value = operand(*place).astype(dtype)
                return te.sum(tirx.if_then_else(taken, value, tirx.const(0, dtype)), axis=[earlier])

            return te.compute(shape, element, name="running_sum")

        return self.builder_.emit_te(summed, data, primfunc_name_hint="running_sum")
