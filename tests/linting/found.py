"""What one condition of one engine's table finds on one of its example graphs."""

from __future__ import annotations

from dataclasses import replace

from deploycc.lint_targets import load_lint_target
from deploycc.linting.table import Condition, check_conditions, conditions
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic
from tests.linting.cases import Case, text
from tests.linting.graphs import model


def rows(*engines: str) -> list[tuple[str, Condition, str]]:
    """Engine, condition and operator, for every operator of every condition."""
    return [(e, condition, op) for e in engines for condition in conditions(e) for op in condition.operators]


def found(engine: str, case: Case, condition: Condition, operator: str) -> list[Diagnostic]:
    """The condition's findings at nodes of the operator (``*``: of any)."""
    target = replace(load_lint_target("x86-64"), engine=engine, compiled=None)
    view = GraphView(model(text(case, operator), case[0]).proto)
    return [
        d
        for d in check_conditions(view, target, engine)
        if d.rule == condition.id and operator in (d.op, "*")
    ]
