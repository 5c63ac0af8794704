"""What only the build knows of a package: the graph as it was read, what each stage did, what was tried.

``share/NAME/build.json`` has it, so that a report can be written of a package alone.  It has no times and no
paths of the building machine; names of the model are JSON strings in ASCII.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from deploycc.lint_types import NodeReport, Report
from deploycc.records import Record, cache_key, code_key, databases, read
from deploycc.request import report_from_json
from deploycc.types import (
    BuildRequest,
    Choice,
    DeployccError,
    Diagnostic,
    LayoutChoice,
    Model,
    PassCount,
    Program,
    Target,
)

if TYPE_CHECKING:  # it takes half a second
    import onnx

FILE = "build.json"
FORMAT = "deploycc build facts"
SCHEMA_VERSION = 1

_CANDIDATES_KEPT = 64
"""Of an operator: a curve has its shape with fewer than a long session measures."""


@dataclass(frozen=True)
class GraphNode:
    """A node of a graph: ``inputs`` and ``outputs`` are tensors without weights.

    ``shape`` and ``dtype`` are those of the first output.  An extent that is not known is -1.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Facts:
    """``read`` is the graph as the file has it, at the opset ``opset_read``; ``report`` what lint judged.

    ``passes`` is what simplifying did, ``notes`` what import and simplifying had to say, ``layouts`` and
    ``choices`` the decisions of these stages, ``records`` the tuning records of the operators in the package,
    measured for the target of the keys ``code`` and ``cache``.
    """

    read: tuple[GraphNode, ...]
    opset_read: int
    passes: tuple[PassCount, ...]
    notes: tuple[Diagnostic, ...]
    report: Report
    layouts: tuple[LayoutChoice, ...]
    choices: tuple[Choice, ...]
    records: tuple[Record, ...]
    code: str
    cache: str


def gather(request: BuildRequest, model: Model, report: Report, program: Program) -> Facts:
    """The facts of a build whose stages gave ``model`` (simplified), ``report``, ``program`` (scheduled)."""
    original = model.proto if model.original is None else model.original
    operators = {choice.operator for choice in program.choices if choice.operator}
    target = request.target
    if target.gpus:  # the program is the first chip's
        target = target.for_gpu(target.gpus[0])
    return Facts(
        read=graph_nodes(original),
        opset_read=_opset(original),
        passes=model.passes,
        # What other libraries say of a failure may name files of this machine.
        notes=tuple(replace(note, got="", location="") for note in model.diagnostics),
        report=replace(report, diagnostics=tuple(replace(d, location="") for d in report.diagnostics)),
        layouts=program.layouts,
        choices=program.choices,
        records=_records(request, operators, target),
        code=code_key(target),
        cache=cache_key(target),
    )


def graph_nodes(proto: onnx.ModelProto) -> tuple[GraphNode, ...]:
    """Every node but constants, its types as inference wrote them into the model."""
    from deploycc.onnx_graph import GraphView, used_names

    view = GraphView(proto)
    found = []
    for node in proto.graph.node:
        if node.op_type == "Constant":
            continue
        kind = view.types.get(node.output[0]) if node.output else None
        found.append(
            GraphNode(
                name=node.name,
                op=node.op_type,
                inputs=tuple(sorted(name for name in used_names(node) if not view.is_constant(name))),
                outputs=tuple(name for name in node.output if name),
                shape=tuple(
                    -1 if dim is None else dim for dim in (kind.shape if kind and kind.shape else ())
                ),
                dtype=kind.dtype if kind else "",
            )
        )
    return tuple(found)


