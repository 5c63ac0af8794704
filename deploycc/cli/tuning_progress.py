"""Shows a tuning session as it passes, and what it found."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from deploycc.cli.progress import Progress

if TYPE_CHECKING:  # it loads TVM, and a command line's start should not
    from deploycc.tuning import Tuned

_LOG_SECONDS = 5.0
"""How often a line is written where there is no terminal."""
_TASKS_SHOWN = 8


class TuningProgress:
    """Rewrites a few lines on a terminal; in a log it writes a line every few seconds."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._stages = Progress(self._stream, quiet=quiet)
        self._drawn = 0
        self._logged = 0.0
        self.trials = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event of a session."""
        if event["event"] == "stage":
            self._erase()
            self._stages(event)
        if event["event"] != "tune":
            return
        self.trials = event["trials"]
        if self._quiet:
            return
        if self._terminal:
            lines = [headline(event), *(task_line(task) for task in event["tasks"][:_TASKS_SHOWN])]
            width = shutil.get_terminal_size().columns
            self._erase()
            self._stream.write("".join(line[: width - 1] + "\n" for line in lines))
            self._drawn = len(lines)
            self._stream.flush()
        elif time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            self._stream.write(headline(event) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """End what is still open."""
        self._stages.close()
        self._drawn = 0

    def seconds(self) -> float:
        """Wall seconds since this progress began."""
        return self._stages.seconds()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def headline(event: Mapping[str, Any]) -> str:
    """One line: phase, candidates, what is left of the budget, how far the network has come."""
    amount, kind = event["budget"]
    if kind == "seconds":
        left = f"{max(0.0, amount - event['seconds']):.0f} s left"
    else:
        left = f"{max(0, int(amount) - event['trials'])} trials left"
    tasks = event["tasks"]
    timed = [task for task in tasks if task["value"] and task["default"]]
    before = sum(task["uses"] * task["default"] for task in timed)
    after = sum(task["uses"] * task["value"] for task in timed)
    gained = f", {before / after:.2f}x the static choice" if after else ""
    rate = f", {event['trials'] / event['seconds'] * 60:.0f} a minute" if event["seconds"] > 1 else ""
    failed = f", {event['failures']} failed" if event["failures"] else ""
    return (
        f"{event['phase']}: {event['trials']} candidates{rate}{failed}, "
        f"{len(timed)} of {len(tasks)} operators{gained}, {left}"
    )


def task_line(task: Mapping[str, Any]) -> str:
    """One operator: share of the time, best so far, GFLOP/s, share of peak, gain, candidates, what it is."""
    if not task["value"]:
        return f"  {task['share']:>6.1%}  {'-':>10}  {short(task['operator'])}"
    seconds = task["value"]
    gained = f"{task['default'] / seconds:.2f}x" if task["default"] else "-"
    peak = f"{task['share_of_peak']:>4.0%}" if task["share_of_peak"] else "   -"
    rate = f"{task['flops'] / seconds / 1e9:>6.1f} GFLOP/s" if seconds < 1e3 else f"{seconds:>14.4g}"
    return (
        f"  {task['share']:>6.1%}  {duration(seconds)}  {rate} {peak} of peak  {gained:>6}  "
        f"{task['tried']:>4} tried  {short(task['operator'])}"
    )


def short(operator: str) -> str:
    """An operator's numbers without their names' length."""
    for name, letter in (
        ("height", "h"), ("width", "w"), ("in_channels", "c"), ("out_channels", "k"), ("strides", "s"),
        ("dilation", "d"), ("groups", "g"), ("kernel", "r"), ("pads", "p"),
    ):  # fmt: skip
        operator = operator.replace(f" {name}=", f" {letter}=")
    return operator.replace("dtype='float32'", "float32").replace(", ", " ").replace("batch=1 ", "")


def duration(value: float) -> str:
    """Seconds as a person reads them, or a count of instructions."""
    if value >= 1e3:
        return f"{value:>9.3g} i"
    return f"{value * 1e6:>8.1f} us" if value < 0.1 else f"{value * 1e3:>8.1f} ms"


def summary(result: Tuned) -> list[str]:
    """The lines at the end: a table of operators, what was tried, and the network end to end."""
    lines = [task_line(task) for task in result.tasks]
    replaced = f", {result.replaced} workers were replaced" if result.replaced else ""
    lines.append(
        f"{result.trials} candidates in {result.seconds:.1f} s, {result.failures} of them failed{replaced}"
    )
    lines.append(f"records: {_shown(result.database)}")
    if result.same:
        lines.append("the whole network: tuned and untuned are the same code")
    elif result.untuned and result.tuned:
        lines.append(
            f"the whole network, head-to-head on one thread: untuned {duration(result.untuned).strip()}, "
            f"tuned {duration(result.tuned).strip()}: {result.untuned / result.tuned:.2f}x"
        )
    return lines


def _shown(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
