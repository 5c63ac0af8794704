"""Lint's verdict is what building and running really does: onnx's node tests, and what TVM gets wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.lint import lint_model
from deploycc.linting.table import conditions
from deploycc.types import DeployccError
from tests.conformance import silently_wrong
from tests.conformance.node_cases import deployer_cases, given_cases, operators
from tests.conformance.report import Outcome, page, reasons, share
from tests.conformance.run import LEAST, WORKER, outcomes
from tests.conformance.standing import counted
from tests.planning.harness import ARM64, find_emulator
from tests.sweep.case import Case
from tests.sweep.sweep import sweep
from tests.sweep.worker import request_for

SAMPLE = 60


def order(name: str) -> str:
    """A fixed order that has nothing to do with the names."""
    return hashlib.sha256(name.encode()).hexdigest()


def one_for_each_operator(cases: Sequence[Case]) -> list[Case]:
    """A case of every operator; the same ones each time."""
    chosen: dict[str, Case] = {}
    about = operators(cases)
    for case in sorted(cases, key=lambda case: order(case.name)):
        chosen.setdefault(about[case.name], case)
    return [chosen[operator] for operator in sorted(chosen, key=order)]


def told(found: dict[str, Outcome]) -> str:
    return "\n".join(f"{o.name}: lint says {o.said}, the build {o.did}: {o.why}" for o in found.values())


def check(found: dict[str, Outcome]) -> None:
    wrong = {name: o for name, o in found.items() if (o.said, o.did) == ("supported", "wrong")}
    assert not wrong, told(wrong)
    known = {name for _, names in reasons() for name in names}
    differ = {name: o for name, o in found.items() if not o.agrees and name not in known}
    assert not differ, told(differ)


def test_the_cases_are_all_that_have_plain_tensors() -> None:
    assert len(given_cases()) == 1669


def test_those_that_count_leave_strings_and_other_domains_out() -> None:
    assert len(counted(given_cases())) == len(counted(deployer_cases())) == 1610


def test_a_sample_agrees() -> None:
    """Operators in turn as the test gives them and with constant parameters."""
    given, deployed = one_for_each_operator(given_cases()), one_for_each_operator(deployer_cases())
    sample = [*given[:SAMPLE:2], *deployed[1:SAMPLE:2]]
    found = outcomes(sample)
    check(found)
    assert {o.said for o in found.values()} == {"supported", "refused"}


@pytest.mark.slow
def test_all_cases_agree() -> None:
    given = given_cases()
    deployed = [
        replace(after, name=f"{after.name}/deployed")
        for before, after in zip(given, deployer_cases(), strict=True)
        if after.inputs.keys() != before.inputs.keys()
    ]
    found = outcomes([*given, *deployed], workers=2)
    as_given = {case.name: found[case.name] for case in given}
    as_deployed = {name: found.get(f"{name}/deployed", o) for name, o in as_given.items()}
    for side in (as_given, as_deployed):
        check(side)
        assert share(side.values()) >= LEAST
    differ = {name for side in (as_given, as_deployed) for name, o in side.items() if not o.agrees}
    assert {name for _, names in reasons() for name in names} == differ, "disagreements.toml is not current"
    assert page(as_given, as_deployed, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["package", "arm64"])
def test_what_lint_lets_pass_is_right_in_packages_and_on_another_machine(how: str) -> None:
    if how == "arm64" and find_emulator(ARM64) is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    cases = one_for_each_operator(deployer_cases())
    found = sweep(cases, 2, 120, worker=("tests.conformance.worker", how))
    supported = {name: result for name, result in found.items() if result.get("said") == "supported"}
    bad = {name: result for name, result in supported.items() if result.get("did") != "matches"}
    assert not bad, bad
    assert {result["stage"] for result in supported.values()} == {"package" if how == "package" else "run"}
    assert len(supported) > 100


@pytest.mark.slow
def test_the_command_says_what_the_worker_says(tmp_path: Path) -> None:
    """The worker runs the stages in its own process; ``deploycc lint`` has a child and leaves shapes open."""
    cases = one_for_each_operator(deployer_cases())[:20]
    for name, outcome in outcomes(cases, workers=2).items():
        case = next(case for case in cases if case.name == name)
        case.save(tmp_path / name)
        shapes = request_for(tmp_path / name, case.inputs).shapes
        try:
            (report,) = lint_model(tmp_path / name / "model.onnx", ["x86-64"], shapes=shapes).reports
            report.raise_if_errors()
            said = "supported"
        except DeployccError:
            said = "refused"
        assert said == outcome.said, told({name: outcome})


def test_none_of_what_tvm_gets_silently_wrong_comes_through() -> None:
    forms = silently_wrong.cases()
    found = sweep([case for _, case in forms.values()], worker=WORKER)
    for name, (form, case) in forms.items():
        result = found[name]
        if form.became == "right":
            assert case.expected, f"{name}: nothing to compare with"
            assert (result["said"], result["did"]) == ("supported", "matches"), (name, result)
        else:
            assert result["said"] == "refused", (name, result)
            assert set(result["codes"]) <= set(form.codes), (name, result)
            # Built all the same it is wrong or fails, else the refusal would be without need; but an empty
            # tensor is refused whatever reads it.
            assert result["did"] != "matches" or "DC208" in result["codes"], (name, result)


def test_all_forty_five_are_listed() -> None:
    forms = silently_wrong.forms()
    assert sum(len(form.operators) for form in forms if not form.later) == 45
    listed = {form.condition: set(form.operators) for form in forms}
    for condition in conditions():
        if condition.effect == "silently-wrong":
            assert set(condition.operators) == listed[condition.id]
    assert all(form.became in ("refused", "right") for form in forms)
