"""What ``make records`` writes: the best record of each operator, beside those of other machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.leave_one_out import any_layout
from benchmarks.records import write
from deploycc.operators import Conv2d
from deploycc.records import Record, append, cache_key, code_key, read
from deploycc.targets import load_target
from tests.tuning.schedules_for_tests import PRODUCT, record

TARGET = load_target("x86-64")
WIDER = "48/2048"
CONV = Conv2d(1, 9, 11, 16, 8, (3, 3), (1, 2), (1, 0, 1, 0), (1, 1), 1, "float32", "NHWC", "NCHW")


def of_gemm(value: float, cache: str, tile: int) -> Record:
    made = record(value, operator=PRODUCT, code=code_key(TARGET), cache=cache, schedule="gemm")
    return replace(made, knobs={"tile": tile, "vectors": 1, "lanes": 8, "steps": 1})


def test_records_of_this_cache_size_are_replaced_and_others_stay(tmp_path: Path) -> None:
    database, output = tmp_path / "measured.jsonl", tmp_path / "shipped.jsonl"
    append(output, [of_gemm(5e-7, cache_key(TARGET), 1), of_gemm(4e-7, WIDER, 2)])
    append(database, [of_gemm(3e-7, cache_key(TARGET), 2), of_gemm(2e-7, cache_key(TARGET), 4)])
    assert write(TARGET, database, output) == 1
    found = {(one.cache, one.knobs["tile"], one.value) for one in read(output)[0]}
    assert found == {(cache_key(TARGET), 4, 2e-7), (WIDER, 2, 4e-7)}


def test_nothing_measured_leaves_the_file(tmp_path: Path) -> None:
    output = tmp_path / "shipped.jsonl"
    append(output, [of_gemm(4e-7, WIDER, 2)])
    before = output.read_bytes()
    assert write(TARGET, tmp_path / "none.jsonl", output) == 0
    assert output.read_bytes() == before


def test_left_out_is_an_operator_in_every_layout() -> None:
    assert any_layout(CONV) == any_layout(replace(CONV, data_layout="NCHW", out_layout="NHWC"))
    assert any_layout(CONV) != any_layout(replace(CONV, strides=(1, 1)))
    assert any_layout(PRODUCT) == PRODUCT
