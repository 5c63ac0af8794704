"""``share/NAME/manifest.json``: written last, read back and checked by ``inspect``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from deploycc.operators import Conv2d
from deploycc.packaging.generate_build import tolerance_of
from deploycc.packaging.interface import ABI_VERSION, Interface, Tensor
from deploycc.records import operator_of
from deploycc.types import (
    Buffer,
    BuildRequest,
    Call,
    DeployccError,
    Diagnostic,
    Golden,
    Launch,
    Model,
    Plan,
    Precision,
    Result,
    Target,
)

FORMAT = "deploycc package"
SCHEMA_VERSION = 1
"""Raised when a reader of this version could misread a manifest."""

_REQUIRED: Mapping[str, type] = {
    "calls": list,
    "deploycc": str,
    "files": dict,
    "format": str,
    "golden": dict,
    "inputs": list,
    "interface": dict,
    "library": dict,
    "memory": dict,
    "model": dict,
    "name": str,
    "operators": dict,
    "outputs": list,
    "schema_version": int,
    "target": dict,
    "versions": dict,
}


VARYING = ("calls", "golden", "inputs", "memory", "outputs")
"""The tables in which variants of a package for several shapes differ; the manifest's own are the first's."""


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_entry(tensor: Tensor, precision: str = "fp32", error: float = 0.0) -> dict[str, Any]:
    """An input, or an output that ``precision`` was measured to cost ``error``."""
    counted, tolerance = tensor.info.counted, tolerance_of(tensor.info.dtype, precision, error)
    return {
        "bytes": tensor.bytes,
        **({"counted": {"axis": counted.axis, "output": counted.output}} if counted is not None else {}),
        "dtype": tensor.info.dtype,
        "elements": tensor.elements,
        "identifier": tensor.identifier,
        "layout": "row-major",
        "name": tensor.info.name,
        "shape": list(tensor.info.shape),
        **({"tolerance": tolerance} if tolerance is not None else {}),
    }


def _target(target: Target) -> dict[str, Any]:
    return {
        "cpu": target.llvm.cpu,
        "features": list(target.llvm.features),
        "glibc_floor": target.linker.glibc_floor,
        "libc": target.linker.libc,
        "linker_triple": target.linker.triple,
        "llvm_triple": target.llvm.triple,
        "name": target.name,
        # The path of a compiler is the builder's own business.
        "toolchain": target.linker.toolchain if target.linker.toolchain in ("zig", "none") else "other",
        **({"precision": target.precision} if target.gpus else {}),
    }


def call_entry(call: Call) -> dict[str, Any]:
    """One step of the plan.  What is not known (a copy has no schedule, most have no record) is left out."""
    entry: dict[str, Any] = {
        "knobs": dict(call.knobs),
        "nodes": list(call.origin.nodes),
        "operators": list(call.operators),
        "reads": [_buffer(buffer) for buffer in call.reads],
        "schedule": call.schedule,
        "symbol": call.symbol,
        "writes": [
            {**_buffer(buffer), **_result(result)}
            for buffer, result in zip_longest(call.writes, call.origin.results)
        ],
    }
    if call.launches:
        entry["launches"] = [_launch(launch) for launch in call.launches]
    if call.cycles:
        entry["cycles"] = round(call.cycles)
    if call.measured_seconds is not None:
        entry["measured_us"] = round(call.measured_seconds * 1e6, 3)
    if call.operator:
        operator = operator_of(call.operator)
        entry["operator"] = call.operator
        entry["flops"] = operator.flops
        if isinstance(operator, Conv2d):
            entry["layouts"] = [operator.data_layout, operator.out_layout]
    return entry


def _launch(launch: Launch) -> dict[str, Any]:
    """A launch of a GPU kernel; its arguments are those of the call, by number."""
    return {
        "arguments": list(launch.arguments),
        "block": list(launch.block),
        "function": launch.function,
        "grid": list(launch.grid),
        "shared_bytes": launch.shared_bytes,
    }


def _buffer(buffer: Buffer) -> dict[str, Any]:
    """Where a tensor lies: bytes from the start of an input or output, the arena or the weights."""
    place: dict[str, Any] = {"bytes": buffer.nbytes, "kind": buffer.kind, "offset": buffer.offset}
    return {**place, "index": buffer.index} if buffer.kind in ("input", "output") else place


def _result(result: Result | None) -> dict[str, Any]:
    """Which tensor of the model it is, in memory's shape; nothing where the model has no such."""
    if result is None:
        return {}
    return {
        "dtype": result.dtype,
        "layout": "channels last" if result.channels_last else "row-major",
        "shape": list(result.shape),
        "tensor": result.tensor,
    }


