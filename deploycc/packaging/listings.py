"""Kernels as text: kept in a package as ``share/NAME/kernels.zip``, or in a folder of ``--dump-dir``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploycc.packaging.manifest import sha256_of
from deploycc.types import DeployccError, Diagnostic, Listing

LISTINGS = "kernels.zip"
ENDINGS = {
    "asm": (".s", ".ptx"),
    "ir": (".ll", ".cu"),
    "script": (".after.py",),
    "unscheduled": (".before.py",),
}
"""What can be read of a kernel, and how its file's name ends; the second one is a GPU's."""


def write_listings(listings: Sequence[Listing], path: Path) -> None:
    """All texts of ``listings`` in one compressed file, the same bytes for the same texts."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for listing in listings:
            for name, text in listing.files().items():
                entry = zipfile.ZipInfo(name)  # without a time of its own it has the format's first day
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, text)


def read_listing(
    package: Path, manifest: Mapping[str, Any], kernel: int, kind: str, dump: Path | None
) -> str:
    """The text of ``kind`` (a key of ``ENDINGS``) of the kernel with this number.

    It is read from the package, or from the folder ``dump`` that ``build --dump-dir`` wrote.  Raises
    ``DeployccError``: DC620 if there is no such kernel, DC621 if the package does not have its kernels as
    text, DC622 if ``dump`` has none or is of another build.
    """
    kernel_symbol(manifest, kernel)
    if dump is not None:
        return _from_dump(dump, manifest, kernel, kind)
    path = package / "share" / manifest["name"] / LISTINGS
    if not path.is_file():
        raise DeployccError(
            Diagnostic(
                "DC621",
                f"{package} does not have its kernels as text",
                need=f"the file share/{manifest['name']}/{LISTINGS}",
                help="build with --keep-kernels; or build with --dump-dir DIR and add --dump-dir DIR here",
            )
        )
    with zipfile.ZipFile(path) as archive:
        return archive.read(_file_of(archive.namelist(), kernel, kind)).decode("utf-8")


def kernel_symbol(manifest: Mapping[str, Any], kernel: int) -> str:
    """The symbol of the kernel with this number.  Raises ``DeployccError`` (DC620) if there is none."""
    symbols = {number_of(call["symbol"]): str(call["symbol"]) for call in manifest["calls"]}
    if kernel not in symbols:
        numbers = sorted(number for number in symbols if number is not None)
        raise DeployccError(
            Diagnostic(
                "DC620",
                f"the package has no kernel {kernel}",
                need=f"a number from {numbers[0]} to {numbers[-1]}" if numbers else "a package with kernels",
                help="the column 'kernel' of 'deploycc inspect PACKAGE' has the numbers",
            )
        )
    return symbols[kernel]


def number_of(symbol: str) -> int | None:
    """The number in a kernel's symbol, ``None`` for a plain copy."""
    digits = symbol.partition("_k")[2].partition("_")[0]
    return int(digits) if digits.isdigit() else None


def _from_dump(dump: Path, manifest: Mapping[str, Any], kernel: int, kind: str) -> str:
    folder, code = dump / "kernels", dump / "60-plan.o"
    try:
        if sha256_of(code) != manifest.get("kernels_sha256"):
            raise _no_dump(dump, "the kernels of another build")
        return (folder / _file_of([file.name for file in folder.iterdir()], kernel, kind)).read_text("utf-8")
    except (OSError, LookupError) as error:
        raise _no_dump(dump, str(getattr(error, "strerror", "") or error)) from None


def _file_of(names: Sequence[str], kernel: int, kind: str) -> str:
    for name in names:
        number, _, rest = name.partition("-")
        if number.isdigit() and int(number) == kernel and rest.endswith(ENDINGS[kind]):
            return name
    raise LookupError(f"no file of kernel {kernel}")


def _no_dump(dump: Path, got: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC622",
            f"{dump} does not have the kernels of this package",
            got=got,
            need="the folder that --dump-dir named when the package was built",
            help="build the package again with --dump-dir or --keep-kernels",
        )
    )
