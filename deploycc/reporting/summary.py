"""What a deployer asks first, in words: does it run, how much of it, what has to be replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploycc.lint_types import Coverage, NodeReport, Report
from deploycc.reporting.grouping import VERDICTS, Counts
from deploycc.reporting.quantities import amount, duration, nbytes, plural, share
from deploycc.types import Verdict


@dataclass(frozen=True)
class Cell:
    """What a target makes of all nodes of one operator.

    ``nodes`` of the operator in the graph that was judged for the target, ``taken`` of them by the
    target.  ``verdict`` is the worst one, of those that are not taken if there are any.  Without nodes the
    graph has no such operator.
    """

    nodes: int
    taken: int
    verdict: Verdict | Literal[""]

    @property
    def text(self) -> str:
        """Three words at most: ``yes``, ``slow``, ``unsupported 2/5``."""
        if not self.nodes:
            return "-"
        if self.taken == self.nodes:
            return self.verdict if self.verdict in ("slow", "fallback") else "yes"
        return f"{self.verdict} {self.nodes - self.taken}/{self.nodes}"


@dataclass(frozen=True)
class Matrix:
    """Operators that are not taken everywhere, and what each target makes of them."""

    targets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def matrix(reports: Sequence[Report]) -> Matrix:
    """The operators that some target does not take whole, the most frequent first."""
    columns = [_cells(report) for report in reports]
    operators = Counter[str]()
    for column in columns:
        for operator, cell in column.items():
            if cell.taken < cell.nodes:
                operators[operator] = max(operators[operator], cell.nodes - cell.taken)
    rows = tuple(
        (operator, tuple(column.get(operator, Cell(0, 0, "")) for column in columns))
        for operator, _ in sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    )
    return Matrix(tuple(report.target for report in reports), rows)


def _cells(report: Report) -> dict[str, Cell]:
    nodes, taken = Counter[str](), Counter[str]()
    verdicts: dict[tuple[str, bool], set[str]] = {}
    for node in report.nodes:
        nodes[node.op] += 1
        taken[node.op] += node.taken
        verdicts.setdefault((node.op, node.taken), set()).add(verdict_of(node))
    cells = {}
    for op, count in nodes.items():
        found = verdicts.get((op, False)) or verdicts[op, True]
        cells[op] = Cell(count, taken[op], next((v for v in VERDICTS if v in found), ""))
    return cells


def verdict_of(node: NodeReport) -> Verdict | Literal[""]:
    """The node's verdict; what is not taken for a reason that has none counts as unsupported."""
    if node.taken or node.verdict in ("silently-wrong", "unsupported", "fallback"):
        return node.verdict
    return "unsupported"


def runs(coverage: Coverage) -> str:
    """``runs whole``, ``runs in 3 parts`` or ``does not run``."""
    match coverage.runs:
        case "whole":
            return "runs whole"
        case "parts":
            return f"runs in {plural(coverage.parts, 'part')}"
        case "not":
            return "does not run"


def covered(coverage: Coverage) -> str:
    """``51 of 53 nodes, 99.1 % of 1.2 G multiply-adds``."""
    nodes = f"{coverage.taken} of {plural(coverage.nodes, 'node')}"
    if coverage.taken == coverage.nodes:
        return f"{plural(coverage.nodes, 'node')}, {amount(coverage.macs)} multiply-adds"
    of_macs = share(coverage.taken_macs, coverage.macs)
    return f"{nodes}, {of_macs} of {amount(coverage.macs)} multiply-adds"


def to_replace(report: Report, most: int = 6) -> str:
    """``Softplus x2 (DC416), Einsum (DC400)``: what stands in the way, with the code that says why.

    Names ``most`` operators and counts the rest.
    """
    if report.coverage is None:
        return ""
    codes: dict[str, dict[str, None]] = {}
    for diagnostic in report.diagnostics:
        if not diagnostic.suppressed and (diagnostic.severity == "error" or diagnostic.verdict == "fallback"):
            codes.setdefault(diagnostic.op, {})[diagnostic.code] = None
    words = []
    for operator, number in report.coverage.replace[:most]:
        times = f" x{number}" if number > 1 else ""
        why = f" ({', '.join(codes[operator])})" if operator in codes else ""
        words.append(f"{operator}{times}{why}")
    more = len(report.coverage.replace) - len(words)
    return ", ".join(words) + (f" and {plural(more, 'more operator')}" if more > 0 else "")


def headline(report: Report) -> str:
    """One line for a target, without its name."""
    if report.coverage is None:
        return "not judged"
    replace = to_replace(report)
    if report.coverage.runs == "whole" and replace:
        return f"runs whole: {covered(report.coverage)} on the GPU; on the processor {replace}"
    return f"{runs(report.coverage)}: {covered(report.coverage)}" + (
        f"; replace {replace}" if replace else ""
    )


def sizes(coverage: Coverage) -> str:
    """Weights, memory, time and what is not known, as far as they are known."""
    words = [
        f"weights {nbytes(coverage.weight_bytes)}",
        f"peak of activations {nbytes(coverage.peak_bytes)}",
    ]
    if coverage.seconds is not None:
        words.append(f"at least {duration(coverage.seconds)}")
    if coverage.unknown:
        words.append(f"{plural(coverage.unknown, 'node')} of operators that no source tells of")
    return ", ".join(words)


def tally(found: Counts) -> str:
    """``2 errors, 1 warning, 12 notes``; ``nothing found`` for none."""
    words = [
        plural(number, word)
        for number, word in ((found.errors, "error"), (found.warnings, "warning"), (found.infos, "note"))
        if number
    ]
    if found.suppressed:
        words.append(f"{found.suppressed} suppressed")
    return ", ".join(words) or "nothing found"
