"""What a layout costs on a GPU: bytes and launches, by the chip's data sheet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deploycc.layout.costs import apart_cycles, transpose_cycles
from deploycc.layout.gpu_costs import operator_cycles
from deploycc.relax_graph import constant
from deploycc.tvm_api import relax
from tests.planning.harness import X86_64
from tests.schedules.device_operators import CHIPS, TARGETS


def test_a_transpose_costs_a_launch_and_its_bytes() -> None:
    chip = CHIPS["sm_90"]
    small, large = (transpose_cycles([1, 64, n, n], TARGETS["sm_90"]) for n in (2, 512))
    assert 2e-6 < small / chip.clock_hz < 5e-6
    assert large / chip.clock_hz > 2 * 4 * 64 * 512 * 512 / chip.bytes_per_second
    assert transpose_cycles([1, 1, 64, 64], TARGETS["sm_90"]) == 0.0
    assert transpose_cycles([1, 64, 1, 1], TARGETS["sm_90"]) == 0.0


def test_a_slower_memory_makes_it_dearer() -> None:
    chip = CHIPS["sm_90"]
    slower = replace(X86_64, gpus=(replace(chip, bytes_per_second=chip.bytes_per_second / 10),))
    shape = [1, 64, 256, 256]
    assert transpose_cycles(shape, slower) > 4 * transpose_cycles(shape, TARGETS["sm_90"])
    assert apart_cycles(shape, slower) > 4 * apart_cycles(shape, TARGETS["sm_90"])


def test_what_lies_in_one_piece_is_not_moved() -> None:
    """Channels joined in NCHW are one behind the other; in NHWC they are between one another."""
    parts = [constant(np.zeros((1, 8, 6, 6), np.float32))] * 2
    builder = relax.BlockBuilder()
    joined = builder.normalize(relax.op.concat(parts, axis=1))
    first, last = operator_cycles(joined, CHIPS["sm_90"])
    assert first == 0.0 < last
    pooled = builder.normalize(relax.op.nn.max_pool2d(parts[0], (2, 2), (2, 2)))
    assert operator_cycles(pooled, CHIPS["sm_90"]) == (0.0, 0.0)
