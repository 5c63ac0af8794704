"""What a package for GPUs has for each of its chips, from its manifest, for whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploycc.call_types import COPIES
from deploycc.device_types import TO_DEVICE, TO_HOST, KernelFacts


@dataclass(frozen=True)
class ChipFacts:
    """One chip of a package.

    ``code`` are the forms of its kernels (``cubin sm_90``).  ``launches`` counts kernels of a run, ``on_gpu``
    and ``on_processor`` steps, ``copies`` those between the two memories.  Bytes: ``arena`` and ``weights``
    of the GPU's memory, ``host`` of the processor's that steps there work in.
    """

    arch: str
    name: str
    code: tuple[str, ...]
    steps: int
    launches: int
    on_gpu: int
    on_processor: int
    copies: int
    arena_bytes: int
    weights_bytes: int
    host_bytes: int
    kernels: tuple[KernelFacts, ...]


def chips_told(manifest: Mapping[str, Any]) -> tuple[ChipFacts, ...]:
    """Every chip of a package, in the library's order; none for a package without GPUs."""
    gpus = manifest["target"].get("gpus", ())
    return tuple(_told(gpu, chip) for gpu, chip in zip(gpus, manifest.get("chips", ()), strict=True))


def runs_on(call: Mapping[str, Any]) -> str:
    """Where a step of a package for GPUs runs: ``gpu``, ``processor``, or ``copy`` between the two."""
    if call["symbol"] in (TO_DEVICE, TO_HOST):
        return "copy"
    return "gpu" if call.get("launches") or call["symbol"] in COPIES else "processor"


def _told(gpu: Mapping[str, Any], chip: Mapping[str, Any]) -> ChipFacts:
    where = [runs_on(call) for call in chip["calls"]]
    device = chip["device"]
    return ChipFacts(
        arch=str(gpu["arch"]),
        name=str(gpu["name"]),
        code=tuple(f"{image['kind']} {image['arch']}" for image in gpu["images"]),
        steps=len(where),
        launches=sum(len(call.get("launches", ())) for call in chip["calls"]),
        on_gpu=where.count("gpu"),
        on_processor=where.count("processor"),
        copies=where.count("copy"),
        arena_bytes=int(device["arena_bytes"]),
        weights_bytes=int(device["weights_bytes"]),
        host_bytes=int(device["host_bytes"]),
        kernels=tuple(KernelFacts(**kernel) for kernel in chip["kernels"]),
    )
