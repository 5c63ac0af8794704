"""Output folders that are complete or absent: written aside, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from deploycc.packaging.manifest import read_manifest
from deploycc.types import DeployccError, Diagnostic

FULL_BYTES = 1 << 20
"""Less free space than this after a failure means that the disk was full."""


class Staging:
    """A folder beside ``output`` to be filled (``folder``) and then put in its place (``commit``)."""

    def __init__(self, output: Path, aside: Path) -> None:
        self._output = output
        self._aside = aside
        self.folder = aside / "package"
        self.folder.mkdir()

    def commit(self) -> None:
        """Put the folder in place of ``output``; an older package there goes away."""
        old = self._aside / "old"
        replaced = self._output.exists()
        if replaced:
            self._output.rename(old)
        try:
            self.folder.rename(self._output)
        except BaseException:
            if replaced:
                old.rename(self._output)
            raise


@contextlib.contextmanager
def staging(
    output: Path, replaceable: Callable[[Path], bool] | None = None, kind: str = "package"
) -> Iterator[Staging]:
    """A staging folder that is gone when the block ends, however it ends.

    ``replaceable`` says which folders may be replaced, those of ``kind``: packages unless given.

    Raises ``DeployccError``: DC753 if ``output`` holds something else, DC731 if its parent cannot be
    written, DC730 if the block failed on a full disk.
    """
    _check_replaceable(output, replaceable or is_package, kind)
    made: list[Path] = []
    aside: Path | None = None
    try:
        try:
            for parent in reversed((output.parent, *output.parent.parents)):
                if not parent.exists():
                    parent.mkdir()
                    made.append(parent)
            aside = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
            place = Staging(output, aside)
        except OSError as error:
            raise _cannot_write(output, error) from None
        try:
            yield place
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(output) from None
            raise
        except Exception:
            if shutil.disk_usage(aside).free < FULL_BYTES:
                raise disk_full(output) from None
            raise
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # not empty: the package is in it
                parent.rmdir()


def is_package(folder: Path) -> bool:
    """Whether this folder is a package that deploycc wrote."""
    try:
        read_manifest(folder)
    except DeployccError:
        return False
    return True


def has_format(file: Path, name: str) -> bool:
    """Whether this is one of deploycc's JSON files, of the format of that name."""
    try:
        table = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(table, dict) and table.get("format") == name


def _check_replaceable(output: Path, replaceable: Callable[[Path], bool], kind: str) -> None:
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        what = "a file or a link"
    elif output.is_dir() and any(output.iterdir()) and not replaceable(output):
        what = f"a folder that is no {kind}"
    else:
        return
    raise DeployccError(
        Diagnostic(
            "DC753",
            f"{output} is already there and will not be replaced",
            got=what,
            need=f"a new or empty folder, or an older {kind}",
            help="choose another with -o",
        )
    )


def _cannot_write(output: Path, error: OSError) -> DeployccError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(output)
    return DeployccError(
        Diagnostic(
            "DC731",
            f"the output folder {output} cannot be written",
            got=os.strerror(error.errno or 0),
            need=f"a folder in which {output.name} can be made",
            help="choose another with -o",
        )
    )


def disk_full(output: Path) -> DeployccError:
    """The diagnostic for a full disk under ``output``."""
    return DeployccError(
        Diagnostic(
            "DC730",
            f"the disk is full; {output} was not written",
            got=f"{shutil.disk_usage(output.parent).free >> 20} MiB free under {output.parent}",
            help="free some space, or choose another disk with -o",
        )
    )
