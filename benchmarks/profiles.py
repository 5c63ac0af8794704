"""Packages with timers beside packages without: the same numbers, what timers cost, what layers add up to.

    python -m benchmarks.profiles [--networks a,b] [--threads 1] [--rounds 40] [--keep]

For each network both packages are built for the host (``--keep`` reuses those of an earlier run).  Their
outputs on fresh random inputs must be equal to the bit and their kernels the same; then both run in turns,
and what timers cost is the median of the rounds' ratios.  The layers' times of the package without timers
(observed) and with them are held against the whole run.  To be run on a machine that does nothing else.

Leaves with 1 where numbers differ, layers add up to less than 95 % or more than 105 % of the whole, or
timers cost 2 % or more.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.building import BuildFailed, build
from benchmarks.networks import networks
from benchmarks.pinned import ROOT, FileUnavailable
from deploycc.profile import profile
from deploycc.result_types import Profile
from deploycc.running import Orders, Package, Session, open_package, place_of
from deploycc.running.inputs import inputs_of

RUNS_A_ROUND_US = 20_000
"""So long each package runs before it is the other's turn."""
COVERED, COST = 0.05, 0.02


@dataclass(frozen=True)
class Row:
    """One network: ``same`` numbers and kernels, the layers' sum over the whole, what timers cost."""

    name: str
    same: bool
    steps: int
    whole_us: float
    observed: float
    timed: float
    cost: float

    @property
    def ok(self) -> bool:
        """Whether it is what a package with timers is promised to be."""
        sums = all(abs(covered - 1) <= COVERED for covered in (self.observed, self.timed))
        return self.same and sums and self.cost < COST


def measured(name: str, threads: int, rounds: int, keep: bool) -> Row:
    """Build both packages of a network and compare them."""
    plain, timed = (_package(name, options, keep) for options in ((), ("--profile",)))
    same = plain.manifest["kernels_sha256"] == timed.manifest["kernels_sha256"]
    inputs, _ = inputs_of(plain, "random", int(np.random.default_rng().integers(1 << 30)))
    orders = Orders(threads=threads, warmup=5, serve=True)
    place = place_of(None, plain.manifest)
    with (
        Session(plain, place, inputs, orders) as one,
        Session(timed, place_of(None, plain.manifest), inputs, orders) as other,
    ):
        each = max(int(RUNS_A_ROUND_US / np.median(one.ask(5))), 1)
        ratios = [_ratio(one, other, each, turn) for turn in range(rounds)]
        outputs = [session.finish().outputs for session in (one, other)]
    same = same and all(a.tobytes() == b.tobytes() for a, b in zip(*outputs, strict=True))
    observed, counted = (profile(package.path, threads=threads) for package in (plain, timed))
    return Row(
        name,
        same,
        steps=len(observed.layers),
        whole_us=observed.whole_us,
        observed=_covered(observed),
        timed=_covered(counted),
        cost=float(np.median(ratios)) - 1,
    )


def _ratio(plain: Session, timed: Session, runs: int, turn: int) -> float:
    """The timed package's time over the plain one's, each first in every second turn."""
    order = (plain, timed) if turn % 2 else (timed, plain)
    times = {id(session): _mean(session.ask(runs)) for session in order}
    return times[id(timed)] / times[id(plain)]


def _mean(times: list[float]) -> float:
    """Without the slowest 2 %, which something else held up.

    No median: where not every run is timed it would show one kind only.
    """
    return float(np.mean(np.sort(times)[: math.ceil(0.98 * len(times))]))


def _covered(found: Profile) -> float:
    return sum(layer.time_us for layer in found.layers) / found.whole_us


def _package(name: str, options: tuple[str, ...], keep: bool) -> Package:
    folder: Path = ROOT / "out" / "profiles" / ("-".join([name, *options]).replace("--", ""))
    if not (keep and folder.is_dir()):
        build(name, "host", folder, options)
    return open_package(folder)


def main() -> int:
    """Compare what the command line names, a line a network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles")
    parser.add_argument("--networks", default=",".join(networks()))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    print(f"{'network':28} {'steps':>5} {'us':>9} {'observed':>9} {'timers':>8} {'cost':>7}  same")
    rows = []
    for name in given.networks.split(","):
        try:
            row = measured(name, given.threads, given.rounds, given.keep)
        except (BuildFailed, FileUnavailable) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        rows.append(row)
        figures = f"{row.whole_us:9.1f} {row.observed:9.1%} {row.timed:8.1%} {row.cost:7.2%}"
        told = ("yes" if row.same else "NO") + ("" if row.ok else "  not as promised")
        print(f"{name:28} {row.steps:5} {figures}  {told}", flush=True)
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
