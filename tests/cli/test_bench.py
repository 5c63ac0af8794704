"""``deploycc bench`` as users run it: exit codes, text, files."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc.cli.bench_command import benchmark_lines
from deploycc.cli.program import main
from deploycc.result_types import Benchmark, Contest, Timed
from deploycc.timing.statistics import TEST
from tests.cli.test_cli import deploycc
from tests.models import write_small_net

Command = Callable[..., tuple[int, str, str]]
QUICK = ("--runs", "40", "--launches", "5")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_small_net(folder / "small.onnx")
    done = deploycc("build", "small.onnx", "-o", "package", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "package"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, standard output, errors."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["bench", *map(str, arguments)])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return (code, *capsys.readouterr())

    return run


def benchmark(**changed: object) -> Benchmark:
    ours = Timed("deploycc", "0.1.0", 122.04, 121.0, 126.3, 492.7, 126.9, 19.03, 2970, 3936)
    engine = Timed("onnxruntime", "1.31.1", 2525.4, 2502.2, 2593.3, 1157.0, 122e3, 5.74e7, 31950, 912)
    contests = (
        Contest("onnxruntime", 20.69, 19.5, 21.25, "faster", TEST),
        Contest("out/before", 0.97, 0.961, 0.98, "slower", TEST),
        Contest("out/twin", 1.001, 0.99, 1.012, "no difference seen", TEST),
    )
    table = {
        "package": "net", "place": "this machine", "threads": 1, "pinned": True, "ours": ours,
        "peers": (engine,), "contests": contests, "machine": "Chip, 2 processors, x86_64", "inputs": "golden",
    }  # fmt: skip
    return Benchmark(**(table | changed))  # type: ignore[arg-type]


def test_the_text_is_as_agreed(golden: Callable[[str, str], None]) -> None:
    elsewhere = benchmark(place="ssh board", threads=2, pinned=False, inputs="random", peers=(), contests=())
    text = "\n".join([*benchmark_lines(benchmark()), "", *benchmark_lines(elsewhere)])
    golden("bench.txt", text + "\n")


def test_a_baseline_is_saved_compared_and_missed(package: Path, tmp_path: Path, bench: Command) -> None:
    saved = deploycc("bench", package, *QUICK, "--save", tmp_path / "b.json")
    assert saved.returncode == 0, saved.stderr
    first, header, row = saved.stdout.splitlines()
    assert first.startswith("small on ")
    assert header.split() == "median 95% interval first run load create peak memory runs".split()
    assert row.split()[:2] == ["deploycc", "0.1.0"]

    generous = (package, *QUICK, "--baseline", tmp_path / "b.json", "--margin", "1000")
    code, text, errors = bench(*generous)
    assert code == 0, errors
    assert text.splitlines()[-1].startswith("not slower than the baseline, 1 thread: ")

    table = json.loads((tmp_path / "b.json").read_text())
    ours = table["benchmarks"][0]["ours"]
    ours["launch_us"] = [launch / 1000 for launch in ours["launch_us"]]
    (tmp_path / "b.json").write_text(json.dumps(table))
    code, text, errors = bench(*generous)
    assert code == 1
    assert text.splitlines()[-1].startswith("slower than the baseline, 1 thread: ")
    assert "error[DC838]: small on 1 thread is slower than the baseline" in errors

    code, _, errors = bench(*generous, "--inputs", "random")
    assert code == 2
    assert "error[DC837]" in errors


def test_json_on_standard_output_is_all_there_is(package: Path, bench: Command) -> None:
    code, text, errors = bench(package, *QUICK, "--json", "-", "--threads", "2,1", "--no-pin")
    assert (code, errors) == (0, "")
    found = json.loads(text)["benchmarks"]
    assert [(one["threads"], one["pinned"], one["ours"]["name"]) for one in found] == [
        (2, False, "deploycc"),
        (1, False, "deploycc"),
    ]


def test_quiet_writes_only_files(package: Path, tmp_path: Path, bench: Command) -> None:
    assert bench(package, *QUICK, "-q", "--json", tmp_path / "b.json") == (0, "", "")
    assert json.loads((tmp_path / "b.json").read_text())["format"] == "deploycc benchmark"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threads", "1,x"], "no list of numbers of threads"),
        (["--threads", "0"], "no list of numbers of threads"),
        (["--against", "onnxruntime", "--launches", "7"], "8 or more"),
        (["--against", "onnxruntime"], "error[DC831]"),
        (["--against", "caffe"], "error[DC830]"),
        (["--inputs", "none.npz"], "error[DC812]"),
        (["--baseline", "none.json"], "error[DC836]"),
        (["--runner", "no-such-emulator"], "error[DC801]"),
    ],
)
def test_wrong_usage_leaves_with_2(package: Path, arguments: list[str], said: str, bench: Command) -> None:
    code, _, errors = bench(package, *arguments)
    assert code == 2
    assert said in errors


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path, bench: Command) -> None:
    code, _, errors = bench(tmp_path)
    assert code == 2
    assert "error[DC700]" in errors
