"""JSON and SARIF keep to their schemas, and say what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import deploycc
from deploycc.lint import LintResult
from deploycc.reporting import json_report, render, sarif
from tests.reporting.results import RANK, broken, empty, hostile, small

SARIF_SCHEMA = Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json"
RESULTS = [small, empty, broken, hostile]


def as_sarif(result: LintResult, **options: Any) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(render("sarif", result, **options))
    schema = json.loads(SARIF_SCHEMA.read_text(encoding="utf-8"))
    checker = jsonschema.validators.validator_for(schema)
    checker(schema, format_checker=jsonschema.FormatChecker()).validate(log)
    return log


def as_json(result: LintResult, **options: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render("json", result, **options))
    jsonschema.Draft202012Validator(json_report.schema()).validate(document)
    return document


@pytest.mark.parametrize("result", RESULTS)
def test_valid(result: Callable[[], LintResult]) -> None:
    as_json(result())
    as_sarif(result())


def test_our_schema_is_one_and_refuses_what_is_not_a_report() -> None:
    jsonschema.Draft202012Validator.check_schema(json_report.schema())
    validator = jsonschema.Draft202012Validator(json_report.schema())
    good = as_json(small())
    for path, value in (
        (("schema",), 2),
        (("exit_code",), 3),
        (("targets", 0, "findings", 0, "severity"), "fatal"),
        (("targets", 0, "findings", 0, "code"), "E1"),
        (("targets", 0, "nodes", 0, "macs"), -1),
        (("targets", 0, "coverage", "runs"), "maybe"),
    ):
        bad = json.loads(json.dumps(good))
        place = bad
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert not validator.is_valid(bad), path


def test_the_sarif_schema_refuses_what_is_not_sarif() -> None:
    schema = json.loads(SARIF_SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    for change in ({"version": "2.0.0"}, {"more": 1}, {"runs": [{}]}):
        assert not validator.is_valid({**as_sarif(small()), **change})


def test_every_key_of_a_report_is_in_the_schema() -> None:
    """Readers are promised every key, so one that is added to the data is added to the schema."""

    def closed(part: Any) -> Any:
        if isinstance(part, dict):
            part = {key: closed(value) for key, value in part.items()}
            if "properties" in part and "additionalProperties" not in part:
                part["additionalProperties"] = False
        elif isinstance(part, list):
            part = [closed(value) for value in part]
        return part

    schema = json_report.schema()
    # Two schemas for one object: each knows a part of its keys.
    del schema["$defs"]["target"]["properties"]["summary"]
    document = as_json(small())
    for target in document["targets"]:
        del target["summary"]
    schema["$defs"]["target"]["required"].remove("summary")
    jsonschema.Draft202012Validator(closed(schema)).validate(document)


def test_json_golden(golden: Callable[[str, str], None]) -> None:
    text = render("json", small(), exit_code=1)
    golden("report.json", text.replace(f'"{deploycc.__version__}"', '"VERSION"'))


def test_json_says_everything() -> None:
    document = as_json(small(), exit_code=1, fail_level="warning")
    assert (document["exit_code"], document["fail_level"]) == (1, "warning")
    assert document["summary"] == {"errors": 2, "warnings": 7, "infos": 1, "suppressed": 1}
    first, second = document["targets"]
    assert first["summary"]["verdicts"]["fallback"] == 6
    assert first["summary"]["verdicts"]["slow"] == 0, "suppressed findings are not counted"
    assert len(first["findings"]) == 11
    assert first["coverage"]["replace"][0] == {"op": "Softplus", "nodes": 6}
    assert second["coverage"]["seconds"] is None
    row = document["matrix"][0]
    assert row["op"] == "Softplus"
    assert row["targets"]["snpe:htp"] == {"nodes": 6, "taken": 0, "verdict": "fallback"}


def test_sarif_golden(golden: Callable[[str, str], None]) -> None:
    text = render("sarif", small(), exit_code=1)
    golden("report.sarif", text.replace(f'"{deploycc.__version__}"', '"VERSION"'))


def test_sarif_has_a_run_for_each_target() -> None:
    log = as_sarif(small(), exit_code=1)
    assert [run["automationDetails"]["id"] for run in log["runs"]] == [
        "deploycc-lint/snpe:htp/",
        "deploycc-lint/arm64/",
    ]
    (invocation,) = log["runs"][0]["invocations"]
    assert invocation == {"executionSuccessful": True, "exitCode": 1}
    assert not as_sarif(small(), exit_code=70)["runs"][0]["invocations"][0]["executionSuccessful"]
    (artifact,) = log["runs"][0]["artifacts"]
    assert artifact["location"]["uri"] == "models/net.onnx"
    assert artifact["hashes"] == {"sha-256": "5e" * 32}


def test_sarif_results() -> None:
    run = as_sarif(small())["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    results = run["results"]
    assert len(results) == 11
    for result in results:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert [r["level"] for r in results[:3]] == ["error", "error", "warning"]
    assert results[9]["level"] == "note"
    rank = results[0]
    assert rank["ruleId"] == "DC402/snpe-conv-rank"
    assert rank["partialFingerprints"]["deploycc/v1"] == RANK.fingerprint
    assert rank["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "stem/conv"
    assert rank["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/net.py"
    assert rank["relatedLocations"][0]["physicalLocation"]["region"]["startLine"] == 41
    assert "partialFingerprints" not in results[2], "one that has none gets none"
    assert results[2]["suppressions"][0]["justification"] == "the weights are shared with the phone"
    assert "suppressions" not in rank


def test_sarif_fingerprints_survive_a_renamed_node() -> None:
    result = small()

    def prints(diagnostics: tuple[Any, ...]) -> list[Any]:
        report = replace(result.reports[0], diagnostics=diagnostics)
        found = as_sarif(replace(result, reports=(report,)))["runs"][0]["results"]
        return [(r["ruleId"], r["partialFingerprints"]) for r in found]

    assert prints((RANK,)) == prints((replace(RANK, node="renamed"),))


def test_sarif_help_comes_from_whoever_knows_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    def rules(**options: Any) -> dict[str, Any]:
        found = as_sarif(small(), **options)["runs"][0]["tool"]["driver"]["rules"]
        return {rule["id"]: rule for rule in found}

    plain = rules()["DC402/snpe-conv-rank"]
    assert "deploycc explain DC402" in plain["help"]["text"]
    assert "helpUri" not in plain, "the pages are published nowhere that the metadata tells of"
    told = rules(rule_help=lambda name: f"all about {name}")
    assert told["DC402/snpe-conv-rank"]["help"]["markdown"] == "all about snpe-conv-rank"
    assert told["DC151"]["help"]["markdown"] == "all about DC151"
    monkeypatch.setattr(sarif, "documentation_url", lambda: "https://example.org/deploycc")
    assert rules()["DC402/snpe-conv-rank"]["helpUri"] == "https://example.org/deploycc/errors.md#dc402"


def test_sarif_paths_are_uris(tmp_path: Path) -> None:
    def uri(model: Path) -> dict[str, Any]:
        return as_sarif(replace(small(), model=model))["runs"][0]["artifacts"][0]["location"]

    assert uri(Path("my models/ü#1.onnx"))["uri"] == "my%20models/%C3%BC%231.onnx"
    assert uri(Path("a.onnx"))["uriBaseId"] == "%SRCROOT%"
    absolute = uri(tmp_path / "a b.onnx")
    assert absolute["uri"].startswith("file:///")
    assert "uriBaseId" not in absolute
