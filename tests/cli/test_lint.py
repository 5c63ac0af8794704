"""``deploycc lint`` on the command line: reports and where they go, policy, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import onnx
import pytest
from onnx import parser

from deploycc.build import InternalError
from deploycc.cli import lint_command, main
from deploycc.cli.lint_outputs import FORMATS, Output, outputs_of, wants_colour
from deploycc.lint import LintResult, lint_model, lint_request
from deploycc.policy.file import FAIL_LEVELS
from deploycc.reporting import FORMATS as RENDERED
from deploycc.request import request_to_json
from deploycc.types import DeployccError, Diagnostic, Limits
from tests.models import write_small_net

MODEL = """g (int32[1,1,8,8] x) => (int32[1,1,4,4] y, int32[1,1,4,4] v, float z) <int64[4] s = {1, 1, 4, 4}> {
    y = Resize<mode="linear", antialias=1>(x, , , s)
    v = Resize<mode="linear", antialias=1>(x, , , s)
    w = Squeeze(v)
    f = Cast<to=1>(w)
    z = Bernoulli(f)
}"""


def write_model(path: Path) -> Path:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {MODEL}')
    for index, node in enumerate(proto.graph.node):
        node.name = f"/head/{node.op_type}_{index}"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``bad.onnx``, in which two operators cannot be had, and the clean ``small.onnx``."""
    folder = tmp_path_factory.mktemp("lint")
    write_small_net(folder / "small.onnx")
    write_model(folder / "bad.onnx")
    (folder / ".git").touch()
    return folder


@pytest.fixture(scope="module")
def linted(folder: Path) -> LintResult:
    """What lint says of ``bad.onnx``, for the tests that are about what becomes of it."""
    return lint_model(folder / "bad.onnx", ["arm64", "x86-64"])


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, linted: LintResult
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the program in this process; lint itself was run once, or is ``instead``.  ``calls`` are its."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.chdir(folder)

    def run(*arguments: str, instead: Exception | None = None) -> tuple[int, str, str]:
        def lint(model: Path, targets: Sequence[str], **options: Any) -> LintResult:
            run.calls.append((model, tuple(targets), options))  # type: ignore[attr-defined]
            if instead is not None:
                raise instead
            return LintResult(model, linted.sha256, linted.reports[: len(targets)])

        monkeypatch.setattr(lint_command, "lint_model", lint)
        with pytest.raises(SystemExit) as left:
            main(["lint", *arguments])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    run.calls = []  # type: ignore[attr-defined]
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


Run = Callable[..., tuple[int, str, str]]


