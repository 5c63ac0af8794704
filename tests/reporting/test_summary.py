"""The words that a deployer reads first, and the matrix of targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploycc.lint_types import Coverage, Report
from deploycc.reporting.summary import Cell, covered, headline, matrix, runs, sizes, to_replace, verdict_of
from tests.reporting.results import node, small

COVERAGE = small().reports[0].coverage
assert COVERAGE is not None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"runs": "whole"}, "runs whole"),
        ({"runs": "parts", "parts": 3}, "runs in 3 parts"),
        ({"runs": "parts", "parts": 1}, "runs in 1 part"),
        ({"runs": "not"}, "does not run"),
    ],
)
def test_runs(changes: dict[str, object], text: str) -> None:
    assert runs(replace(COVERAGE, **changes)) == text  # type: ignore[arg-type]


def test_headline_says_what_to_replace_and_why() -> None:
    report = small().reports[0]
    assert headline(report) == (
        "runs in 3 parts: 2 of 10 nodes, 85.0 % of 107 M multiply-adds; "
        "replace Softplus x6 (DC416), Conv (DC402), Resize (DC401)"
    )
    assert headline(small().reports[1]) == "runs whole: 10 nodes, 107 M multiply-adds"
    assert headline(Report((), target="arm64")) == "not judged"


def test_a_long_list_is_counted() -> None:
    many = replace(COVERAGE, replace=tuple((f"Op{i}", 1) for i in range(9)))
    report = replace(small().reports[0], coverage=many)
    assert to_replace(report) == "Op0, Op1, Op2, Op3, Op4, Op5 and 3 more operators"
    assert to_replace(report, most=9).endswith("Op8")


def test_suppressed_findings_explain_nothing() -> None:
    report = small().reports[0]
    kept = tuple(replace(d, suppressed="known") for d in report.diagnostics)
    assert "DC" not in headline(replace(report, diagnostics=kept))


def test_sizes_leave_out_what_is_not_known() -> None:
    known = Coverage("whole", 1, 1, 1, 0, 1, 1, (), 1024, 2048, 0.5)
    assert sizes(known) == "weights 1 KiB, peak of activations 2 KiB, at least 500 ms"
    assert "at least" not in sizes(replace(known, seconds=None))
    assert sizes(replace(known, unknown=3)).endswith("3 nodes of operators that no source tells of")
    assert covered(known) == "1 node, 1 multiply-adds"


def test_matrix() -> None:
    def report(target: str, *nodes: tuple[str, str, bool]) -> Report:
        found = [node(f"n{i}", op, [], verdict, taken) for i, (op, verdict, taken) in enumerate(nodes)]
        return Report((), target=target, nodes=tuple(found))

    table = matrix(
        [
            report(
                "a",
                ("Conv", "", True),
                ("Mod", "fallback", False),
                ("Resize", "slow", True),
                ("Resize", "", False),
            ),
            report(
                "b", ("Conv", "slow", True), ("Resize", "slow", True), ("Mod", "", True), ("Mod", "", True)
            ),
            report(
                "c",
                ("Conv", "info", True),
                ("Resize", "unsupported", False),
                ("Resize", "silently-wrong", False),
            ),
        ]
    )
    assert table.targets == ("a", "b", "c")
    assert {op: [cell.text for cell in cells] for op, cells in table.rows} == {
        "Resize": ["unsupported 1/2", "slow", "silently-wrong 2/2"],
        "Mod": ["fallback 1/1", "yes", "-"],
    }
    assert [op for op, _ in table.rows] == ["Resize", "Mod"], "the most frequent first"


def test_what_is_not_taken_has_a_verdict() -> None:
    assert verdict_of(node("n", "Conv", [], "", True)) == ""
    assert verdict_of(node("n", "Conv", [], "slow", True)) == "slow"
    assert verdict_of(node("n", "Conv", [], "slow", False)) == "unsupported"
    assert verdict_of(node("n", "Conv", [], "fallback", False)) == "fallback"
    assert Cell(0, 0, "").text == "-"
