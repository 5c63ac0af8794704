"""The command line, run as users run it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc import __version__
from deploycc.cli.progress import Progress
from deploycc.targets import target_names
from tests.models import BREAKS_THE_PLANNER, write_small_net

COMMANDS = (
    "bench build completion diff explain export inspect lint profile report split targets tune verify".split()
)
DEPLOYCC = [sys.executable, "-m", "deploycc"]


def deploycc(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEPLOYCC, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small.onnx`` and ``dynamic.onnx``, whose height is the dimension ``H``."""
    folder = tmp_path_factory.mktemp("cli")
    write_small_net(folder / "small.onnx")
    write_small_net(folder / "dynamic.onnx", height="H")
    return folder


@pytest.fixture(scope="module")
def built(folder: Path) -> subprocess.CompletedProcess[str]:
    """The outcome of ``deploycc build small.onnx --target arm64``."""
    return deploycc("build", "small.onnx", "--target", "arm64", cwd=folder)


def test_version() -> None:
    assert deploycc("--version").stdout == f"deploycc {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_as_agreed_and_has_examples(command: str, golden: Callable[[str, str], None]) -> None:
    text = deploycc(command, "--help").stdout
    assert f"  deploycc {command}" in text.partition("Examples:")[2]
    golden(f"help-{command}.txt", text)


def test_the_programs_help_lists_every_command() -> None:
    text = deploycc("--help").stdout
    assert "Exit codes: 0 done, 1 the model was refused" in text
    assert [
        line.split()[0] for line in text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    ] == COMMANDS


