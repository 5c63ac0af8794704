"""The outcome of a case, and the tables that many of them make."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from tests.sweep.case import Case
from tests.sweep.sweep import Result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
DISAGREEMENTS = Path(__file__).with_name("disagreements.toml")

SAID = ("supported", "refused")
DID = ("matches", "wrong", "refused", "failed", "untried")
"""What a build came to; ``failed`` is an exception, a crash or a hang, ``untried`` needs no build to fail."""


@dataclass(frozen=True)
class Outcome:
    """One case: what lint said of it, what building and running it did, and why, in a line."""

    name: str
    domain: str
    operator: str
    said: str
    did: str
    why: str

    @property
    def agrees(self) -> bool:
        """Supported and right, or refused and not to be had."""
        return (self.said == "supported") == (self.did == "matches")

    @staticmethod
    def of(case: Case, operator: str, result: Result) -> Outcome:
        """From what the worker answered; a worker that was lost while it compiled failed."""
        lost = "verdict" in result
        rules = "; ".join(result.get("rules", ()))
        detail = f"{result.get('stage')}: {result['detail']}" if result.get("detail") else ""
        return Outcome(
            name=case.name,
            domain=next((n.domain for n in case.proto.graph.node if n.domain), "ai.onnx"),
            operator=operator,
            said=result.get("said", "supported"),
            did="failed" if lost else result["did"],
            why=" | ".join(filter(None, (rules, detail))),
        )


def share(outcomes: Iterable[Outcome]) -> float:
    """The part of the cases on which lint and the build agree."""
    agreed = Counter(outcome.agrees for outcome in outcomes)
    return agreed[True] / max(1, agreed.total())


def table(outcomes: Mapping[str, Outcome]) -> str:
    """The confusion table, in Markdown."""
    counts = Counter((outcome.said, outcome.did) for outcome in outcomes.values())
    lines = [
        "| lint says | builds and matches | builds, wrong result | refused by a later stage "
        "| fails without a diagnostic | refused before lint, nothing to build |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for said, title in zip(SAID, ("supported", "not supported, built all the same"), strict=True):
        lines.append(f"| {title} | " + " | ".join(str(counts[said, did]) for did in DID) + " |")
    agreed = sum(outcome.agrees for outcome in outcomes.values())
    lines += ["", f"Agreement: {agreed} of {len(outcomes)}, {100 * share(outcomes.values()):.2f} %."]
    return "\n".join(lines)


def domains(outcomes: Mapping[str, Outcome]) -> str:
    """A row for each domain, and for the expansions of functions."""
    rows: dict[str, list[Outcome]] = {}
    for outcome in outcomes.values():
        expanded = ", function bodies" if "_expanded" in outcome.name else ""
        rows.setdefault(outcome.domain + expanded, []).append(outcome)
    lines = ["| domain | cases | supported | supported and right | agreement |", "|---|--:|--:|--:|--:|"]
    for name, found in sorted(rows.items()):
        supported = [outcome for outcome in found if outcome.said == "supported"]
        right = sum(outcome.agrees for outcome in supported)
        lines.append(
            f"| {name} | {len(found)} | {len(supported)} | {right} | {100 * share(found):.1f} % |"
        )
    return "\n".join(lines)


def reasons() -> list[tuple[str, tuple[str, ...]]]:
    """Why lint and the build may differ, and on which cases, from ``disagreements.toml``."""
    with DISAGREEMENTS.open("rb") as file:
        data = tomllib.load(file)
    return [(row["reason"], tuple(row["cases"])) for row in data.get("kept", ())]


def disagreements(as_given: Mapping[str, Outcome], as_deployed: Mapping[str, Outcome]) -> str:
    """Every case on which they differ, by reason."""
    differ = {name: o for side in (as_given, as_deployed) for name, o in side.items() if not o.agrees}
    lines = []
    for reason, cases in reasons():
        met = [name for name in cases if name in differ]
        if met:
            lines += [f"- {reason}: " + ", ".join(f"`{name}`" for name in met)]
            for name in met:
                differ.pop(name)
    lines += [f"- `{name}`: lint says {o.said}, the build {o.did} ({o.why})" for name, o in differ.items()]
    return "\n".join(lines)


def page(as_given: Mapping[str, Outcome], as_deployed: Mapping[str, Outcome]) -> str:
    """``docs/conformance.md``."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnx", "onnxruntime", "apache-tvm"))
    today = datetime.now(timezone.utc).date().isoformat()
    return _PAGE.format(
        count=len(as_given),
        versions=versions,
        today=today,
        given=table(as_given),
        deployed=table(as_deployed),
        given_domains=domains(as_given),
        deployed_domains=domains(as_deployed),
        disagreements=disagreements(as_given, as_deployed),
    )


_PAGE = """\
# Lint and the truth

Written by `make conformance` on {today} with {versions}, target x86-64.

Does lint tell the truth? ONNX comes with small tests of every operator: a model, inputs and the outputs they must
give. Each of the {count} that pass plain arrays (no sequences, no packed types) is checked by lint and then built,
linked and run, and the result compared with the test's own outputs by the test's own tolerance. What lint refuses
is built as well, with its errors ignored: a model that then works was refused without need.

The comparison is onnx's: relative 1e-3 and absolute 1e-7. With float16 that is less than one unit in the last place
and four are allowed, because operators of several steps round in between.

"Supported" means: import and simplifying go through and lint has no error. What import refuses with a diagnostic
(strings, types that C has not, broken or open shapes) cannot be built at all, so nothing is tried. *Supported and wrong*
must be zero: that is the one mistake nobody would notice.

## As the tests give them

Everything is a graph input, also axes, target shapes and scales, which decide the shape of what is computed. Those
are refused for that.

{given}

{given_domains}

## With constant parameters

As a deployer's model has them: axes, shapes, weights, scales and the like are stored in the model.

{deployed}

{deployed_domains}

## Where they differ

{disagreements}

## What became of TVM's silently wrong conversions

The importer of apache-tvm 0.27 converts 45 forms of operators without a word into something else.
`tests/conformance/silently_wrong.toml` lists them and what deploycc does about each; the tests run all of them.

{silently_wrong}

## Run it

```shell
make conformance                                       # all cases, both ways, on two processors: about 25 minutes
.venv/bin/python -m tests.conformance.run --filter resize     # some of them
```

`make test` runs a sample that has one case of each of 80 operators.
"""
