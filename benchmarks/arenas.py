"""The smallest arena beside the fast one, as the table in docs/memory.md: sizes, and times in turns.

    python -m benchmarks.arenas [NETWORK ...] [--target host] [--threads 1] [--rounds 40]

Both packages of a network are built, must give the same bits, and then run in turns, a few runs each: the
ratio is the median of the rounds' ratios, so that what slows the machine down slows both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.building import build
from benchmarks.networks import fetch, networks
from deploycc.running import Orders, Package, Session, open_package, place_of, run

_RUNS = 5
"""Runs of one package before it is the other's turn."""


def main(arguments: list[str]) -> None:
    """Print a row of the table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(networks()))
    parser.add_argument("--target", default="host")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(arguments)
    print("| network | arena fast, MB | smallest, MB | of it | over operands | done again | time |")
    print("|---|---|---|---|---|---|---|")
    for name in options.networks:
        fetch(name)
        with tempfile.TemporaryDirectory() as folder:
            fast, smallest = (
                open_package(build(name, options.target, Path(folder) / arena, ["--arena", arena]).package)
                for arena in ("fast", "smallest")
            )
            print(_row(name, fast, smallest, options.threads, options.rounds), flush=True)


def _row(name: str, fast: Package, smallest: Package, threads: int, rounds: int) -> str:
    place, inputs = place_of(None, fast.manifest), fast.golden("inputs")
    outputs = [run(p, place, inputs, Orders(threads=threads)).outputs for p in (fast, smallest)]
    if any(one.tobytes() != other.tobytes() for one, other in zip(*outputs, strict=True)):
        raise SystemExit(f"{name}: the two packages give different results")
    orders = Orders(threads=threads, warmup=3, serve=True)
    ratios = []
    with Session(fast, place, inputs, orders) as one, Session(smallest, place, inputs, orders) as other:
        for _ in range(rounds):
            before, after = statistics.median(one.ask(_RUNS)), statistics.median(other.ask(_RUNS))
            ratios.append(after / before)
    memory = smallest.manifest["memory"]
    megabytes = [memory[key] / 1e6 for key in ("fast_arena_bytes", "arena_bytes")]
    share = megabytes[1] / megabytes[0] if megabytes[0] else 1.0
    return (
        f"| {name} | {megabytes[0]:.3f} | {megabytes[1]:.3f} | {100 * share:.0f} % | "
        f"{memory['steps_over_operands']} | {memory['steps_recomputed']} | {statistics.median(ratios):.3f} |"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
