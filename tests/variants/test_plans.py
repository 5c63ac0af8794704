"""Plans of one network at several shapes: what they share, and that each computes what it would alone."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.planning import plan, plan_variants
from deploycc.types import DeployccError, Program
from tests.planning.graphs import F, lower_plainly, model, node
from tests.planning.harness import X86_64, run_plan

WEIGHTS = np.random.default_rng(0).standard_normal((37, 41)).astype(np.float32)


def program(rows: int) -> Program:
    """``y`` has ``rows`` rows, ``k`` does not depend on them; a weight each."""
    return lower_plainly(
        model(
            [
                node("MatMul", "x w", "product"),
                node("MatMul", "product v", "back"),
                node("Relu", "back", "y"),
                node("MatMul", "z w", "other"),
                node("Tanh", "other", "k"),
            ],
            {"x": (F, [rows, 37]), "z": (F, [3, 37])},
            {"y": (F, [rows, 37]), "k": (F, [3, 41])},
            {"w": WEIGHTS, "v": WEIGHTS.T.copy()},
        )
    )


def test_variants_share_what_is_equal() -> None:
    plans = plan_variants([program(rows) for rows in (1, 5, 3)], X86_64)
    alone = plan(program(5), X86_64)
    assert all(one.kernels is plans[0].kernels and one.weights is plans[0].weights for one in plans)
    assert len(plans[0].weights) == len(alone.weights)
    symbols = [{call.symbol for call in one.calls} for one in plans]
    common = set.intersection(*symbols)
    assert common  # of k, which has one shape in all
    assert symbols[0] - common  # and of y not
    assert not (symbols[0] - common) & (symbols[1] - common)
    assert len(set.union(*symbols)) == sum(map(len, symbols)) - 2
    generator = np.random.default_rng(1)
    for rows, one in zip((1, 5, 3), plans, strict=True):
        x, z = (generator.standard_normal((n, 37)).astype(np.float32) for n in (rows, 3))
        y, k = run_plan(one, [x, z], X86_64)
        np.testing.assert_allclose(y, np.maximum(x @ WEIGHTS @ WEIGHTS.T, 0), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(k, np.tanh(z @ WEIGHTS), rtol=1e-4, atol=1e-5)


def test_one_variant_is_the_plan_it_always_was() -> None:
    assert plan_variants([program(4)], X86_64) == (plan(program(4), X86_64),)


def test_the_limit_is_for_a_handle_that_runs_each() -> None:
    programs = [program(rows) for rows in (1, 4096)]
    with pytest.raises(DeployccError, match="DC870"):
        plan_variants(programs, X86_64, max_memory=100 << 10)
    assert len(plan_variants(programs, X86_64, max_memory=64 << 20)) == 2


def test_the_largest_of_each_may_be_too_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    import deploycc.planning.planner as planner

    monkeypatch.setattr(planner, "check_memory", lambda *given: None)  # no variant alone takes too much
    with pytest.raises(DeployccError) as caught:
        plan_variants([program(1), program(4096)], X86_64, max_memory=100 << 10)
    found = caught.value.diagnostics[0]
    assert found.code == "DC870"
    assert found.message.startswith("a handle for all variants takes ")
