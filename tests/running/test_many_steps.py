"""A call list longer than one C function's share of it (``generate_c.STEPS_TOGETHER``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploycc.packaging import package
from deploycc.packaging.generate_c import STEPS_TOGETHER
from deploycc.running import Dump, Orders, open_package, place_of, run
from deploycc.types import DeployccError
from tests.packaging import plans

REPEATED = STEPS_TOGETHER
STEPS = 3 * REPEATED + 1


@pytest.fixture(scope="module")
def long_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps again and again, then one that fails where an input is negative."""
    folder = tmp_path_factory.mktemp("long")
    plan = plans.make_plan(plans.X86_64)
    check, *others = plan.calls
    plan = replace(plan, calls=(*others * REPEATED, check))
    assert len(plan.calls) == STEPS
    package(plan, plans.make_request(plans.X86_64), plans.make_model(), plans.make_golden(), folder)
    return folder


def test_every_step_is_made_watched_and_numbered(long_package: Path) -> None:
    opened = open_package(long_package)
    (x,) = opened.golden("inputs")
    size = x.nbytes
    dumps = tuple(
        Dump(
            step,
            "arena" if step % 3 == 0 else "output",
            step % 3 - 1 if step % 3 else 0,
            64 * (step % 3 == 0),
            size,
        )
        for step in range(STEPS - 1)
    )
    measured = run(opened, place_of(None, opened.manifest), [x], Orders(runs=2, steps=True, dumps=dumps))
    for want, got in zip(opened.golden("outputs"), measured.outputs, strict=True):
        assert np.allclose(want, got, rtol=1e-5)
    scaled = (x.ravel() * plans.weights()).astype(np.float32).tobytes()
    for step in range(0, STEPS - 1, 3):
        assert measured.dumps[dumps[step]] == scaled
        assert measured.dumps[dumps[step + 2]] == x.tobytes()
    assert measured.step_ns is not None
    assert measured.step_ns.shape == (2, STEPS)
    assert (measured.step_ns[:, : STEPS - 1] > 0).any(axis=0).all()


def test_a_step_that_fails_is_told_by_its_number(long_package: Path) -> None:
    opened = open_package(long_package)
    (x,) = opened.golden("inputs")
    with pytest.raises(DeployccError, match="DC805") as failed:
        run(opened, place_of(None, opened.manifest), [-x - 1], Orders(runs=1))
    assert f"step {STEPS - 1} of {STEPS}, k_check" in failed.value.diagnostics[0].got
