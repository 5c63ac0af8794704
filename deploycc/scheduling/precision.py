"""How a GPU stores what a network computes: intermediate tensors and weights in half of the bytes.

With ``fp16`` and ``bf16`` every tensor between two kernels, and every table of weights, is stored so.  What
is loaded becomes float32 at once and what is stored is rounded then: arithmetic and sums are in float32.
Inputs and outputs of the network stay float32, and so does what the processor reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from deploycc.relax_graph import constant, constant_value
from deploycc.scheduling.kernel import WRITTEN, child_blocks
from deploycc.scheduling.placing import runs_on_host
from deploycc.scheduling.primitives import is_reduction
from deploycc.tvm_api import ir, relax, s_tir, structural_map, tirx
from deploycc.types import JOINED, DeployccError, Diagnostic, Origin, Precision

STORAGE: Mapping[Precision, str] = {
    "fp32": "float32",
    "tf32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
}
"""The element type that intermediate tensors and weights are stored in, by precision."""

_NUMPY = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}
"""The largest finite number of each."""

Key = tuple[Any, tuple[int, ...]]
"""A tensor of ``main``: its variable (or constant), and its place in that where it is a tuple."""


def stored_in(
    module: Any,
    precision: Precision,
    fused: Mapping[str, tuple[str, ...]],
    origins: Mapping[str, Origin],
) -> tuple[Any, Mapping[str, tuple[str, ...]]]:
    """A fused ``module`` whose kernels load and store as ``precision`` says; nothing else is changed.

    ``fused`` are the operators in each kernel (with kernels that one PrimFunc becomes for other types);
    ``origins`` where the steps of ``main`` come from.  Raises ``DeployccError`` (DC525) for factors of
    products that are too large for ``float16``.
    """
    half = STORAGE[precision]
    if half == "float32":
        return module, fused
    found = _Tensors(module, half, origins)
    found.read()
    writer = _Storing(module, half, found.stored())
    return writer.run(), {**fused, **writer.operators(fused)}


class _Tensors:
    """Which tensors of ``main`` can be stored in half of the bytes, and which must be of one type."""

    def __init__(self, module: Any, half: str, origins: Mapping[str, Origin]) -> None:
        self.module = module
        self.half = half
        self.origins = origins
        self.parents: dict[Key, Key] = {}
        self.pinned: set[Key] = set()
        self.constants: dict[Key, Any] = {}
        self.factors: set[Key] = set()
        self.findings: list[Diagnostic] = []

    def read(self) -> None:
        main = self.module["main"]
        for parameter in main.params:
            self._pin(parameter)
        for block in main.body.blocks:
            for binding in block.bindings:
                self._read(binding.var, binding.value)
        self._pin(main.body.body)
        if self.findings:
            raise DeployccError(*self.findings)

    def stored(self) -> set[Key]:
        """The tensors that are stored in half."""
        classes: dict[Key, list[Key]] = {}
        for key in self.parents:
            classes.setdefault(self._root(key), []).append(key)
        pinned = {self._root(key) for key in self.pinned}
        found: set[Key] = set()
        for root, members in classes.items():
            alone = all(key in self.constants and key not in self.factors for key in members)
            values = [self.constants[key] for key in members if key in self.constants]
            if root not in pinned and all(self._fits(value, alone) for value in values):
                found.update(members)
        return found

    def _read(self, variable: Any, value: Any) -> None:
        outs = self._of(variable)
        if _named(value, "relax.call_tir"):
            function = self.module[value.args[0].name_hint]
            given = [key for field in value.args[1].fields for key in self._of(field)]
            if runs_on_host(function) or WRITTEN in (function.attrs or ()):
                self.pinned.update((*given, *outs))
            elif JOINED in (function.attrs or {}) or relax.analysis.has_reshape_pattern(function):
                for key in (*given, *outs):
                    self._join(given[0], key)
            else:
                self._kernel(function, (*given, *outs), variable)
        elif isinstance(value, ir.Var | ir.Tuple | ir.TupleGetItem) or _named(value, *_VIEWS):
            same = self._of(value.args[0] if isinstance(value, ir.Call) else value)
            for one, other in zip(same, outs, strict=True):
                self._join(one, other)
        else:
            self._pin(variable)
            for free in relax.analysis.free_vars(value):
                self._pin(free)

    def _kernel(self, function: Any, keys: Sequence[Key], variable: Any) -> None:
        factors = _factors(function)
        for key, parameter in zip(keys, function.params, strict=True):
            if key in self.constants and any(parameter.same_as(factor) for factor in factors):
                self.factors.add(key)
                self._check(self.constants[key], variable)

    def _of(self, expression: Any) -> list[Key]:
        """The float32 tensors of an expression, others included: their types are looked at once."""
        if isinstance(expression, ir.Tuple):
            return [key for field in expression.fields for key in self._of(field)]
        if isinstance(expression, ir.TupleGetItem):
            within = self._of(expression.tuple_value)
            first = sum(
                len(list(_places(field))) for field in expression.tuple_value.ty.fields[: expression.index]
            )
            return within[first : first + len(list(_places(expression.ty)))]
        keys = [(expression, path) for path in _places(expression.ty)]
        for key in keys:
            if key in self.parents:
                continue
            self.parents[key] = key
            value = constant_value(expression)
            if value is not None:
                self.constants[key] = value
            if str(_at(expression.ty, key[1]).dtype) != "float32":
                self.pinned.add(key)
        return keys

    def _root(self, key: Key) -> Key:
        while self.parents[key] != key:
            key = self.parents[key]
        return key

    def _join(self, one: Key, other: Key) -> None:
        self.parents[self._root(other)] = self._root(one)

    def _pin(self, expression: Any) -> None:
        self.pinned.update(self._of(expression))

    def _fits(self, value: Any, alone: bool) -> bool:
        """Whether a constant is stored in half; of vectors (biases, scales) only factors of products are."""
        if alone and sum(extent > 1 for extent in value.shape) < 2:
            return False
        return _largest(value) <= _LARGEST[self.half]

    def _check(self, value: Any, variable: Any) -> None:
        if value.dtype == np.float32 and _largest(value) > _LARGEST[self.half]:
            nodes = self.origins.get(variable.name, Origin()).nodes
            self.findings.append(
                Diagnostic(
                    "DC525",
                    f"weights are too large for {self.half}",
                    node=", ".join(nodes),
                    got=f"a weight of magnitude {_largest(value):.6g}",
                    need=f"magnitudes of at most {_LARGEST[self.half]:.6g}",
                    help="--precision bf16 has the range of fp32; tf32 and fp32 store weights as they are",
                )
            )


@relax.expr_functor.mutator
class _Storing(relax.PyExprMutator):  # type: ignore[misc]
    """Writes ``main`` anew with kernels that load and store ``stored`` tensors in half."""

    def __init__(self, module: Any, half: str, stored: set[Key]) -> None:
        super().__init__(module)
        self.module = module
        self.half = half
        self.stored = stored
        self.made: dict[tuple[str, tuple[bool, ...]], Any] = {}
        self.sources: dict[str, str] = {}

    def run(self) -> Any:
        main = self.visit_expr(self.module["main"])
        self.builder_.update_func(self.module.get_global_var("main"), main)
        return relax.transform.DeadCodeElimination()(self.builder_.get())

    def operators(self, fused: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """The operators in each kernel that was made."""
        return {new: fused[old] for new, old in self.sources.items() if old in fused}

    def visit_generic_const_(self, expression: Any) -> Any:
        value = constant_value(expression)
        if value is None or (expression, ()) not in self.stored:
            return expression
        return constant(value.astype(_NUMPY[self.half]))

    def visit_var_binding_(self, binding: Any) -> None:
        variable, value = binding.var, binding.value
        half = [(variable, path) in self.stored for path in _places(variable.ty)]
        if _named(value, "relax.call_tir"):
            made = self._call(value, half)
        elif _named(value, "relax.memory.view") and any(half):
            source, shape, _, offset = value.args
            bytes_before = int(offset.value) if isinstance(offset, tirx.IntImm) else 0
            made = relax.op.memory.view(self.visit_expr(source), shape, self.half, bytes_before // 2)
        elif _named(value, *_VIEWS):
            rest = list(value.args)[1:]
            made = relax.Call(value.op, [self.visit_expr(value.args[0]), *rest], value.attrs, value.ty_args)
        else:
            made = self.visit_expr(value)
        made = self.builder_.normalize(made)
        if any(half):
            new = type(variable)(variable.name, made.ty)
            self.set_var_remap(variable, new)
        else:
            new = self.visit_var_def(variable)
        self.builder_.emit_normalized(relax.VarBinding(new, made))

    def _call(self, call: Any, half: Sequence[bool]) -> Any:
        fields = list(call.args[1].fields)
        given = [(field, ()) in self.stored for field in fields]
        name, wanted = call.args[0].name_hint, (*given, *half)
        function = call.args[0]
        if any(wanted):
            if (name, wanted) not in self.made:
                made = _converting(self.module[name], wanted, self.half)
                self.made[name, wanted] = self.builder_.add_func(made, name)
                self.sources[self.made[name, wanted].name_hint] = name
            function = self.made[name, wanted]
        types = (
            list(call.ty_args[0].fields)
            if isinstance(call.ty_args[0], relax.TupleType)
            else [call.ty_args[0]]
        )
        types = [
            relax.TensorType(one.shape, self.half) if stored else one
            for one, stored in zip(types, half, strict=True)
        ]
        arguments = relax.Tuple([self.visit_expr(field) for field in fields])
        return relax.call_tir(function, arguments, types if len(types) > 1 else types[0])


_VIEWS = tuple(
    f"relax.{name}"
    for name in ("reshape", "flatten", "expand_dims", "squeeze", "memory.view", "memory.ensure_zero_offset")
)


def _named(expression: Any, *names: str) -> bool:
    return isinstance(expression, ir.Call) and getattr(expression.op, "name", "") in names


def _places(kind: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The places of the tensors in a value of type ``kind``."""
    if isinstance(kind, relax.TupleType):
        for number, field in enumerate(kind.fields):
            yield from _places(field, (*path, number))
    elif isinstance(kind, relax.TensorType):
        yield path


