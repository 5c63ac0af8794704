"""Schedule files that misbehave, and operators they take, for tests of the tuner."""

from __future__ import annotations

from pathlib import Path

from deploycc.operators import MatMul
from deploycc.records import Record
from tests.planning.harness import X86_64

PRODUCT = MatMul((4,), 8, 16, "float32")
"""A product so small that compiling it is what takes time."""

_HEAD = '''
"""A schedule for tests."""

import os
import signal
import time

import numpy as np

from deploycc.operators import Algorithm, Match, MatMul, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.tvm_api import te

KNOBS = {"way": WAYS}


def match(task, target):
    return Match(task, target) if isinstance(task, MatMul) else Skip("no matrix product at all")


def cost(match, knobs):
    return COSTS[knobs["way"]]


def compute(match, knobs):
    operator = match.operator
    scale = SCALES.get(knobs["way"], 1.0)

    def pack(weight):
        return np.ascontiguousarray(weight * scale).astype(operator.dtype)

    def define(data, weight):
        k = te.reduce_axis((0, operator.inner), "k")
        return te.compute(
            (*operator.leading, operator.columns),
            lambda *i: te.sum(data[(*i[:-1], k)] * weight[k, i[-1]], axis=[k]),
            name="product",
            attrs={TASK_ANNOTATION: match.task},
        )

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    fate = FATES.get(knobs["way"])
    if fate == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "hang":
        time.sleep(3600)
    if fate == "fail":
        raise ValueError("it does not fit")
'''


def write_schedule(
    folder: Path,
    *,
    name: str = "fake",
    costs: dict[int, float] | None = None,
    fates: dict[int, str] | None = None,
    scales: dict[int, float] | None = None,
    version: int = 1,
) -> Path:
    """A schedule for every matrix product; its only knob ``way`` decides what becomes of it.

    ``fates``: ``crash``, ``killed``, ``hang`` or ``fail`` by way; ``scales``: by how much the result is off.
    The wheel's own schedules are estimated a million times slower.
    """
    costs = costs or {0: 1e-6, 1: 1.1e-6, 2: 1.2e-6, 3: 1.3e-6}
    folder.mkdir(exist_ok=True)
    text = _HEAD.replace("WAYS", repr(tuple(costs)))
    text = text.replace("COSTS[", f"{costs!r}[").replace("FATES.get", f"{fates or {}!r}.get")
    text = text.replace("SCALES.get", f"{scales or {}!r}.get") + f"\n\nVERSION = {version}\n"
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def record(
    value: float = 1e-6,
    *,
    operator: object = PRODUCT,
    way: int = 0,
    level: int = 0,
    status: str = "ok",
    schedule: str = "fake",
    version: int = 1,
    tvm: str | None = None,
    code: str | None = None,
    cache: str | None = None,
    unit: str = "seconds",
    when: str = "2026-01-01T00:00:00+00:00",
) -> Record:
    """A record of ``PRODUCT`` for the target ``X86_64`` of the harness."""
    from deploycc.records import cache_key, code_key
    from deploycc.tvm_api import VERSION

    return Record(
        operator=repr(operator),
        code=code or code_key(X86_64),
        cache=cache or cache_key(X86_64),
        schedule=schedule,
        version=version,
        knobs={"way": way},
        tvm=tvm or VERSION,
        status=status,  # type: ignore[arg-type]
        unit=unit,  # type: ignore[arg-type]
        value=value,
        error=0.0,
        runs=3,
        level=level,
        when=when,
    )
