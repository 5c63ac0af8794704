"""Every schedule's results against ONNX Runtime's, at tile edges, primes and 1, on several machines."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from deploycc.types import Plan, Target
from tests.planning.harness import ARM64, ARMV7, RISCV64, X86_64, X86_64_V4, find_emulator, host_can_run
from tests.scheduling import chains, convolutions
from tests.scheduling.graphs import Case, check

GROUPS: dict[str, Sequence[Case]] = {
    "channels": convolutions.CHANNELS,
    "forms": convolutions.FORMS,
    "groups": convolutions.GROUPS,
    "depthwise": convolutions.DEPTHWISE,
    "pointwise": convolutions.POINTWISE,
    "one-dimensional": convolutions.ONE_DIMENSIONAL,
    "transposed": convolutions.TRANSPOSED,
    "fused": chains.FUSED,
    "products": chains.PRODUCTS,
    "reductions": chains.REDUCTIONS,
    "movements": chains.MOVEMENTS,
    "networks": chains.NETWORKS,
}
EVERY = {"fused": 3, "reductions": 2, "movements": 2}
"""Of these groups every second or third case is in the quick run; all are in the slow one."""

SCHEDULES = {
    "channels": "conv_",
    "groups": "conv_",
    "one-dimensional": "conv_",
    "depthwise": "depthwise_",
    "pointwise": "conv_",
    "products": "gemm",
    "reductions": "reduction",
    "movements": "elementwise",
}
"""How the names of the schedules begin of which a group's plan has at least one."""


def some(step: int, offset: int = 0) -> list[Case]:
    """Every ``step``-th case of all groups together."""
    return [case for cases in GROUPS.values() for case in cases][offset::step]


def skip_unless_it_runs(target: Target) -> None:
    if not host_can_run(target):
        pytest.skip("this processor has no AVX-512")
    if target.emulator and find_emulator(target) is None:
        pytest.skip(f"{target.emulator[0]} is not installed")


def schedules_of(plan: Plan) -> set[str]:
    return {call.schedule for call in plan.calls if call.symbol != "memcpy"}


def has(plan: Plan, name: str) -> bool:
    """Whether a kernel's schedule begins with ``name``."""
    return any(schedule.startswith(name) for schedule in schedules_of(plan))


@pytest.mark.parametrize("group", GROUPS)
def test_matches_onnx_runtime(group: str) -> None:
    plan = check(GROUPS[group][:: EVERY.get(group, 1)], X86_64)
    assert "none" not in schedules_of(plan)
    assert has(plan, SCHEDULES.get(group, "elementwise"))


@pytest.mark.parametrize("target", [X86_64_V4, ARM64], ids=lambda target: target.name)
def test_matches_onnx_runtime_on_another_machine(target: Target) -> None:
    skip_unless_it_runs(target)
    step = 10 if target is X86_64_V4 else 20
    plan = check(some(step, offset=1), target)
    assert all(has(plan, name) for name in SCHEDULES.values())


EVERYWHERE = [
    pytest.param(group, target, id=f"{group}-{target.name}")
    for target in (X86_64, X86_64_V4, ARM64, ARMV7, RISCV64)
    for group in GROUPS
    if target is not X86_64 or group in EVERY
]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "target"), EVERYWHERE)
def test_all_of_it_matches_everywhere(group: str, target: Target) -> None:
    skip_unless_it_runs(target)
    assert "none" not in schedules_of(check(GROUPS[group], target))
