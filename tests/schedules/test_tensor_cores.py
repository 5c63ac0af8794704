"""Products on tensor cores compute what they are defined to, whatever the shape and the knobs."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from deploycc.operators import Conv2d, Match, MatMul, Operator, Skip
from deploycc.scheduling.library import Schedule
from deploycc.scheduling.written.tensor_tiles import KNOBS, Tile, packed, rounded_to_tf32
from deploycc.types import Gpu, Precision
from tests.planning.cuda.chips import SM_75, SM_87, SM_90
from tests.schedules.tensor_products import TENSOR_CORES, Candidate, run, target
from tests.scheduling.graphs import SEED

CONV, GEMM = TENSOR_CORES["conv_tensor_cores"], TENSOR_CORES["gemm_tensor_cores"]
CHANNELS = (1, 3, 4, 6, 8, 16, 17, 20, 24, 31, 32, 48, 64, 72)
SPILLED = 16
"""Bytes of local memory that a kernel may have: NVRTC 12.4 puts two registers there where it stays at 128."""


def of(operator: Operator) -> Schedule:
    return CONV if isinstance(operator, Conv2d) else GEMM


def candidate(
    operator: Operator, chip: Gpu, precision: Precision, stored: bool = True, **knobs: int
) -> Candidate:
    """With the picked knobs, or those given over them."""
    schedule, machine = of(operator), target(chip, precision)
    match = schedule.answer(operator, machine)
    assert isinstance(match, Match), match
    best = schedule.best(match)
    assert best is not None
    return Candidate(operator, schedule, {**best[1], **knobs}, machine, stored)


def conv(height: int, width: int, inside: int, outside: int, kernel: int, **more: object) -> Conv2d:
    pad = kernel // 2
    made = Conv2d(
        1, height, width, inside, outside, (kernel, kernel), (1, 1), (pad,) * 4, (1, 1), 1, "float32"
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_odd_shapes_and_knobs() -> None:
    """Channels that end in the middle of a piece, a float32 image, slices, parts, groups, odd columns."""
    planar = {"data_layout": "NCHW", "out_layout": "NCHW", "batch": 2}
    candidates = [
        candidate(conv(6, 7, 24, 17, 3, strides=(2, 1)), SM_87, "fp16", rows=32, warps=2, slices=2, parts=2),
        candidate(conv(9, 8, 3, 16, 7, strides=(2, 2)), SM_87, "fp16", stored=False, rows=16, columns=32),
        candidate(conv(5, 5, 40, 40, 3, groups=2, batch=2), SM_87, "fp16", rows=32, columns=32, warps=2),
        candidate(MatMul((3, 7), 50, 1, "float32"), SM_87, "fp16", rows=16, columns=32),
        candidate(MatMul((20,), 36, 18, "float16"), SM_87, "fp16", rows=32, columns=32, warps=1),
        candidate(conv(7, 6, 3, 10, 3, **planar), SM_87, "fp16", stored=False, rows=32, columns=32, parts=1),
    ]
    problems, facts = run(candidates, SM_87)
    assert not problems, "\n".join(problems)
    assert all(fact.local_bytes <= SPILLED for fact in facts), facts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chip", "precision"),
    [(SM_75, "fp16"), (SM_87, "fp16"), (SM_87, "bf16"), (SM_90, "bf16"), (SM_90, "tf32")],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_drawn_operators(chip: Gpu, precision: Precision) -> None:
    draw = random.Random(f"{SEED} {chip.name} {precision}")
    drawn: list[Candidate] = []
    while len(drawn) < 14:
        operator = drawn_operator(draw)
        schedule, machine = of(operator), target(chip, precision)
        match = schedule.answer(operator, machine)
        if isinstance(match, Skip):
            continue
        admitted = [dict(knobs) for knobs in schedule.space() if schedule.cost(match, knobs) is not None]
        knobs = draw.choice(admitted)
        drawn.append(Candidate(operator, schedule, knobs, machine, draw.random() < 0.7))
    problems, _ = run(drawn, chip, seed=draw.randrange(1, 1000))
    assert not problems, f"DEPLOYCC_TEST_SEED={SEED}\n" + "\n".join(problems)


def drawn_operator(draw: random.Random) -> Operator:
    if draw.random() < 0.25:
        leading = tuple(draw.choice((1, 2, 5, 17, 33)) for _ in range(draw.randint(1, 3)))
        return MatMul(leading, draw.choice((1, 8, 40, 129, 256)), draw.choice((1, 2, 8, 33, 64)), "float32")
    groups = draw.choice((1, 1, 1, 2, 3))
    inside, outside = draw.choice(CHANNELS), draw.choice(CHANNELS)
    if groups > 1:
        inside, outside = 16 + inside // 8, 16 + outside // 8
    kernel = draw.choice(((1, 1), (1, 1), (3, 3), (5, 3), (1, 7), (2, 2)))
    size = (draw.choice((1, 2, 7, 13)), draw.choice((1, 3, 8, 15)))
    # Of a dilated kernel no tap may meet a small image, which leaves no product.
    dilation = (draw.choice((1, 2)) if size[0] > 2 else 1, draw.choice((1, 3)) if size[1] > 3 else 1)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    before = [draw.randint(0, r // 2) for r in reach]
    after = [max(draw.randint(0, r // 2), r - e - b) for r, e, b in zip(reach, size, before, strict=True)]
    return Conv2d(
        draw.choice((1, 1, 2, 3)), *size, inside * groups, outside * groups, kernel,
        (draw.choice((1, 1, 2)), draw.choice((1, 1, 3))), (before[0], before[1], after[0], after[1]),
        dilation, groups, "float32", *(draw.choice(("NHWC", "NHWC", "NCHW")) for _ in range(2)),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("chip", [SM_75, SM_87, SM_90], ids=lambda chip: chip.name)
def test_what_is_picked_fits_the_chip(chip: Gpu) -> None:
    """The layers of a ResNet-50 at batch 1 and 8: registers suffice, and shared memory."""
    from deploycc.planning.cuda.kernels import compile_device_kernels

    layers = [conv(224, 224, 3, 64, 7, strides=(2, 2))]
    for size, inside, outside, kernel in (
        (56, 64, 64, 3), (56, 64, 256, 1), (28, 128, 128, 3), (14, 1024, 256, 1), (7, 512, 512, 3)
    ):  # fmt: skip
        layers += [conv(size, size, inside, outside, kernel, batch=batch) for batch in (1, 8)]
    made = [candidate(layer, chip, "fp16").compiled()[0] for layer in layers]
    compiled = compile_device_kernels([(f"k{n}", one) for n, one in enumerate(made)], chip, "t")
    assert all(fact.local_bytes <= SPILLED for fact in compiled.facts), compiled.facts
    for launches in compiled.launches.values():
        assert all(launch.shared_bytes <= chip.shared_bytes_per_block for launch in launches)


@pytest.mark.parametrize(
    ("operator", "chip", "precision", "reason"),
    [
        (conv(8, 8, 16, 16, 3), SM_90, "fp32", "without tensor cores"),
        (conv(8, 8, 16, 16, 3), SM_75, "bf16", "no tensor cores for bf16"),
        (conv(8, 8, 16, 16, 3), SM_75, "tf32", "no tensor cores for tf32"),
        (conv(8, 8, 32, 32, 3, groups=4), SM_90, "fp16", "fewer than 16"),
        (MatMul((8,), 16, 16, "float32"), SM_90, "fp32", "without tensor cores"),
        (MatMul((8,), 16, 16, "float16"), SM_90, "bf16", "float16 factors"),
    ],
)
def test_what_is_left_to_others(operator: Operator, chip: Gpu, precision: Precision, reason: str) -> None:
    answer = of(operator).answer(operator, target(chip, precision))
    assert isinstance(answer, Skip)
    assert reason in answer.reason


def picked(operator: Operator, chip: Gpu) -> dict[str, int]:
    return dict(candidate(operator, chip, "fp16").knobs)


def test_small_images_fill_the_chip() -> None:
    """One image of 7 x 7 pixels has four blocks of the largest tile; a large chip gets many more."""
    layer = conv(7, 7, 512, 512, 3)
    for chip in (SM_75, SM_90):
        knobs = picked(layer, chip)
        blocks = -(-49 // knobs["rows"]) * -(-512 // knobs["columns"]) * knobs["parts"]
        assert blocks >= chip.processors / 2, knobs
    assert picked(replace(layer, batch=64), SM_90)["parts"] == 1


def test_every_tile_is_whole_fragments() -> None:
    tiles = [
        Tile.of({**dict.fromkeys(KNOBS, 2), "rows": rows, "columns": columns, "warps": warps, "pieces": 4})
        for rows in KNOBS["rows"]
        for columns in KNOBS["columns"]
        for warps in KNOBS["warps"]
    ]
    for tile in tiles:
        if tile is not None:
            assert 16 * tile.tall * tile.down == tile.rows
            assert 8 * tile.wide * tile.across == tile.columns


def test_rounding_to_tf32() -> None:
    values = np.random.default_rng(SEED).standard_normal(1000).astype(np.float32)
    made = rounded_to_tf32(values)
    assert np.all(made.view(np.uint32) & 0x1FFF == 0)
    assert np.all(np.abs(made - values) <= np.abs(values) * 2.0**-11)
    special = np.array([np.inf, -np.inf, np.nan, 0.0], np.float32)
    np.testing.assert_array_equal(rounded_to_tf32(special), special)


def test_packed_weights_end_with_zeros() -> None:
    weights = np.random.default_rng(SEED).standard_normal((2, 11, 5)).astype(np.float32)
    made = packed(weights, "fp16")
    assert made.shape == (10, 16)
    np.testing.assert_array_equal(made[:, 11:], 0)
    np.testing.assert_array_equal(made[7, :11], weights[1, :, 2])
