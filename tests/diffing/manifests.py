"""Manifests of packages that were never built, for what only reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploycc.diffing.types import Step


def step(
    number: int,
    nodes: Sequence[str] = (),
    tensors: Sequence[str] = (),
    operators: Sequence[str] = ("conv2d",),
    **more: Any,
) -> Step:
    """A step of these names; the rest as it often is."""
    known: dict[str, Any] = {
        "schedule": "gemm", "knobs": {}, "layouts": "", "memory": ("row-major",) * len(tensors),
        "operator": "", "flops": 0, "nbytes": 64, "cycles": None,
    }  # fmt: skip
    return Step(number, tuple(nodes), tuple(tensors), tuple(operators), **(known | more))


def call(
    nodes: Sequence[str], operators: str, schedule: str = "", tensor: str = "", **more: Any
) -> dict[str, Any]:
    """A step of a manifest, which writes ``tensor``; ``symbol`` is not looked at."""
    place: dict[str, Any] = {"bytes": more.pop("nbytes", 4096), "kind": "arena", "offset": 0}
    if tensor:
        layout = more.pop("memory", "row-major")
        place |= {"tensor": tensor, "dtype": "float32", "layout": layout, "shape": [1, 4, 16, 16]}
    return {
        "knobs": more.pop("knobs", {}), "nodes": list(nodes), "operators": operators.split(), "reads": [],
        "schedule": schedule, "symbol": f"deploycc_{'_'.join(operators.split())}", "writes": [place], **more,
    }  # fmt: skip


def manifest(calls: Sequence[dict[str, Any]], name: str = "net", **more: Any) -> dict[str, Any]:
    """A manifest with these calls; ``more`` replaces entries."""
    own = [f"{name}_{function}" for function in ("create", "run")]
    tensor = {"bytes": 3072, "dtype": "float32", "name": "x", "shape": [1, 3, 16, 16], "identifier": "x"}
    table: dict[str, Any] = {
        "calls": list(calls),
        "deploycc": "0.1.0",
        "files": {
            "example/main.cpp": {"bytes": 4000, "sha256": "e" * 64},
            f"include/{name}.h": {"bytes": 7000, "sha256": "h" * 64},
            f"lib/lib{name}.so": {"bytes": 200000, "sha256": "l" * 64},
        },
        "golden": {"engine": "onnxruntime 1.31.1", "inputs": [], "outputs": [], "seed": 0},
        "inputs": [tensor],
        "interface": {"abi_version": 2, "emit": "shared", "runtime": "private", "symbols": own},
        "library": {
            "bytes": 200000, "code_bytes": 50000, "highest_glibc": "2.17", "needed": ["libc.so.6"],
            "file": f"lib/lib{name}.so",
        },
        "memory": {
            "arena_bytes": 65536, "thread_workspace_bytes": 4096, "weight_bytes": 150000,
            "workspace_bytes": 8192,
        },
        "model": {"opset": 18, "parameters": 37000, "sha256": "a" * 64},
        "name": name,
        "operators": {"Conv": 3, "Relu": 2},
        "outputs": [{**tensor, "name": "y"}],
        "target": {"cpu": "x86-64-v3", "features": ["+avx2"], "name": "x86-64"},
        "versions": {"apache-tvm": "0.27.0.post1", "deploycc": "0.1.0"},
    }  # fmt: skip
    return table | more