def _opset(proto: onnx.ModelProto) -> int:
    return next((int(o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)


def _records(request: BuildRequest, operators: set[str], target: Target) -> tuple[Record, ...]:
    return records_of((record for path in databases(request) for record in read(path)[0]), operators, target)


def records_of(records: Iterable[Record], operators: set[str], target: Target | str) -> tuple[Record, ...]:
    """The ``records`` of these operators on the target (or its code key), the oldest of each operator first.

    Of an operator only those of one cache size and unit are taken, since others cannot be compared: the
    target's own, else the one with the most records; seconds, else instructions.  Of an operator
    that has more than a plot can show, the fastest at its time and the best of the others stay.
    """
    code = target if isinstance(target, str) else code_key(target)
    by_operator: dict[str, list[Record]] = {}
    for record in records:
        if record.code == code and record.operator in operators:
            by_operator.setdefault(record.operator, []).append(record)
    kept: list[Record] = []
    for operator in sorted(by_operator):
        found = by_operator[operator]
        if any(record.unit == "seconds" for record in found):
            found = [record for record in found if record.unit == "seconds"]
        caches = Counter(record.cache for record in found)
        own = cache_key(target) if isinstance(target, Target) else ""
        cache = own if own in caches else caches.most_common(1)[0][0]
        alike = [record for record in found if record.cache == cache]
        kept += _thinned(sorted(alike, key=lambda record: record.when))
    return tuple(kept)


def _thinned(found: list[Record]) -> list[Record]:
    if len(found) <= _CANDIDATES_KEPT:
        return found
    best, steps = float("inf"), set()
    for index, record in enumerate(found):
        if record.status == "ok" and record.value < best:
            best = record.value
            steps.add(index)
    others = sorted(set(range(len(found))) - steps, key=lambda index: found[index].value)
    chosen = steps | set(others[: max(0, _CANDIDATES_KEPT - len(steps))])
    return [found[index] for index in sorted(chosen)]


# ---- as a file ----


def facts_to_json(facts: Facts) -> bytes:
    """The bytes of ``build.json``: equal facts, equal bytes."""
    table = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "read": [_row(node) for node in facts.read],
        "opset_read": facts.opset_read,
        "passes": [_row(count) for count in facts.passes],
        "notes": [_short(note) for note in facts.notes],
        "report": {
            **asdict(replace(facts.report, nodes=(), diagnostics=())),
            "diagnostics": [_short(d) for d in facts.report.diagnostics],
            "nodes": [_row(node) for node in facts.report.nodes],
        },
        "layouts": [asdict(layout) for layout in facts.layouts],
        "choices": [asdict(choice) for choice in facts.choices],
        # The time of a measurement is in the records' order alone.
        "records": [_short(replace(record, code="", when="")) for record in facts.records],
        "code": facts.code,
        "cache": facts.cache,
    }
    return json.dumps(table, separators=(",", ":"), sort_keys=True, ensure_ascii=True).encode() + b"\n"


def facts_from_json(data: bytes) -> Facts:
    """The facts whose bytes these are.  Raises ``ValueError`` for anything else."""
    try:
        table = json.loads(data)
        if table["format"] != FORMAT or table["schema_version"] > SCHEMA_VERSION:
            raise ValueError(f"no {FORMAT} of this version")
        report = table["report"]
        nodes = [dict(zip(_names(NodeReport), row, strict=True)) for row in report["nodes"]]
        notes = [asdict(_diagnostic(row)) for row in report["diagnostics"]]
        return Facts(
            read=tuple(
                GraphNode(name, op, tuple(inputs), tuple(outputs), tuple(shape), dtype)
                for name, op, inputs, outputs, shape, dtype in table["read"]
            ),
            opset_read=int(table["opset_read"]),
            passes=tuple(PassCount(*row) for row in table["passes"]),
            notes=tuple(_diagnostic(row) for row in table["notes"]),
            report=report_from_json({**report, "nodes": nodes, "diagnostics": notes}),
            layouts=tuple(LayoutChoice(**row) for row in table["layouts"]),
            choices=tuple(
                Choice(**{**row, "operators": tuple(row["operators"])}) for row in table["choices"]
            ),
            records=tuple(_record(row, str(table["code"])) for row in table["records"]),
            code=str(table["code"]),
            cache=str(table["cache"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _names(kind: Any) -> Sequence[str]:
    return [f.name for f in fields(kind)]


def _row(value: Any) -> list[Any]:
    return [getattr(value, name) for name in _names(value)]


def _short(value: Any) -> Mapping[str, Any]:
    """A dataclass without what is empty, infinite or no number: the reader puts defaults there."""
    table = asdict(value)
    return {
        key: cell
        for key, cell in table.items()
        if cell not in ("", None) and not (isinstance(cell, float) and not abs(cell) < float("inf"))
    }


def _diagnostic(row: Mapping[str, Any]) -> Diagnostic:
    return Diagnostic(**row)


def _record(row: Mapping[str, Any], code: str) -> Record:
    missing = {"value": float("inf"), "error": float("nan"), "when": "", "code": code}
    return Record(**{**missing, **row})


def broken(shown: str, why: str) -> DeployccError:
    """The error for a ``build.json`` that is none."""
    return DeployccError(
        Diagnostic("DC850", f"{shown} cannot be read", got=why[:200], help="build the package again")
    )
