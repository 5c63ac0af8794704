"""The conditions of an operator support table, parsed once and applied to a graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from onnx import NodeProto

from deploycc.effects import EFFECTS
from deploycc.lint_types import LintTarget
from deploycc.linting.evaluation import UNKNOWN, NodeFacts, Tensor, evaluate, holds
from deploycc.linting.language import ConditionError, Expression, UnfitValueError, parse
from deploycc.onnx_graph import GraphView
from deploycc.op_support import ENGINE, SupportTable, support_table, version_in
from deploycc.types import Diagnostic, Severity


@dataclass(frozen=True)
class Condition:
    """One row of a table: something is wrong with a node of ``operators`` of which it holds.

    ``operators`` is ``("*",)`` for all.  ``units`` are the parts of the chip it is about (empty: all) and
    ``versions`` the releases of the engine (``op_support.version_in``).  ``fix`` is the rewrite that
    repairs it, empty for none.  ``severity`` is the effect's, unless the row has its own: two sources that
    disagree are an ``info`` to be warned of.
    """

    id: str
    operators: tuple[str, ...]
    when: Expression
    effect: str
    says: str
    got: tuple[str | Expression, ...]
    need: tuple[str | Expression, ...]
    help: str
    source: str
    units: tuple[str, ...] = ()
    versions: str = ""
    fix: str = ""
    severity: Severity | None = None

    def about(self, target: LintTarget) -> bool:
        """Whether the row is about the target's unit and version.  A row for units needs one of them."""
        if self.units and target.unit not in self.units:
            return False
        return version_in(target.version, self.versions)


@cache
def conditions(engine: str = ENGINE) -> tuple[Condition, ...]:
    """Every condition of the engine's table.

    Raises ``ConditionError`` for one that does not parse.
    """
    data = support_table(engine)
    return tuple(_condition(row, data) for row in data.conditions)


def _condition(row: Mapping[str, Any], data: SupportTable) -> Condition:
    place = f" {row['place']}" if row.get("place") else ""
    evidence = "seen in a run" if row.get("evidence") == "run" else "read in the source"
    return Condition(
        id=row["id"],
        operators=tuple(row["operators"]),
        when=parse(row["when"]),
        effect=row["effect"],
        says=row["says"],
        got=_template(row["got"]),
        need=_template(row["need"]),
        help=row["help"],
        source=f"{data.source(row['source'])}{place}, {evidence}",
        units=tuple(row.get("units", ())),
        versions=row.get("versions", ""),
        fix=row.get("fix", ""),
        severity=row.get("severity"),
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


def check_conditions(view: GraphView, target: LintTarget, engine: str) -> Iterator[Diagnostic]:
    """A diagnostic for every node and condition of ``engine``'s table that meet, in graph order."""
    by_operator = _by_operator(engine)
    for node in view.model.graph.node:
        if node.domain:
            continue
        for condition in (*by_operator.get(node.op_type, ()), *by_operator.get("*", ())):
            if not condition.about(target):
                continue
            facts = NodeFacts(node, view)
            try:
                fires = holds(condition.when, facts)
            except UnfitValueError as error:
                yield _unfit(node, condition, str(error))
                continue
            except ConditionError as error:
                raise ConditionError(f"{condition.id} at {node.op_type} '{node.name}': {error}") from None
            if fires:
                effect = EFFECTS[condition.effect]
                yield Diagnostic(
                    effect.code,
                    f"{node.op_type} {effect.headline}: {condition.says}",
                    node=node.name,
                    op=node.op_type,
                    got=_filled(condition.got, facts),
                    need=_filled(condition.need, facts),
                    help=condition.help,
                    severity=condition.severity or effect.severity,
                    verdict=effect.verdict,
                    source=condition.source,
                    rule=condition.id,
                    fix=condition.fix,
                )


def _unfit(node: NodeProto, condition: Condition, reason: str) -> Diagnostic:
    return Diagnostic(
        "DC402",
        f"{node.op_type} is not handled in this form: it cannot be told whether {condition.id} holds",
        node=node.name,
        op=node.op_type,
        got=reason[:300],
        need="inputs and attributes of the form that the operator takes",
        help="the file is damaged or comes from a faulty exporter: export it again",
        verdict="unsupported",
        rule=condition.id,
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
