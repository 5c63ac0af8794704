"""Shows the stages of a build as they pass."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO


class Progress:
    """Writes one line a stage: rewritten while it runs on a terminal, whole lines in a log."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._open = False
        self._began = time.perf_counter()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event of a build."""
        if event["event"] == "variant" and not self._quiet:
            self._write(f" {event['name']}\n")
        if self._quiet or event["event"] != "stage":
            return
        if event["state"] == "end":
            start = "\r\x1b[K" if self._terminal else ""
            self._write(f"{start}  {event['name']:<10} {event['seconds']:>7.2f} s\n")
            self._open = False
        elif self._terminal:
            self._write(f"\r\x1b[K  {event['name']:<10} ...")
            self._open = True

    def close(self) -> None:
        """End a line that is still open."""
        if self._open:
            self._write("\n")
            self._open = False

    def seconds(self) -> float:
        """Wall seconds since this progress began."""
        return time.perf_counter() - self._began

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
