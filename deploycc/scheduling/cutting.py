"""Where fusion must stop: no kernel's expression grows without bound, none computes its operator repeatedly.

Fused elementwise programs are inlined into one expression.  A program that reads its operand twice
(ELU does) doubles it, and a transcendental function expanded over another one (``tanh(sigmoid(x))``)
makes TVM's simplifier take time exponential in the depth.  Networks rarely nest either, but a chain of
ten such operators would compile for minutes.

An operator's result that is broadcast to more elements (the gate of squeeze-and-excite) would be inlined
into every one of them, with what is fused behind the operator: a sigmoid for each pixel instead of one for
each channel.  The kernel ends in front of the broadcast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from deploycc.scheduling.intrinsics import EXPANDED
from deploycc.tvm_api import ir, relax, structural_walk

LARGEST_EXPRESSION = 400
"""Nodes of one fused expression, operands counted as often as they are read."""

_BROADCAST = 1
"""Programs up to this ``OpPatternKind`` are fused behind an operator."""
_INJECTIVE = 2
"""Programs up to this ``OpPatternKind`` (elementwise, broadcast, injective) are inlined."""
_COMMUTATIVE_REDUCTION = 3
_OPERATOR = 4
"""TVM's ``OpPatternKind.kOutEWiseFusable``: a convolution or a matrix product."""
_OPAQUE = 8
"""TVM's ``OpPatternKind.kOpaque``: fused with nothing."""


@dataclass(frozen=True)
class _Expression:
    """What stands for a value in its reader's kernel: its nodes, and whether a function is expanded.

    ``of_operator``: it is an operator's result, or computed from one of the same size.
    """

    nodes: int = 1
    expanded: bool = False
    of_operator: bool = False


def cut_deep_expressions(module: Any) -> Any:
    """``module`` (programs annotated with their pattern), other patterns of calls that must not be fused."""
    return _Cutter(module).run()


@relax.expr_functor.mutator
class _Cutter(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.module = module
        self.values: dict[Any, _Expression] = {}
        self.programs: dict[Any, _Program] = {}
        self.alone: dict[tuple[Any, int], Any] = {}

    def run(self) -> Any:
        main = self.visit_expr(self.module["main"])
        if not self.alone:
            return self.module
        self.builder_.update_func(self.module.get_global_var("main"), main)
        return self.builder_.get()

    def visit_var_binding_(self, binding: Any) -> None:
        value = binding.value
        if isinstance(value, relax.Call) and getattr(value.op, "name", "") == "relax.call_tir":
            name, arguments = value.args[0], list(value.args[1].fields)
            program = self._program(name)
            operands = [self.values.get(argument, _Expression()) for argument in arguments]
            expression = program.over(operands)
            if expression is None:
                self.builder_.emit_normalized(self._cut(binding, value, name, _OPAQUE))
                return
            behind = [a for a, operand in zip(arguments, operands, strict=True) if operand.of_operator]
            if program.pattern <= _BROADCAST and any(_size(a) < _size(binding.var) for a in behind):
                # Injective: no operator is fused in front of it, and what follows is fused as ever.
                operands = [_Expression() if operand.of_operator else operand for operand in operands]
                self.values[binding.var] = program.over(operands) or _Expression()
                self.builder_.emit_normalized(self._cut(binding, value, name, _INJECTIVE))
                return
            if program.pattern > _INJECTIVE:
                expression = _Expression()
            of_operator = program.pattern == _OPERATOR or (program.pattern <= _BROADCAST and bool(behind))
            self.values[binding.var] = replace(expression, of_operator=of_operator)
        super().visit_var_binding_(binding)

    def _program(self, name: Any) -> _Program:
        if name not in self.programs:
            self.programs[name] = _Program(self.module[name])
        return self.programs[name]

    def _cut(self, binding: Any, call: Any, name: Any, pattern: int) -> Any:
        if (name, pattern) not in self.alone:
            func = self.module[name].with_attr("op_pattern", pattern)
            self.alone[name, pattern] = self.builder_.add_func(func, f"{name.name_hint}_alone")
        arguments = [self.visit_expr(argument) for argument in call.args]
        cut = relax.Call(call.op, [self.alone[name, pattern], *arguments[1:]], call.attrs, call.ty_args)
        variable = self.visit_var_def(binding.var)
        return relax.VarBinding(variable, self.builder_.normalize(cut))


def _size(value: Any) -> int:
    return math.prod(int(extent) for extent in value.ty.shape)


class _Program:
    """How often a tensor program reads its operands, how large it is and whether it expands a function."""

    def __init__(self, func: Any) -> None:
        self.pattern = int(func.attrs["op_pattern"]) if "op_pattern" in func.attrs else _OPAQUE
        reads: dict[Any, int] = {}
        found = [0, False]

        def load(node: Any) -> None:
            reads[node.source] = reads.get(node.source, 0) + 1

        def call(node: Any) -> None:
            found[0] += 1
            found[1] |= isinstance(node.op, ir.Op) and node.op.name.rsplit(".", 1)[-1] in EXPANDED

        if self.pattern <= _COMMUTATIVE_REDUCTION:
            structural_walk(func.body, ((ir.TensorLoad, load), (ir.Call, call)))
        self.nodes, self.expands = int(found[0]) + sum(reads.values()), bool(found[1])
        self.reads = [reads.get(p, 0) for p in func.params]

    def over(self, operands: list[_Expression]) -> _Expression | None:
        """The program's expression over those of its operands, ``None`` if it must not be fused with them."""
        if self.pattern > _COMMUTATIVE_REDUCTION:
            return _Expression()
        nodes = self.nodes + sum(count * o.nodes for count, o in zip(self.reads, operands, strict=False))
        nested = any(o.expanded for o in operands)
        if nodes > LARGEST_EXPRESSION + self.nodes or (nested and self.expands):
            return None
        return _Expression(nodes, nested or self.expands)