def memory_table(plan: Plan) -> dict[str, Any]:
    """Sizes in bytes; how the arena came about, and for the smallest what it is beside the fast one."""
    memory = plan.memory
    table: dict[str, Any] = {
        "arena": memory.arena,
        "arena_bytes": plan.arena_bytes,
        "lower_bound_bytes": memory.lower_bound_bytes,
        "thread_workspace_bytes": plan.thread_workspace_bytes,
        "weight_bytes": len(plan.weights),
        "workspace_bytes": plan.workspace_bytes,
    }
    if memory.arena == "smallest":
        table["fast_arena_bytes"] = memory.fast_bytes
        table["steps_on_one_thread"] = memory.serial
        table["steps_over_operands"] = memory.shared
        table["steps_recomputed"] = memory.recomputed
        table["extra_cycles"] = round(memory.extra, 4)
    return table


def golden_table(golden: Golden, folder: str) -> dict[str, Any]:
    """Where the golden tensors lie, and what made them."""
    return {
        "engine": golden.engine,
        "inputs": [f"{folder}/input_{i}.bin" for i in range(len(golden.inputs))],
        "outputs": [f"{folder}/output_{i}.bin" for i in range(len(golden.outputs))],
        "own_error": [float(f"{error:.2e}") for error in golden.own_error],
        "seed": golden.seed,
    }


def precision_table(precision: Precision, golden: Golden) -> dict[str, Any]:
    """How a GPU stores tensors and multiplies, and what that costs each output on the golden inputs."""
    half = {"fp16": "float16", "bf16": "bfloat16"}.get(precision, "float32")
    return {
        "error": [
            {
                "finite": error.finite,
                "max_abs": float(f"{error.max_abs:.2e}"),
                "max_scaled": float(f"{error.max_scaled:.2e}"),
                "rms": float(f"{error.rms:.2e}"),
            }
            for error in golden.rounding
        ],
        "name": precision,
        "products": "tf32" if precision == "tf32" else half,
        "storage": half,
    }


def files_of(root: Path) -> dict[str, Any]:
    """Every file under ``root`` with its size and hash, links with where they lead."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = {"link": path.readlink().as_posix()}
        elif path.is_file():
            found[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return found


def manifest_of(
    interface: Interface,
    plan: Plan,
    request: BuildRequest,
    model: Model,
    golden: Golden,
    library: Mapping[str, Any],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The manifest without its files; no times, no paths of this machine.

    ``library`` is what the linker step found out; see ``package``.  All sizes in bytes.
    """
    operators = Counter(
        f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for node in model.proto.graph.node
    )
    return {
        "calls": [call_entry(call) for call in plan.calls],
        "deploycc": versions["deploycc"],
        "files": {},
        "format": FORMAT,
        "golden": golden_table(golden, f"share/{interface.name}/golden"),
        "inputs": [tensor_entry(t) for t in interface.inputs],
        "interface": {
            "abi_version": ABI_VERSION,
            "emit": request.emit,
            "profile": request.profile,
            "debug_runtime": request.debug_runtime,
            "runtime": request.runtime,
            "symbols": list(interface.symbols),
        },
        "kernels_sha256": hashlib.sha256(plan.kernels).hexdigest(),
        "library": dict(library),
        "memory": memory_table(plan),
        "model": {"opset": model.opset, "parameters": plan.parameters, "sha256": model.sha256},
        "name": interface.name,
        "operators": dict(operators),
        "outputs": [
            tensor_entry(tensor, interface.precision, error)
            for tensor, error in zip(
                interface.outputs, interface.rounding or (0.0,) * len(interface.outputs), strict=True
            )
        ],
        **({"precision": precision_table(request.target.precision, golden)} if request.target.gpus else {}),
        "schema_version": SCHEMA_VERSION,
        "target": _target(request.target),
        "versions": dict(versions),
    }


