"""``deploycc.toml``, ignores, selection, baselines, and what then counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploycc.diagnostics import render
from deploycc.lint import LintResult
from deploycc.lint_types import Coverage, NodeReport, Report
from deploycc.policy.applying import Policy, apply_policy, baseline_of, counting, exit_code
from deploycc.policy.baseline import entry, read_baseline, write_baseline
from deploycc.policy.file import FailLevel, Ignore, find_policy_file, load_policy_file
from deploycc.rule_names import condition_ids, is_rule, near_rule, rule_files
from deploycc.text_file import write_text
from deploycc.types import DeployccError, Diagnostic, Severity, Verdict


def finding(
    rule: str, node: str, severity: Severity = "error", verdict: Verdict = "unsupported", code: str = "DC402"
) -> Diagnostic:
    return Diagnostic(
        code, f"{rule} at {node}", node=node, op="Conv", rule=rule, severity=severity, verdict=verdict,
        fingerprint=f"{rule}/{node}",
    )  # fmt: skip


def node(name: str, inputs: tuple[str, ...], macs: int, verdict: Any = "", taken: bool = True) -> NodeReport:
    return NodeReport(
        name, "Conv", inputs, (f"{name}.out",), (1, 4), "float32", macs, 16, None, verdict, taken
    )


def report(target: str, *findings: Diagnostic) -> Report:
    """A chain a, b, c of 1, 2 and 4 multiply-adds; a node with an error or a fallback is not taken."""
    refused = {d.node for d in findings if d.severity == "error" or d.verdict == "fallback"}
    worst = {d.node: d.verdict for d in findings}
    nodes = tuple(
        node(name, inputs, macs, worst.get(name, ""), name not in refused)
        for name, inputs, macs in (("a", ("x",), 1), ("b", ("a.out",), 2), ("c", ("b.out",), 4))
    )
    runs: Any = "whole" if not refused else "parts" if ":" in target else "not"
    coverage = Coverage(
        runs=runs,
        parts=1 if not refused else 3,
        nodes=3,
        taken=3 - len(refused),
        unknown=0,
        macs=7,
        taken_macs=sum(n.macs for n in nodes if n.taken),
        replace=(("Conv", len(refused)),) if refused else (),
        weight_bytes=0,
        peak_bytes=32,
        seconds=None,
    )
    return Report(findings, target, nodes, coverage)


def result(*reports: Report) -> LintResult:
    return LintResult(Path("nets/net.onnx"), "0" * 64, reports)


def suppressed(found: LintResult) -> dict[str, str]:
    return {d.message: d.suppressed for report in found.reports for d in report.diagnostics if d.suppressed}


def refused(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DeployccError) as caught:
        load_policy_file(path)
    return "\n".join(render(d) for d in caught.value.diagnostics)


RESIZE, CONV = "resize-antialias", "conv-rank"


def test_an_ignore_needs_rule_node_target_and_model_to_fit() -> None:
    found = result(
        report("snpe:htp", finding(RESIZE, "a"), finding(RESIZE, "b"), finding(CONV, "a")),
        report("arm64", finding(RESIZE, "a")),
    )
    ignores = (
        Ignore(RESIZE, "done in the app", node="a*", target="snpe:*"),
        Ignore("DC4", "another model's", model="other.onnx"),
    )
    told = apply_policy(found, Policy(ignores=ignores))
    assert suppressed(told) == {f"{RESIZE} at a": "done in the app"}
    assert [d.message for d in counting(told.reports)] == [f"{RESIZE} at b", f"{CONV} at a", f"{RESIZE} at a"]
    assert len(told.reports[0].diagnostics) == 3


def test_what_is_made_of_a_model_has_its_ignores() -> None:
    found = LintResult(Path("net.fixed.onnx"), "", (report("arm64", finding(RESIZE, "a")),))
    ignores = Policy(ignores=(Ignore(RESIZE, "why", model="net.onnx"),))
    assert suppressed(apply_policy(found, ignores)) == {}
    assert suppressed(apply_policy(found, ignores, "net.onnx")) == {f"{RESIZE} at a": "why"}


def test_a_node_name_with_brackets_is_meant_as_it_is() -> None:
    found = result(report("arm64", finding(RESIZE, "a[0]")))
    assert suppressed(apply_policy(found, Policy(ignores=(Ignore(RESIZE, "why", node="a[0]"),))))


def test_what_does_not_count_is_not_in_the_coverage() -> None:
    found = result(report("snpe:htp", finding(RESIZE, "b"), finding(CONV, "b", "warning", "slow")))
    (before,) = found.reports
    assert (before.coverage.runs, before.coverage.taken_macs) == ("parts", 5)  # type: ignore[union-attr]
    (after,) = apply_policy(found, Policy(ignore=(RESIZE,))).reports
    coverage = after.coverage
    assert coverage is not None
    assert (coverage.runs, coverage.parts, coverage.taken, coverage.taken_macs) == ("whole", 1, 3, 7)
    assert coverage.replace == ()
    assert [(n.verdict, n.taken) for n in after.nodes] == [("", True), ("slow", True), ("", True)]


def test_what_still_counts_stays_in_the_coverage() -> None:
    found = result(report("snpe:htp", finding(RESIZE, "a"), finding(CONV, "b")))
    (after,) = apply_policy(found, Policy(ignore=(RESIZE,))).reports
    coverage = after.coverage
    assert coverage is not None
    assert (coverage.runs, coverage.parts, coverage.taken, coverage.taken_macs) == ("parts", 3, 2, 5)
    assert coverage.replace == (("Conv", 1),)
    # A package is compiled whole or not at all.
    (compiled,) = apply_policy(result(report("arm64", finding(RESIZE, "a"), finding(CONV, "b"))),
                               Policy(ignore=(RESIZE,))).reports  # fmt: skip
    assert compiled.coverage is not None
    assert compiled.coverage.runs == "not"


def test_dc773_an_ignore_that_nothing_needs_is_a_finding() -> None:
    found = result(report("arm64"), report("snpe:htp", finding(RESIZE, "a")))
    ignores = (
        Ignore(CONV, "old", node="/head/*", target="snpe:*", place="deploycc.toml, lint.ignore[0]"),
        Ignore(RESIZE, "used"),
        Ignore(CONV, "no such target here", target="qnn*"),
        Ignore(CONV, "another model's", model="other.onnx"),
    )
    told = apply_policy(found, Policy(ignores=ignores))
    assert told.reports[0].diagnostics == ()
    unused = told.reports[1].diagnostics[1:]
    assert [(d.code, d.rule, d.severity) for d in unused] == [("DC773", "unused-ignore", "warning")]
    assert unused[0].got == f'rule = "{CONV}", node = "/head/*", target = "snpe:*"'
    assert unused[0].source == "deploycc.toml, lint.ignore[0]"
    assert unused[0].fingerprint
    assert exit_code(told, "warning") == 1
    assert exit_code(told, "error") == 0
    silenced = apply_policy(found, Policy(ignores=ignores, ignore=("unused-ignore",)))
    assert exit_code(silenced, "info") == 0


def test_selection() -> None:
    found = result(report("arm64", finding(RESIZE, "a", code="DC401"), finding(CONV, "b")))
    for select in ((CONV,), ("conv-*",), ("DC402",), ("DC402", "DC403")):
        assert suppressed(apply_policy(found, Policy(select=select))) == {f"{RESIZE} at a": "not selected"}
    assert suppressed(apply_policy(found, Policy(select=("DC4",)))) == {}
    told = apply_policy(found, Policy(select=("DC4",), ignore=("DC401", CONV)))
    assert suppressed(told) == {f"{RESIZE} at a": "--ignore DC401", f"{CONV} at b": f"--ignore {CONV}"}


@pytest.mark.parametrize(
    ("level", "codes"),
    [("error", [1, 0, 0, 0]), ("warning", [1, 1, 0, 0]), ("info", [1, 1, 1, 0]), ("never", [0, 0, 0, 0])],
)
def test_the_exit_code_by_the_gravest_that_counts(level: FailLevel, codes: list[int]) -> None:
    severities: tuple[Severity, ...] = ("error", "warning", "info")
    results = [result(report("arm64", finding(RESIZE, "a", severity))) for severity in severities]
    assert [exit_code(found, level) for found in (*results, result(report("arm64")))] == codes
    assert exit_code(apply_policy(results[0], Policy(ignore=("DC",))), level) == 0


def test_a_baseline_suppresses_what_it_knows_and_tells_what_is_gone(tmp_path: Path) -> None:
    found = result(report("snpe:htp@2.10", finding(RESIZE, "a"), finding(CONV, "b")), report("arm64"))
    path = tmp_path / "baseline.json"
    assert write_baseline(path, baseline_of(found)) == 2
    known = read_baseline(path)
    told = apply_policy(found, Policy(baseline=known, baseline_path=path))
    assert set(suppressed(told).values()) == {"baseline"}
    assert exit_code(told, "info") == 0

    # Another release of the SDK is the same target, a new finding counts, one is gone.
    later = result(report("snpe:htp@2.5", finding(RESIZE, "a"), finding(CONV, "c")), report("arm64"))
    told = apply_policy(later, Policy(baseline=known, baseline_path=path))
    counted = counting(told.reports)
    assert [(d.code, d.node) for d in counted] == [("DC402", "c"), ("DC775", "")]
    gone = counted[1]
    assert (gone.rule, gone.severity, gone.got) == ("baseline-gone", "info", f"{CONV} at 'b'")
    assert gone.message == "a finding of the baseline no longer occurs"
    assert str(path) in gone.help
    # Of a target that is not asked for nothing is known to be gone.
    assert counting(apply_policy(result(report("arm64")), Policy(baseline=known)).reports) == []
    # A baseline is written from what counts and what it knew, without what is about the policy.
    assert [row.fingerprint for row in baseline_of(told)] == [f"{RESIZE}/a", f"{CONV}/c"]


def test_a_baseline_is_the_same_bytes_and_can_be_read_by_people(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    found = [entry(finding(RESIZE, name), "arm64") for name in "cab"]
    write_baseline(one, found)
    write_baseline(other, [*reversed(found), found[0]])
    assert one.read_bytes() == other.read_bytes()
    rows = json.loads(one.read_text())["findings"]
    assert [row["node"] for row in rows] == ["a", "b", "c"]
    assert rows[0] == {
        "fingerprint": f"{RESIZE}/a", "target": "arm64", "code": "DC402", "rule": RESIZE, "node": "a",
        "message": f"{RESIZE} at a",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [None, "no json", "[]", '{"format": 2, "findings": []}', '{"format": 1}',
     '{"format": 1, "findings": [3]}', '{"format": 1, "findings": [{"rule": "r"}]}', "[" * 100000],
)  # fmt: skip
def test_dc774_no_baseline(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DeployccError) as caught:
        read_baseline(path)
    (told,) = caught.value.diagnostics
    assert told.code == "DC774"
    assert "--write-baseline" in told.help


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "deploycc.toml"
    path.write_text(
        '[lint]\ntargets = ["arm64", "snpe:htp"]\nfail-level = "warning"\nselect = ["DC4"]\n'
        f'baseline = "sub/base.json"\n[[lint.ignore]]\nrule = "{RESIZE}"\nnode = "/head/*"\n'
        'target = "snpe:*"\nmodel = "net.onnx"\nreason = "why"\n'
        '[[lint.ignore]]\nrule = "DC41"\nreason = "all"\n'
    )
    found = load_policy_file(path)
    assert (found.targets, found.fail_level, found.select) == (("arm64", "snpe:htp"), "warning", ("DC4",))
    assert found.baseline == tmp_path / "sub/base.json"
    first, second = found.ignores
    assert first == Ignore(RESIZE, "why", "/head/*", "snpe:*", "net.onnx", "deploycc.toml, lint.ignore[0]")
    assert (second.rule, second.node, second.target, second.model) == ("DC41", "*", "*", "*")


def test_a_target_file_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "deploycc.toml").write_text('[lint]\ntargets = ["boards/x.toml", "arm64"]\n')
    found = load_policy_file(tmp_path / "deploycc.toml")
    assert found.targets == (str(tmp_path / "boards/x.toml"), "arm64")


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "deploycc.toml").write_text("")
    found = load_policy_file(tmp_path / "deploycc.toml")
    assert (found.targets, found.fail_level, found.ignores, found.baseline) == ((), None, (), None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[lint", ["error[DC770]", "deploycc.toml cannot be read"]),
        ("[lnit]", ["error[DC771]: unknown key 'lnit'", "did you mean 'lint'?"]),
        ("[lint]\nfail_level = 'x'", ["error[DC771]: unknown key 'lint.fail_level'", "'lint.fail-level'?"]),
        ("lint = 3", ["error[DC772]: 'lint'", "got:  3", "need: a table"]),
        ("[lint]\nfail-level = 'fatal'", ["error[DC772]", "'fatal'", "error, warning, info, never"]),
        ("[lint]\ntargets = 'arm64'", ["error[DC772]: 'lint.targets'", "a list of texts"]),
        ("[lint]\nbaseline = 3", ["error[DC772]: 'lint.baseline'"]),
        ("[lint]\nignore = ['DC4']",
         ["error[DC772]: 'lint.ignore'", "[[lint.ignore]]", "an ignore needs a reason"]),
        ("[[lint.ignore]]\nrule = 'DC402'", ["error[DC772]: 'lint.ignore[0].reason'"]),
        ("[[lint.ignore]]\nrule = 'DC402'\nreason = ' '", ["error[DC772]: 'lint.ignore[0].reason'"]),
        ("[[lint.ignore]]\nreason = 'r'", ["error[DC772]: 'lint.ignore[0].rule'"]),
        ("[[lint.ignore]]\nrule = 'DC402'\nreason = 'r'\nnod = 'x'",
         ["error[DC771]: unknown key 'lint.ignore[0].nod'", "'lint.ignore[0].node'?"]),
        ("[[lint.ignore]]\nrule = 'resize-antialia'\nreason = 'r'",
         ["error[DC777]", "did you mean resize-antialias?"]),
        ("[lint]\nselect = ['DC999']", ["error[DC777]: 'select' of"]),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say(text: str, told: list[str], tmp_path: Path) -> None:
    shown = refused(tmp_path / "deploycc.toml", text)
    assert [words for words in told if words not in shown] == [], shown


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = "[lint]\ntargts = []\nfail-level = 'x'\n[[lint.ignore]]\nrule = 'nothing-like-it'\n"
    shown = refused(tmp_path / "deploycc.toml", text)
    assert {code: shown.count(f"[{code}]") for code in ("DC771", "DC772")} == {"DC771": 1, "DC772": 2}


def test_no_text_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "deploycc.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DeployccError, match="DC770"):
        load_policy_file(tmp_path / "deploycc.toml")
    with pytest.raises(DeployccError, match="DC770"):
        load_policy_file(tmp_path)


def test_the_file_is_looked_for_upwards_and_not_beyond_the_repository(tmp_path: Path) -> None:
    models = tmp_path / "repo" / "nets" / "models"
    models.mkdir(parents=True)
    (tmp_path / "deploycc.toml").touch()
    assert find_policy_file(models / "net.onnx") == tmp_path / "deploycc.toml"
    (tmp_path / "repo" / ".git").touch()  # a file in a worktree
    assert find_policy_file(models / "net.onnx") is None
    (tmp_path / "repo" / "deploycc.toml").touch()
    assert find_policy_file(models / "net.onnx") == tmp_path / "repo" / "deploycc.toml"
    (models / "deploycc.toml").touch()
    assert find_policy_file(models / "net.onnx") == models / "deploycc.toml"


def test_names_of_rules() -> None:
    assert {"no-converter", "unit-lacks"} <= set(rule_files())
    for text in ("DC402", "DC4", "DC", RESIZE, "no-converter", "resize-*", "unused-ignore"):
        assert is_rule(text), text
    for text in ("DC9", "dc402", "resize", "qqq-*", ""):
        assert not is_rule(text), text
    assert near_rule("resize-antialais") == RESIZE
    assert near_rule("xyzzy") == ""


def test_condition_ids_are_those_of_the_parsed_tables() -> None:
    """They are found in the text of the tables, which need not be parsed for it."""
    from deploycc.op_support import engines, support_table

    for engine in engines():
        assert condition_ids(engine) == tuple(row["id"] for row in support_table(engine).conditions)


def test_dc778_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeployccError) as caught:
        write_text(tmp_path / "none" / "report.json", "x")
    (told,) = caught.value.diagnostics
    assert (told.code, told.got) == ("DC778", "No such file or directory")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DeployccError, match="DC778"):
        write_text(tmp_path / "folder", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_report_replaces_an_older_one(tmp_path: Path) -> None:
    write_text(tmp_path / "report", "one\n")
    write_text(tmp_path / "report", "zwei ü\n")
    assert (tmp_path / "report").read_text(encoding="utf-8") == "zwei ü\n"
    assert len(list(tmp_path.iterdir())) == 1
    write_text(Path("/dev/null"), "x")
