"""A network as the choice of layouts sees it: which operators can run in which layout, at what cost.

Labels are 0 for NCHW and 1 for NHWC.  Every image tensor is *made* in one of them and read in one by
each of its readers.  An operator with a rule reads and writes in one and the same label; a convolution
has one for what it reads and one for what it writes; everything else reads and writes NCHW.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploycc.layout.costs import apart_cycles, operator_cycles, transpose_cycles
from deploycc.layout.minimum_cut import Labelling
from deploycc.layout.regrouping import find_regroupings
from deploycc.layout.rules import (
    TO_NCHW,
    TO_NHWC,
    Operands,
    constant_in_nhwc,
    is_elementwise,
    permutation,
    rank,
    rule_of,
)
from deploycc.operators import Conv2d, Layout, Operator
from deploycc.relax_graph import constant_value, describe, static_shape
from deploycc.tvm_api import ir, relax
from deploycc.types import LayoutChoice, Target

LAYOUTS: tuple[Layout, Layout] = ("NCHW", "NHWC")

Estimate = Callable[[Operator], float | None]
"""Cycles of the best schedule for an operator, ``None`` where none takes it."""

Rewrite = Callable[[Operands], Any]
"""A call in NHWC, given its operands in NHWC."""


@dataclass(frozen=True)
class Layouts:
    """The choice: per variable of ``main`` the labels it is computed in.

    ``convolutions`` have the labels that they read and write; ``rewrites`` are the other operators that
    run in NHWC, with the rule to apply.
    """

    convolutions: Mapping[Any, tuple[int, int]]
    rewrites: Mapping[Any, Rewrite]
    choices: tuple[LayoutChoice, ...]


@dataclass
class _Image:
    """A tensor: the variable of the label it is made in, its transpose's cycles, its readers' variables."""

    made: int
    transpose: float
    readers: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Convolution:
    """Variables of what it reads and writes, and the cycles of each combination that a schedule takes."""

    read: int
    written: int
    operator: Conv2d
    cycles: Mapping[str, float]


class _Trial:
    """Operands of a rule that is only asked whether it applies: placeholders, and what was read."""

    def __init__(self) -> None:
        self.read: list[Any] = []

    def nhwc(self, expression: Any) -> Any | None:
        if constant_value(expression) is not None:
            return constant_in_nhwc(expression)
        if not isinstance(expression, ir.Var) or rank(expression) not in (0, 4):
            return None
        if rank(expression) == 0:
            return expression
        self.read.append(expression)
        shape = static_shape(expression)
        return relax.Var("trial", relax.TensorType([shape[axis] for axis in TO_NHWC], expression.ty.dtype))

    def original(self, expression: Any) -> Any:
        return expression


def bindings_of(function: Any) -> list[Any] | None:
    """The bindings of ``main`` where it is one straight line, else ``None``."""
    body = function.body
    if not isinstance(body, relax.SeqExpr) or len(body.blocks) != 1:
        return None
    bindings = list(body.blocks[0].bindings)
    return bindings if all(isinstance(binding, relax.VarBinding) for binding in bindings) else None


class Graph:
    """The labelling problem of ``main``, a straight line of ``bindings``, and what its solution means."""

    def __init__(self, function: Any, bindings: list[Any], target: Target, estimate: Estimate) -> None:
        self.target = target
        self.estimate = estimate
        self.problem = Labelling()
        self.fixed = self.problem.variable(one=math.inf)
        self.images: dict[Any, _Image] = {}
        self.tuples: dict[Any, int] = {}
        self.convolutions: dict[Any, _Convolution] = {}
        self.rules: dict[Any, tuple[int, Rewrite]] = {}
        self.regroupings, self.absorbed = find_regroupings(bindings)
        for parameter in function.params:
            self._made(parameter, self.fixed)
        for binding in bindings:
            self._binding(binding.var, binding.value)
        self._reads(function.body.body, self.fixed)
        for image in {id(image): image for image in self.images.values()}.values():  # some have two names
            self.problem.conversion(image.made, image.readers, image.transpose)

    def choose(self) -> Layouts:
        """Solve it."""
        labels = self.problem.solve()
        chosen = {var: (labels[conv.read], labels[conv.written]) for var, conv in self.convolutions.items()}
        uses: Counter[Conv2d] = Counter()
        cycles: dict[Conv2d, Mapping[str, float]] = {}
        for var, conv in self.convolutions.items():
            data, out = (LAYOUTS[label] for label in chosen[var])
            operator = replace(conv.operator, data_layout=data, out_layout=out)
            uses[operator] += 1
            cycles[operator] = conv.cycles
        return Layouts(
            convolutions=chosen,
            rewrites={var: rewrite for var, (label, rewrite) in self.rules.items() if labels[label]},
            choices=tuple(
                LayoutChoice(
                    repr(operator), f"{operator.data_layout}->{operator.out_layout}", found, uses[operator]
                )
                for operator, found in cycles.items()
            ),
        )

    def _made(self, var: Any, label: int) -> None:
        if isinstance(var.ty, ir.TupleType):
            self.tuples[var] = label
        elif isinstance(var.ty, relax.TensorType) and rank(var) == 4:
            self.images[var] = _Image(label, transpose_cycles(static_shape(var), self.target))

    def _reads(self, expression: Any, label: int) -> None:
        if isinstance(expression, relax.Tuple):
            for part in expression.fields:
                self._reads(part, label)
        elif isinstance(expression, ir.Var) and expression in self.images:
            self.images[expression].readers.append(label)

    def _binding(self, var: Any, value: Any) -> None:
        if isinstance(value, ir.Var):
            if value in self.images:
                self.images[var] = self.images[value]
            if value in self.tuples:
                self.tuples[var] = self.tuples[value]
        elif isinstance(value, relax.TupleGetItem):
            self._made(var, self.tuples.get(value.tuple_value, self.fixed))
        elif isinstance(value, relax.Call):
            self._call(var, value)
        else:
            self._reads(value, self.fixed)
            self._made(var, self.fixed)

    def _call(self, var: Any, call: Any) -> None:
        if var in self.absorbed:
            return
        operator = describe(call)
        if isinstance(operator, Conv2d):
            self._convolution(var, call, operator)
            return
        if permutation(call) == TO_NHWC:
            # The model's own transpose: nothing is left of it where the tensor is in NHWC anyway.
            reader = self.problem.variable(zero=transpose_cycles(static_shape(call.args[0]), self.target))
            self._reads(call.args[0], reader)
            self._made(var, self.fixed)
            return
        if permutation(call) == TO_NCHW:
            label = self.problem.variable(zero=transpose_cycles(static_shape(call), self.target))
            self._reads(call.args[0], self.fixed)
            self._made(var, label)
            self.rules[var] = (label, lambda operands: operands.original(call.args[0]))
            return
        rewrite = self.regroupings.get(var)
        if rewrite is None:
            rule = rule_of(call)
            rewrite = None if rule is None else lambda operands: rule(operands, call)
        trial = _Trial()
        if rewrite is None or rewrite(trial) is None or not trial.read:
            for argument in call.args:
                self._reads(argument, self.fixed)
            self._made(var, self.fixed)
            return
        label = self.problem.variable(*operator_cycles(call, self.target))
        for operand in trial.read:
            self._reads(operand, label)
            if is_elementwise(call) and operand in self.images and self.images[operand].made != self.fixed:
                apart = apart_cycles(static_shape(operand), self.target)
                self.problem.pair(self.images[operand].made, label, (0.0, apart, apart, 0.0))
        self._made(var, label)
        self.rules[var] = (label, rewrite)

    def _convolution(self, var: Any, call: Any, operator: Conv2d) -> None:
        cycles: dict[str, float] = {}
        for data in LAYOUTS:
            for out in LAYOUTS:
                found = self.estimate(replace(operator, data_layout=data, out_layout=out))
                if found is not None:
                    cycles[f"{data}->{out}"] = found
        read, written = self.problem.variable(), self.problem.variable()
        # Without any schedule TVM's own loops compute it, in one layout for both.
        known = cycles or dict.fromkeys(("NCHW->NCHW", "NHWC->NHWC"), 0.0)
        costs = [known.get(f"{data}->{out}", math.inf) for data in LAYOUTS for out in LAYOUTS]
        self.problem.pair(read, written, (costs[0], costs[1], costs[2], costs[3]))
        self._reads(call.args[0], read)
        self._made(var, written)
        self.convolutions[var] = _Convolution(read, written, operator, cycles)
