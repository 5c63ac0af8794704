"""Rules that hold for every network: checked on drawn ones, a few in the quick run, many in the slow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deploycc.lowering.rewrites import rewrite_onnx
from deploycc.planning import plan
from deploycc.scheduling import choose
from tests.planning.harness import X86_64, X86_64_V4, host_can_run, run_plan
from tests.scheduling import chains, convolutions
from tests.scheduling.convolutions import conv, conv_transpose
from tests.scheduling.graphs import (
    SCHEDULES,
    SEED,
    Case,
    Graph,
    build,
    check,
    compile_cases,
    error_of,
    in_layouts,
    reference,
    wrong,
)

WIDEST = X86_64_V4 if host_can_run(X86_64_V4) else X86_64
COMPILING: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": True,
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),  # to shrink takes minutes of compiling
}
CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 10, 15, 16, 17, 23, 31, 32, 33, 37, 64, 97])
SMALL = st.integers(1, 17)


@st.composite
def convs(draw: st.DrawFn) -> Case:
    """Any convolution ONNX can write down, up to a few hundred thousand multiply-adds."""
    kind = draw(st.sampled_from(["dense", "dense", "grouped", "depthwise", "multiplied", "pointwise"]))
    kernel = (1, 1) if kind == "pointwise" else (draw(st.integers(1, 5)), draw(st.integers(1, 7)))
    groups, each_in, each_out = 1, draw(CHANNELS), draw(CHANNELS)
    if kind == "grouped":
        groups, each_in, each_out = draw(st.integers(2, 5)), draw(st.integers(2, 9)), draw(st.integers(1, 17))
    elif kind in ("depthwise", "multiplied"):
        groups, each_in = draw(st.integers(2, 40)), 1
        each_out = 1 if kind == "depthwise" else draw(st.integers(2, 3))
    strides, dilations = (
        [draw(st.integers(1, 3)) for _ in "hw"],
        [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in "hw"],
    )
    pads = [draw(st.integers(0, 3)) for _ in range(4)]
    if kind == "pointwise" and draw(st.booleans()):
        strides, pads = [1, 1], [0] * 4
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    size = [max(draw(SMALL), r - pads[i] - pads[i + 2]) for i, r in enumerate(reach)]
    size = [max(1, extent) for extent in size]
    return conv(
        groups * each_in, groups * each_out, size, kernel, batch=draw(st.sampled_from([1, 1, 2])),
        bias=draw(st.booleans()), end=draw(st.sampled_from(["", "Relu", "HardSwish", "Sigmoid"])),
        group=groups, strides=strides, dilations=dilations, pads=pads,
    )  # fmt: skip


@st.composite
def matmuls(draw: st.DrawFn) -> Case:
    """A product of a tensor of one to four dimensions with a constant matrix."""
    left = [draw(st.integers(1, 33)) for _ in range(draw(st.integers(1, 3)))]
    inner = draw(st.integers(1, 70))
    return chains.matmul(
        (*left[1:], inner), draw(st.integers(1, 70)), end=draw(st.sampled_from(["", "Relu", "Tanh"]))
    )


@st.composite
def transposed(draw: st.DrawFn) -> Case:
    """Any ConvTranspose whose output has a size, one- or two-dimensional."""
    rank = draw(st.sampled_from([1, 2, 2]))
    kernel, strides = [[draw(st.integers(1, 5)) for _ in range(rank)] for _ in "ks"]
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in range(rank)]
    size = [draw(st.integers(1, 6)) for _ in range(rank)]
    extra = [draw(st.integers(0, stride - 1)) for stride in strides]
    begins, ends = [], []
    for axis in range(rank):
        full = strides[axis] * (size[axis] - 1) + extra[axis] + dilations[axis] * (kernel[axis] - 1) + 1
        begins.append(draw(st.integers(0, min(3, full - 1))))
        ends.append(draw(st.integers(0, min(3, full - 1 - begins[-1]))))
    return conv_transpose(
        groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 4)), size, kernel, group=groups,
        bias=draw(st.booleans()), strides=strides, dilations=dilations, output_padding=extra,
        pads=[*begins, *ends],
    )  # fmt: skip


STEPS = (
    "conv",
    "pointwise",
    "depthwise",
    "relu",
    "clip",
    "prelu",
    "silu",
    "scaled",
    "max pool",
    "average pool",
    "residual",
)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Case, int]:
    """A chain of convolutions, pools and elementwise steps, and how many inputs it has."""
    steps = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8))
    widths = [draw(CHANNELS) for _ in steps]
    size = (draw(st.integers(6, 13)), draw(st.integers(6, 13)))

    def make(graph: Graph) -> str:
        shape = [1, 3, *size]
        x = graph.conv(graph.input(*shape), 3, 5, (3, 3), pads=[1, 1, 1, 1])
        shape[1] = 5
        for step, width in zip(steps, widths, strict=True):
            x = _step(graph, x, step, width, shape)
        return x

    return Case(f"{steps} {widths} {size}", make), 1 + steps.count("residual")


def _step(graph: Graph, x: str, step: str, width: int, shape: list[int]) -> str:
    """Adds one step and updates ``shape``."""
    channels = shape[1]
    if step in ("conv", "pointwise"):
        shape[1] = width
        kernel, pads = ((3, 3), [1, 1, 1, 1]) if step == "conv" else ((1, 1), [0, 0, 0, 0])
        return graph.conv(x, channels, width, kernel, pads=pads)
    if step == "depthwise":
        return graph.conv(x, channels, channels, (3, 3), group=channels, pads=[1, 1, 1, 1])
    if step == "residual":
        return chains.EPILOGUES["residual and relu"](graph, x, shape)
    if step.endswith("pool"):
        operator = "MaxPool" if step == "max pool" else "AveragePool"
        return str(graph.add(operator, x, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]))
    return chains.EPILOGUES[step](graph, x, shape)


def random_knobs(folder: Path, seed: int) -> Path:
    """Our schedules with an estimate that is a throw of dice, so that any feasible knobs are chosen."""
    folder.mkdir()
    for path in sorted(SCHEDULES.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "\ndef compute(" not in text:
            continue
        text += (
            "\n\nimport zlib\n_estimate = cost\n\n\ndef cost(match, knobs):\n"
            "    if _estimate(match, knobs) is None:\n        return None\n"
            f"    return zlib.crc32(repr(({seed}, match.operator, sorted(knobs.items()))).encode())\n"
        )
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


def check_with(cases: Sequence[Case], folder: Path, seed: int) -> set[tuple[str, str]]:
    """``check`` with a folder of schedules; the different (schedule, knobs) in the plan."""
    built = build(cases, seed)
    planned = compile_cases(built, WIDEST, folder)
    lines = wrong(built, run_plan(planned, built.feeds, WIDEST), reference(built.model.proto, built.feeds))
    assert lines == [], f"seed {seed}, {WIDEST.name}"
    assert "none" not in {call.schedule for call in planned.calls}
    return {(call.schedule, str(dict(call.knobs))) for call in planned.calls if call.knobs}


KNOB_CASES = [
    *convolutions.CHANNELS, *convolutions.FORMS, *convolutions.GROUPS, *convolutions.DEPTHWISE,
    *convolutions.POINTWISE, *chains.PRODUCTS[:24], *chains.FUSED,
]  # fmt: skip


def test_any_feasible_knobs_give_the_same_results(tmp_path: Path) -> None:
    cases = KNOB_CASES[SEED % 5 :: 5]
    assert len(check_with(cases, random_knobs(tmp_path / "dice", SEED), SEED)) >= len(cases) // 2


@pytest.mark.slow
@pytest.mark.parametrize("throw", range(6))
def test_any_feasible_knobs_give_the_same_results_everywhere(throw: int, tmp_path: Path) -> None:
    check_with(KNOB_CASES, random_knobs(tmp_path / "dice", SEED + throw), SEED + throw)


@given(case=transposed(), seed=st.integers(0, 1 << 30))
@settings(max_examples=150, deadline=None)
def test_the_rewrite_of_transposed_convolutions_is_exact(case: Case, seed: int) -> None:
    built = build([case], seed)
    rewritten = rewrite_onnx(built.model.proto).proto
    (want,), (got,) = (reference(proto, built.feeds) for proto in (built.model.proto, rewritten))
    assert error_of(got, want) < 2e-6


@given(drawn=st.lists(networks(), min_size=3, max_size=3), seed=st.integers(0, 1 << 30))
@settings(max_examples=2, **COMPILING)
def test_chains_match_onnx_runtime_and_their_unscheduled_selves(
    drawn: list[tuple[Case, int]], seed: int
) -> None:
    built = build([case for case, _ in drawn], seed)
    want = reference(built.model.proto, built.feeds)
    program = in_layouts(built.model, WIDEST)
    plain = run_plan(plan(choose(program, WIDEST, ()), WIDEST), built.feeds, WIDEST)
    assert wrong(built, plain, want) == []
    scheduled = run_plan(compile_cases(built, WIDEST), built.feeds, WIDEST)
    assert wrong(built, scheduled, want) == []
    assert wrong(built, scheduled, plain) == []


@given(
    cases=st.lists(st.one_of(convs(), convs(), matmuls()), min_size=10, max_size=10),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=2, **COMPILING)
def test_drawn_operators_match_onnx_runtime(cases: list[Case], seed: int) -> None:
    check(cases, WIDEST, seed)


@pytest.mark.slow
@given(drawn=st.lists(networks(), min_size=3, max_size=6), seed=st.integers(0, 1 << 30))
@settings(max_examples=40, **COMPILING)
def test_many_chains_match_onnx_runtime(drawn: list[tuple[Case, int]], seed: int) -> None:
    check([case for case, _ in drawn], WIDEST, seed)


@pytest.mark.slow
@pytest.mark.parametrize("target", [X86_64, X86_64_V4], ids=lambda target: target.name)
@given(
    cases=st.lists(st.one_of(convs(), convs(), matmuls(), transposed()), min_size=12, max_size=24),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=30, **COMPILING)
def test_many_drawn_operators_match_onnx_runtime(target: Any, cases: list[Case], seed: int) -> None:
    if not host_can_run(target):
        pytest.skip("this processor has no AVX-512")
    check(cases, target, seed)


def test_a_wrong_result_would_be_found() -> None:
    built = build([conv(3, 5, (4, 6), (3, 3))])
    want = reference(built.model.proto, built.feeds)
    got = [result.copy() for result in want]
    got[0].flat[-1] += np.float32(1e-3)
    assert len(wrong(built, got, want)) == 1
    assert wrong(built, [result[..., :-1] for result in want], want) != []
    got[0].flat[0] = np.nan
    assert "off by inf" in wrong(built, got, want)[0]
