"""Which tensors of the model the variables of a Relax function are: marks that survive the passes between.

A package's step is made of many passes' work, and "which node of my model is this?" has to be answered for
lint, profiles and the search for a wrong layer.  A pass keeps a variable's name where it keeps its value, so
the name is where the answer travels: ``tensor12x`` is tensor 12 of ``Program.tensors``, with its axes as
they are in the model, ``tensor12x_last`` the same with its channels last.  A variable without such a name is
something in between that the model has no tensor for.

Fusion makes new variables.  ``Terms`` finds their values again: two expressions have the same term if they
are the same programs over the same terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deploycc.tvm_api import ir, relax, tirx
from deploycc.types import ModelTensor, Origin, Result

_MARK = re.compile(r"tensor(\d+)x(_last)?(?=_?\d*$)")

Term = int | tuple[Any, ...]
"""The number of a value, or a tuple of them."""


def mark(number: int, *, last: bool = False) -> str:
    """The name of a variable that is tensor ``number`` of the model; ``last``: with its channels last."""
    return f"tensor{number}x{'_last' if last else ''}"


def same_mark(variable: Any, *, last: bool = False) -> str:
    """The name for another form of ``variable``, empty if that is no tensor of the model."""
    found = _MARK.match(variable.name)
    return mark(int(found[1]), last=last) if found else ""


def rename(function: Any, names: Mapping[Any, str]) -> Any:
    """``function`` with new names for some of the variables that it binds."""
    return _Renamer(names).visit_expr(function) if names else function


@relax.expr_functor.mutator
class _Renamer(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, names: Mapping[Any, str]) -> None:
        super().__init__()
        self.names = names

    def visit_var_binding_(self, binding: Any) -> None:
        name = self.names.get(binding.var)
        if name is None:
            super().visit_var_binding_(binding)
            return
        kind = relax.DataflowVar if isinstance(binding.var, relax.DataflowVar) else relax.Var
        variable = kind(name, binding.var.ty)
        value = self.visit_expr(binding.value)
        self.builder_.emit_normalized(relax.VarBinding(variable, value))
        self.set_var_remap(binding.var, variable)


class Terms:
    """Values of a module's ``main``, numbered so that equal computations have equal numbers.

    One object numbers several modules: the same one before and after functions were made of its parts.
    """

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def of(self, module: Any) -> Iterator[tuple[Any, Term, frozenset[Term]]]:
        """Every variable that ``main`` binds, its term, and the terms of what its own binding computes."""
        main = module["main"]
        known: dict[Any, Term] = {p: self._number("parameter", i) for i, p in enumerate(main.params)}
        for block in main.body.blocks:
            for binding in block.bindings:
                computed: set[Term] = set()
                known[binding.var] = self._term(module, binding.value, known, computed)
                yield binding.var, known[binding.var], frozenset(computed)

    def _number(self, *key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _term(self, module: Any, value: Any, known: dict[Any, Term], computed: set[Term]) -> Term:
        if isinstance(value, ir.Var):
            return known[value]
        if isinstance(value, relax.Tuple):
            return tuple(self._term(module, field, known, computed) for field in value.fields)
        if isinstance(value, relax.TupleGetItem):
            whole = self._term(module, value.tuple_value, known, computed)
            return (
                whole[value.index] if isinstance(whole, tuple) else self._number("part", whole, value.index)
            )
        if not isinstance(value, relax.Call):
            return self._number("leaf", value)
        if isinstance(value.op, ir.GlobalVar) and isinstance(module[value.op], relax.Function):
            return self._inlined(module, value, known, computed)
        arguments = tuple(self._term(module, argument, known, computed) for argument in value.args[1:])
        first = value.args[0] if value.args else None
        head: Any = first.name_hint if isinstance(first, ir.GlobalVar) else None
        if head is None and first is not None:
            head = self._term(module, first, known, computed)
        number = self._number(str(value.op), head, arguments, str(value.ty))
        computed.add(number)
        if not isinstance(value.ty, ir.TupleType):
            return number
        parts = tuple(self._number("part", number, index) for index in range(len(value.ty.fields)))
        computed.update(parts)
        return parts

    def _inlined(self, module: Any, call: Any, known: dict[Any, Term], computed: set[Term]) -> Term:
        function = module[call.op]
        arguments = [self._term(module, argument, known, computed) for argument in call.args]
        inner: dict[Any, Term] = dict(zip(function.params, arguments, strict=True))
        for block in function.body.blocks:
            for binding in block.bindings:
                inner[binding.var] = self._term(module, binding.value, inner, computed)
        return self._term(module, function.body.body, inner, computed)


def origins(
    before: Any, after: Any, tensors: Sequence[ModelTensor], outputs: Sequence[str]
) -> tuple[Any, Mapping[str, Origin]]:
    """``after``, in whose ``main`` every call has a name of its own, and what each of them computes.

    ``before`` is the same module before calls were fused, with marks; ``after`` before the fused functions
    became programs.  ``outputs`` are the names of the graph's outputs: their variables lose their own.
    """
    terms = Terms()
    marked: dict[Term, list[tuple[int, bool]]] = {}
    result: Term = ()
    for variable, term, _ in terms.of(before):
        found = _MARK.match(variable.name)
        if found and int(found[1]) < len(tensors):
            marked.setdefault(term, []).append((int(found[1]), bool(found[2])))
        if variable.same_as(before["main"].body.body):
            result = term
    numbers_of = {tensor.name: number for number, tensor in enumerate(tensors) if tensor.name}
    for name, term in zip(outputs, result if isinstance(result, tuple) else (result,), strict=False):
        if name in numbers_of:
            marked.setdefault(term, []).append((numbers_of[name], False))
    names: dict[Any, str] = {}
    found_origins: dict[str, Origin] = {}
    for variable, term, computed in terms.of(after):
        if not computed:
            continue
        name = f"step{len(names)}x"
        names[variable] = name
        numbers = sorted({number for one in computed for number, _ in marked.get(one, ())})
        parts = term if isinstance(term, tuple) else (term,)
        kinds = variable.ty.fields if isinstance(variable.ty, ir.TupleType) else (variable.ty,)
        found_origins[name] = Origin(
            nodes=tuple(dict.fromkeys(tensors[number].node for number in numbers if tensors[number].node)),
            results=tuple(
                _result(marked.get(part, ()), kind, tensors) for part, kind in zip(parts, kinds, strict=True)
            ),
        )
    after["main"] = rename(after["main"], names)
    return after, found_origins


def _result(marks: Any, kind: Any, tensors: Sequence[ModelTensor]) -> Result | None:
    if not marks:
        return None
    named = [(number, last) for number, last in marks if tensors[number].name]
    if not named or kind.shape is None:
        return None
    if not all(isinstance(extent, tirx.IntImm) for extent in kind.shape.values):
        return None  # a shape that the network computes; planning has more to say about it
    number, last = named[-1]
    shape = tuple(int(extent) for extent in kind.shape.values)
    return Result(tensors[number].name, shape, channels_last=last, dtype=str(kind.dtype))
