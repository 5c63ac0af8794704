"""A build request and a target as JSON, for their way into a child process."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploycc.lint_types import Coverage, HintColumn, LintTarget, NodeReport, Report
from deploycc.ranges import text_of
from deploycc.types import (
    BuildRequest,
    Cache,
    Diagnostic,
    Gpu,
    Limits,
    Linker,
    LLVMTarget,
    Peak,
    Simd,
    Target,
)


def request_to_json(request: BuildRequest) -> dict[str, Any]:
    """JSON-able form of a request; ``request_from_json`` is its inverse."""
    table = asdict(request)
    for key in ("model", "output"):
        table[key] = str(table[key])
    table["dump_dir"] = None if request.dump_dir is None else str(request.dump_dir)
    table["schedule_dirs"] = [str(folder) for folder in request.schedule_dirs]
    table["op_dirs"] = [str(folder) for folder in request.op_dirs]
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
            "op_dirs": tuple(Path(folder) for folder in table["op_dirs"]),
            "records": tuple(Path(path) for path in table["records"]),
            "buckets": {
                name: tuple(tuple(extents) for extents in axes) for name, axes in table["buckets"].items()
            },
            "target": target_from_json(table["target"]),
        }
    )


def lint_target_to_json(target: LintTarget) -> dict[str, Any]:
    """JSON-able form of a lint target; ``lint_target_from_json`` is its inverse."""
    return asdict(target)


def lint_target_from_json(table: Mapping[str, Any]) -> LintTarget:
    """The target that ``lint_target_to_json`` was given."""
    return LintTarget(
        **{
            **table,
            "hints": tuple(table["hints"]),
            "compiled": None if table["compiled"] is None else target_from_json(table["compiled"]),
            "peak": None if table["peak"] is None else Peak(**table["peak"]),
        }
    )


def report_from_json(table: Mapping[str, Any]) -> Report:
    """The report whose ``dataclasses.asdict`` went through JSON."""
    coverage = table["coverage"]
    return Report(
        diagnostics=tuple(Diagnostic(**row) for row in table["diagnostics"]),
        target=table["target"],
        nodes=tuple(
            NodeReport(**{**row, **{key: tuple(row[key]) for key in ("inputs", "outputs", "shape")}})
            for row in table["nodes"]
        ),
        coverage=None
        if coverage is None
        else Coverage(**{**coverage, "replace": tuple(map(tuple, coverage["replace"]))}),
        hints=tuple(
            HintColumn(**{**row, "refused": tuple(map(tuple, row["refused"]))}) for row in table["hints"]
        ),
        note=table["note"],
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
            "hints": tuple(table["hints"]),
            "peak": None if table["peak"] is None else Peak(**table["peak"]),
            "gpus": tuple(Gpu(**gpu) for gpu in table["gpus"]),
        }
    )


def reproduce_command(request: BuildRequest, target: str | Path | Target) -> str:
    """The command line that makes the same request; ``target`` as it was given."""
    shown = target.name if isinstance(target, Target) else str(target)
    words = ["deploycc", "build", str(request.model), "--target", shown, "--name", request.name]
    if request.target.precision != "fp32":
        words += ["--precision", request.target.precision]
    for name, shape in request.shapes.items():
        extents = text_of(request.buckets.get(name, [(extent,) for extent in shape]))
        words += ["--shape", f"{name}={extents}"]
    for name, count in request.max_counts.items():
        words += ["--max", f"{name}={count}"]
    if request.emit != "shared":
        words += ["--emit", request.emit]
    if request.runtime != "private":
        words += ["--runtime", request.runtime]
    if request.keep_kernels:
        words.append("--keep-kernels")
    if request.arena != "fast":
        words += ["--arena", request.arena]
    if request.max_memory is not None:
        words += ["--max-memory", str(request.max_memory)]
    if request.profile:
        words.append("--profile")
    if request.debug_runtime:
        words.append("--debug-runtime")
    for folder in request.op_dirs:
        words += ["--op-dir", str(folder)]
    for path in request.records:
        words += ["--records", str(path)]
    if not request.shipped_records:
        words.append("--no-shipped-records")
    return shlex.join([*words, "--dump-dir", "dump", "-v"])