def _at(kind: Any, path: tuple[int, ...]) -> Any:
    for number in path:
        kind = kind.fields[number]
    return kind


def _largest(value: Any) -> float:
    """The largest finite magnitude."""
    if value.dtype.kind != "f":
        return 0.0
    return float(np.max(np.abs(value), initial=0.0, where=np.isfinite(value)))


# ---- kernels ----


def _factors(function: Any) -> list[Any]:
    """The buffers that a sum of products reads."""
    sch = s_tir.Schedule(ir.IRModule({"main": function}))
    return [
        region.source
        for block in child_blocks(sch)
        if is_reduction(sch, block)
        for region in sch.get(block).reads
    ]


def _converting(function: Any, half: Sequence[bool], dtype: str) -> Any:
    """``function`` with those of its parameters stored as ``dtype``: rounded once, where they are written."""
    function = _with_sums_apart(function, half)
    new = {
        parameter: tirx.decl_buffer(parameter.ty.shape, dtype, parameter.name)
        for parameter, stored in zip(function.params, half, strict=True)
        if stored
    }
    stored = set(new.values())

    def replace(node: Any) -> Any:
        if isinstance(node, ir.Var):
            return new.get(node, node)
        if isinstance(node, ir.TensorLoad):
            if node.source not in stored:
                return node
            return tirx.Cast("float32", tirx.BufferLoad(node.source, list(node.indices)))
        if node.buffer not in stored:
            return node
        value = node.value
        plain = isinstance(value, tirx.Cast) and str(value.value.ty.dtype) == dtype
        return tirx.BufferStore(node.buffer, value.value if plain else tirx.Cast(dtype, value), node.indices)

    body = structural_map(function.body, ((ir.Var, ir.TensorLoad, tirx.BufferStore), replace), order="post")
    parameters = [new.get(parameter, parameter) for parameter in function.params]
    return tirx.PrimFunc(parameters, body, function.ret_type, function.attrs)


def _with_sums_apart(function: Any, half: Sequence[bool]) -> Any:
    """``function`` with float32 buffers in place of those results that it adds up in."""
    sch = s_tir.Schedule(ir.IRModule({"main": function}))
    stored = [p for p, one in zip(function.params, half, strict=True) if one]
    for block in child_blocks(sch):
        written = sch.get(block).writes[0].source
        if is_reduction(sch, block) and any(written.same_as(parameter) for parameter in stored):
            sch.cache_write(block, 0, "global")
    return sch.mod["main"]
