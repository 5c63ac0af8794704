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
    """What a fault does: whether an output is off as ``shows`` tells, and which steps differ, in run order.

    ``overflows``: the first of them has infinities or NaN where it should have none.
    """

    shows: bool
    steps: tuple[int, ...]
    overflows: bool


def same_steps(sound: Mapping[str, Any], wrong: Mapping[str, Any]) -> bool:
    """Whether two packages have the same call list, apart from what their kernels do."""
    shapes = [
        [(c["nodes"], c["reads"], c["writes"]) for c in manifest["calls"]] for manifest in (sound, wrong)
    ]
    return bool(shapes[0] == shapes[1])


def off_by(expected: Sequence[Array], got: Sequence[Array]) -> float:
    """The largest error of any output as a share of what is allowed; infinite for NaN or another shape."""
    found = 0.0
    for result in map(compare, expected, got):
        if not result.ok:
            found = max(found, result.max_abs_error / result.bound if result.bound else float("inf"))
    return found


def shows(wrong: float, sound: float) -> bool:
    """Whether an error is beyond tolerance, and by far the compiler's fault.

    Some networks round by more than the tolerance allows, in ONNX Runtime too.
    """
    return wrong > 1.0 and wrong > 2.0 * sound


def package_off_by(package: Path, threads: int = 1) -> float:
    """``off_by`` for a package's golden inputs and outputs."""
    opened = open_package(package)
    place = place_of(None, opened.manifest)
    measured = run(opened, place, opened.golden("inputs"), Orders(threads=threads))
    return off_by(opened.golden("outputs"), measured.outputs)


def effect(sound: Path, wrong: Path, threads: int = 1) -> Effect:
    """Run both on the golden inputs and compare them step by step."""
    golden = open_package(wrong).golden("outputs")
    right, ran = _all_steps(sound, 1), _all_steps(wrong, threads)
    differ = [dump for dump, data in right.dumps.items() if not _close(data, ran.dumps[dump])]
    first = differ[0] if differ else None
    return Effect(
        shows=shows(off_by(golden, ran.outputs), off_by(golden, right.outputs)),
        steps=tuple(dict.fromkeys(dump.step for dump in differ)),
        overflows=first is not None and _finite(right.dumps[first]) and not _finite(ran.dumps[first]),
    )


def _finite(data: bytes) -> bool:
    return len(data) % 4 == 0 and bool(np.isfinite(np.frombuffer(data, np.float32)).all())


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
