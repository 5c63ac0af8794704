"""A lowered Relax function read as a straight line of kernel calls on plain buffers.

Reshapes, slices that are runs of memory and other views do not become calls: the value they give is the
same ``Storage`` again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deploycc.tvm_api import ir, relax, tirx, tvm
from deploycc.types import DeployccError, Diagnostic

VIEWS = frozenset(
    f"relax.{name}"
    for name in ("reshape", "flatten", "expand_dims", "squeeze", "memory.view", "memory.ensure_zero_offset")
)
"""Relax operators that give the bytes of their first argument under another shape."""

COPY = "memcpy"
"""In place of a PrimFunc's name: the bytes of the one view read are copied to the one written."""


@dataclass(frozen=True)
class Storage:
    """A buffer of the network: graph input, constant, or the result of a kernel (``temporary``).

    ``width`` is the bytes of an element of a temporary, 0 where it is not known.
    """

    kind: Literal["input", "constant", "temporary"]
    index: int
    nbytes: int
    width: int = 0


@dataclass(frozen=True)
class View:
    """``nbytes`` of a storage from byte ``offset`` on."""

    storage: Storage
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Step:
    """One call: the name of its PrimFunc in the module, or ``COPY``; what it reads and what it writes.

    ``variable`` is the one in ``main`` that it gives a value to.
    """

    function: str
    reads: tuple[View, ...]
    writes: tuple[View, ...]
    variable: str = ""


@dataclass(frozen=True)
class Network:
    """``main`` flattened.

    ``constants`` are C-contiguous arrays, indexed by the ``Storage.index`` of constants; the
    ``outputs`` are in the order of the graph's results, tuples flattened.
    """

    steps: tuple[Step, ...]
    inputs: tuple[Storage, ...]
    constants: tuple[np.ndarray[Any, Any], ...]
    outputs: tuple[View, ...]


Value = View | tuple["Value", ...] | None
"""What a Relax variable stands for; ``None`` for shapes and other compile-time values."""


def read_network(module: Any, operators: Mapping[str, tuple[str, ...]]) -> Network:
    """Flatten ``module["main"]``.

    ``operators`` gives the ONNX/Relax operators of each PrimFunc by name, for messages.  Raises
    ``DeployccError`` with every operator that has no kernel (DC520), has a result whose shape
    depends on data (DC521) or is control flow (DC522).
    """
    module = relax.transform.RewriteDataflowReshape()(module)
    reader = _Reader(module, operators)
    return reader.read()


