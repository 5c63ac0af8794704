"""Does ``deploycc bench`` say the same every time?  Its verdicts over repeated benchmarks of the networks.

    python -m benchmarks.agreement [--networks a,b] [--times 20] [--against onnxruntime] [--twin] [--keep]

Each network is built for the host, benchmarked once, and then ``--times`` times more; a line a network says
how often the verdict was the first one's.  With ``--twin`` it is beside a copy of itself, where every other
verdict than "no difference seen" is a mistake.  Leaves with 1 if a verdict differed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.building import BuildFailed, build_or_keep
from benchmarks.networks import fetch, networks
from benchmarks.options import _names
from benchmarks.pinned import FileUnavailable
from deploycc.bench import bench
from deploycc.result_types import Contest
from deploycc.timing.schedule import Effort
from deploycc.timing.statistics import TEST
from deploycc.types import DeployccError

SECONDS = 5.0
UNSEEN = "no difference seen"


def main(words: Sequence[str] | None = None) -> int:
    """Benchmark again and again; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", type=_names, default=list(networks()), help="comma-separated (all)")
    parser.add_argument("--times", type=int, default=20, help="benchmarks after the first (20)")
    parser.add_argument("--against", default="onnxruntime", help="an engine (onnxruntime)")
    parser.add_argument("--threads", type=int, default=1, help="of a run (1)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of timed runs, each benchmark (5)")
    parser.add_argument("--twin", action="store_true", help="beside a copy of the package, not an engine")
    parser.add_argument("--keep", action="store_true", help="reuse packages of an earlier run")
    arguments = parser.parse_args(words)
    print(f"test: {TEST}", flush=True)
    differed = 0
    for name in arguments.networks:
        try:
            contests = repeated(name, arguments)
        except (BuildFailed, FileUnavailable, DeployccError) as error:
            print(f"{name}: {error}", flush=True)
            differed += 1
            continue
        print(line_of(name, contests, twin=arguments.twin), flush=True)
        differed += any(contest.verdict != expected(contests, twin=arguments.twin) for contest in contests)
    return 1 if differed else 0


def repeated(name: str, arguments: argparse.Namespace) -> list[Contest]:
    """The contests of all benchmarks of network ``name``, the first one included."""
    package, model = build_or_keep(name, "host", arguments.keep).package, fetch(name)
    with tempfile.TemporaryDirectory(prefix="deploycc-twin-") as folder:
        against = arguments.against
        if arguments.twin:
            against = str(Path(folder) / "twin")
            shutil.copytree(package, against, symlinks=True)
        contests = []
        for number in range(1 + arguments.times):
            (found,) = bench(
                package,
                against=[against],
                model=None if arguments.twin else model,
                threads=(arguments.threads,),
                effort=Effort(seconds=arguments.seconds),
            )
            (contest,) = found.contests
            contests.append(contest)
            told = f"{contest.verdict}, {contest.ratio:.3f} ({contest.low:.3f} to {contest.high:.3f})"
            print(f"  {number}: {told}", file=sys.stderr, flush=True)
        return contests


def expected(contests: Sequence[Contest], *, twin: bool) -> str:
    """What every verdict should be: the first one's, or none for a copy of itself."""
    return UNSEEN if twin else contests[0].verdict


def line_of(name: str, contests: Sequence[Contest], *, twin: bool) -> str:
    """How often the verdict was what it should be, which others there were, and between what ratios lay."""
    want = expected(contests, twin=twin)
    later = list(contests) if twin else list(contests[1:])
    agreed = sum(contest.verdict == want for contest in later)
    others = Counter(contest.verdict for contest in later if contest.verdict != want)
    ratios = sorted(contest.ratio for contest in contests)
    told = "".join(f", {count} times {verdict}" for verdict, count in others.items())
    return (
        f"{name}: {want}, {agreed} of {len(later)} agree{told}; "
        f"ratio {ratios[len(ratios) // 2]:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    sys.exit(main())
