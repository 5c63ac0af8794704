"""Layers and profiles for tests, and packages of C kernels to take profiles of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.packaging import package
from deploycc.result_types import Ceilings, Layer, Profile
from deploycc.types import Origin, Result
from tests.packaging import plans

CEILINGS = Ceilings(
    gflops=100.0, gbs=20.0, source="a test", levels=((1 << 14, 200.0), (1 << 18, 80.0), (1 << 24, 20.0))
)
CONV = (
    "Conv2d(batch=1, height={0}, width={0}, in_channels={1}, out_channels={2}, kernel=(3, 3), strides=(1, 1)"
)
CONV += ", pads=(1, 1, 1, 1), dilation=(1, 1), groups={3}, dtype='float32')"


def layer(**changes: Any) -> Layer:
    """A convolution that takes 100 us of an unknown whole."""
    fields: dict[str, Any] = {
        "step": 0,
        "symbol": "deploycc_k000_conv",
        "nodes": ("Conv_0",),
        "operators": ("conv2d", "add"),
        "schedule": "conv_pixels",
        "knobs": {"vectors": 2},
        "layout": "NCHW",
        "flops": 9_000_000,
        "nbytes": 100_000,
        "time_us": 100.0,
        "low_us": 99.0,
        "high_us": 102.0,
        "share": 0.5,
        "roofline": 0.9,
        "operator": CONV.format(32, 16, 16, 1),
    }
    return Layer(**{**fields, **changes})


def profile_of(*layers: Layer, **changes: Any) -> Profile:
    """A profile with these layers."""
    whole = sum(one.time_us for one in layers)
    fields: dict[str, Any] = {
        "package": "net",
        "place": "this machine",
        "threads": 1,
        "runs": 30,
        "method": "observer",
        "whole_us": whole * 1.01,
        "timed_us": whole * 1.02,
        "ceilings": CEILINGS,
        "layers": layers,
    }
    return Profile(**{**fields, **changes})


def make_package(folder: Path, target: str = "X86_64", **options: Any) -> Path:
    """A package of four steps: three C kernels and a copy, whose results have shapes and names."""
    chosen = getattr(plans, target)
    plan = plans.make_plan(chosen)
    tensors = ("", "t", "y", "copy")
    calls = tuple(
        replace(call, origin=Origin((f"node_{i}",), (Result(tensor, (1, plans.COUNT)),) if tensor else ()))
        for i, (call, tensor) in enumerate(zip(plan.calls, tensors, strict=True))
    )
    folder.mkdir()
    request = plans.make_request(chosen, "tiny", **options)
    package(replace(plan, calls=calls), request, plans.make_model(), plans.make_golden(), folder)
    return folder


def drawn_inputs() -> list[np.ndarray]:
    """Another input than the golden one; the kernel takes what does not begin with a negative number."""
    return [np.abs(np.random.default_rng().standard_normal((1, plans.COUNT))).astype(np.float32)]
