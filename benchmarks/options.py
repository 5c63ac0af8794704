"""Options that the benchmarks of the suite and of the networks share."""

from __future__ import annotations

import argparse
import atexit
import shutil
import tempfile
from pathlib import Path

from benchmarks.peers import PEERS

_NEVER = '''"""Stands in for the schedule of this name and never matches."""

from deploycc.operators import Skip

KNOBS = {}
match = lambda task, target: Skip("left out of this measurement")
apply = lambda sch, match, knobs: None
cost = lambda match, knobs: None
'''


def _names(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _counts(text: str) -> list[int]:
    return [int(word) for word in _names(text)]


def add_schedule_options(parser: argparse.ArgumentParser) -> None:
    """What is built."""
    parser.add_argument("--schedule-dir", type=Path, action="append", default=[])
    parser.add_argument("--without", type=_names, default=[], help="schedules to leave out, comma-separated")
    parser.add_argument(
        *("--no-shipped-records",),
        dest="shipped_records",
        action="store_false",
        help="static costs alone choose",
    )
    parser.add_argument("--keep", action="store_true", help="reuse packages of an earlier run")
    parser.add_argument("--build-only", action="store_true", help="build the packages and stop")


def add_measuring_options(parser: argparse.ArgumentParser, rounds: int) -> None:
    """What is built, which engines run, how long."""
    parser.add_argument("--target", default="host")
    add_schedule_options(parser)
    parser.add_argument("--peers", type=_names, help=f"of {','.join(PEERS)} (default: all installed)")
    parser.add_argument("--only-peers", action="store_true", help="leave ourselves out; builds nothing")
    parser.add_argument("--threads", type=_counts, default=[1], help="comma-separated (default 1)")
    parser.add_argument(
        "--runs", type=int, default=rounds, help=f"rounds (default {rounds}); the median counts"
    )
    parser.add_argument("--round-ms", type=float, default=4.0, help="at least so long a turn (default 4)")
    parser.add_argument("--repeat", type=int, default=1, help="whole measurements; the median one counts")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="processor time instead of wall time (one thread only): for machines others use too",
    )


def peers_of(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """The peers to measure, in the tables' order; says which are missing.  Exits where a name is unknown."""
    wanted = list(PEERS) if arguments.peers is None else arguments.peers
    unknown = [name for name in wanted if name not in PEERS]
    if unknown:
        parser.error(f"unknown peers: {', '.join(unknown)}; known: {', '.join(PEERS)}")
    missing = [name for name in wanted if not PEERS[name].installed]
    if missing:
        print(f"not installed (extra bench), left out: {', '.join(missing)}")
    return [name for name in PEERS if name in wanted and name not in missing]


def schedule_folders(arguments: argparse.Namespace) -> list[Path]:
    """The folders of ``--schedule-dir``, and one that stands in for the schedules of ``--without``.

    A schedule file of a later folder replaces one of the same name.
    """
    folders = list(arguments.schedule_dir)
    if arguments.without:
        empty = Path(tempfile.mkdtemp(prefix="deploycc-without-"))
        atexit.register(shutil.rmtree, empty, ignore_errors=True)
        for name in arguments.without:
            (empty / f"{name}.py").write_text(_NEVER, encoding="utf-8")
        folders.append(empty)
    return folders
