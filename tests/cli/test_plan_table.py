"""The plan as ``inspect`` prints it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploycc.cli.plan_table import kernel_lines, plan_lines

CONV = "Conv2d(batch=1, height=320, width=320, in_channels=16, out_channels=16, kernel=(3, 3))"
CALLS: list[dict[str, Any]] = [
    {
        "symbol": "deploycc_k000_fused_conv2d_add_relu",
        "nodes": ["/backbone/stem/conv/Conv", "/backbone/stem/relu/Relu"],
        "operators": ["conv2d", "add", "relu"],
        "schedule": "conv_pixels",
        "knobs": {"channels": 4, "vectors": 3},
        "operator": CONV,
        "flops": 471859200,
        "layouts": ["NCHW", "NHWC"],
        "cycles": 8123456,
        "measured_us": 2711.5,
    },
    {
        "symbol": "deploycc_k001_fused_conv2d_multiply_add_hardsigmoid_multiply_add_clip_multiply",
        "nodes": [
            f"/backbone/blocks.{i}/attention/gate/{op}" for i, op in enumerate("Conv Mul Add Clip".split())
        ],
        "operators": "conv2d multiply add hardsigmoid multiply add clip multiply".split(),
        "schedule": "gemm",
        "knobs": {"tile": 6, "vectors": 2, "lanes": 16, "steps": 1},
        "operator": CONV,
        "flops": 12345,
        "layouts": ["NHWC", "NHWC"],
        "cycles": 512,
    },
    {
        "symbol": "deploycc_k000_fused_conv2d_add_relu",
        "operators": ["conv2d", "add", "relu"],
        "schedule": "conv_pixels",
        "knobs": {"channels": 4, "vectors": 3},
        "operator": CONV,
        "flops": 471859200,
        "layouts": ["NCHW", "NHWC"],
        "cycles": 8123456,
        "measured_us": 2711.5,
    },
    {
        "symbol": "deploycc_k002_softmax",
        "nodes": ["Softmax_9"],
        "operators": ["softmax"],
        "schedule": "softmax",
        "knobs": {},
        "cycles": 20480,
    },
    {"symbol": "memcpy", "operators": ["Identity"], "schedule": "", "knobs": {}},
]


def test_a_line_a_step(golden: Callable[[str, str], None]) -> None:
    golden("plan.txt", "\n".join(plan_lines(CALLS, None)) + "\n")


def test_a_narrow_terminal_cuts_words_and_no_numbers(golden: Callable[[str, str], None]) -> None:
    lines = plan_lines(CALLS, 100)
    assert all(len(line) <= 100 for line in lines[:-1])
    golden("plan-narrow.txt", "\n".join(lines) + "\n")


def test_a_wide_terminal_has_room_for_the_nodes(golden: Callable[[str, str], None]) -> None:
    lines = plan_lines(CALLS, 160)
    assert all(len(line) <= 160 for line in lines[:-1])
    golden("plan-wide.txt", "\n".join(lines) + "\n")


def test_what_is_not_known_has_no_column() -> None:
    lines = plan_lines([{**call, "measured_us": None} for call in CALLS], None)
    assert "measured" not in lines[0]
    assert "nodes" not in plan_lines([{**call, "nodes": []} for call in CALLS], None)[0]
    older = [{key: call[key] for key in ("symbol", "operators", "schedule", "knobs")} for call in CALLS]
    assert len(plan_lines(older, 80)) == len(CALLS) + 2
    assert plan_lines([], 80)[1].startswith("0 steps, 0 kernels")


def test_one_kernel_has_its_steps() -> None:
    assert kernel_lines(CALLS, "deploycc_k000_fused_conv2d_add_relu") == [
        "symbol: deploycc_k000_fused_conv2d_add_relu",
        "steps: 0, 2",
        "operators: conv2d add relu",
        "nodes: /backbone/stem/conv/Conv /backbone/stem/relu/Relu",
        f"operator: {CONV}",
        "schedule: conv_pixels",
        "knobs: channels=4 vectors=3",
        "layouts: NCHW to NHWC",
        "flops: 471859200",
        "cycles: 8123456",
        "measured: 2711.5 us",
    ]
