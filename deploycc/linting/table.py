"""The conditions of an operator support table, parsed once and applied to a graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from deploycc.linting.evaluation import UNKNOWN, NodeFacts, Tensor, evaluate, holds
from deploycc.linting.language import ConditionError, Expression, parse
from deploycc.onnx_graph import GraphView
from deploycc.op_support import ENGINE, table
from deploycc.types import Diagnostic, Verdict

EFFECTS: dict[str, tuple[str, Verdict, str]] = {
    "silently-wrong": ("DC401", "silently-wrong", "would compute something else"),
    "import": ("DC402", "unsupported", "is not handled in this form"),
    "compile": ("DC403", "unsupported", "has no kernel in this form"),
    "runtime": ("DC404", "unsupported", "has no static shape in this form"),
}
"""How a condition's ``effect`` becomes a code, a verdict and the middle of the headline."""


@dataclass(frozen=True)
class Condition:
    """One row of a table: when it holds of a node of ``operators``, the build is refused."""

    id: str
    operators: tuple[str, ...]
    when: Expression
    effect: str
    says: str
    got: tuple[str | Expression, ...]
    need: tuple[str | Expression, ...]
    help: str
    source: str


@cache
def conditions(engine: str = ENGINE) -> tuple[Condition, ...]:
    """Every condition of the engine's table.

    Raises ``ConditionError`` for one that does not parse.
    """
    data = table(engine)
    return tuple(
        Condition(
            id=row["id"],
            operators=tuple(row["operators"]),
            when=parse(row["when"]),
            effect=row["effect"],
            says=row["says"],
            got=_template(row["got"]),
            need=_template(row["need"]),
            help=row["help"],
            source=f"{data['engine']} {data['version']}, onnx_frontend.py line {row['line']}, "
            + ("seen in a run" if row["evidence"] == "run" else "read in the source"),
        )
        for row in data["conditions"]
    )


@cache
def _by_operator(engine: str) -> dict[str, tuple[Condition, ...]]:
    found: dict[str, list[Condition]] = {}
    for condition in conditions(engine):
        for operator in condition.operators:
            found.setdefault(operator, []).append(condition)
    return {operator: tuple(rows) for operator, rows in found.items()}


def _template(text: str) -> tuple[str | Expression, ...]:
    """``rank {rank(input[0])}`` as text and parsed expressions."""
    return tuple(
        parse(part[1:-1]) if part.startswith("{") else part for part in re.split(r"(\{[^}]*\})", text) if part
    )


def check_conditions(view: GraphView, engine: str = ENGINE) -> Iterator[Diagnostic]:
    """A diagnostic for every node and condition that meet, in graph order."""
    by_operator = _by_operator(engine)
    for node in view.model.graph.node:
        if node.domain:
            continue
        for condition in by_operator.get(node.op_type, ()):
            facts = NodeFacts(node, view)
            try:
                fires = holds(condition.when, facts)
            except ConditionError as error:
                raise ConditionError(f"{condition.id} at {node.op_type} '{node.name}': {error}") from None
            if fires:
                code, verdict, headline = EFFECTS[condition.effect]
                yield Diagnostic(
                    code,
                    f"{node.op_type} {headline}: {condition.says}",
                    node=node.name,
                    op=node.op_type,
                    got=_filled(condition.got, facts),
                    need=_filled(condition.need, facts),
                    help=condition.help,
                    verdict=verdict,
                    source=f"{condition.id}: {condition.source}",
                )


def _filled(parts: tuple[str | Expression, ...], facts: NodeFacts) -> str:
    return "".join(part if isinstance(part, str) else _shown(evaluate(part, facts)) for part in parts)


def _shown(value: object) -> str:
    if value is UNKNOWN:
        return "?"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        shown = [_shown(item) for item in value[:8]] + (["…"] if len(value) > 8 else [])
        return f"[{', '.join(shown)}]"
    if isinstance(value, Tensor):
        return f"'{value.name}'"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
