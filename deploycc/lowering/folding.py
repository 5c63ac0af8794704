"""Folding the constants of a Relax module.

TVM's own ``FoldConstant`` compiles a kernel for every constant expression: 9 s for the 104
reshapes of PP-OCR's detector.  What the importer and the layout pass leave behind is a handful of
data movements, which numpy does in microseconds; anything else stays an ordinary kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploycc.relax_graph import Array, constant, constant_value, static_shape
from deploycc.tvm_api import relax


def _axes(axis: Any) -> tuple[int, ...] | None:
    return None if axis is None else tuple(int(a) for a in axis)


def _permute(call: Any, value: Array) -> Array:
    return np.transpose(value, _axes(call.attrs.axes))


def _reshape(call: Any, value: Array) -> Array:
    return value.reshape(static_shape(call))


def _cast(call: Any, value: Array) -> Array:
    return value.astype(str(call.ty.dtype))


FOLDS: dict[str, Callable[[Any, Array], Array]] = {
    "relax.permute_dims": _permute,
    "relax.reshape": _reshape,
    "relax.expand_dims": _reshape,
    "relax.squeeze": _reshape,
    "relax.flatten": _reshape,
    "relax.astype": _cast,
    "relax.isnan": lambda call, value: np.isnan(value),
}


def fold_constants(module: Any) -> Any:
    """``module`` with the data movements of ``FOLDS`` applied to constants at build time."""
    module["main"] = _Folder(module).visit_expr(module["main"])
    # Users of a variable bound to a constant take the constant itself.
    module = relax.transform.CanonicalizeBindings()(module)
    return relax.transform.DeadCodeElimination()(module)


@relax.expr_functor.mutator
class _Folder(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        fold = FOLDS.get(getattr(call.op, "name", ""))
        if fold is None:
            return call
        argument = call.args[0]
        if isinstance(argument, relax.Var):
            bound = self.lookup_binding(argument)
            argument = argument if bound is None else bound
        value = constant_value(argument)
        return call if value is None else constant(fold(call, value))
