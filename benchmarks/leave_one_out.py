"""How close a build of a network that nobody tuned comes to its tuned one.

    python -m benchmarks.leave_one_out [--networks a,b] [--target host] [--keep]

Each network is built with the records that come with deploycc, with those less all of its own operators
(whatever network they were taken from, in any layout), and without any.  The packages are checked against
ONNX Runtime and run in turns on one pinned core; medians count.  Prints a table and writes
``benchmarks/results/leave-one-out-TIME.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from benchmarks.measurements import write_results
from benchmarks.measuring import geometric_mean
from benchmarks.networks import fetch, networks
from benchmarks.pinned import ROOT
from benchmarks.variants import build_variants, time_variants
from deploycc.build import resolve_request
from deploycc.operators import Conv2d, Operator
from deploycc.records import append, operator_of, read, shipped
from deploycc.tuning.tuner import read_operators

WIDTH = 18
LIMIT = 1.25
"""An untuned build may take so many times as long as the tuned one."""


def any_layout(operator: Operator) -> Operator:
    """The operator without its layouts: records of one layout tell of the others."""
    if isinstance(operator, Conv2d):
        return dataclasses.replace(operator, data_layout="NCHW", out_layout="NCHW")
    return operator


def records_without(name: str, target: str) -> Path:
    """A database of the shipped records less those of the network's operators."""
    request = resolve_request(fetch(name), target, shapes=dict(networks()[name].inputs))
    own = {any_layout(operator) for operator in read_operators(request, f"deploycc build {name}")}
    output = ROOT / "out" / "variants" / f"without-{name}.jsonl"
    output.unlink(missing_ok=True)
    kept = [
        record
        for path in shipped()
        for record in read(path)[0]
        if any_layout(operator_of(record.operator)) not in own
    ]
    append(output, kept)
    return output


def main() -> int:
    """Command line; 1 if a network is beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", default=",".join(networks()), help="names, comma-separated")
    parser.add_argument("--target", default="host")
    parser.add_argument("--keep", action="store_true", help="reuse packages of an earlier run")
    arguments = parser.parse_args()
    titles = ("tuned ms", "left out", "static", "left out / tuned", "static / tuned")
    print(f"{'':30}" + "".join(f"{title:>{WIDTH}}" for title in titles))
    rows = {}
    for name in arguments.networks.split(","):
        left_out = ["--no-shipped-records", "--records", str(records_without(name, arguments.target))]
        options = {"tuned": [], "left_out": left_out, "static": ["--no-shipped-records"]}
        times = time_variants(name, build_variants(name, arguments.target, options, arguments.keep))
        rows[name] = times
        tuned, untuned, static = times["tuned"], times["left_out"], times["static"]
        figures = (tuned, untuned, static, untuned / tuned, static / tuned)
        print(f"{name:30}" + "".join(f"{figure:{WIDTH}.4f}" for figure in figures), flush=True)
    ratios = {name: times["left_out"] / times["tuned"] for name, times in rows.items()}
    mean, most = geometric_mean(ratios.values()), max(ratios.values())
    print(f"left out / tuned: geometric mean {mean:.3f}, most {most:.3f}")
    file = write_results("leave-one-out", {"target": arguments.target, "ms": rows})
    print(file.relative_to(ROOT))
    return int(max(ratios.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
