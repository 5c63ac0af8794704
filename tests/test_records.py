"""The database of tuning records: files, locks, versions, and which record is the best."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.build import resolve_request
from deploycc.operators import Conv2d, MatMul
from deploycc.records import (
    Records,
    append,
    cache_key,
    candidate_key,
    code_key,
    databases,
    default_database,
    merge,
    operator_of,
    read,
    shipped,
)
from deploycc.tvm_api import VERSION
from deploycc.types import Cache, DeployccError
from tests.planning.harness import ARM64, X86_64, X86_64_V4
from tests.tuning.schedules_for_tests import PRODUCT, record

CONV = Conv2d(1, 9, 11, 16, 8, (3, 3), (1, 2), (1, 0, 1, 0), (1, 1), 1, "float32", "NCHW", "NHWC")


def records(*layers: list, target=X86_64, versions=None, tvm: str = VERSION) -> Records:  # type: ignore[type-arg, no-untyped-def]
    return Records(layers, target, versions or {"fake": 1}, tvm)


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "records.jsonl"
    bad = record(math.inf, status="crash")
    append(path, [record(), bad])
    append(path, [record(2e-6)])
    found, damaged = read(path)
    assert damaged == 0
    assert [one.value for one in found] == [1e-6, math.inf, 2e-6]
    assert found[0] == record()
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_what_comes_with_deploycc_counts_under_the_users_own(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.touch()
    request = resolve_request("model.onnx", X86_64, records=[own])
    assert databases(request) == (*shipped(), own)
    assert databases(replace(request, shipped_records=False)) == (own,)
    assert shipped()


def test_a_missing_database_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == ([], 0)


@pytest.mark.parametrize("operator", [CONV, PRODUCT, MatMul((), 3, 4, "float16")])
def test_operators_are_read_from_their_text(operator: Conv2d | MatMul) -> None:
    assert operator_of(repr(operator)) == operator


def test_fields_that_came_later_have_their_defaults() -> None:
    text = repr(replace(CONV, data_layout="NHWC")).replace(", data_layout='NHWC', out_layout='NHWC'", "")
    assert operator_of(text) == replace(CONV, data_layout="NHWC")


@pytest.mark.parametrize("text", ["", "Conv2d(", "Conv2d(1, 2)", "exit(code=1)", "MatMul(rows=1)", "1 + 1"])
def test_other_text_is_no_operator(text: str) -> None:
    with pytest.raises(ValueError, match="no operator"):
        operator_of(text)


def test_a_torn_last_line_is_passed_over_and_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    append(path, [record(), record(2e-6)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert [one.value for one in read(path)[0]] == [1e-6]
    append(path, [record(3e-6)])
    found, damaged = read(path)
    assert [one.value for one in found] == [1e-6, 3e-6]
    assert damaged == 1


@pytest.mark.parametrize(
    "change",
    [{"value": None}, {"value": -1.0}, {"knobs": {"way": 1.5}}, {"level": "2"}, {"extra": 1}, {"runs": None}],
)
def test_a_line_of_the_wrong_form_is_passed_over(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "db"
    append(path, [record()])
    table = {**json.loads(path.read_text()), **change}
    path.write_text(path.read_text() + json.dumps(table) + "\n")
    assert read(path) == ([record()], 1)


def test_dc602_another_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x09 not records\n")
    with pytest.raises(DeployccError, match=r"DC602: .* is no tuning database"):
        read(path)


def test_dc601_a_folder_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(DeployccError, match=r"DC601: .* cannot be read"):
        read(tmp_path)
    with pytest.raises(DeployccError, match=r"DC601: .* cannot be written"):
        append(tmp_path, [record()])


def test_two_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "db"
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from deploycc.records import append\n"
        "from tests.tuning.schedules_for_tests import record\n"
        "for n in range(150): append(Path(sys.argv[2]), [record(float(sys.argv[3]) + n)] * 3)\n"
    )
    root = str(Path(__file__).resolve().parents[1])
    children = [
        subprocess.Popen([sys.executable, "-c", script, root, str(path), start]) for start in ("1", "1000")
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    found, damaged = read(path)
    assert damaged == 0
    values = sorted(one.value for one in found)
    assert values == sorted([1.0 + n for n in range(150)] * 3 + [1000.0 + n for n in range(150)] * 3)
    # What one call appended stands together.
    order = [one.value for one in found]
    assert all(order[i] == order[i + 1] == order[i + 2] for i in range(0, len(order), 3))


def test_merging_brings_in_what_is_missing_once(tmp_path: Path) -> None:
    one, two, into = tmp_path / "1", tmp_path / "2", tmp_path / "into"
    append(one, [record(1e-6), record(2e-6)])
    append(two, [record(2e-6), record(3e-6)])
    append(into, [record(3e-6)])
    assert merge(into, [one, two]) == 2
    assert [r.value for r in read(into)[0]] == [3e-6, 1e-6, 2e-6]
    assert merge(into, [one, two]) == 0


def test_dc601_merging_names_every_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DeployccError) as error:
        merge(tmp_path / "into", [tmp_path / "a", tmp_path / "b"])
    assert [d.code for d in error.value.diagnostics] == ["DC601", "DC601"]
    assert not (tmp_path / "into").exists()


def test_records_of_other_versions_do_not_count_and_are_told() -> None:
    found = records(
        [record(5e-6), record(1e-6, version=2), record(1e-6, tvm="0.1"), record(1e-6, schedule="gone")]
    )
    assert [one.value for one in found.ranked(PRODUCT)] == [5e-6]
    assert found.outdated == 2
    assert len(found) == 1


def test_records_of_other_code_do_not_count() -> None:
    layer = [record()]
    assert len(records(layer)) == 1
    assert len(records(layer, target=X86_64_V4)) == 0
    assert len({code_key(target) for target in (X86_64, X86_64_V4, ARM64)}) == 3


def test_the_nearest_caches_stand_in() -> None:
    layer = [record(1e-6, cache="32/256"), record(2e-6, cache="32/1024"), record(3e-6, cache="8/16384")]
    target = replace(X86_64, cache=Cache(48 << 10, 2048 << 10, 64))
    assert cache_key(target) == "48/2048"
    assert [one.value for one in records(layer, target=target).ranked(PRODUCT)] == [2e-6]
    own = record(9e-6, cache="48/2048")
    assert [one.value for one in records([*layer, own], target=target).ranked(PRODUCT)] == [9e-6]


def test_the_highest_level_decides_and_the_latest_of_each_candidate() -> None:
    found = records(
        [
            record(1e-6, way=1, level=0),
            record(5e-6, way=2, level=2),
            record(4e-6, way=3, level=2),
            record(7e-6, way=3, level=2),
        ]
    )
    assert [(one.knobs["way"], one.value) for one in found.ranked(PRODUCT)] == [(2, 5e-6), (3, 7e-6)]


def test_a_later_database_is_over_an_earlier_one() -> None:
    shipped, own = [record(1e-6, way=1, level=2)], [record(9e-6, way=2, level=0)]
    assert [one.knobs["way"] for one in records(shipped, own).ranked(PRODUCT)] == [2]
    failed = [record(math.inf, way=2, status="wrong")]
    assert [one.knobs["way"] for one in records(shipped, failed).ranked(PRODUCT)] == [1]


def test_seconds_are_preferred_to_instructions() -> None:
    found = records([record(100.0, way=1, unit="instructions"), record(9e-6, way=2)])
    assert [one.knobs["way"] for one in found.ranked(PRODUCT)] == [2]


def test_candidates_are_named_by_their_knobs_in_order() -> None:
    assert candidate_key("s", {"b": 1, "a": 2}) == candidate_key("s", {"a": 2, "b": 1}) == "s a=2 b=1"


def test_the_default_database_is_in_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEPLOYCC_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_database("rpi4") == Path("/x/deploycc/tuning/rpi4.jsonl")
