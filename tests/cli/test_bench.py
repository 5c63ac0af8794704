"""``deploycc bench`` as users run it: exit codes, text, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc.cli.bench_command import benchmark_lines
from deploycc.result_types import Benchmark, Contest, Timed
from deploycc.timing.statistics import TEST
from tests.cli.test_cli import deploycc
from tests.models import write_small_net

QUICK = ("--runs", "40", "--launches", "5")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_small_net(folder / "small.onnx")
    done = deploycc("build", "small.onnx", "-o", "package", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "package"


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


def test_a_baseline_is_saved_compared_and_missed(package: Path, tmp_path: Path) -> None:
    saved = deploycc("bench", package, *QUICK, "--save", tmp_path / "b.json")
    assert saved.returncode == 0, saved.stderr
    first, header, row = saved.stdout.splitlines()
    assert first.startswith("package on ")
    assert header.split() == "median 95% interval first run load create peak memory runs".split()
    assert row.split()[:2] == ["deploycc", "0.1.0"]

    generous = ("--baseline", tmp_path / "b.json", "--margin", "1000")
    same = deploycc("bench", package, *QUICK, *generous)
    assert same.returncode == 0, same.stderr
    assert same.stdout.splitlines()[-1].startswith("not slower than the baseline, 1 thread: ")

    table = json.loads((tmp_path / "b.json").read_text())
    ours = table["benchmarks"][0]["ours"]
    ours["launch_us"] = [launch / 1000 for launch in ours["launch_us"]]
    (tmp_path / "b.json").write_text(json.dumps(table))
    slower = deploycc("bench", package, *QUICK, *generous)
    assert slower.returncode == 1
    assert slower.stdout.splitlines()[-1].startswith("slower than the baseline, 1 thread: ")
    assert "error[DC838]: package on 1 thread is slower than the baseline" in slower.stderr

    other = deploycc("bench", package, *QUICK, *generous, "--inputs", "random")
    assert other.returncode == 2
    assert "error[DC837]" in other.stderr


def test_json_on_standard_output_is_all_there_is(package: Path, tmp_path: Path) -> None:
    done = deploycc("bench", package, *QUICK, "--json", "-", "--threads", "2,1", "--no-pin")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)["benchmarks"]
    assert [(one["threads"], one["pinned"], one["ours"]["name"]) for one in found] == [
        (2, False, "deploycc"),
        (1, False, "deploycc"),
    ]


def test_quiet_writes_only_files(package: Path, tmp_path: Path) -> None:
    done = deploycc("bench", package, *QUICK, "-q", "--json", tmp_path / "b.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "b.json").read_text())["format"] == "deploycc benchmark"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threads", "1,x"], "no list of numbers of threads"),
        (["--threads", "0"], "no list of numbers of threads"),
        (["--against", "onnxruntime", "--launches", "7"], "8 or more"),
        (["--against", "onnxruntime"], "error[DC831]"),
        (["--against", "caffe"], "error[DC830]"),
        (["--inputs", "none.npz"], "error[DC839]"),
        (["--baseline", "none.json"], "error[DC836]"),
        (["--runner", "no-such-emulator"], "error[DC801]"),
    ],
)
def test_wrong_usage_leaves_with_2(package: Path, arguments: list[str], said: str) -> None:
    done = deploycc("bench", package, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path) -> None:
    done = deploycc("bench", tmp_path)
    assert done.returncode == 2
    assert "error[DC700]" in done.stderr
