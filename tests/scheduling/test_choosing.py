"""Which schedule is chosen and why, what users' folders do, and what is said of files that cannot be used.

Most of it with a few of our schedules only, so that who of all of them is fastest does not matter.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from deploycc.build import build as build_package
from deploycc.diagnostics import exit_code, render
from deploycc.planning import plan
from deploycc.scheduling.library import load_schedules
from deploycc.types import DeployccError, Diagnostic, Model, Program, Target
from tests.models import write_small_net
from tests.planning.harness import X86_64, run_plan
from tests.scheduling import graphs
from tests.scheduling.convolutions import conv
from tests.scheduling.graphs import (
    ROOT,
    SCHEDULES,
    SEED,
    Case,
    build,
    compile_cases,
    reference,
    wrong,
)

SMALL = [conv(3, 8, (6, 7), (3, 3), pads=[1, 1, 1, 1]), conv(16, 1, (6, 9), (1, 1))]
_FOLDER = tempfile.TemporaryDirectory()
FEW = Path(_FOLDER.name)
"""A folder of some of our schedules: one for each kind of convolution, all of one layout, and the loops."""
for name in ("conv_direct", "depthwise_channels", "elementwise", "gemm", "reduction"):
    shutil.copy(SCHEDULES / f"{name}.py", FEW)
USABLE = """
from deploycc.operators import Match, Skip
KNOBS = {"tile": (2, 1)}
def match(task, target): return Match(task, target)
def cost(match, knobs): return 0.0
def apply(sch, match, knobs): pass
"""


def schedule(model: Model, target: Target = X86_64, *folders: Path) -> Program:
    """The program scheduled by the few and those of ``folders``."""
    return graphs.schedule(model, target, *folders, ours=FEW)


def folder_with(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def refusals(*folders: Path, cases: list[Case] | None = None) -> list[Diagnostic]:
    with pytest.raises(DeployccError) as caught:
        schedule(build(cases or SMALL).model, X86_64, *folders)
    findings = list(caught.value.diagnostics)
    assert {finding.code for finding in findings} == {"DC460"}
    assert exit_code(findings) == 2
    return findings


def conv_choices(program: Program) -> dict[str, str]:
    return {choice.task: choice.schedule for choice in program.choices if "conv2d" in choice.task}


def right(*folders: Path, cases: list[Case] = SMALL) -> Program:
    """The scheduled program; its numbers are right."""
    built = build(cases)
    program = schedule(built.model, X86_64, *folders)
    got = run_plan(plan(program, X86_64), built.feeds)
    assert wrong(built, got, reference(built.model.proto, built.feeds)) == [], f"seed {SEED}"
    return program


def test_choices_name_every_kernel_and_every_reason() -> None:
    program = right()
    kernels = {choice.task: choice for choice in program.choices}
    assert len(kernels) == len(program.choices)
    assert set(conv_choices(program).values()) == {"conv_direct", "gemm"}
    for choice in program.choices:
        assert choice.schedule not in choice.skipped
        assert all(reason and reason == reason.strip() for reason in choice.skipped.values())
    (direct,) = (choice for choice in program.choices if choice.schedule == "conv_direct")
    assert set(direct.skipped) == {"depthwise_channels", "gemm"}
    assert direct.skipped["depthwise_channels"] == "not a depthwise convolution"
    assert set(direct.knobs) == {"tile", "vectors", "lanes", "steps"}


def test_the_same_model_gets_the_same_choices() -> None:
    model = build(SMALL).model
    assert schedule(model).choices == schedule(model).choices


def test_a_file_of_the_same_name_replaces_ours_and_a_later_folder_an_earlier(tmp_path: Path) -> None:
    first = folder_with(tmp_path / "first", elementwise=USABLE, mine=USABLE)
    second = folder_with(tmp_path / "second", mine=USABLE.replace("(2, 1)", "(3,)"))
    found = {s.name: s for s in load_schedules([SCHEDULES, first, second])}
    assert found["elementwise"].path == first / "elementwise.py"
    assert found["mine"].knobs == {"tile": (3,)}
    assert found["gemm"].path == SCHEDULES / "gemm.py"
    assert set(found) == {*(path.stem for path in SCHEDULES.glob("*.py")), "mine"}


def test_a_tie_of_costs_goes_to_the_higher_priority(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "more", alike=USABLE, preferred=USABLE + "PRIORITY = 1\n")
    moves = {choice.task: choice for choice in right(folder).choices if "transpose" in choice.task}
    assert {choice.schedule for choice in moves.values()} == {"preferred"}
    for choice in moves.values():
        assert choice.knobs == {"tile": 2}
        assert choice.skipped["alike"] == "estimated slower: 0 against 0 cycles"


def test_a_replacement_that_does_not_want_a_task_leaves_it_to_others(tmp_path: Path) -> None:
    refuses = USABLE.replace("return Match(task, target)", 'return Skip("not today, thank you")')
    folder = folder_with(tmp_path / "mine", conv_direct=refuses + "def compute(match, knobs): pass\n")
    program = right(folder)
    schedules = sorted(choice.schedule for choice in program.choices if "conv2d" in choice.task)
    assert schedules == ["gemm", "reduction"]


def test_an_apply_that_fails_is_skipped_with_its_reason(tmp_path: Path) -> None:
    failing = (SCHEDULES / "conv_direct.py").read_text(encoding="utf-8")
    failing += "\n\ndef apply(sch, match, knobs):\n    raise LookupError('no such loop')\n"
    quick = USABLE.replace("pass", "sch.get_sblock('nowhere')").replace("0.0", "-1.0")
    folder = folder_with(tmp_path / "mine", conv_direct=failing, quick=quick)
    program = right(folder)
    failed = [c for c in program.choices if c.skipped.get("conv_direct", "").startswith("failed")]
    assert [(choice.schedule, choice.skipped["conv_direct"]) for choice in failed] == [
        ("reduction", "failed: LookupError: no such loop")
    ]
    for choice in program.choices:
        assert choice.schedule == "gemm" or choice.skipped["quick"].startswith("failed: ScheduleError")
        assert choice.schedule not in choice.skipped


def test_a_kernel_that_no_schedule_takes_keeps_its_plain_loops_and_the_reasons(tmp_path: Path) -> None:
    refuses = USABLE.replace("return Match(task, target)", 'return Skip("not today, thank you")')
    program = right(folder_with(tmp_path / "mine", elementwise=refuses))
    (choice, *_) = (choice for choice in program.choices if "transpose" in choice.task)
    assert choice.schedule == "none"
    assert choice.skipped == {"elementwise": "not today, thank you", "reduction": "nothing is reduced"}


def test_a_missing_folder_and_every_broken_file_are_told_at_once(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path / "mine",
        incomplete="KNOBS = {}\ndef match(task, target): pass\n",
        unreadable="def match(:\n",
        raising="KNOBS = {}\n\nimport nowhere_at_all\n",
    )
    text = "\n".join(render(finding) for finding in refusals(tmp_path / "absent", folder))
    assert f"error[DC460]: no schedule folder {tmp_path / 'absent'}" in text
    assert "schedule incomplete.py lacks apply, cost" in text
    assert "KNOBS, match, apply, cost and, for an algorithm of its own, compute" in text
    assert "docs/new-schedule.md" in text
    assert "schedule unreadable.py cannot be loaded" in text
    assert "SyntaxError" in text
    assert "schedule raising.py cannot be loaded" in text
    assert "line 3: ModuleNotFoundError: No module named 'nowhere_at_all'" in text
    assert f"from: {folder / 'raising.py'}" in text


@pytest.mark.parametrize("knobs", ["[1, 2]", "{'tile': 4}", "{'tile': ()}", "{'tile': (1.5,)}", "{1: (1,)}"])
def test_knobs_that_are_no_search_space(knobs: str, tmp_path: Path) -> None:
    text = USABLE.replace('{"tile": (2, 1)}', knobs)
    (finding,) = refusals(folder_with(tmp_path / "mine", odd=text))
    assert finding.message == "KNOBS of schedule odd.py is no search space"
    assert finding.got == knobs
    assert finding.need == 'names with the whole numbers to choose from, like {"tile": (1, 2, 4)}'


@pytest.mark.parametrize(
    ("text", "message", "got"),
    [
        (
            USABLE.replace("return Match(task, target)", "return task.no_such"),
            "schedule odd.py fails in match",
            "line 4: AttributeError: 'Kernel' object has no attribute 'no_such'",
        ),
        (
            USABLE.replace("return Match(task, target)", "return None"),
            "schedule odd.py fails in match",
            "TypeError: match must return a Match or a Skip, not None",
        ),
        (
            USABLE.replace("return 0.0", "return 1 / 0"),
            "schedule odd.py fails in cost",
            "line 5: ZeroDivisionError: division by zero",
        ),
        (
            USABLE.replace("return 0.0", "return 'cheap'"),
            "schedule odd.py fails in cost",
            "TypeError: ",
        ),
        (
            USABLE.replace("0.0", "-1.0") + "def compute(match, knobs): return knobs['wide']\n",
            "schedule odd.py fails in compute",
            "line 7: KeyError: 'wide'",
        ),
    ],
    ids=["match raises", "match returns None", "cost raises", "cost is a text", "compute raises"],
)
def test_a_file_that_fails_is_told_with_its_line(text: str, message: str, got: str, tmp_path: Path) -> None:
    (finding,) = refusals(folder_with(tmp_path / "mine", odd=text))
    assert finding.message == message
    assert finding.got.startswith(got)
    assert finding.source == str(tmp_path / "mine" / "odd.py")


def test_an_algorithm_of_another_shape_is_refused(tmp_path: Path) -> None:
    text = USABLE.replace("0.0", "-1.0").replace("import Match", "import Algorithm, Match") + (
        "from deploycc.tvm_api import te\n"
        "def compute(match, knobs):\n"
        "    define = lambda data, weight: te.compute((1, 2), lambda i, j: data[0, 0, 0, 0], name='odd')\n"
        "    return Algorithm((0, 0, 0, 0), lambda weight: weight, define)\n"
    )
    (finding,) = refusals(folder_with(tmp_path / "mine", odd=text), cases=SMALL[:1])
    assert finding.message == "schedule odd.py fails in compute"
    assert finding.got == "ValueError: it computes float32[1, 2], the operator gives float32[1, 8, 6, 7]"


def test_the_command_line_says_it_too(tmp_path: Path) -> None:
    odd = USABLE.replace("return 0.0", "return 1 / 0") + "def compute(match, knobs): pass\n"
    folder = folder_with(tmp_path / "mine", odd=odd)
    model = write_small_net(tmp_path / "net.onnx")
    with pytest.raises(DeployccError) as caught:
        build_package(model, X86_64, tmp_path / "out", schedule_dirs=[folder])
    assert [d.message for d in caught.value.diagnostics] == ["schedule odd.py fails in cost"]
    assert not (tmp_path / "out").exists()


def example() -> str:
    """The schedule of docs/new-schedule.md."""
    page = (ROOT / "docs" / "new-schedule.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return str(code)


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "mine", pointwise_dot=example())
    cases = [
        conv(128, 1, (8, 9), (1, 1)),
        conv(64, 3, (5, 7), (1, 1), end="Sigmoid"),
        conv(8, 2, (3, 5), (1, 1), batch=2),
        conv(16, 24, (6, 9), (1, 1)),
        conv(16, 1, (33, 65), (1, 1), bias=False, end=""),
    ]
    program = right(folder, cases=cases)
    choices = [choice for choice in program.choices if "conv2d" in choice.task]
    taken = [choice for choice in choices if choice.schedule == "pointwise_dot"]
    assert len(taken) >= 2
    assert all(re.fullmatch(r"estimated slower: \S+ against \S+ cycles", c.skipped["gemm"]) for c in taken)
    assert "24 output channels fill a vector" in [c.skipped.get("pointwise_dot") for c in choices]


def test_the_example_through_a_whole_build(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "mine", pointwise_dot=example())
    built = build([conv(128, 1, (1, 1), (1, 1))])  # one pixel: any layout costs nothing
    (tmp_path / "head.onnx").write_bytes(built.model.proto.SerializeToString())
    package = build_package(
        tmp_path / "head.onnx", X86_64, tmp_path / "head", schedule_dirs=[folder], dump_dir=tmp_path / "dump",
        shipped_records=False,
    )  # fmt: skip
    assert "pointwise_dot" in {call["schedule"] for call in package.manifest["calls"]}
    (dump,) = (tmp_path / "dump").glob("*schedule*")
    text = dump.read_text(encoding="utf-8")
    assert re.search(r"^# \S+: pointwise_dot lanes=8$", text, re.MULTILINE)
    assert re.search(r"^# +not gemm: estimated slower: \S+ against \S+ cycles$", text, re.MULTILINE)


def test_plans_of_the_same_model_are_the_same_bytes() -> None:
    built = build(SMALL)
    first, second = (compile_cases(built) for _ in range(2))
    assert first.kernels == second.kernels
    assert np.array_equal(np.frombuffer(first.weights, np.uint8), np.frombuffer(second.weights, np.uint8))


def test_a_schedule_file_may_define_a_dataclass(tmp_path: Path) -> None:
    source = (SCHEDULES / "elementwise.py").read_text()
    source += "\nfrom dataclasses import dataclass\n\n@dataclass\nclass Cut:\n    rows: int\n"
    if "from __future__" not in source:
        source = "from __future__ import annotations\n" + source
    (tmp_path / "with_dataclass.py").write_text(source)
    assert [schedule.name for schedule in load_schedules([tmp_path])] == ["with_dataclass"]
