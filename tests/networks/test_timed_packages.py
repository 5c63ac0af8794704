"""Real networks with timers: the same kernels and, to the bit, the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.building import build
from benchmarks.networks import networks
from deploycc.running import Orders, open_package, place_of, run
from deploycc.running.inputs import inputs_of


@pytest.mark.slow
@pytest.mark.parametrize("name", list(networks()))
def test_timers_change_nothing_but_the_interface(
    name: str, built: Callable[..., Path], tmp_path: Path
) -> None:
    plain = open_package(built(name, "host"))
    timed = open_package(build(name, "host", tmp_path / "timed", ["--profile"]).package)
    assert plain.manifest["kernels_sha256"] == timed.manifest["kernels_sha256"]
    different = {key for key in plain.manifest if plain.manifest[key] != timed.manifest[key]}
    assert different == {"files", "interface", "library"}
    inputs, _ = inputs_of(plain, "random", seed=int(np.random.default_rng().integers(1 << 30)))
    for threads in (1, 2):
        orders = Orders(threads=threads, runs=2, steps=True)
        one, other = (run(p, place_of(None, p.manifest), inputs, orders) for p in (plain, timed))
        for a, b in zip(one.outputs, other.outputs, strict=True):
            assert a.tobytes() == b.tobytes()
        assert other.step_ns is not None
        assert other.step_ns.any()
