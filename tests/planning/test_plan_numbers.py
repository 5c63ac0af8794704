"""What a plan computes against ONNX Runtime, on this processor and on emulated ones."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.planning import plan
from deploycc.types import Target
from tests.planning.graphs import GRAPHS, Array, lower_plainly, random_inputs, reference
from tests.planning.harness import (
    ARM64,
    ARMV7,
    RISCV64,
    X86_64,
    X86_64_V4,
    find_emulator,
    host_can_run,
    run_plan,
)

# TVM adds the products of a float16 matrix multiplication up in float16, ONNX Runtime in float32:
# over 64 terms that is 1.1e-3 of the largest result (see test_half_precision_is_what_was_asked_for).
TOLERANCE = {np.dtype(np.float16): 2e-3, np.dtype(np.float32): 2e-6}


def compare(got: list[Array], expected: list[Array]) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if ours.dtype.kind != "f":
            np.testing.assert_array_equal(ours, theirs)
            continue
        scale = np.abs(theirs.astype(np.float64)).max(initial=1e-6)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[ours.dtype] * scale)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("target", [X86_64, X86_64_V4], ids=lambda t: t.name)
def test_matches_onnx_runtime(name: str, target: Target) -> None:
    if not host_can_run(target):
        pytest.skip("this processor has no AVX-512")
    proto = GRAPHS[name]()
    inputs = random_inputs(proto)
    compare(run_plan(plan(lower_plainly(proto), target), inputs, target), reference(proto, inputs))


SLOW_COLD = [pytest.param(target, marks=pytest.mark.slow) for target in (ARMV7, RISCV64)]
"""The first program for each makes zig compile a C library, which takes a minute of processor time."""


@pytest.mark.parametrize(
    "name", ["aliased_outputs", "half_precision", "integers", "residual", "transcendental"]
)
@pytest.mark.parametrize("target", [ARM64, *SLOW_COLD], ids=lambda t: t.name)
def test_matches_onnx_runtime_emulated(name: str, target: Target) -> None:
    if find_emulator(target) is None:
        pytest.skip(f"{target.emulator[0]} is not installed")
    proto = GRAPHS[name]()
    inputs = random_inputs(proto)
    compare(run_plan(plan(lower_plainly(proto), target), inputs, target), reference(proto, inputs))