def deploycc(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploycc", *arguments],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_model_with_findings(folder: Path, golden: Callable[[str, str], None]) -> None:
    done = deploycc("lint", "bad.onnx", "--target", "arm64", cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")
    golden("lint.txt", done.stdout)


def test_a_clean_model_and_all_formats_at_once(folder: Path, tmp_path: Path) -> None:
    options = [word for name in FORMATS for word in ("--format", f"{name}={tmp_path / name}")]
    done = deploycc("lint", "small.onnx", "--target", "arm64", *options, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMATS)
    assert "runs whole" in (tmp_path / "text").read_text()


def test_formats_are_those_of_the_reports() -> None:
    assert set(FORMATS) == set(RENDERED)


def test_a_broken_model_has_valid_documents(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.onnx").write_bytes((folder / "small.onnx").read_bytes()[:-40])
    options = [word for name in FORMATS for word in ("--format", f"{name}={tmp_path / name}")]
    done = deploycc("lint", "broken.onnx", "--target", "arm64", *options, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[DC104]" in done.stderr
    texts = {name: (tmp_path / name).read_text() for name in FORMATS}
    assert [name for name, text in texts.items() if "DC104" not in text] == []
    (finding,) = json.loads(texts["json"])["targets"][0]["findings"]
    assert (finding["code"], finding["severity"]) == ("DC104", "error")
    (told,) = json.loads(texts["sarif"])["runs"][0]["results"]
    assert told["ruleId"] == "DC104"
    assert ElementTree.fromstring(texts["junit"]).get("failures") == "1"
    assert texts["github"].startswith("::error ")


@pytest.mark.parametrize("name", FORMATS)
def test_exit_codes_are_the_same_in_every_format(name: str, run: Run) -> None:
    arguments = ("bad.onnx", "--target", "arm64", "--format", name)
    codes = [run(*arguments, "--fail-level", level)[0] for level in FAIL_LEVELS]
    assert codes == [1, 1, 1, 0]
    assert [run(*arguments, "--fail-level", level, "--ignore", "DC")[0] for level in FAIL_LEVELS] == [0] * 4
    broken = DeployccError(Diagnostic("DC104", "the file is damaged"))
    code, out, err = run(*arguments, "--fail-level", "never", instead=broken)
    assert code == 2
    assert "error[DC104]: the file is damaged" in err
    assert ("DC104" in out) == (name != "text")
    fault = InternalError(Diagnostic("DC758", "the stage 'lint' failed"), stage="lint", details="KeyError")
    code, out, err = run(*arguments, instead=fault)
    assert code == 70
    assert "error[DC758]" in err
    assert ("DC758" in out) == (name != "text")
    if name in ("json", "sarif"):
        json.loads(out)


def test_usage_errors_leave_with_2(run: Run, tmp_path: Path) -> None:
    for arguments, told in (
        ((), "Missing argument 'MODEL'"),
        (("bad.onnx", "--format", "yaml"), "'yaml' is no format; write one of text, json"),
        (("bad.onnx", "--format", "json="), "'json=' is no format"),
        (("bad.onnx", "--format", "json", "--format", "sarif"), "two reports would go to standard output"),
        (("bad.onnx", "--output", "a", "--output", "b"), "2 --output for 1 --format without a file"),
        (("bad.onnx", "--format", "json", "--format", "text", "--output", "a"), "write --format FORMAT=FILE"),
        (("bad.onnx", "--config", "c.toml", "--no-config"), "exclude each other"),
        (("bad.onnx", "--fail-level", "fatal"), "'fatal' is not one of"),
        (("bad.onnx", "--shape", "x=0"), "is no shape"),
        (("bad.onnx", "--select", "resize-antialia"), "did you mean resize-antialias?"),
        (("bad.onnx", "--ignore", "DC4,DC999"), "error[DC777]: --ignore names no rule"),
        (("bad.onnx", "--baseline", "none.json"), "error[DC774]"),
        (("bad.onnx", "--config", "none.toml"), "error[DC770]"),
        (("bad.onnx", "--format", f"json={tmp_path}/none/a.json"), "error[DC778]"),
        (("bad.onnx", "--write-baseline", f"{tmp_path}/none/a.json"), "error[DC778]"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), arguments
        assert told in err, arguments


def test_an_unknown_target_is_told_in_the_document_too(folder: Path) -> None:
    done = deploycc("lint", "bad.onnx", "--target", "snpe:hpt", "--format", "json", cwd=folder)
    assert done.returncode == 2
    assert "did you mean --target snpe:htp?" in done.stderr
    assert json.loads(done.stdout)["targets"][0]["findings"][0]["code"] == "DC510"


def test_where_reports_go() -> None:
    text, sarif, page = Output("text"), Output("sarif"), Output("html")
    a, b = Path("a"), Path("b")
    assert outputs_of((), ()) == (text,)
    assert outputs_of((), (a,)) == (Output("text", a),)
    assert outputs_of((sarif,), (a,)) == (Output("sarif", a),)
    assert outputs_of((sarif, page), (a, b)) == (Output("sarif", a), Output("html", b))
    assert outputs_of((sarif, Output("html", b), text), (a, Path("-"))) == (
        Output("sarif", a),
        Output("html", b),
        text,
    )
    for formats, files in (((text, sarif), (a,)), ((), (a, b)), ((text, sarif), ()), ((text,), (a, b))):
        with pytest.raises(click.UsageError):
            outputs_of(formats, files)
    with pytest.raises(click.UsageError, match="two reports would go to a"):
        outputs_of((sarif, page), (a, a))


def test_colours(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour("auto", terminal)
    assert not wants_colour("auto", None)
    assert not wants_colour("never", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour("auto", terminal)
    assert wants_colour("always", None)
    assert "\x1b[" not in run("bad.onnx")[1]
    assert "\x1b[" in run("bad.onnx", "--colour", "always")[1]


def test_targets_and_shapes_reach_lint(run: Any) -> None:
    run("bad.onnx")
    run("bad.onnx", "--target", "arm64", "--target", "snpe:htp@2.10", "--shape", "x=1x2",
        "--stage-seconds", "7", "--memory-mib", "512")  # fmt: skip
    (_, first, _), (model, second, options) = run.calls
    assert first == ("host",)
    assert (model, second) == (Path("bad.onnx"), ("arm64", "snpe:htp@2.10"))
    assert options["shapes"] == {"x": (1, 2)}
    assert options["limits"] == Limits(stage_seconds=7, memory_bytes=512 << 20)


def test_selecting_and_ignoring(run: Run) -> None:
    assert run("bad.onnx", "--ignore", "DC400", "--ignore", "resize-antialias")[0] == 0
    assert run("bad.onnx", "--ignore", "DC400,resize-*")[0] == 0
    code, out, _ = run("bad.onnx", "--select", "no-converter")
    assert code == 1
    assert "DC400" in out
    assert "DC401" not in out
    assert run("bad.onnx", "--select", "DC3")[0] == 0


def test_ignored_findings_are_counted_and_stay_in_the_document(run: Run, linted: LintResult) -> None:
    code, out, _ = run("bad.onnx", "--target", "arm64", "--ignore", "DC")
    assert code == 0
    assert "runs whole" in out
    assert f"{len(linted.reports[0].diagnostics)} suppressed" in out
    out = run("bad.onnx", "--ignore", "DC400", "--format", "json")[1]
    findings = json.loads(out)["targets"][0]["findings"]
    told = {d["code"]: d["suppressed"] for d in findings}
    assert (told.pop("DC400"), told.pop("DC401")) == ("--ignore DC400", "")
    assert set(told.values()) <= {""}


def test_a_baseline_round_trip(run: Run, tmp_path: Path, linted: LintResult) -> None:
    path = tmp_path / "baseline.json"
    code, out, err = run("bad.onnx", "--target", "arm64", "--write-baseline", str(path))
    count = len(linted.reports[0].diagnostics)
    assert (code, err) == (0, f"{path}: {count} findings\n")
    assert f"{count} suppressed" in out
    first = path.read_bytes()
    assert run("bad.onnx", "--target", "arm64", "--baseline", str(path), "--fail-level", "info")[0] == 0
    # Written again over itself it is the same; without one finding that one counts.
    run("bad.onnx", "--target", "arm64", "--baseline", str(path), "--write-baseline", str(path))
    assert path.read_bytes() == first
    data = json.loads(first)
    gone = next(row for row in data["findings"] if row["code"] == "DC401")
    data["findings"].remove(gone)
    path.write_text(json.dumps(data))
    code, out, _ = run("bad.onnx", "--target", "arm64", "--baseline", str(path), "--format", "json")
    assert code == 1
    counted = [d for d in json.loads(out)["targets"][0]["findings"] if not d["suppressed"]]
    assert [d["fingerprint"] for d in counted] == [gone["fingerprint"]]


def test_dc775_a_baseline_that_is_too_long(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    run("bad.onnx", "--target", "arm64", "--write-baseline", str(path))
    data = json.loads(path.read_text())
    data["findings"].append({**data["findings"][0], "fingerprint": "0123"})
    path.write_text(json.dumps(data))
    code, out, _ = run("bad.onnx", "--target", "arm64", "--baseline", str(path), "-v")
    assert code == 0
    assert "info[DC775]: a finding of the baseline no longer occurs" in out


def test_the_nearest_file_is_used_and_the_command_line_goes_before_it(run: Any, folder: Path) -> None:
    path = folder / "deploycc.toml"
    path.write_text(
        '[lint]\ntargets = ["arm64", "x86-64"]\nfail-level = "never"\n'
        '[[lint.ignore]]\nrule = "no-converter"\nnode = "/head/Bernoulli*"\nreason = "the app does it"\n'
    )
    try:
        code, out, _ = run("bad.onnx")
        assert code == 0
        assert run.calls[-1][1] == ("arm64", "x86-64")
        assert "DC401" in out
        assert "DC400" not in out
        assert run("bad.onnx", "--fail-level", "error")[0] == 1
        run("bad.onnx", "--target", "rpi4")
        assert run.calls[-1][1] == ("rpi4",)
        code, out, _ = run("bad.onnx", "--no-config")
        assert code == 1
        assert run.calls[-1][1] == ("host",)
        assert "DC400" in out
        broken = DeployccError(Diagnostic("DC104", "the file is damaged"))
        _, out, _ = run("bad.onnx", "--format", "json", instead=broken)
        assert [t["target"] for t in json.loads(out)["targets"]] == ["arm64", "x86-64"]
        (folder / "other.toml").write_text("[lint]\ntargets = ['riscv64']\n")
        run("bad.onnx", "--config", "other.toml")
        assert run.calls[-1][1] == ("riscv64",)
    finally:
        path.unlink()


def test_dc773_an_unused_ignore_is_told(run: Run, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[[lint.ignore]]\nrule = "no-converter"\nnode = "/neck/*"\nreason = "once"\n')
    code, out, _ = run("bad.onnx", "--target", "arm64", "--config", str(path))
    assert code == 1
    assert "warning[DC773]: an ignore matches no finding" in out
    assert 'rule = "no-converter", node = "/neck/*"' in out


def test_a_broken_file_is_told_and_a_document_is_still_one(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("[lint]\nfail_level = 'error'\n")
    code, out, err = run("bad.onnx", "--config", str(path), "--format", "json")
    assert code == 2
    assert "did you mean 'lint.fail-level'?" in err
    assert json.loads(out)["targets"][0]["findings"][0]["code"] == "DC771"


def test_verbose_shows_the_stages(folder: Path) -> None:
    done = deploycc("lint", "small.onnx", "--target", "arm64", "--verbose", cwd=folder)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["import", "simplify", "hints", "lint"]


def test_lint_does_without_tvm(folder: Path) -> None:
    """It takes a second to load.  The function that the child runs is run in a process that can be asked."""
    request = request_to_json(lint_request(folder / "small.onnx", {}, Limits()))
    program = f"""
import sys
from dataclasses import asdict
from deploycc.lint import lint_in_child
from deploycc.lint_targets import load_lint_target
targets = [asdict(load_lint_target(name)) for name in ("arm64", "snpe:htp")]
answer = lint_in_child({{"request": {request!r}, "targets": targets}}, lambda event: None)
assert [report["target"] for report in answer["reports"]] == ["arm64", "snpe:htp"]
print("onnx" in sys.modules, sorted(name for name in sys.modules if name.split(".")[0] in ("tvm", "tvm_ffi")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"
