"""Output folders that are complete or absent: written aside, then renamed.

What a killed process leaves beside an output is known by its mark, which the process holds locked as long as
it lives (the kernel lets go of it), and is cleared away by the next one that writes there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from deploycc.packaging.manifest import read_manifest
from deploycc.types import DeployccError, Diagnostic

MARK = ".deploycc-writes-here"
"""The file by which a staging folder is known for one."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

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
        if replaced and _exchanged(self.folder, self._output):
            return
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
    mark = -1
    try:
        try:
            for parent in reversed((output.parent, *output.parent.parents)):
                if not parent.exists():
                    parent.mkdir()
                    made.append(parent)
            _clear_away(output)
            aside = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
            mark = _marked(aside)
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
            _remove(aside)
        if mark >= 0:
            os.close(mark)
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # not empty: the package is in it
                parent.rmdir()


def _marked(aside: Path) -> int:
    """A descriptor that holds the folder's mark locked; it appears under its name when it is locked."""
    fresh = aside / f"{MARK}.new"
    mark = os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # a file system without locks: then nothing is ever cleared away
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(aside / MARK)
    return mark


def _clear_away(output: Path) -> None:
    """Remove what killed processes left beside ``output``, a package they had moved aside put back."""
    name = re.compile(rf"\.{re.escape(output.name)}-[a-z0-9_]{{8}}")
    left: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that may be written and not read
        left = [entry for entry in output.parent.iterdir() if name.fullmatch(entry.name)]
    for aside in left:
        with contextlib.suppress(OSError):  # held by a living process, or not ours
            mark = os.open(aside / MARK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (aside / "old").is_dir() and not output.exists():
                    (aside / "old").rename(output)
                _remove(aside)
            finally:
                os.close(mark)


def _remove(aside: Path) -> None:
    """The mark goes last: what is left, should this be killed as well, is still known by it."""
    with contextlib.suppress(OSError):
        for entry in aside.iterdir():
            if entry.name != MARK:
                shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where the C library and the file system can: renameat2(2)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    here = ctypes.c_int(_AT_FDCWD)
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), _RENAME_EXCHANGE) == 0)


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
