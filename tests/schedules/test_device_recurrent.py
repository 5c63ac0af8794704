"""Recurrent layers on a GPU: every form of them against ONNX Runtime, from their PTX."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from deploycc.gpu_limits import MOST_STEPS
from tests.lowering.test_recurrent import FORMS, PLAIN, Layer, check, every_activation
from tests.planning.cuda.chips import SM_75, target_of

CUDA = target_of(SM_75)


def test_a_launch_a_step_and_one_before() -> None:
    plan = check([Layer("LSTM", 3, 2, 4, 37, "bidirectional")], CUDA)
    (layer,) = [call for call in plan.calls if call.schedule == "recurrent"]
    first, *steps = layer.launches
    assert len(steps) == 3
    assert len(set(steps)) == 1, "all steps are launches of one kernel"
    assert first.function != steps[0].function
    assert steps[0].grid == (2 * -(-37 // 8), 1, 1)  # directions, and a warp for each unit
    assert all(call.launches or call.copies for call in plan.calls)
    assert not [fact for fact in plan.kernel_facts if fact.local_bytes]


def test_more_steps_than_a_list_of_launches_bears_are_the_processors() -> None:
    plan = check([Layer("RNN", MOST_STEPS + 1, 1, 1, 2, results="h")], CUDA)
    (layer,) = [call for call in plan.calls if call.schedule == "recurrent"]
    assert not layer.launches


@pytest.mark.slow
@pytest.mark.parametrize("layers", [PLAIN, FORMS, every_activation()], ids=["plain", "forms", "activations"])
def test_every_form(layers: Sequence[Layer]) -> None:
    plan = check(layers, CUDA)
    assert all(call.launches for call in plan.calls if call.schedule == "recurrent")
