"""A build request as JSON, for its way into the child process."""

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
    return table


def request_from_json(table: Mapping[str, Any]) -> BuildRequest:
    """The request that ``request_to_json`` was given."""
    target = table["target"]
    llvm, linker = target["llvm"], target["linker"]
    return BuildRequest(
        **{
            **table,
            "model": Path(table["model"]),
            "output": Path(table["output"]),
            "shapes": {name: tuple(shape) for name, shape in table["shapes"].items()},
            "dump_dir": None if table["dump_dir"] is None else Path(table["dump_dir"]),
            "limits": Limits(**table["limits"]),
            "schedule_dirs": tuple(Path(folder) for folder in table["schedule_dirs"]),
            "target": Target(
                **{
                    **target,
                    "llvm": LLVMTarget(**{**llvm, "features": tuple(llvm["features"])}),
                    "simd": Simd(**target["simd"]),
                    "cache": Cache(**target["cache"]),
                    "linker": Linker(**{**linker, "allowed_libraries": tuple(linker["allowed_libraries"])}),
                    "emulator": tuple(target["emulator"]),
                }
            ),
        }
    )
