"""Lint beside what building and running really does, over onnx's node tests: ``make conformance``.

``python -m tests.conformance.run --write`` runs every case twice, as the test gives it and with its
parameters as constants (as a deployer has them), prints both tables and writes ``docs/conformance.md``.
Results are appended to ``--results``, case by case; a later run with the same file goes on from there.
It fails where a case is supported and wrong, or where less than 98 % agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.conformance.node_cases import deployer_cases, given_cases, operators
from tests.conformance.report import PAGE, Outcome, page, share, table
from tests.sweep.case import Case
from tests.sweep.sweep import Result, sweep

SECONDS = 120.0
WORKER = ("tests.conformance.worker", "plan")
LEAST = 0.98
"""The part of the cases on which lint and the build must agree; none may be supported and wrong."""


def outcomes(
    cases: Sequence[Case],
    workers: int = 1,
    results: Path | None = None,
    known: dict[str, Result] | None = None,
) -> dict[str, Outcome]:
    """What lint said of each case and what became of it, by name.

    ``known`` are results of an earlier run; the rest is run, and written to ``results`` as it comes.
    """
    known = known or {}
    todo = [case for case in cases if case.name not in known]
    found = {**known, **sweep(todo, workers, SECONDS, results, WORKER)}
    about = operators(cases)
    return {case.name: Outcome.of(case, about[case.name], found[case.name]) for case in cases}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", help="only cases whose name contains this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a file of JSON lines to go on from and to append to")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    options = parser.parse_args()
    known: dict[str, Result] = {}
    if options.results and options.results.is_file():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            result = json.loads(line)
            known[result.pop("name")] = result
    given = [case for case in given_cases() if options.filter in case.name]
    deployed = {case.name: case for case in deployer_cases()}
    # A case without parameters is the same both ways and is run once.
    changed = [
        replace(deployed[case.name], name=f"{case.name}/deployed")
        for case in given
        if deployed[case.name].proto is not case.proto
    ]
    found = outcomes([*given, *changed], options.workers, options.results, known)
    as_given = {case.name: found[case.name] for case in given}
    as_deployed = {case.name: found.get(f"{case.name}/deployed", found[case.name]) for case in given}
    for title, side in (("as given", as_given), ("with constant parameters", as_deployed)):
        print(f"{title}:\n{table(side)}\n")
        for outcome in side.values():
            if not outcome.agrees:
                print(f"  {outcome.name}: {outcome.said}, {outcome.did}: {outcome.why}")
    if options.write:
        PAGE.write_text(page(as_given, as_deployed), encoding="utf-8")
    wrong = [o for o in found.values() if (o.said, o.did) == ("supported", "wrong")]
    sys.exit(bool(wrong) or min(share(as_given.values()), share(as_deployed.values())) < LEAST)


if __name__ == "__main__":
    main()
