"""Lint beside what building and running really does, over onnx's node tests: ``make conformance``.

``python -m tests.conformance.run --write`` runs every case twice, as the test gives it (the plan alone) and
with its parameters as constants, as a deployer has them (the library of a real package), prints both tables
and how many tests pass, and writes ``docs/conformance.md``.
Results are appended to ``--results``, case by case; a later run with the same file goes on from there.
It fails where a case is supported and wrong, where less than 98 % agree, or where fewer than ``PASS`` pass.
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
from tests.conformance.standing import left, standing, summary
from tests.sweep.case import Case
from tests.sweep.sweep import Result, sweep

SECONDS = 120.0
WORKER = ("tests.conformance.worker", "plan")
PACKAGE = ("tests.conformance.worker", "package")
PASS = 1400
"""Of the tests that count (``tests.conformance.standing``), so many pass as a package at least."""
LEAST = 0.98
"""The part of the cases on which lint and the build must agree; none may be supported and wrong."""


def outcomes(
    cases: Sequence[Case],
    workers: int = 1,
    results: Path | None = None,
    known: dict[str, Result] | None = None,
    worker: Sequence[str] = WORKER,
) -> dict[str, Outcome]:
    """What lint said of each case and what became of it, by name.

    ``known`` are results of an earlier run; the rest is run, and written to ``results`` as it comes.
    """
    known = known or {}
    todo = [case for case in cases if case.name not in known]
    found = {**known, **sweep(todo, workers, SECONDS, results, worker)}
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
    as_given = outcomes(given, options.workers, options.results, known)
    # All of them: what counts is the library of a package.
    changed = [replace(deployed[case.name], name=f"{case.name}/deployed") for case in given]
    found = outcomes(changed, options.workers, options.results, known, PACKAGE)
    as_deployed = {case.name: found[f"{case.name}/deployed"] for case in given}
    for title, side in (("as given", as_given), ("with constant parameters", as_deployed)):
        print(f"{title}:\n{table(side)}\n")
        for outcome in side.values():
            if not outcome.agrees:
                print(f"  {outcome.name}: {outcome.said}, {outcome.did}: {outcome.why}")
    stands = standing([deployed[case.name] for case in given], as_deployed)
    print(f"{summary(stands)}\n\n{left(stands)}")
    if options.write:
        PAGE.write_text(page(as_given, as_deployed, summary(stands), left(stands)), encoding="utf-8")
    every = (*as_given.values(), *as_deployed.values())
    wrong = [o for o in every if (o.said, o.did) == ("supported", "wrong")]
    agree = min(share(as_given.values()), share(as_deployed.values())) >= LEAST
    sys.exit(bool(wrong) or not agree or (not options.filter and len(stands.package) < PASS))


if __name__ == "__main__":
    main()
