"""How much of a network the target takes, and what other libraries would take of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from onnx import NodeProto

from deploycc.lint_types import Coverage, HintColumn, NodeReport
from deploycc.linting import costs
from deploycc.linting.limits import broken_limits, need, since_version
from deploycc.linting.subject import Subject
from deploycc.linting.table import check_conditions
from deploycc.onnx_graph import GraphView, all_nodes, subgraphs, used_names
from deploycc.op_support import SupportTable, support_table, version_in
from deploycc.partition import fewest_parts
from deploycc.types import Diagnostic, Verdict

WORST: tuple[Verdict, ...] = ("silently-wrong", "unsupported", "fallback", "slow", "info")
"""Verdicts from the worst on."""


def node_reports(subject: Subject, found: Iterable[Diagnostic]) -> tuple[NodeReport, ...]:
    """Every node of the judged graph but constants; ``found`` has the judged graph's names."""
    verdicts: dict[str, set[Verdict]] = {}
    refused: set[str] = set()
    where = _homes(subject)
    for finding in found:
        for name in where.get(finding.node, ()):
            if finding.verdict is not None:
                verdicts.setdefault(name, set()).add(finding.verdict)
            if finding.severity == "error" or finding.verdict == "fallback":
                refused.add(name)
    return tuple(
        _report(subject, index, verdicts, refused)
        for index, node in enumerate(subject.view.model.graph.node)
        if node.op_type != "Constant"
    )


def _homes(subject: Subject) -> dict[str, tuple[str, ...]]:
    """For a name that a finding may have, the nodes of the judged graph that it is about.

    A node inside a branch or loop belongs to the node that holds it, an original one to all that was
    made of it.
    """
    homes: dict[str, tuple[str, ...]] = {}
    for name, origin in subject.origins.items():
        homes[origin] = (*homes.get(origin, ()), name)
    for node in subject.view.model.graph.node:
        for inner in (inner for graph in subgraphs(node) for inner in all_nodes(graph)):
            homes.setdefault(inner.name, (node.name,))
    for node in subject.view.model.graph.node:
        homes[node.name] = (node.name,)
    return homes


def _report(subject: Subject, index: int, verdicts: dict[str, set[Verdict]], refused: set[str]) -> NodeReport:
    view = subject.view
    node = view.model.graph.node[index]
    kind = view.types.get(node.output[0]) if node.output else None
    macs, moved = subject.costs[node.name]
    worst: Verdict | Literal[""] = next((v for v in WORST if v in verdicts.get(node.name, ())), "")
    return NodeReport(
        name=subject.origins.get(node.name, node.name),
        op=node.op_type,
        inputs=tuple(sorted(name for name in used_names(node) if not view.is_constant(name))),
        outputs=tuple(name for name in node.output if name),
        shape=tuple(-1 if dim is None else dim for dim in (kind.shape if kind and kind.shape else ())),
        dtype=kind.dtype if kind else "",
        macs=macs,
        bytes_moved=moved,
        seconds=costs.seconds(macs, moved, subject.target.peak),
        verdict=worst,
        taken=node.name not in refused,
    )


def coverage(subject: Subject, nodes: Sequence[NodeReport], found: Iterable[Diagnostic]) -> Coverage:
    """The summary.  A finding that is about no node stops the whole network if it is an error.

    So does an open dimension for a target that packages are built for.
    """
    found = tuple(found)
    taken = [node for node in nodes if node.taken]
    parts = len(fewest_parts(range(len(nodes)), _reads(nodes), {i for i, n in enumerate(nodes) if n.taken}))
    whole_errors = any(d.severity == "error" and not d.node for d in found)
    whole_errors |= subject.compiled and any(-1 in info.shape for info in subject.model.inputs)
    runs: Literal["whole", "parts", "not"] = "whole"
    if len(taken) < len(nodes) or whole_errors:
        # A package is compiled whole or not at all, with a part for the processor beside a GPU; other
        # runtimes move nodes, or take the parts.
        runs = "not" if subject.compiled or not taken or whole_errors else "parts"
        if subject.target.beside_gpu and not whole_errors and not any(d.severity == "error" for d in found):
            runs = "whole"
    known = subject.compiled or {n.op for n in nodes if subject.table.knows(n.op)}
    times = [node.seconds for node in nodes if node.seconds is not None]
    view = subject.view
    return Coverage(
        runs=runs,
        parts=1 if runs == "whole" else parts,
        nodes=len(nodes),
        taken=len(taken),
        unknown=0 if known is True else sum(n.op not in known for n in nodes),
        macs=sum(node.macs for node in nodes),
        taken_macs=sum(node.macs for node in taken),
        replace=tuple(Counter(node.op for node in nodes if not node.taken).most_common()),
        weight_bytes=sum(costs.nbytes(name, view) for name in view.initializers),
        peak_bytes=subject.peak_bytes,
        seconds=sum(times) if nodes and len(times) == len(nodes) else None,
    )


def _reads(nodes: Sequence[NodeReport]) -> dict[int, set[int]]:
    made = {name: index for index, node in enumerate(nodes) for name in node.outputs}
    return {i: {made[name] for name in node.inputs if name in made} for i, node in enumerate(nodes)}


def hint_columns(subject: Subject) -> tuple[HintColumn, ...]:
    """What the libraries of ``LintTarget.hints`` would take of the graph."""
    return tuple(_column(subject, support_table(engine)) for engine in subject.target.hints)


def _column(subject: Subject, table: SupportTable) -> HintColumn:
    view: GraphView = subject.view
    # The first of a table's units is the one that a column is about.
    unit = table.units[0] if table.units else ""
    target = replace(subject.target, engine=table.engine, unit=unit, version="", compiled=None)
    reasons: dict[str, str] = {}
    for finding in check_conditions(view, target, table.engine):
        if finding.severity != "info":
            reasons.setdefault(finding.node, finding.message)
    inner = [node for node in view.model.graph.node if node.op_type != "Constant"]
    refused: dict[tuple[str, str], int] = {}
    taken = taken_macs = 0
    fused, made = table.limit("fused_only", unit), set[str]()
    for node in inner:
        row = table.operators.get(node.op_type)
        why = reasons.get(node.name, "") or _beyond(node, view, table, unit)
        if node.domain or row is None:
            why = "not taken" if not node.domain and node.op_type in table.missing else "not in its lists"
        elif not version_in("", row.versions) or (unit and unit not in row.units):
            why = "not taken"
        elif row.opsets and since_version(node, view) not in row.opsets:
            why = why or "this form of it is not in its lists"
        if not why and fused is not None and node.op_type in fused.value and not made & set(node.input):
            why = "what it would be fused into is not taken"
        if why:
            refused[node.op_type, why] = refused.get((node.op_type, why), 0) + 1
            continue
        taken += 1
        taken_macs += subject.costs[node.name][0]
        made.update(node.output)
    return HintColumn(
        engine=table.engine,
        title=table.title,
        nodes=len(inner),
        taken=taken,
        macs=sum(subject.costs[node.name][0] for node in inner),
        taken_macs=taken_macs,
        refused=tuple((op, count, why) for (op, why), count in sorted(refused.items())),
    )


def _beyond(node: NodeProto, view: GraphView, table: SupportTable, unit: str) -> str:
    """The first limit of the engine that the node is beyond, in words; empty for none."""
    for name, _, limit in broken_limits(node, view, table, unit):
        return f"{node.op_type} needs {need(name, limit)}"
    return ""
