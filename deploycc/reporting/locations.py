"""Lines of Python in findings: ``models/net.py:41``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class PythonLine:
    """A file as the export recorded it, and a line from 1 on."""

    file: str
    number: int

    @property
    def in_checkout(self) -> bool:
        """Whether it can be a file of the repository that is checked: no path of some machine."""
        path = PurePath(self.file)
        return not path.is_absolute() and ".." not in path.parts and "site-packages" not in path.parts


def python_line(location: str) -> PythonLine | None:
    """The line that ``Diagnostic.location`` tells of, ``None`` where it tells of none."""
    found = re.match(r"(?P<file>.+?):(?P<line>[1-9]\d*)(?:\D|$)", location)
    return PythonLine(found["file"], int(found["line"])) if found else None
