"""Reports and baselines on disk: complete or absent."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from deploycc.types import DeployccError, Diagnostic


def write_text(path: Path, text: str) -> None:
    """Write aside and rename; a pipe or device that is there already is written to.

    Raises ``DeployccError`` (DC778) for a file that cannot be written.
    """
    data = text.encode("utf-8", "backslashreplace")
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        try:
            aside.write_bytes(data)
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
    except OSError as error:
        raise DeployccError(
            Diagnostic(
                "DC778",
                f"{path} cannot be written",
                got=error.strerror or str(error),
                need="a file in a folder that is there and can be written",
            )
        ) from None