class _Reader:
    def __init__(self, module: Any, operators: Mapping[str, tuple[str, ...]]) -> None:
        self.module = module
        self.operators = operators
        self.values: dict[Any, Value] = {}
        self.steps: list[Step] = []
        self.constants: list[np.ndarray[Any, Any]] = []
        self.constant_views: dict[Any, View] = {}
        self.temporaries = 0
        self.findings: list[Diagnostic] = []

    def read(self) -> Network:
        main = self.module["main"]
        inputs: list[Storage] = []
        for parameter in main.params:
            nbytes = _nbytes(parameter.ty)
            if nbytes is None:
                self.findings.append(_unknown_shape("Input", parameter.name, str(parameter.ty)))
                nbytes = 0
            storage = Storage("input", len(inputs), nbytes)
            inputs.append(storage)
            self.values[parameter] = View(storage, 0, nbytes)
        body = main.body
        if isinstance(body, relax.SeqExpr):
            for block in body.blocks:
                for binding in block.bindings:
                    self._bind(binding)
            body = body.body
        if self.findings:
            raise DeployccError(*self.findings)
        outputs = tuple(_views(self._value(body)))
        return Network(tuple(self.steps), tuple(inputs), tuple(self.constants), outputs)

    def _bind(self, binding: Any) -> None:
        value = binding.value
        if isinstance(value, ir.Call) and not _is_view(value):
            self.values[binding.var] = self._call(value, binding.var)
        elif isinstance(value, relax.If):
            self.findings.append(
                Diagnostic(
                    "DC522",
                    "control flow is left in the graph: which branch runs is known only at run time",
                    op="If",
                    node=binding.var.name,
                    need="a straight line of operators",
                    help="make the condition a constant of the model (export in inference mode, or fix the "
                    "input it depends on), or split the model and take the branch in the application",
                )
            )
            self.values[binding.var] = None
        else:
            self.values[binding.var] = self._value(value, binding.var)

    def _value(self, expr: Any, var: Any = None) -> Value:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, ir.GenericConst):
            return self._constant(expr)
        if isinstance(expr, ir.Tuple):
            return tuple(self._value(field) for field in expr.fields)
        if isinstance(expr, ir.TupleGetItem):
            parts = self._value(expr.tuple_value)
            return parts[expr.index] if isinstance(parts, tuple) else None
        if isinstance(expr, ir.Call):
            return self._view(expr) if _is_view(expr) else self._call(expr, var)
        if isinstance(expr, relax.ShapeExpr | tirx.IntImm | tirx.FloatImm | ir.StringImm):
            return None
        raise TypeError(f"unexpected Relax expression {type(expr).__name__}: {expr}")

    def _constant(self, expr: Any) -> View:
        if expr in self.constant_views:
            return self.constant_views[expr]
        array = np.ascontiguousarray(expr.value.numpy())
        storage = Storage("constant", len(self.constants), array.nbytes)
        self.constants.append(array)
        view = View(storage, 0, array.nbytes)
        self.constant_views[expr] = view
        return view

    def _view(self, call: Any) -> Value:
        source = self._value(call.args[0])
        if source is None:
            return None
        if not isinstance(source, View):
            raise TypeError(f"view of a tuple: {call}")
        nbytes = _nbytes(call.ty)
        if nbytes is None:
            self.findings.append(_unknown_shape(call.op.name, "", str(call.ty)))
            return None
        offset = 0
        if call.op.name == "relax.memory.view" and isinstance(call.args[3], tirx.IntImm):
            offset = int(call.args[3].value)
        if offset + nbytes > source.nbytes:
            raise ValueError(
                f"view of {nbytes} bytes at {offset} leaves its source of {source.nbytes}: {call}"
            )
        return View(source.storage, source.offset + offset, nbytes)

    def _call(self, call: Any, var: Any) -> Value:
        name = call.op.name if isinstance(call.op, ir.Op) else ""
        node = var.name if var is not None else ""
        if name != "relax.call_tir":
            self.findings.append(self._no_kernel(call, name, node))
            return None
        function = call.args[0].name_hint
        result = call.ty_args[0]
        if relax.analysis.has_reshape_pattern(self.module[function]):
            # TVM's own rewrite leaves one that gives a result of the graph.
            source, nbytes = self._value(call.args[1].fields[0]), _nbytes(result)
            if isinstance(source, View) and source.nbytes == nbytes:
                return source
        fields = list(result.fields) if isinstance(result, relax.TupleType) else [result]
        sizes = [_nbytes(field) for field in fields]
        if any(size is None for size in sizes):
            label = ", ".join(self.operators.get(function, (function,)))
            self.findings.append(_unknown_shape(label, node, str(result)))
            return None
        if len(call.args) > 2:
            raise ValueError(f"call_tir of {function} passes symbolic shape variables: {call}")
        reads = tuple(_views(self._value(call.args[1])))
        widths = [_width(field) for field in fields]
        writes = [
            self._temporary(size, width)
            for size, width in zip(sizes, widths, strict=True)
            if size is not None
        ]
        views = tuple(View(storage, 0, storage.nbytes) for storage in writes)
        self.steps.append(Step(function, reads, views, node))
        return views if isinstance(result, relax.TupleType) else views[0]

    def _temporary(self, nbytes: int, width: int) -> Storage:
        self.temporaries += 1
        return Storage("temporary", self.temporaries - 1, nbytes, width)

    def _no_kernel(self, call: Any, name: str, node: str) -> Diagnostic:
        if _has_unknown_shape(call.ty):
            return _unknown_shape(name.removeprefix("relax.") or str(call.op), node, str(call.ty))
        callee = name
        if name in ("relax.call_dps_packed", "relax.call_pure_packed", "relax.call_inplace_packed"):
            callee = str(call.args[0].global_symbol)
        elif isinstance(call.op, relax.ExternFunc):
            callee = str(call.op.global_symbol)
        elif not name:
            raise TypeError(f"call of {call.op} was not inlined: {call}")
        return no_kernel(name.removeprefix("relax."), node, callee)


def no_kernel(op: str, node: str, callee: str) -> Diagnostic:
    """DC520: ``op`` at ``node`` was lowered to ``callee``, a function of the TVM runtime."""
    return Diagnostic(
        "DC520",
        f"{op} cannot be compiled into a kernel of its own",
        node=node,
        op=op,
        got=f"a call of '{callee}', a function of the TVM runtime, which the library does not carry",
        need="an operator that lowers to loops",
        help="rewrite it with elementary operators, fold it if its inputs are constants, or split the model "
        "there and compute it in the application",
    )


def _unknown_shape(op: str, node: str, got: str) -> Diagnostic:
    return Diagnostic(
        "DC521",
        f"the shape of the result of {op} is not known before run time",
        node=node,
        op=op,
        got=got,
        need="a static shape: memory is planned when the model is compiled",
        help="bind the dimension with --shape if it comes from an input; if it depends on data, cut "
        "the model before this operator and do it in the application, or replace it by operators of fixed "
        "size (Where with a mask)",
    )


def _is_view(call: Any) -> bool:
    return isinstance(call.op, ir.Op) and call.op.name in VIEWS


def _views(value: Value) -> list[View]:
    if value is None:
        return []
    if isinstance(value, View):
        return [value]
    return [view for part in value for view in _views(part)]


def _shape(ty: Any) -> tuple[int, ...] | None:
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return None
    if not all(isinstance(extent, tirx.IntImm) for extent in ty.shape.values):
        return None
    return tuple(int(extent.value) for extent in ty.shape.values)


def _has_unknown_shape(ty: Any) -> bool:
    if isinstance(ty, relax.TupleType):
        return any(_has_unknown_shape(field) for field in ty.fields)
    return isinstance(ty, relax.TensorType) and _shape(ty) is None


def _nbytes(ty: Any) -> int | None:
    shape = _shape(ty)
    if shape is None:
        return None
    elements = 1
    for extent in shape:
        elements *= extent
    return elements * _width(ty)


def _width(ty: Any) -> int:
    dtype = tvm.DataType(str(ty.dtype))
    return int(-(-dtype.bits // 8) * dtype.lanes)
