"""The files of ``schedules/``: their form, their reasons, and the code that LLVM makes of them."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.operators import Conv2d, Match, MatMul, Operator, Skip
from deploycc.planning.codegen import source_of
from deploycc.scheduling.kernel import BlockView, Kernel
from deploycc.scheduling.library import Schedule, load_schedules
from deploycc.types import Target
from tests.planning.harness import ARM64, ARMV7, X86_64, X86_64_V4
from tests.scheduling.chains import matmul
from tests.scheduling.convolutions import conv
from tests.scheduling.graphs import SCHEDULES, Case, build, schedule

FILES = sorted(SCHEDULES.glob("*.py"))
LOADED = {found.name: found for found in load_schedules([SCHEDULES])}
TARGETS = (X86_64, X86_64_V4, ARM64, ARMV7)


def operator(out: int = 16, kernel: tuple[int, int] = (3, 3), groups: int = 1) -> Conv2d:
    pads = (kernel[0] // 2, kernel[1] // 2) * 2
    return Conv2d(1, 9, 11, 16, out, kernel, (1, 1), pads, (1, 1), groups, "float32")


TASKS: list[Operator | Kernel] = [
    operator(),
    operator(out=7),
    operator(kernel=(1, 1)),
    operator(groups=16),
    operator(out=32, groups=16),
    operator(groups=4),
    replace(operator(), data_layout="NCHW", out_layout="NCHW"),
    replace(operator(groups=16), data_layout="NCHW", out_layout="NCHW"),
    MatMul((5,), 7, 9, "float32"),
    replace(operator(), dtype="int16"),
    MatMul((5,), 7, 9, "int16"),
    Kernel("moves", (BlockView("move", (3, 4), (), None),)),
    Kernel("turns", (BlockView("turn", (3, 4), (), None, strided=True),)),
    Kernel("pools", (BlockView("pool_max", (1, 3, 5, 7), (3, 3), None, combines="max"),)),
    Kernel("resizes", (BlockView("resample", (1, 3, 5, 7), (), None),)),
    Kernel("adds", (BlockView("add_up", (3,), (4,), None),)),
    Kernel("multiplies", (BlockView("multiply", (3, 5), (4,), None, combines="sum", product=True),)),
    Kernel(
        "normalizes",
        (BlockView("sum", (3,), (4,), None, combines="sum"), BlockView("result", (3, 4), (), None)),
    ),
    Kernel(
        "softmax",
        (
            BlockView("largest", (3,), (4,), None, combines="max"),
            BlockView("sum", (3,), (4,), None, combines="sum"),
            BlockView("result", (3, 4), (), None),
        ),
    ),
]


def test_these_are_the_schedules() -> None:
    assert set(LOADED) == {
        "batched_matmul", "conv_channels", "conv_direct", "conv_pixels", "conv_winograd",
        "depthwise_channels", "depthwise_pixels", "depthwise_windows",
        "elementwise", "gemm", "integer_products", "normalization", "pool", "reduction", "resize", "softmax",
        "transpose",
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_docstring_draws_the_loop_nest(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first, nest, _ = text.split("\n\n", 2)
    assert "\n" not in first
    assert first.endswith(".")
    lines = nest.splitlines()
    assert all(line.startswith("    ") for line in lines)
    assert "for " in lines[0]
    assert "# before:" in lines[0]
    assert re.search(r"\b(y|acc)\b.*=", nest)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_chip_and_no_target_is_named(path: Path) -> None:
    names = {target.stem for target in (SCHEDULES.parent / "targets").glob("*.toml")}
    text = path.read_text(encoding="utf-8").lower()
    assert [name for name in names if name in text] == []
    assert "target.name" not in text


@pytest.mark.parametrize("name", LOADED)
def test_every_task_is_matched_or_skipped_with_a_sentence(name: str) -> None:
    answers = [LOADED[name].match(task, X86_64) for task in TASKS]
    assert any(isinstance(answer, Match) for answer in answers)
    reasons = [answer.reason for answer in answers if isinstance(answer, Skip)]
    assert reasons
    for reason in reasons:
        assert len(reason.split()) >= 3, reason
        assert reason[0].islower() or reason.startswith("1x1"), reason
        assert not reason.endswith("."), reason


@pytest.mark.parametrize("task", TASKS, ids=lambda task: repr(task)[:60])
def test_every_task_has_exactly_one_kind_of_schedule(task: Operator | Kernel) -> None:
    takers = [
        found
        for found in LOADED.values()
        if isinstance(
            found.answer(task, X86_64) if isinstance(task, Operator) else found.match(task, X86_64), Match
        )
    ]
    computing = {found.compute is not None for found in takers}
    assert computing == {not isinstance(task, Kernel)}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 8, 10, 15, 16, 17, 24, 31, 33, 37, 64, 97, 131, 960])
def test_knobs_are_feasible_for_every_channel_count(channels: int, target: Target) -> None:
    tasks = [
        operator(out=channels),
        operator(out=channels, kernel=(1, 1)),
        Conv2d(1, 1, 1, 5, channels, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, "float32"),
        Conv2d(
            1,
            9,
            11,
            channels + 1,
            channels + 1,
            (3, 3),
            (2, 2),
            (1, 1, 1, 1),
            (1, 1),
            channels + 1,
            "float32",
        ),
        MatMul((1,), 1, channels, "float32"),
    ]
    for task in tasks:
        found = [
            s.best(m) for s in LOADED.values() if isinstance(m := s.match(task, target), Match) and s.compute
        ]
        assert any(found), task
        for best in filter(None, found):
            cost, knobs = best
            assert cost > 0
            assert knobs.get("lanes", 1) <= target.simd.lanes()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_one_output_channel_is_still_a_vector(target: Target) -> None:
    for task in (operator(out=1), operator(out=1, kernel=(1, 1)), MatMul((64,), 64, 1, "float32")):
        matches = [(s, s.match(task, target)) for s in LOADED.values() if s.compute]
        ((found, match),) = [(s, m) for s, m in matches if isinstance(m, Match)]
        best = found.best(match)
        assert best is not None
        assert best[1]["lanes"] > 1


def test_the_estimate_grows_with_the_work() -> None:
    for name, smaller, larger in [
        ("conv_direct", operator(), operator(out=64)),
        ("conv_direct", operator(), operator(kernel=(5, 5))),
        ("gemm", MatMul((8,), 8, 8, "float32"), MatMul((64,), 8, 8, "float32")),
        ("depthwise_channels", operator(groups=16), operator(kernel=(5, 5), groups=16)),
    ]:
        costs = [_best_cost(LOADED[name], task) for task in (smaller, larger)]
        assert costs[0] < costs[1], name


def _best_cost(found: Schedule, task: Operator) -> float:
    match = found.match(task, X86_64)
    assert isinstance(match, Match)
    best = found.best(match)
    assert best is not None
    return best[0]


DENSE: dict[str, tuple[Case, str]] = {
    "conv_direct": (conv(16, 32, (14, 28), (3, 3), pads=[1, 1, 1, 1]), "conv2d"),
    "depthwise_channels": (conv(64, 64, (14, 28), (3, 3), group=64, pads=[1, 1, 1, 1]), "conv2d"),
    "gemm": (conv(64, 64, (14, 28), (1, 1)), "conv2d"),
    "gemm of a matrix product": (matmul((64, 32), 64, end="Relu"), "matmul"),
}
VECTOR_FMA: dict[str, Callable[[str], bool]] = {
    "x86-64": lambda line: "ymm" in line,
    "x86-64-v4": lambda line: "zmm" in line,
    "arm64": lambda line: ".4s" in line,
}


@pytest.mark.parametrize("target", [X86_64, X86_64_V4, ARM64], ids=lambda target: target.name)
@pytest.mark.parametrize("name", DENSE)
def test_products_are_whole_vector_multiply_adds(name: str, target: Target, tmp_path: Path) -> None:
    case, kernel = DENSE[name]
    for of_kind in (name.split()[0], "elementwise", "reduction"):
        shutil.copy(SCHEDULES / f"{of_kind}.py", tmp_path)
    program = schedule(build([case]).model, target, layouts="NHWC->NHWC", ours=tmp_path)
    (choice,) = (choice for choice in program.choices if kernel in choice.task)
    assert choice.schedule == name.split()[0]
    text = source_of(program.module[choice.task], target, "asm")
    products = re.findall(r"^\s+(?:vfn?m(?:add|sub)\d*[ps][sd]|fml[as]|fmadd|fmsub)\s.*", text, re.MULTILINE)
    assert products
    assert [line for line in products if not VECTOR_FMA[target.name](line)] == []
    # The accumulators stay in registers: with a tile of them there are as many products in the code.
    assert len(products) >= choice.knobs["tile"] * choice.knobs["vectors"]
    if choice.schedule == "depthwise_channels":
        return  # its taps are unrolled: what is written lies in the same loop
    inner = max(_loop_bodies(text), key=lambda body: sum("fmadd" in line or "fmla" in line for line in body))
    stores = [line for line in inner if re.search(r"^\s+(?:vmovup[sd]\s+[%\w]*mm\d+,.*\(|st[rp]\s+q)", line)]
    assert stores == []


def _loop_bodies(text: str) -> list[list[str]]:
    """Innermost loops of an assembly listing: the lines from a label to a jump back to it."""
    lines = text.splitlines()
    labels = {line.split(":")[0]: number for number, line in enumerate(lines) if re.match(r"^\.?L\w+:", line)}
    bodies = []
    for number, line in enumerate(lines):
        jump = re.match(r"^\s+(?:j[a-z]+|b\.?[a-z]*|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+(\.?L\w+)", line)
        if jump and labels.get(jump[1], number) < number:
            bodies.append(lines[labels[jump[1]] : number])
    return [body for body in bodies if not any(other != body and set(other) < set(body) for other in bodies)]