def write_manifest(root: Path, manifest: Mapping[str, Any]) -> None:
    """Write it where readers look for it."""
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    (root / "share" / manifest["name"] / "manifest.json").write_text(text, encoding="ascii")


# ---- reading ----


def inspect(path: str | Path) -> Mapping[str, Any]:
    """The manifest of the package folder ``path``, after every file in it was checked.

    Raises ``DeployccError``: DC700 if the folder is no package, DC701 if its manifest is broken,
    DC702 if it was written by a newer deploycc, DC703 for each file that is missing or changed.
    """
    root = Path(path)
    manifest = read_manifest(root)
    findings = [
        finding for name, entry in manifest["files"].items() for finding in _check_file(root, name, entry)
    ]
    if findings:
        raise DeployccError(*findings)
    return manifest


def read_manifest(root: Path) -> dict[str, Any]:
    """The parsed manifest, its form checked, its files not.  Raises DC700, DC701 or DC702."""
    found = sorted(root.glob("share/*/manifest.json")) if root.is_dir() else []
    if len(found) != 1:
        got = "no such folder" if not root.exists() else "not a folder" if not root.is_dir() else ""
        raise DeployccError(
            Diagnostic(
                "DC700",
                f"{root} is no package",
                got=got or f"{len(found)} files share/*/manifest.json",
                need="a folder that 'deploycc build' wrote, with one share/NAME/manifest.json",
            )
        )
    shown = found[0].relative_to(root).as_posix()
    try:
        manifest = json.loads(found[0].read_bytes())
    except (ValueError, RecursionError) as error:
        raise _broken(shown, f"no JSON: {error}") from None
    except OSError as error:
        raise _broken(shown, f"cannot be read: {error.strerror}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _broken(shown, f'no "format": "{FORMAT}"')
    version = manifest.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DeployccError(
            Diagnostic(
                "DC702",
                f"{shown} was written by a newer deploycc",
                got=f"schema version {version}",
                need=f"at most {SCHEMA_VERSION}",
                help="use that version of deploycc, or build the package again",
            )
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise _broken(shown, f'"{key}" is {"missing" if key not in manifest else f"no {kind.__name__}"}')
    if manifest["name"] != found[0].parent.name:
        raise _broken(shown, '"name" is not the folder\'s')
    variants = manifest.get("variants", [{key: manifest[key] for key in VARYING}])
    if not isinstance(variants, list) or not variants or not all(map(_is_variant, variants)):
        raise _broken(shown, '"variants" is no list of tables for each variant')
    if not all(isinstance(entry, dict) for entry in manifest["files"].values()):
        raise _broken(shown, 'an entry of "files" is no object')
    return manifest


def _is_variant(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), _REQUIRED[key]) for key in VARYING)


def _broken(shown: str, why: str) -> DeployccError:
    return DeployccError(
        Diagnostic("DC701", f"{shown} is broken", got=why[:200], help="build the package again")
    )


def _check_file(root: Path, name: str, entry: Mapping[str, Any]) -> list[Diagnostic]:
    path = root / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        got = "a path that leads out of the package"
    elif "link" in entry:
        got = (
            ""
            if path.is_symlink() and path.readlink().as_posix() == entry["link"]
            else "missing or changed link"
        )
        if got and path.is_file() and (path.parent / str(entry["link"])).is_file():
            got = ""  # copied by a tool that follows links
    elif not path.is_file():
        got = "missing"
    else:
        try:
            same = path.stat().st_size == entry.get("bytes") and sha256_of(path) == entry.get("sha256")
        except OSError as error:
            same, got = False, f"cannot be read: {error.strerror}"
        else:
            got = "" if same else "other bytes than when it was built"
    if not got:
        return []
    return [
        Diagnostic(
            "DC703",
            f"{name} of the package is not what was built",
            got=got,
            need="the file with the SHA-256 that the manifest has",
            help="copy the package again, or build it again",
        )
    ]
