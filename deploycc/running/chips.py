"""Packages for GPUs: their chips, and the PTX that lies in their library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploycc.types import DeployccError, Diagnostic

PTX_START = b".version "
"""The first directive of every PTX text (PTX ISA, Module Directives: .version)."""


def is_for_gpus(manifest: Mapping[str, Any]) -> bool:
    """Whether a package's kernels run on a GPU."""
    return bool(manifest["target"].get("gpus"))


def archs_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The architectures (``sm_90``) of a package's chips, in the library's order."""
    return tuple(str(gpu["arch"]) for gpu in manifest["target"].get("gpus", ()))


def chip_number(manifest: Mapping[str, Any]) -> int:
    """Which chip a manifest is of."""
    return int(manifest.get("chip", 0))


def arch_of(manifest: Mapping[str, Any]) -> str:
    """The architecture that the manifest's ``calls`` are for; empty without a GPU."""
    archs = archs_of(manifest)
    return archs[chip_number(manifest)] if archs else ""


def view_of_chip(manifest: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The manifest with the calls and the memory of chip ``number``; ``"chip"`` says which it is."""
    tables = manifest["chips"][number]
    own = {key: tables[key] for key in ("calls", "device") if key in tables}
    return {**manifest, **own, "chip": number}


def number_of_chip(manifest: Mapping[str, Any], word: str, shown: str) -> int:
    """The chip that a user names by its architecture or its name.

    Raises ``DeployccError`` (DC886) where the package is not for it; ``shown`` is the package for people.
    """
    gpus = manifest["target"].get("gpus", ())
    for number, gpu in enumerate(gpus):
        if word in (gpu["arch"], gpu["name"]):
            return number
    known = ", ".join(f"{gpu['arch']} ({gpu['name']})" for gpu in gpus)
    raise DeployccError(
        Diagnostic(
            "DC886",
            f"{shown} has no kernels of its own for the chip '{word}'",
            got=f"--chip {word}",
            need=f"one of {known}" if gpus else "a package for GPUs",
            help="'deploycc inspect' lists a package's chips" if gpus else "leave --chip out",
        )
    )


def ptx_of(library: bytes, manifest: Mapping[str, Any], number: int) -> tuple[str, ...]:
    """The PTX of chip ``number`` as it lies in the library (or archive) of a package.

    The manifest knows each text's SHA-256, so what is found is what the driver would be given, to the bit.
    Raises ``DeployccError`` (DC887) where a text is not in it.
    """
    gpu = manifest["target"]["gpus"][number]
    wanted = [image for image in gpu["images"] if image["kind"] == "ptx"]
    found: list[str] = []
    for image in wanted:
        text = next(
            (
                library[start : start + image["bytes"]]
                for start in _starts(library)
                if start >= 0
                and hashlib.sha256(library[start : start + image["bytes"]]).hexdigest() == image["sha256"]
            ),
            None,
        )
        if text is None:
            raise DeployccError(
                Diagnostic(
                    "DC887",
                    f"the kernels for {gpu['arch']} cannot be run on the processor",
                    got="the library has not the PTX that the manifest tells of",
                    need=f"{image['bytes']} bytes with the SHA-256 {image['sha256'][:16]}...",
                    help="build the package again",
                )
            )
        found.append(text.rstrip(b"\0").decode("utf-8"))
    return tuple(found)


def _starts(library: bytes) -> Iterator[int]:
    """Where a PTX text may begin: at its version, or at the comment that the compiler writes before it."""
    for found in re.finditer(re.escape(PTX_START) + rb"\d", library):
        version = found.start()
        before = library.rfind(b"\0", 0, version) + 1
        yield from dict.fromkeys((library.find(b"//", before, version), before, version))


def library_of(root: Path, manifest: Mapping[str, Any]) -> bytes:
    """The bytes of a package's library or archive."""
    return (root / str(manifest["library"]["file"])).read_bytes()