def test_a_build_in_a_log_has_a_line_a_stage_and_a_summary(
    built: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert built.returncode == 0, built.stderr
    lines = built.stderr.splitlines()
    assert lines[0] == "small.onnx -> small, target arm64"
    stages = ["import", "simplify", "lint", "lower", "layout", "schedule", "plan", "golden", "package"]
    assert [line.split()[0] for line in lines[1:]] == stages
    assert all(float(line.split()[1]) >= 0 and line.endswith(" s") for line in lines[1:])
    summary = built.stdout.splitlines()
    assert summary[0].startswith("small-arm64: small for arm64, built in ")
    assert summary[1].startswith("  code ")
    assert ", weights 0.9 KiB, arena " in summary[1]
    assert summary[2:4] == ["  inputs x float32 1x3x13x16", "  outputs y float32 1x8x13x16"]
    assert "libc.so.6" in summary[4]
    assert "(glibc 2.17 or newer)" in summary[4]


def test_inspect(built: subprocess.CompletedProcess[str], folder: Path) -> None:
    text = deploycc("inspect", "small-arm64", cwd=folder)
    assert text.returncode == 0, text.stderr
    assert "  arena bytes: " in text.stdout
    assert "name x, shape 1x3x13x16" in text.stdout
    assert "  Conv: 1\n" in text.stdout
    parsed = json.loads(deploycc("inspect", "small-arm64", "--json", cwd=folder).stdout)
    assert parsed == json.loads((folder / "small-arm64/share/small/manifest.json").read_text())


def test_inspect_finds_what_was_changed(
    built: subprocess.CompletedProcess[str], folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder / "small-arm64", tmp_path / "copy", symlinks=True)
    (copy / "include" / "small.h").write_text("/* edited */\n")
    done = deploycc("inspect", copy)
    assert done.returncode == 2
    assert "error[DC703]: include/small.h of the package is not what was built" in done.stderr
    done = deploycc("inspect", tmp_path)
    assert done.returncode == 2
    assert "error[DC700]" in done.stderr


def test_quiet_says_nothing(folder: Path, tmp_path: Path) -> None:
    done = deploycc("build", folder / "small.onnx", "--target", "arm64", "-q", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_targets() -> None:
    lines = deploycc("targets").stdout.splitlines()
    assert lines[0].split() == ["NAME", "CPU", "VECTORS", "C", "LIBRARY", "GPU", "CHIPS", "DESCRIPTION"]
    assert tuple(line.split()[0] for line in lines[1 : lines.index("")]) == target_names()
    parsed = json.loads(deploycc("targets", "--json").stdout)
    assert [t["name"] for t in parsed if t["kind"] == "compiled"] == list(target_names())
    assert parsed[1]["llvm"]["triple"] == "aarch64-unknown-linux-android21"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "x=1x3xHx16"], "'x=1x3xHx16' is no shape; write NAME=1x3x224x224"),
        (["--shape", "x=1x0"], "each extent a number above 0"),
        (["--shape", "x=1x3", "--shape", "x=1x4"], "--shape is given twice for 'x'"),
        (["--shape", "1x3x13x16"], "'1x3x13x16' is no shape; write NAME=1x3x224x224"),
        (["--emit", "dll"], "'dll' is not one of 'shared', 'static'"),
        (["--no-such"], "No such option"),
        (["--schedule-dir", "nowhere"], "'nowhere' does not exist"),
        (["--target", "arm65"], "error[DC500]: there is no target 'arm65'"),
        (["--name", "3d"], "error[DC704]: '3d' cannot be the package's name"),
        (["--target", "./none.toml"], "error[DC501]: the target file none.toml cannot be read"),
    ],
)
def test_wrong_usage_leaves_with_2(arguments: list[str], message: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = deploycc("build", "small.onnx", *arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.iterdir()) == before


def test_an_unbound_dimension_shows_the_option_to_pass(folder: Path, tmp_path: Path) -> None:
    done = deploycc("build", folder / "dynamic.onnx", "--target", "arm64", cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "--shape x=1x3x" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = deploycc(
        "build", folder / "dynamic.onnx", "--target", "arm64", "--shape", "x=1x3x5x16", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "  outputs y float32 1x8x5x16\n" in done.stdout


def test_a_fault_of_ours_leaves_with_70_and_a_command(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "mine.py").write_text(BREAKS_THE_PLANNER)
    done = deploycc("build", folder / "small.onnx", "--schedule-dir", "bad", cwd=tmp_path)
    assert done.returncode == 70
    assert "error[DC758]: the stage 'plan' failed: KeyError: 'lost'" in done.stderr
    assert f"to reproduce it: deploycc build {folder}/small.onnx --target host" in done.stderr
    assert f"deploycc {__version__}, stage plan" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def _session_of(pid: int) -> set[int]:
    """The process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "hang.py").write_text("import time\ntime.sleep(100)\n")
    process = subprocess.Popen(
        [*DEPLOYCC, "build", folder / "small.onnx", "--schedule-dir", "bad", "-o", "new/out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        while "lower" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(0.5)
        family = _session_of(process.pid)
        assert len(family) > 1
        os.killpg(process.pid, number)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert err == "interrupted; nothing was written\n"
    assert out == ""
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m deploycc targets --json | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("[\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(shell: str) -> None:
    done = deploycc("completion", shell)
    assert done.returncode == 0
    assert "_DEPLOYCC_COMPLETE" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True, timeout=30)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tar", {"targets"}),
        ("lint --target snpe:h", {"snpe:htp"}),
        ("lint --target arm", {"arm64", "arm64-musl", "armv7"}),
        ("lint --format js", {"json"}),
        ("explain DC402", {"DC402"}),
        ("explain --target snpe:ht", {"snpe:htp"}),
        ("build --target arm", {"arm64", "arm64-musl", "armv7"}),
        ("build --em", {"--emit"}),
    ],
)
def test_completion_offers_commands_targets_and_options(words: str, expected: set[str]) -> None:
    environment = {
        **os.environ,
        "_DEPLOYCC_COMPLETE": "bash_complete",
        "COMP_WORDS": f"deploycc {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    done = subprocess.run(DEPLOYCC, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert {line.partition(",")[2] for line in done.stdout.split()} == expected


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_rewrites_its_line_on_a_terminal() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress({"event": "stage", "name": "lower", "state": "start"})
    assert stream.getvalue() == "\r\x1b[K  lower      ..."
    progress({"event": "node", "name": "conv"})
    progress({"event": "stage", "name": "lower", "state": "end", "seconds": 1.234})
    assert stream.getvalue().endswith("\r\x1b[K  lower         1.23 s\n")
    progress.close()
    assert stream.getvalue().endswith(" s\n")
    progress({"event": "stage", "name": "plan", "state": "start"})
    progress.close()
    assert stream.getvalue().endswith("...\n")
