"""Where the data files that come with deploycc are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def data_dir(kind: Literal["targets", "schedules"]) -> Path:
    """Folder of the target files or of the schedules.

    In a wheel they lie inside the package, in a checkout (and an editable install of it) beside it.
    """
    package = Path(__file__).resolve().parent
    installed = package / f"_{kind}"
    return installed if installed.is_dir() else package.parent / kind
