"""A build request and a target as JSON, for their way into a child process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploycc.types import BuildRequest, Cache, Limits, Linker, LLVMTarget, Simd, Target


def request_to_json(request: BuildRequest) -> dict[str, Any]:
    """JSON-able form of a request; ``request_from_json`` is its inverse."""
    table = asdict(request)
    for key in ("model", "output"):
        table[key] = str(table[key])
    table["dump_dir"] = None if request.dump_dir is None else str(request.dump_dir)
    table["schedule_dirs"] = [str(folder) for folder in request.schedule_dirs]
    table["records"] = [str(path) for path in request.records]
    return table


def request_from_json(table: Mapping[str, Any]) -> BuildRequest:
    """The request that ``request_to_json`` was given."""
    return BuildRequest(
        **{
            **table,
            "model": Path(table["model"]),
            "output": Path(table["output"]),
            "shapes": {name: tuple(shape) for name, shape in table["shapes"].items()},
            "dump_dir": None if table["dump_dir"] is None else Path(table["dump_dir"]),
            "limits": Limits(**table["limits"]),
            "schedule_dirs": tuple(Path(folder) for folder in table["schedule_dirs"]),
            "records": tuple(Path(path) for path in table["records"]),
            "target": target_from_json(table["target"]),
        }
    )


def target_to_json(target: Target) -> dict[str, Any]:
    """JSON-able form of a target; ``target_from_json`` is its inverse."""
    return asdict(target)


def target_from_json(table: Mapping[str, Any]) -> Target:
    """The target that ``target_to_json`` was given."""
    llvm, linker = table["llvm"], table["linker"]
    return Target(
        **{
            **table,
            "llvm": LLVMTarget(**{**llvm, "features": tuple(llvm["features"])}),
            "simd": Simd(**table["simd"]),
            "cache": Cache(**table["cache"]),
            "linker": Linker(**{**linker, "allowed_libraries": tuple(linker["allowed_libraries"])}),
            "emulator": tuple(table["emulator"]),
        }
    )
