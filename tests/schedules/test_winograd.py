"""Winograd's convolutions: right at every edge, exact enough for any number of channels."""

from __future__ import annotations

import random

import numpy as np
import pytest

from deploycc.operators import Conv2d, Match, Skip
from deploycc.scheduling.library import load_schedules
from deploycc.scheduling.written.winograd import POINTS, estimated_error, operations, transform_of
from deploycc.tuning.workload import Workload
from deploycc.types import Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan
from tests.scheduling.graphs import SCHEDULES, SEED

ALL = load_schedules([SCHEDULES])
WINOGRAD = next(schedule for schedule in ALL if schedule.name == "conv_winograd")


def conv(channels: int, out: int, size: tuple[int, int], **changes: object) -> Conv2d:
    fields: dict[str, object] = {
        "batch": 1,
        "kernel": (3, 3),
        "strides": (1, 1),
        "pads": (1, 1, 1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "dtype": "float32",
        **changes,
    }
    return Conv2d(height=size[0], width=size[1], in_channels=channels, out_channels=out, **fields)  # type: ignore[arg-type]


def admitted(operator: Conv2d, target: Target, **fixed: int) -> list[dict[str, int]]:
    match = WINOGRAD.match(operator, target)
    assert isinstance(match, Match)
    return [
        dict(knobs)
        for knobs in WINOGRAD.space()
        if all(knobs[name] == value for name, value in fixed.items())
        and WINOGRAD.cost(match, knobs) is not None
    ]


def error_of(operator: Conv2d, knobs: dict[str, int], target: Target) -> float:
    workload = Workload(operator)
    expected = workload.expected()
    job = workload.job(WINOGRAD, knobs, target, ALL, expected)
    (result,) = run_plan(job.plan, [workload.arrays[0]], target)
    return float(np.abs(result.astype(np.float64) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("m", POINTS)
def test_one_dimension_is_a_correlation(m: int) -> None:
    transform = transform_of(m)
    generator = np.random.default_rng(SEED)
    data, kernel = generator.standard_normal(m + 2), generator.standard_normal(3)
    got = transform.result @ ((transform.kernel @ kernel) * (transform.data @ data))
    np.testing.assert_allclose(got, [data[i : i + 3] @ kernel for i in range(m)], atol=1e-12)


@pytest.mark.parametrize("m", POINTS)
def test_the_kernel_can_be_read_back(m: int) -> None:
    transform = transform_of(m)
    kernel = np.random.default_rng(SEED).standard_normal(3)
    transformed = transform.kernel @ kernel
    for tap in range(3):
        terms = transform.kernel_terms(tap)
        assert sum(transformed[row] * factor for row, factor in terms) == pytest.approx(kernel[tap])


@pytest.mark.parametrize("m", POINTS)
def test_matrices_have_no_rounded_entries(m: int) -> None:
    transform = transform_of(m)
    for matrix in (transform.data, transform.result):
        np.testing.assert_array_equal(matrix.astype(np.float32), matrix)


def test_pairs_of_points_share_their_sums() -> None:
    assert operations(transform_of(6).data) < np.count_nonzero(transform_of(6).data) - 8


@pytest.mark.parametrize("channels", [16, 128, 1024])
@pytest.mark.parametrize("down", POINTS)
@pytest.mark.parametrize("along", POINTS)
def test_error_stays_below_its_estimate(down: int, along: int, channels: int) -> None:
    """In float32 throughout, as the kernel computes; the reference is float64."""
    generator = np.random.default_rng([SEED, channels, down, along])
    rows, columns = transform_of(down), transform_of(along)
    tiles, outputs = 30, 12
    data = generator.standard_normal((tiles, channels, down + 2, along + 2)).astype(np.float32)
    weight = generator.standard_normal((3, 3, channels, outputs)).astype(np.float32)
    packed = columns.pack(rows.pack(weight.astype(np.float64), 0), 1).astype(np.float32)
    small = [m.astype(np.float32) for m in (rows.data, columns.data, rows.result, columns.result)]
    transformed = np.matmul(np.matmul(small[0], data), small[1].T)
    products = np.zeros((down + 2, along + 2, tiles, outputs), np.float32)
    for c in range(channels):
        products += transformed[:, c].transpose(1, 2, 0)[..., None] * packed[:, :, c][:, :, None]
    got = np.matmul(np.matmul(small[2], products.transpose(2, 3, 0, 1)), small[3].T)
    want = np.zeros((tiles, outputs, down, along))
    for kh in range(3):
        for kw in range(3):
            window = data[:, :, kh : kh + down, kw : kw + along].astype(np.float64)
            want += np.einsum("tcyx,ck->tkyx", window, weight[kh, kw].astype(np.float64), optimize=True)
    error = np.abs(got - want).max() / np.abs(want).max()
    # The estimate is of a draw like most; one in some hundreds is a little off.
    limit = 1.5 * estimated_error(rows, columns, channels)
    assert error <= limit, f"{error:.2e} (DEPLOYCC_TEST_SEED={SEED})"


def test_too_inexact_transforms_are_refused() -> None:
    assert admitted(conv(512, 16, (24, 24)), X86_64, tile_rows=6, tile_columns=6)
    assert not admitted(conv(2048, 16, (24, 24)), X86_64, tile_rows=6, tile_columns=6)
    assert admitted(conv(2048, 16, (24, 24)), X86_64, tile_rows=4, tile_columns=4)


SHAPES = [
    conv(4, 4, (2, 2)),
    conv(4, 5, (3, 2), pads=(1, 1, 0, 1)),
    conv(5, 16, (7, 7), batch=2),
    conv(16, 17, (13, 6), pads=(0, 0, 0, 0)),
    conv(17, 23, (9, 31), pads=(2, 0, 1, 2)),
    conv(23, 37, (19, 43), pads=(0, 2, 2, 1), batch=2),
    conv(48, 48, (11, 13), groups=2),
    conv(21, 39, (8, 67), groups=3, pads=(2, 2, 2, 2)),
    conv(32, 7, (5, 131), pads=(1, 0, 0, 1)),
    conv(8, 64, (67, 5)),
    conv(96, 33, (6, 6), pads=(3, 4, 5, 3)),
]
"""Tile edges, primes, few pixels, groups, pads of every kind."""


@pytest.mark.parametrize("operator", SHAPES, ids=lambda c: f"{c.in_channels}-{c.out_channels}")
@pytest.mark.parametrize("target", [X86_64, X86_64_V4, ARM64], ids=lambda target: target.name)
def test_matches_the_definition(operator: Conv2d, target: Target) -> None:
    if not host_can_run(target) or (target.emulator and find_emulator(target) is None):
        pytest.skip(f"{target.name} cannot run here")
    draw = random.Random(f"{SEED} {operator} {target.name}")
    layouts = ["NHWC", "NCHW"]
    for m in POINTS if target is X86_64 else [draw.choice(list(POINTS))]:
        changed = conv(
            operator.in_channels,
            operator.out_channels,
            (operator.height, operator.width),
            pads=operator.pads,
            batch=operator.batch,
            groups=operator.groups,
            data_layout=draw.choice(layouts),
            out_layout=draw.choice(layouts),
        )
        choices = admitted(changed, target, tile_rows=m)
        knobs = draw.choice(choices)
        error = error_of(changed, knobs, target)
        told = f"{knobs} for {changed} on {target.name} (DEPLOYCC_TEST_SEED={SEED})"
        transforms = transform_of(knobs["tile_rows"]), transform_of(knobs["tile_columns"])
        # Among a few dozen results there may be none as large as the estimate goes by.
        limit = 1.5 * estimated_error(*transforms, changed.in_channels // changed.groups)
        assert error <= limit, f"{told}: off by {error:.2e}, at most {limit:.2e}"


@pytest.mark.parametrize(
    "operator",
    [
        conv(16, 16, (9, 9), kernel=(5, 5)),
        conv(16, 16, (9, 9), strides=(2, 1)),
        conv(16, 16, (9, 9), dilation=(1, 2)),
        conv(16, 16, (9, 9), dtype="float16"),
        conv(16, 16, (9, 9), groups=16),
        conv(16, 3, (9, 9)),
    ],
    ids=["kernel", "stride", "dilation", "float16", "depthwise", "few channels"],
)
def test_leaves_the_rest_alone(operator: Conv2d) -> None:
    assert isinstance(WINOGRAD.match(operator, X86_64), Skip)


def test_one_set_of_knobs_for_one_kernel() -> None:
    """Strips that come out the same are one candidate of the search."""
    operator = conv(32, 32, (12, 12))
    strips = {k["strip"] for k in admitted(operator, X86_64, tile_rows=6, tile_columns=6)}
    assert strips == {8}
