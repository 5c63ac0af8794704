"""Measurements as JSON files under ``benchmarks/results``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import Row, Time, median_of_runs
from benchmarks.machine import RESULTS, Peak, machine, measured_peak, timestamp, versions
from benchmarks.peers import PEERS


@dataclass(frozen=True)
class Measurement:
    """One call of a benchmark: ``kind`` is ``convs``, ``networks`` or ``dense``; one list of rows a run."""

    kind: str
    time: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    target: str
    peak: Peak
    runs: Sequence[Sequence[Row]]

    @property
    def rows(self) -> list[Row]:
        """The median run's row of each network and thread count."""
        return median_of_runs(self.runs)

    @property
    def peers(self) -> list[str]:
        """The peers that were measured, in the tables' order."""
        return [name for name in PEERS if name in self.versions]

    def write(self, folder: Path = RESULTS) -> Path:
        """Into ``KIND-TIME.json`` of ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.kind}-{self.time}.json"
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")
        return file


def measurement(kind: str, target: str, peers: Sequence[str], runs: Sequence[Sequence[Row]]) -> Measurement:
    """What was just measured, with this machine, its peak and the versions."""
    return Measurement(kind, timestamp(), machine(), versions(peers), target, measured_peak(), runs)


def write_results(kind: str, content: Mapping[str, Any]) -> Path:
    """``content`` of a benchmark without peers, machine and versions with it, into ``KIND-TIME.json``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = timestamp()
    file = RESULTS / f"{kind}-{now}.json"
    table = {"kind": kind, "time": now, "machine": machine(), "versions": versions([]), **content}
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return file


def load(file: Path) -> Measurement:
    """A file that ``write`` made.  Raises ValueError for any other."""
    table = json.loads(file.read_text(encoding="utf-8"))
    try:
        peak = table.pop("peak")
        runs = table.pop("runs")
        return Measurement(
            **table,
            peak=Peak(peak["gflops"], {int(kib): rate for kib, rate in peak["read_gbs"].items()}),
            runs=[[_row(row) for row in run] for run in runs],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no measurement: {error!r}") from None


def merged(files: Sequence[Path]) -> Measurement:
    """Files of one kind, machine and target as one: rows measured again replace earlier ones.

    Each row was measured in turns on its own, so rows of different files stay comparable in their ratios.
    Raises ValueError where kind, machine, target or a version differs.
    """
    parts = [load(file) for file in files]
    for part in parts[1:]:
        for name in ("kind", "machine", "target"):
            if getattr(part, name) != getattr(parts[0], name):
                raise ValueError(f"{files[0]} and another file differ in {name}")
        if any(parts[0].versions.get(key, value) != value for key, value in part.versions.items()):
            raise ValueError(f"{files[0]} and another file differ in versions")
    rows: dict[tuple[str, int], list[Row]] = {}
    for part in parts:
        fresh: dict[tuple[str, int], list[Row]] = {}
        for run in part.runs:
            for row in run:
                fresh.setdefault((row.name, row.threads), []).append(row)
        rows.update(fresh)
    depth = max((len(of_one) for of_one in rows.values()), default=0)
    runs = [[of_one[run] for of_one in rows.values() if run < len(of_one)] for run in range(depth)]
    known = {key: value for part in parts for key, value in part.versions.items()}
    return dataclasses.replace(parts[-1], versions=known, runs=runs)


def newest(kind: str, folder: Path = RESULTS) -> Path | None:
    """The newest file of a kind, ``None`` where there is none."""
    return max(folder.glob(f"{kind}-*.json"), default=None)


def _row(table: dict[str, Any]) -> Row:
    return Row(**{**table, "times": {name: Time(**time) for name, time in table["times"].items()}})
