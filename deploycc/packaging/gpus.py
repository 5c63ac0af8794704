"""What the manifest of a package for GPUs says of its chips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from deploycc.packaging.generate_cuda_source import device_weights
from deploycc.packaging.manifest import call_entry
from deploycc.types import Plan


def add_gpus(manifest: dict[str, Any], plans: Sequence[Plan]) -> None:
    """Add to the manifest what the plans, one a chip, put on GPUs.

    ``target.gpus`` are the chips in the library's order; ``chips`` has of each the calls, the bytes of its
    own memory and what is known of its kernels.  The manifest's own ``calls`` and ``device`` are the first
    chip's.
    """
    manifest["target"]["gpus"] = [_gpu(plan) for plan in plans]
    manifest["device"] = device_table(plans[0])
    manifest["chips"] = [
        {
            "calls": [call_entry(call) for call in plan.calls],
            "device": device_table(plan),
            "kernels": _kernels(plan),
            "name": plan.gpu.name if plan.gpu is not None else "",
        }
        for plan in plans
    ]


def _gpu(plan: Plan) -> dict[str, Any]:
    assert plan.gpu is not None
    return {
        "arch": plan.gpu.arch,
        "bytes_per_second": plan.gpu.bytes_per_second,
        "flops": dict(plan.gpu.flops),
        "images": [
            {
                "arch": image.arch,
                "bytes": len(image.code),
                "kind": image.kind,
                "sha256": hashlib.sha256(image.code).hexdigest(),
            }
            for image in plan.images
        ],
        "name": plan.gpu.name,
        "processors": plan.gpu.processors,
    }


def device_table(plan: Plan) -> dict[str, Any]:
    """Bytes of a handle's arena in a GPU's memory and of its pinned block; of weights, once a library."""
    start, end = device_weights(plan)
    return {"arena_bytes": plan.arena_bytes, "host_bytes": plan.host_bytes, "weights_bytes": end - start}


def _kernels(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "function": facts.function,
            "local_bytes": facts.local_bytes,
            "registers": facts.registers,
            "shared_bytes": facts.shared_bytes,
        }
        for facts in plan.kernel_facts
    ]
