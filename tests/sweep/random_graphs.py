"""Thousands of random graphs, built, run and compared with ONNX Runtime.

``python -m tests.sweep.random_graphs --graphs 2000 --out FILE`` draws from ``--seed`` on and appends a line
of JSON a graph to FILE; graphs that FILE already has are not run again, so a run can be stopped and goes on.
Exit status 1 where one came out wrong, crashed, hung or raised; ``--only SEED`` runs one and keeps it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tests.sweep.graphs_random import random_case
from tests.sweep.sweep import BAD, sweep

_AT_ONCE = 40


def known(out: Path) -> dict[str, dict[str, str]]:
    """What FILE has, by name."""
    if not out.is_file():
        return {}
    rows = [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")]
    return {row["name"]: row for row in rows}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--out", type=Path, default=Path("random_graphs.jsonl"))
    options = parser.parse_args()
    if options.only is not None:
        case = random_case(options.only)
        case.save(Path(case.name))
        print(json.dumps(sweep([case])[case.name], indent=2))
        return 0
    done = known(options.out)
    todo = [
        seed for seed in range(options.seed, options.seed + options.graphs) if f"random_{seed}" not in done
    ]
    for at in range(0, len(todo), _AT_ONCE):
        sweep([random_case(seed) for seed in todo[at : at + _AT_ONCE]], progress=options.out)
    results = known(options.out)
    bad = {name: row for name, row in results.items() if row["verdict"] in BAD}
    for name, row in bad.items():
        print(f"{row['verdict']:10} {name} [{row['stage']}]\n    {row['detail'][:300]}")
    print(len(results), dict(Counter(row["verdict"] for row in results.values())))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
