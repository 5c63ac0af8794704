"""Whether a planted fault shows, and where, by comparing every step with the sound compiler's package.

The search under test has no sound package to compare with; this has, which makes it simple enough to trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.reference import compare
from deploycc.running import Dump, Measured, Orders, open_package, place_of, run

Array = npt.NDArray[Any]

VISIBLE = 1e-4
"""A step is wrong where it differs by more than this share of the sound tensor's largest magnitude."""


@dataclass(frozen=True)
class Effect:
    """What a fault does: whether an output leaves its tolerance, and the steps that differ, in run order."""

    shows: bool
    steps: tuple[int, ...]


def same_steps(sound: Mapping[str, Any], wrong: Mapping[str, Any]) -> bool:
    """Whether two packages have the same call list, apart from what their kernels do."""
    shapes = [
        [(c["nodes"], c["reads"], c["writes"]) for c in manifest["calls"]] for manifest in (sound, wrong)
    ]
    return bool(shapes[0] == shapes[1])


def outputs_wrong(package: Path, threads: int = 1, inputs: Sequence[Array] | None = None) -> bool:
    """Whether an output of the package leaves its tolerance, by its golden inputs and outputs."""
    opened = open_package(package)
    place = place_of(None, opened.manifest)
    measured = run(opened, place, inputs or opened.golden("inputs"), Orders(threads=threads, warmup=2))
    pairs = zip(opened.golden("outputs"), measured.outputs, strict=True)
    return any(not compare(want, got).ok for want, got in pairs)


def effect(sound: Path, wrong: Path, threads: int = 1) -> Effect:
    """Run both on the golden inputs and compare them step by step."""
    ran = [_all_steps(sound, 1), _all_steps(wrong, threads)]
    opened = open_package(wrong)
    golden = zip(opened.golden("outputs"), ran[1].outputs, strict=True)
    shows = any(not compare(want, got).ok for want, got in golden)
    differ: dict[int, None] = {}
    for dump, data in ran[0].dumps.items():
        if not _close(data, ran[1].dumps[dump]):
            differ[dump.step] = None
    return Effect(shows, tuple(differ))


def _all_steps(package: Path, threads: int) -> Measured:
    opened = open_package(package)
    dumps = tuple(
        Dump(number, w["kind"], w.get("index", 0), w["offset"], w["bytes"])
        for number, call in enumerate(opened.manifest["calls"])
        for w in call["writes"]
    )
    place = place_of(None, opened.manifest)
    return run(opened, place, opened.golden("inputs"), Orders(threads=threads, dumps=dumps))


def _close(sound: bytes, wrong: bytes) -> bool:
    if sound == wrong:
        return True
    if len(sound) % 4:
        return False
    # Nearly all tensors are float32; integers read as such differ visibly or not at all.
    want, got = np.frombuffer(sound, np.float32), np.frombuffer(wrong, np.float32)
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return False
    magnitude = float(np.max(np.abs(want[finite]), initial=0.0))
    error = float(np.max(np.abs(want[finite].astype(np.float64) - got[finite]), initial=0.0))
    return error <= VISIBLE * magnitude
