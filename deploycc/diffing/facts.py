"""What two manifests say besides their plans: interface, target, versions, model and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from deploycc.chip_facts import chips_told
from deploycc.diffing.types import Fact, Size

_MEMORY = {
    "weight_bytes": "weights",
    "arena_bytes": "arena",
    "workspace_bytes": "workspace",
    "thread_workspace_bytes": "workspace a thread",
}
_NAMELESS = "NAME"
"""Stands for a package's own name in those of its files and symbols: to a reader they are the same file."""


def facts_of(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Fact, ...]:
    """Every fact that either manifest has, with what both say."""
    return tuple(
        Fact(section, name, *values)
        for section, tell in (
            ("interface", _interface),
            ("model", _model),
            ("target", _target),
            ("GPU chips", _chips),
            ("versions", _versions),
        )
        for name, values in _beside(dict(tell(a)), dict(tell(b)))
    )


def _beside(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for name in (*a, *(name for name in b if name not in a)):
        yield name, (a.get(name, ""), b.get(name, ""))


def _interface(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "name", manifest["name"]
    for role in ("inputs", "outputs"):
        for number, tensor in enumerate(manifest[role]):
            extents = "x".join(map(str, tensor["shape"])) or "scalar"
            yield f"{role[:-1]} {number}", f"{tensor['name']} {tensor['dtype']} {extents}"
    table = manifest["interface"]
    for key, value in table.items():
        if key != "symbols":
            yield key.replace("_", " ").replace("abi", "ABI"), str(value)
    own = manifest["name"] + "_"
    for symbol in table.get("symbols", ()):
        yield f"symbol {_NAMELESS}_{symbol.removeprefix(own)}", "yes"
    library = manifest["library"]
    for needed in library.get("needed") or ():
        yield f"needs {needed}", "yes"
    yield "needs glibc", str(library.get("highest_glibc") or "")


def _model(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model = manifest["model"]
    yield from ((key, str(value)) for key, value in model.items())
    for operator, count in sorted(manifest["operators"].items()):
        yield f"{operator} nodes", str(count)
    if "kernels_sha256" in manifest:
        yield "kernels' sha256", manifest["kernels_sha256"]


def _target(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in manifest["target"].items():
        if key == "gpus":
            continue
        yield key.replace("_", " "), " ".join(value) if isinstance(value, list) else str(value)


def _chips(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for chip in chips_told(manifest):
        yield chip.arch, chip.name
        yield f"{chip.arch} code", ", ".join(chip.code)
        yield f"{chip.arch} steps on the GPU", str(chip.on_gpu)
        yield f"{chip.arch} steps on the processor", str(chip.on_processor)
        yield f"{chip.arch} kernels launched", str(chip.launches)
        yield f"{chip.arch} arena", f"{chip.arena_bytes} bytes"
        yield f"{chip.arch} registers at most", str(max((k.registers for k in chip.kernels), default=0))
        yield (
            f"{chip.arch} shared memory at most",
            f"{max((k.shared_bytes for k in chip.kernels), default=0)} bytes",
        )


def _versions(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from ((name, str(version)) for name, version in sorted(manifest["versions"].items()))
    yield "reference engine", str(manifest["golden"].get("engine", ""))


def sizes_of(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Size, ...]:
    """What the packages take, in bytes, and each of their files."""
    found = [
        Size("sizes", name, *values, same=values[0] == values[1])
        for name, values in _pairs(dict(_whole(a)), dict(_whole(b)))
    ]
    files_a, files_b = _files(a), _files(b)
    for name, (entry_a, entry_b) in _pairs(files_a, files_b):
        sizes = (_bytes(entry_a), _bytes(entry_b))
        same = entry_a == entry_b
        if same or any(size is not None for size in sizes):
            found.append(Size("files", name, *sizes, same=same))
    return tuple(found)


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in (*a, *(name for name in b if name not in a)):
        yield name, (a.get(name), b.get(name))


def _whole(manifest: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    library = manifest["library"]
    for key, name in (("bytes", "library"), ("code_bytes", "code")):
        if isinstance(library.get(key), int):
            yield name, library[key]
    memory = manifest["memory"]
    for key in (*_MEMORY, *(key for key in memory if key not in _MEMORY)):
        if isinstance(memory.get(key), int):
            yield _MEMORY.get(key, key.replace("_", " ")), memory[key]
    entries = manifest["files"].values()
    yield "all files", sum(entry.get("bytes", 0) for entry in entries)


def _files(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    own = re.compile(rf"^(lib)?{re.escape(manifest['name'])}(?=$|[._]|Config)")
    found = {}
    for name, entry in manifest["files"].items():
        folder, *parts = name.split("/")
        # The example's files have names of their own, which a package's may be by chance.
        shown = parts if folder == "example" else [own.sub(rf"\1{_NAMELESS}", part) for part in parts]
        found["/".join((folder, *shown))] = entry
    return found


def _bytes(entry: Mapping[str, Any] | None) -> int | None:
    return None if entry is None else entry.get("bytes")


def interface_same(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists of inputs or outputs are the same: names, types and shapes."""
    keys = ("name", "dtype", "shape")
    return all(
        one is not None and other is not None and [one[k] for k in keys] == [other[k] for k in keys]
        for one, other in zip_longest(a, b)
    )
