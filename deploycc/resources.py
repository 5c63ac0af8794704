"""Where the data files that come with deploycc are, and where it keeps what it made."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal


def data_dir(kind: Literal["targets", "schedules"]) -> Path:
    """Folder of the target files or of the schedules.

    In a wheel they lie inside the package, in a checkout (and an editable install of it) beside it.
    """
    package = Path(__file__).resolve().parent
    installed = package / f"_{kind}"
    return installed if installed.is_dir() else package.parent / kind


def cache_directory() -> Path:
    """``$DEPLOYCC_CACHE_DIR``, else ``$XDG_CACHE_HOME/deploycc``, else ``~/.cache/deploycc``.

    Under the folder for temporary files where the user has no home.
    """
    named = os.environ.get("DEPLOYCC_CACHE_DIR")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "deploycc"
    try:
        return Path.home() / ".cache" / "deploycc"
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / f"deploycc-{os.getuid()}"
