"""``deploycc lint --fix``, ``--fix-unsafe`` and ``--diff`` on the command line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import deploycc.fix
from deploycc.cli import lint_command, main
from deploycc.fix_types import AppliedFix, FixResult
from deploycc.lint import LintResult
from deploycc.lint_types import Report
from tests.models import write_small_net

Run = Callable[..., tuple[int, str, str]]
APPLIED = AppliedFix("mish-to-tanh", "/act/Mish", "Mish", "no-converter", "arm64", ("- old",), ("+ new",))


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The program sets handlers of signals, which are the test run's own again afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs lint on ``net.onnx``; ``fixed`` and ``linted`` are the calls that it leads to."""
    monkeypatch.chdir(tmp_path)
    write_small_net(tmp_path / "net.onnx")

    def run(*arguments: str, changes: bool = True) -> tuple[int, str, str]:
        def fix(model: Path, targets: Sequence[str], output: Path, **options: Any) -> FixResult:
            run.fixed.append((model, tuple(targets), output, options))  # type: ignore[attr-defined]
            diff = (f"--- {model}", f"+++ {output}", "-Mish", "+Tanh") if changes else ()
            if changes:
                output.write_bytes(b"new")
            applied = (APPLIED,) if changes else ()
            return FixResult(model, output if changes else None, applied, (), (), (), (), diff)

        def lint(model: Path, targets: Sequence[str], **options: Any) -> LintResult:
            run.linted.append(model)  # type: ignore[attr-defined]
            return LintResult(model, "0" * 64, tuple(Report((), target) for target in targets))

        monkeypatch.setattr(deploycc.fix, "fix_model", fix)
        monkeypatch.setattr(lint_command, "lint_model", lint)
        with pytest.raises(SystemExit) as left:
            main(["lint", "net.onnx", "--target", "arm64", *arguments])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    run.fixed, run.linted = [], []  # type: ignore[attr-defined]
    return run


def test_the_new_model_is_told_of_and_linted(run: Any, tmp_path: Path) -> None:
    code, out, err = run("--fix", "-o", "new.onnx", "--shape", "x=1x3x13x16")
    assert (code, err) == (0, "")
    assert "mish-to-tanh" in out
    assert "written to new.onnx" in out
    ((model, targets, output, options),) = run.fixed
    assert (model, targets, output) == (Path("net.onnx"), ("arm64",), Path("new.onnx"))
    assert (options["unsafe"], options["shapes"]) == (False, {"x": (1, 3, 13, 16)})
    assert run.linted == [Path("new.onnx")]


def test_without_a_name_it_lies_beside_the_old_one(run: Any, tmp_path: Path) -> None:
    run("--fix-unsafe")
    ((_, _, output, options),) = run.fixed
    assert (output, options["unsafe"]) == (Path("net.fixed.onnx"), True)


def test_where_nothing_is_rewritten_the_old_one_is_linted(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("--fix", changes=False)
    assert code == 0
    assert "nothing was rewritten" in out
    assert run.linted == [Path("net.onnx")]
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_diff_writes_nothing_and_lints_what_is_there(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("--diff", "--fix-unsafe")
    assert code == 0
    assert out.startswith("--- net.onnx\n+++ net.fixed.onnx\n-Mish\n+Tanh\n\n")
    assert run.fixed[0][3]["unsafe"] is True
    assert run.linted == [Path("net.onnx")]
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert "nothing would be rewritten" in run("--diff", changes=False)[1]


def test_both(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("--fix", "--diff")
    assert "written to net.fixed.onnx" in out
    assert "+++ net.fixed.onnx" in out
    assert (tmp_path / "net.fixed.onnx").exists()


def test_a_document_on_standard_output_is_not_mixed_with_it(run: Run) -> None:
    _, out, err = run("--fix", "--diff", "--format", "json")
    assert json.loads(out)["model"]["path"] == "net.fixed.onnx"
    assert "written to net.fixed.onnx" in err
    assert "+Tanh" in err


def test_a_file_without_fix_is_a_usage_error(run: Run) -> None:
    for options in (("-o", "new.onnx"), ("--diff", "-o", "new.onnx")):
        code, out, err = run(*options)
        assert (code, out) == (2, "")
        assert "--fixed-output is the file of --fix" in err


def test_dc791_never_the_old_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_small_net(tmp_path / "net.onnx")
    before = model.read_bytes()
    with pytest.raises(SystemExit) as left:
        main(["lint", str(model), "--target", "arm64", "--fix", "-o", str(model)])
    assert left.value.code == 2
    assert "error[DC791]" in capsys.readouterr().err
    assert model.read_bytes() == before
