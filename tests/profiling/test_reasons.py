"""Why a layer takes its time: every reason, from facts that lead to it."""

from __future__ import annotations

from typing import Any

import pytest

from deploycc.profiling import bandwidth, layers_of, why
from deploycc.profiling.ceilings import least_us
from deploycc.result_types import Ceilings
from tests.profiling.profiles import CEILINGS, CONV, layer

MATMUL = "MatMul(leading=({0},), inner=512, columns=512, dtype='float32')"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": "memcpy", "operators": (), "nbytes": 500_000}, "copies: 5.0 GB/s"),
        ({"operators": ("transpose", "reshape")}, "copies: 1.0 GB/s"),
        ({"schedule": "none"}, "plain loops: no schedule takes it"),
        ({"time_us": 0.4}, "over within a microsecond"),
        ({"flops": 10, "nbytes": 1_800_000}, "bound by memory: 18.0 GB/s of 80"),
        (
            {"flops": 10, "nbytes": 800_000, "roofline": 0.1},
            "little arithmetic for what it moves: 8.0 GB/s of 80",
        ),
        ({"flops": 0, "roofline": 0.1}, "work that is not counted; 1.0 GB/s"),
        ({}, "bound by arithmetic: 90% of the peak"),
        (
            {"roofline": 2.9, "schedule": "conv_winograd"},
            "fewer multiply-adds than counted: 290% of the peak",
        ),
        ({"roofline": 0.3}, "30% of the peak"),
        (
            {"roofline": 0.3, "operator": CONV.format(32, 16, 16, 16)},
            "30% of the peak: depthwise: 9 multiply-adds an element",
        ),
        ({"roofline": 0.3, "operator": CONV.format(32, 16, 1, 1)}, "30% of the peak: 1 output channel"),
        (
            {"roofline": 0.3, "operator": CONV.format(32, 16, 16, 4)},
            "30% of the peak: 4 output channels a group",
        ),
        ({"roofline": 0.3, "operator": CONV.format(32, 3, 16, 1)}, "30% of the peak: 3 input channels"),
        (
            {"roofline": 0.3, "operator": CONV.format(7, 16, 16, 1)},
            "30% of the peak: 7x7 pixels: weights are read for few multiply-adds",
        ),
        (
            {"roofline": 0.3, "operator": MATMUL.format(1), "flops": 2 * 512 * 512, "nbytes": 100},
            "30% of the peak: one row: every weight is read for one multiply-add",
        ),
        (
            {"roofline": 0.3, "operator": "", "operators": ("sigmoid",)},
            "30% of the peak: a function counts as one operation",
        ),
    ],
)
def test_each_reason_has_its_facts(changes: dict[str, Any], reason: str) -> None:
    assert why(layer(**changes), CEILINGS) == reason


def test_without_ceilings_there_is_what_shows_without_them() -> None:
    assert why(layer(roofline=None), None) == ""
    assert why(layer(roofline=None, operator=CONV.format(32, 16, 2, 1)), None) == "2 output channels"
    assert why(layer(schedule="none", roofline=None), None) == "plain loops: no schedule takes it"


def test_bandwidth_is_that_of_a_buffer_no_larger() -> None:
    assert [bandwidth(CEILINGS, n) for n in (0, 1 << 14, (1 << 18) - 1, 1 << 18, 1 << 30)] == [
        *(200.0, 200.0, 200.0),
        *(80.0, 20.0),
    ]
    assert bandwidth(Ceilings(1.0, 7.0, "told"), 123) == 7.0
    # A level that was disturbed is no lower than one further away.
    assert bandwidth(Ceilings(1.0, 7.0, "", ((1, 5.0), (10, 9.0))), 1) == 9.0


def test_least_time_is_the_larger_of_arithmetic_and_memory() -> None:
    assert least_us(1_000_000, 1, CEILINGS) == pytest.approx(10.0)  # 1e6 / 100e9 s
    assert least_us(1, 1 << 24, CEILINGS) == pytest.approx((1 << 24) / 20e3)


def test_layers_have_medians_quartiles_and_shares(rows: Any, calls: Any) -> None:
    first, second, copy = layers_of(calls, rows, CEILINGS)
    assert (first.time_us, first.low_us, first.high_us) == (3.0, 2.0, 4.0)
    assert (second.time_us, copy.time_us) == (6.0, 1.0)
    assert [first.share, second.share, copy.share] == [0.3, 0.6, 0.1]
    assert (first.layout, second.layout, copy.layout) == ("NCHW>NHWC", "NHWC", "")
    assert first.operator == CONV.format(32, 16, 16, 1)
    assert (first.flops, first.nbytes) == (120_000, 3000)
    assert first.roofline == pytest.approx(1.2 / 3.0)  # 120 kFLOP at 100 GFLOP/s take 1.2 us
    assert copy.roofline == pytest.approx(4000 / 200e3 / 1.0)
    assert second.roofline is None  # neither operations nor bytes
    assert all(one.roofline is None for one in layers_of(calls, rows, None))


@pytest.fixture
def rows() -> Any:
    import numpy as np

    return np.array([[1, 5, 1], [2, 6, 1], [3, 6, 1], [4, 6, 1], [5, 9, 9]]) * 1e3


@pytest.fixture
def calls() -> Any:
    plain = {
        "nodes": [],
        "operators": [],
        "schedule": "",
        "knobs": {},
        "symbol": "k",
        "reads": [],
        "writes": [],
    }
    buffer = {"kind": "arena", "offset": 0, "bytes": 1000}
    conv = {"operator": CONV.format(32, 16, 16, 1), "flops": 120_000}
    return [
        {
            **plain,
            **conv,
            "layouts": ["NCHW", "NHWC"],
            "reads": [buffer],
            "writes": [{**buffer, "bytes": 2000}],
        },
        {**plain, "layouts": ["NHWC", "NHWC"]},
        {
            **plain,
            "symbol": "memcpy",
            "reads": [{**buffer, "bytes": 2000}],
            "writes": [{**buffer, "bytes": 2000}],
        },
    ]
