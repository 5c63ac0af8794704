"""LSTM, GRU and RNN: one matrix product for all steps' inputs, and one kernel that runs over time.

The product of the inputs with ``W`` does not depend on the state, so it is an ordinary matrix product over
all steps and both directions.  What is left is a PrimFunc that only carries a ``Cell``: how its kernel looks
and how the recurrent weights are packed is the machine's business, which the schedule stage knows
(``deploycc/scheduling/recurrent.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploycc.recurrent_cells import GATES, RECURRENT, Cell, activations_of
from deploycc.relax_graph import constant, constant_value, static_shape
from deploycc.tvm_api import OnnxOpConverter, relax, te, tirx

_OPAQUE = 8
"""``OpPatternKind::kOpaque`` of Relax: nothing is fused with it."""


def _recurrent(kind: str) -> type:
    class Recurrent(OnnxOpConverter):  # type: ignore[misc]
        """The layer in float32, between casts where its data are float16."""

        @classmethod
        def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            layer = _Layer(bb, kind, [inputs[slot] for slot in range(8)], attr)
            results = layer.results()
            if layer.dtype != "float32":
                results = [bb.normalize(relax.op.astype(result, layer.dtype)) for result in results]
            return relax.Tuple(results)

    Recurrent.__name__ = kind
    return Recurrent


class _Layer:
    """One node: its operands in float32, and its cell."""

    def __init__(self, bb: Any, kind: str, operands: list[Any], attr: Any) -> None:
        self.bb, self.kind = bb, kind
        self.dtype = str(operands[0].ty.dtype)
        if self.dtype not in ("float32", "float16"):
            raise ValueError(f"{kind} of {self.dtype}")
        data, self.w, self.r, self.bias, lengths, hidden, cell, peepholes = (
            operand if place == 4 or operand is None else self._single(operand)
            for place, operand in enumerate(operands)
        )
        self.data = data
        self.late = kind == "GRU" and bool(attr.get("linear_before_reset", 0))
        self.hidden = static_shape(self.r)[2]
        major = bool(attr.get("layout", 0))
        extents = static_shape(data)
        batch, steps = (extents[0], extents[1]) if major else (extents[1], extents[0])
        direction = _text(attr.get("direction", "forward"))
        reverse = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
        optional = {
            "bias": self._late_bias() if self.late and self.bias is not None else None,
            "peepholes": peepholes if kind == "LSTM" else None,
            "hidden": hidden,
            "cell": cell if kind == "LSTM" else None,
            "lengths": None if _all_full(lengths, steps) else lengths,
        }
        self.operands = {name: value for name, value in optional.items() if value is not None}
        clip = attr.get("clip")
        names = attr.get("activations")
        self.cell = Cell(
            kind=kind,
            steps=steps,
            batch=batch,
            hidden=self.hidden,
            reverse=reverse,
            activations=activations_of(
                kind,
                len(reverse),
                None if names is None else [_text(name) for name in names],
                attr.get("activation_alpha"),
                attr.get("activation_beta"),
            ),
            operands=tuple(self.operands),
            results=("sequence", "hidden", "cell") if kind == "LSTM" else ("sequence", "hidden"),
            batch_major=major,
            clip=None if clip is None or clip < 0 else float(clip),
            coupled=kind == "LSTM" and bool(attr.get("input_forget", 0)),
            late_reset=self.late,
        )

    def _single(self, value: Any) -> Any:
        if str(value.ty.dtype) == "float32":
            return value
        known = constant_value(value)
        if known is not None:
            return constant(known.astype(np.float32))
        return self.bb.normalize(relax.op.astype(value, "float32"))

    def results(self) -> list[Any]:
        """The tensors Y, Y_h and, of an LSTM, Y_c."""
        inputs = [self._projected(), self.r, *self.operands.values()]
        kinds = [relax.TensorType(self.cell.shape(name), "float32") for name in self.cell.results]
        name = self.bb.add_func(_stand_in(self.cell, inputs), self.kind.lower())
        made = self.bb.emit(relax.call_tir(name, inputs, kinds))
        return [self.bb.normalize(relax.TupleGetItem(made, place)) for place in range(len(kinds))]

    def _projected(self) -> Any:
        """``X W' + b`` for all directions, the columns in the order direction, gate, unit."""
        columns = self.cell.directions * self.cell.gates * self.hidden
        width = static_shape(self.data)[2]
        value = constant_value(self.w)
        if value is not None:
            weights = constant(np.ascontiguousarray(value.reshape(columns, width).T))
        else:
            flat = self.bb.normalize(relax.op.reshape(self.w, (columns, width)))
            weights = self.bb.normalize(relax.op.permute_dims(flat))
        product = self.bb.emit(relax.op.matmul(self.data, weights))
        if self.bias is None:
            return product
        return self.bb.emit(relax.op.add(product, self._early_bias(columns)))

    def _early_bias(self, columns: int) -> Any:
        """The biases of both products, but for the recurrent one that a late reset gate multiplies."""
        gates = columns // self.cell.directions
        late = np.arange(gates) >= 2 * self.hidden if self.late else np.zeros(gates, bool)
        value = constant_value(self.bias)
        if value is not None:
            w_bias, r_bias = value[:, :gates], value[:, gates:]
            return constant((w_bias + np.where(late, np.float32(0), r_bias)).reshape(columns))
        w_bias, r_bias = (self._columns(self.bias, first, first + gates) for first in (0, gates))
        if self.late:
            early = constant(np.where(late, 0, 1).astype(np.float32))
            r_bias = self.bb.normalize(relax.op.multiply(r_bias, early))
        both = self.bb.normalize(relax.op.add(w_bias, r_bias))
        return self.bb.normalize(relax.op.reshape(both, (columns,)))

    def _late_bias(self) -> Any:
        first = (GATES["GRU"] + 2) * self.hidden
        value = constant_value(self.bias)
        if value is not None:
            return constant(np.ascontiguousarray(value[:, first:]))
        return self._columns(self.bias, first, first + self.hidden)

    def _columns(self, value: Any, first: int, last: int) -> Any:
        return self.bb.normalize(relax.op.strided_slice(value, [1], [first], [last]))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _all_full(lengths: Any, steps: int) -> bool:
    value = None if lengths is None else constant_value(lengths)
    return value is not None and bool((value == steps).all())


def _stand_in(cell: Cell, inputs: list[Any]) -> Any:
    """A PrimFunc of the layer's operands and results that carries ``cell``; it is never compiled."""
    placeholders = [
        te.placeholder(static_shape(value), str(value.ty.dtype), f"input_{place}")
        for place, value in enumerate(inputs)
    ]

    def call(ins: Any, outs: Any) -> Any:
        pointers = [buffer.data for buffer in (*ins, *outs)]
        return tirx.call_extern("int32", "deploycc_recurrent_layer_without_kernel", *pointers)

    shapes = [list(cell.shape(name)) for name in cell.results]
    made = te.extern(shapes, placeholders, call, name=cell.kind.lower(), dtype=["float32"] * len(shapes))
    results = list(made) if len(shapes) > 1 else [made]
    body = te.create_prim_func([*placeholders, *results]).without_attr("global_symbol")
    return body.with_attrs({"op_pattern": _OPAQUE, RECURRENT: cell.to_text()})


CONVERTERS: dict[str, type] = {kind: _recurrent(kind) for kind in GATES}
