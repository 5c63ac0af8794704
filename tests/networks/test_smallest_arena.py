"""Public networks with the smallest arena: the same bits as without, in less memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.building import build
from benchmarks.networks import networks
from deploycc.memory_use import memory_use
from deploycc.running import Orders, open_package, place_of, run

QUICK = ("mtcnn_rnet",)
TARGET = "x86-64"


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in networks()]
)
def test_the_same_bits(name: str, built: Callable[..., Path], tmp_path: Path) -> None:
    fast = open_package(built(name, TARGET, "shared"))
    smallest = open_package(build(name, TARGET, tmp_path / "smallest", ["--arena", "smallest"]).package)
    generator = np.random.default_rng()
    inputs = []
    for tensor, golden in zip(fast.manifest["inputs"], fast.golden("inputs"), strict=True):
        floating = np.dtype(tensor["dtype"]).kind == "f"
        drawn = generator.standard_normal(tensor["shape"]).astype(tensor["dtype"]) if floating else golden
        inputs.append(drawn)
    for threads in (1, 2):
        orders = Orders(runs=2, threads=threads)
        outputs = [run(p, place_of(None, p.manifest), inputs, orders).outputs for p in (fast, smallest)]
        for one, other in zip(*outputs, strict=True):
            assert one.tobytes() == other.tobytes()
    before, after = memory_use(fast.manifest), memory_use(smallest.manifest)
    assert after.arena_bytes <= before.arena_bytes
    assert smallest.manifest["memory"]["fast_arena_bytes"] == before.arena_bytes
    for package, use in ((fast, before), (smallest, after)):
        library = ctypes.CDLL(str(package.path / package.manifest["library"]["file"]))
        takes = library[f"{name}_memory_bytes"]
        takes.restype, takes.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
        assert use.handle_bytes(len(os.sched_getaffinity(0))) == takes(None)
        assert use.peak_bytes <= use.lower_bound_bytes <= use.arena_bytes
    if name in QUICK:
        assert after.arena_bytes < 0.85 * before.arena_bytes
