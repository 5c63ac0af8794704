"""What a minute of tuning is worth beside a long search, both from an empty database.

    python -m benchmarks.budgets [--network ppocrv4_det] [--target host] [--budgets 60s,20min] [--keep]

Each session knows nothing but the static costs: the records that come with deploycc are left out, of the
search and of the builds.  The packages (and one without records) are checked against ONNX Runtime and run
in turns on one pinned core; medians count.  With ``--keep`` databases of an earlier call are not tuned
again.  Prints a table and writes ``benchmarks/results/budgets-TIME.json``.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.measurements import write_results
from benchmarks.networks import fetch, networks
from benchmarks.pinned import ROOT
from benchmarks.variants import build_variants, time_variants
from deploycc.cli.tuning_progress import TuningProgress
from deploycc.tuning import tune


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", default="ppocrv4_det", choices=list(networks()))
    parser.add_argument("--target", default="host")
    parser.add_argument(
        "--budgets", default="60s,20min", help="the last one is what the others are compared with"
    )
    parser.add_argument("--workers", type=int)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    name, target = arguments.network, arguments.target
    budgets = arguments.budgets.split(",")
    sessions = {}
    options = {"static": ["--no-shipped-records"]}
    for budget in budgets:
        database = ROOT / "out" / "budgets" / target / f"{name}-{budget}.jsonl"
        options[budget] = ["--no-shipped-records", "--records", str(database)]
        if arguments.keep and database.is_file():
            continue
        database.unlink(missing_ok=True)
        progress = TuningProgress()
        found = tune(
            fetch(name),
            target,
            budget,
            shapes=dict(networks()[name].inputs),
            database=database,
            workers=arguments.workers,
            shipped_records=False,
            compare=False,
            on_event=progress,
        )
        progress.close()
        rate = 60 * found.trials / found.seconds
        sessions[budget] = {"trials": found.trials, "seconds": found.seconds, "failures": found.failures}
        print(
            f"{budget}: {found.trials} candidates in {found.seconds:.0f} s, {rate:.0f} a minute", flush=True
        )
    times = time_variants(name, build_variants(name, target, options))
    best = times[budgets[-1]]
    for label, ms in times.items():
        print(f"{name} {label:>8}: {ms:9.4f} ms, {best / ms:6.1%} of the speed after {budgets[-1]}")
    file = write_results("budgets", {"network": name, "target": target, "sessions": sessions, "ms": times})
    print(file.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
