"""The outcome of a case, and the tables that many of them make."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.conformance.silently_wrong import forms
from tests.sweep.case import Case
from tests.sweep.sweep import Result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
TEMPLATE = Path(__file__).with_name("page.md")
DISAGREEMENTS = Path(__file__).with_name("disagreements.toml")

SAID = ("supported", "refused")
DID = ("matches", "wrong", "refused", "failed", "untried", "drawn")
"""What a build came to.

``failed`` is an exception, a crash or a hang, ``untried`` needs no build to fail, ``drawn`` are random
numbers of the right form.
"""


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
        return (self.said == "supported") == (self.did in ("matches", "drawn"))

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
    titles = (
        "lint says",
        "builds and matches",
        "builds, wrong result",
        "refused by a later stage",
        "fails without a diagnostic",
        "refused before lint, nothing to build",
        "draws random numbers",
    )
    lines = [f"| {' | '.join(titles)} |", "|---|--:|--:|--:|--:|--:|--:|"]
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
        lines.append(f"| {name} | {len(found)} | {len(supported)} | {right} | {100 * share(found):.1f} % |")
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


def page(as_given: Mapping[str, Outcome], as_deployed: Mapping[str, Outcome], figures: str, left: str) -> str:
    """``docs/conformance.md``; ``figures`` and ``left`` are of ``tests.conformance.standing``."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnx", "onnxruntime", "apache-tvm"))
    today = datetime.now(UTC).date().isoformat()
    return TEMPLATE.read_text(encoding="utf-8").format(
        count=len(as_given),
        figures=figures,
        left=left,
        versions=versions,
        today=today,
        given=table(as_given),
        deployed=table(as_deployed),
        given_domains=domains(as_given),
        deployed_domains=domains(as_deployed),
        disagreements=disagreements(as_given, as_deployed),
        silently_wrong=forms_table(),
    )


def forms_table() -> str:
    """What became of each form that TVM converts wrongly without a word."""
    lines = ["| form | operators | what became of it | |", "|---|---|---|---|"]
    for form in forms():
        became = "right" if form.became == "right" else f"refused, {', '.join(form.codes)}"
        lines.append(f"| `{form.condition}` | {', '.join(form.operators)} | {became} | {form.how} |")
    return "\n".join(lines)
