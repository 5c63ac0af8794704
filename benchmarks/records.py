"""Make the tuning records that come with deploycc.

    python -m benchmarks.records --target x86-64-v4 [--host-caches] [--budget 20min] [--networks a,b]
                                 [--no-convs] [--workers N] [--write-only]

The operators of all public networks and of the convolution suite are tuned in one session, each weighted by
its share of its network's estimated time, so that a small network counts as much as a large one.
Everything measured goes to ``out/records/TARGET.jsonl``, where a later call goes on; the best candidate of
each operator then goes to ``schedules/records/TARGET.jsonl``.  Operators depend on the layouts that were
chosen, and those on the records: a second call tunes what the first brought up.  A target that cannot run
here is measured by its emulator's instruction counts, where it has one.

Records of machines with other cache sizes stay in the file: a build takes the nearest ones.  New ones stand
under the target's own cache sizes, so that all their candidates are feasible for it, or with
``--host-caches`` under this machine's, for machines that have more than the target promises.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.convs import convs, model_file
from benchmarks.networks import fetch, networks
from benchmarks.pinned import ROOT
from deploycc.build import resolve_request
from deploycc.cli.tuning_progress import TuningProgress, task_line
from deploycc.host import detect_host
from deploycc.operators import Operator
from deploycc.records import Record, append, cache_key, read
from deploycc.resources import data_dir
from deploycc.scheduling import estimator
from deploycc.scheduling.library import load_schedules
from deploycc.scheduling.recorded import load_records
from deploycc.targets import load_target
from deploycc.tuning.budget import parse_budget
from deploycc.tuning.session import Session
from deploycc.tuning.tuner import read_operators, runner_for, tuning_pool, with_records
from deploycc.types import Target


def models(names: Sequence[str], suite: bool) -> dict[str, tuple[Path, Mapping[str, Sequence[int]]]]:
    """The ONNX file and the input shapes of every network of ``names``, and of the convolutions."""
    found: dict[str, tuple[Path, Mapping[str, Sequence[int]]]] = {
        name: (fetch(name), dict(networks()[name].inputs)) for name in names
    }
    if suite:
        found.update({f"conv {name}": (model_file(conv), {}) for name, conv in convs().items()})
    return found


def gather(
    target: Target, database: Path, files: Mapping[str, tuple[Path, Mapping[str, Sequence[int]]]]
) -> dict[Operator, float]:
    """Every operator with its weight: the sum over the networks of its share of their estimated time."""
    weights: dict[Operator, float] = defaultdict(float)
    records = (database,) if database.exists() else ()
    estimate = estimator(target, (data_dir("schedules"),), records)
    for number, (name, (path, shapes)) in enumerate(files.items(), start=1):
        request = resolve_request(path, target, shapes=shapes)
        operators = read_operators(with_records(request, database), f"deploycc build {path}")
        cycles = {operator: estimate(operator) or 0.0 for operator in operators}
        total = sum(uses * cycles[operator] for operator, uses in operators.items()) or 1.0
        for operator, uses in operators.items():
            weights[operator] += uses / total
        print(f"{number} of {len(files)}: {name}, {len(operators)} operators", file=sys.stderr)
    # Weights multiply times; what they are relative to does not matter.
    least = min(weights.values(), default=1.0)
    return {operator: weight / least for operator, weight in weights.items()}


def best_records(target: Target, database: Path) -> list[Record]:
    """The fastest right record of every operator in ``database``, in the order of their names."""
    found = load_records([database], target, load_schedules([data_dir("schedules")]))
    ranked = {repr(operator): found.ranked(operator) for operator in found.operators()}
    return [records[0] for _, records in sorted(ranked.items()) if records]


def write(target: Target, database: Path, output: Path) -> int:
    """Put the best records of ``database`` in the place of those of this cache size; returns how many."""
    best = best_records(target, database)
    others = [record for record in read(output)[0] if record.cache != cache_key(target)]
    part = output.with_suffix(".part")
    part.unlink(missing_ok=True)
    if best:
        append(part, sorted([*best, *others], key=lambda record: (record.operator, record.cache)))
        part.replace(output)
    return len(best)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--host-caches", action="store_true", help="for this machine's cache sizes")
    parser.add_argument("--budget", default="20min")
    parser.add_argument("--networks", default=",".join(networks()), help="names with commas, or none")
    parser.add_argument("--no-convs", action="store_true")
    parser.add_argument("--workers", type=int)
    parser.add_argument(
        "--write-only", action="store_true", help="no measuring: out/records to schedules/records"
    )
    arguments = parser.parse_args()
    target = load_target(arguments.target)
    if arguments.host_caches:
        target = replace(target, cache=detect_host().cache)
    database = ROOT / "out" / "records" / f"{target.name}.jsonl"
    if not arguments.write_only:
        names = [name for name in arguments.networks.split(",") if name]
        operators = gather(target, database, models(names, not arguments.no_convs))
        progress = TuningProgress()
        session = Session(operators, target, (data_dir("schedules"),), database, on_event=progress)
        with tuning_pool(target, (), runner_for(target), arguments.workers) as pool:
            session.run(pool, parse_budget(arguments.budget))
        progress.close()
        print("\n".join(task_line(task) for task in session.snapshot()["tasks"]))
        print(f"{session.trials} candidates in {session.seconds:.0f} s, {session.failures} failed")
    output = data_dir("schedules") / "records" / f"{target.name}.jsonl"
    count = write(target, database, output)
    print(f"{output.relative_to(ROOT)}: {count} operators of {len(read(database)[0])} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
