"""Packages beside their reference: golden outputs and models, what is wrong, what cannot be compared."""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from deploycc import build, verify
from deploycc.cli.program import program
from deploycc.result_types import TensorDifference, Verification, from_json
from deploycc.types import DeployccError, Diagnostic
from deploycc.verify import failures
from deploycc.verifying.report import json_report, text_report
from tests.models import write_small_net
from tests.packaging import plans
from tests.verifying.conftest import Pair, write_model

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="packages of this test are for x86-64")

WRONG_WEIGHTS = """
import deploycc.planning
from dataclasses import replace
from deploycc.operators import Skip

right = deploycc.planning.plan

def wrong(program, target, **options):
    planned = right(program, target, **options)
    return replace(planned, weights=bytes(len(planned.weights)))

deploycc.planning.plan = wrong
KNOBS = {}
apply = cost = lambda *arguments: None
match = lambda task, target: Skip("never")
"""


def refusal(*arguments: object, **options: object) -> Diagnostic:
    with pytest.raises(DeployccError) as caught:
        verify(*arguments, **options)  # type: ignore[arg-type]
    return caught.value.diagnostics[0]


# ---- right ----


def test_golden_outputs_need_no_model(pair: Callable[..., Pair]) -> None:
    found = verify(pair().package)
    assert found.ok
    assert (found.place, found.engine, found.inputs, found.runs) == (
        "this machine",
        "numpy",
        "golden, seed 0",
        1,
    )
    assert [output.tensor for output in found.outputs] == ["y", "copy"]
    assert found.outputs[1].max_ulp == 0


def test_a_model_is_run_on_random_inputs(pair: Callable[..., Pair]) -> None:
    found = verify(pair().package, pair().model, samples=3, seed=5, threads=2)
    assert found.ok
    assert found.engine.startswith("onnxruntime")
    assert (found.inputs, found.runs) == ("random, seeds 5 to 7", 3)
    assert 0 < found.outputs[0].max_abs < 1e-5


def test_a_model_is_run_on_arrays(pair: Callable[..., Pair]) -> None:
    x = np.random.default_rng().uniform(-3, 3, (1, plans.COUNT)).astype(np.float32)
    assert verify(pair().package, pair().model, [x]).ok


def test_inputs_with_their_outputs_need_no_model(pair: Callable[..., Pair], tmp_path: Path) -> None:
    x = np.random.default_rng().uniform(0, 3, (1, plans.COUNT)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=plans.expected(x), copy=x)
    assert verify(pair().package, inputs=tmp_path / "data.npz").ok
    np.savez(tmp_path / "data.npz", x=x, y=plans.expected(x) + np.float32(0.01), copy=x)
    assert not verify(pair().package, inputs=str(tmp_path / "data.npz")).ok


# ---- wrong ----


@pytest.mark.parametrize("with_model", [False, True])
def test_a_wrong_package_is_found(pair: Callable[..., Pair], *, with_model: bool) -> None:
    wrong = pair(0.505)
    found = verify(wrong.package, wrong.model if with_model else None)
    assert [output.ok for output in found.outputs] == [False, True]
    [diagnostic] = failures(found)
    assert (diagnostic.code, diagnostic.tensor) == ("DC810", "y")
    assert "output 'y' of tiny is not what the model computes" in diagnostic.message
    assert "worst at [0, " in diagnostic.got


def test_the_worst_of_all_sets_is_told(pair: Callable[..., Pair]) -> None:
    wrong = pair(0.505)
    alone = [verify(wrong.package, wrong.model, seed=seed).outputs[0].max_scaled for seed in (7, 8)]
    together = verify(wrong.package, wrong.model, seed=7, samples=2)
    assert together.outputs[0].max_scaled == max(alone)


def test_nan_is_called_out(pair: Callable[..., Pair]) -> None:
    found = verify(pair(math.nan).package)
    [diagnostic] = failures(found)
    assert diagnostic.code == "DC811"
    assert "NaN" in diagnostic.got
    assert f"{plans.COUNT} NaN, 0 infinite" in text_report(found)


def test_tolerances_are_overridden_for_all_or_for_one(pair: Callable[..., Pair]) -> None:
    wrong = pair(0.505).package
    assert verify(wrong, tolerance=0.1).ok
    assert verify(wrong, tolerance={"y": 0.1}).ok
    assert not verify(wrong, tolerance={"copy": 0.1}).ok
    assert [o.tolerance for o in verify(wrong, tolerance={"": 0.2, "y": 0.1}).outputs] == [0.1, 0.2]
    tightest = verify(wrong).outputs[0].max_scaled
    assert verify(wrong, tolerance=tightest).ok
    assert not verify(wrong, tolerance=math.nextafter(tightest, 0)).ok


@pytest.mark.parametrize("tolerance", [{"z": 0.1}, {"y": -1.0}, {"": math.nan}, math.inf])
def test_a_tolerance_that_is_none_is_refused(pair: Callable[..., Pair], tolerance: object) -> None:
    assert refusal(pair().package, tolerance=tolerance).code == "DC817"


# ---- what cannot be compared ----


def test_inputs_alone_are_nothing_to_compare_with(pair: Callable[..., Pair]) -> None:
    found = refusal(pair().package, inputs="random")
    assert found.code == "DC814"
    assert "--model" in found.help


def test_another_model_is_warned_of(pair: Callable[..., Pair], tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", scale=0.505)
    done = CliRunner().invoke(program, ["verify", str(pair().package), "--model", str(other), "-q"])
    assert done.exit_code == 1
    assert "warning[DC815]" in done.stderr
    assert "error[DC810]" in done.stderr


def test_a_model_of_another_interface_is_refused(pair: Callable[..., Pair], tmp_path: Path) -> None:
    found = refusal(pair().package, write_small_net(tmp_path / "small.onnx"))
    assert found.code == "DC816"
    renamed = refusal(pair().package, write_model(tmp_path / "renamed.onnx", output="z"))
    assert renamed.code == "DC816"
    assert "no output 'y'" in renamed.got


def test_a_model_that_is_none_is_refused(pair: Callable[..., Pair], tmp_path: Path) -> None:
    assert refusal(pair().package, tmp_path / "none.onnx").code == "DC100"


# ---- the command line ----


def test_the_command_tells_and_leaves_with_1(pair: Callable[..., Pair], tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = CliRunner().invoke(program, ["verify", str(pair(0.505).package), "--json", str(result)])
    assert done.exit_code == 1
    assert "error[DC810]: output 'y' of tiny" in done.stderr
    assert "1 of 2 outputs beyond the tolerance" in done.stdout
    written = json.loads(result.read_text(encoding="utf-8"))
    assert written["ok"] is False
    assert from_json(Verification, written) == verify(pair(0.505).package)


def test_the_command_writes_json_in_place_of_text(pair: Callable[..., Pair]) -> None:
    done = CliRunner().invoke(program, ["verify", str(pair().package), "--json", "-", "-q"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["outputs"][0]["tensor"] == "y"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tolerance", "much"], "is no tolerance"),
        (["--tolerance", "y=1", "--tolerance", "y=2"], "given twice for y"),
        (["--reduced", "folder"], "--reduced needs --bisect"),
        (["--samples", "0"], "--samples"),
    ],
)
def test_wrong_usage_leaves_with_2(pair: Callable[..., Pair], words: list[str], said: str) -> None:
    done = CliRunner().invoke(program, ["verify", str(pair().package), *words])
    assert done.exit_code == 2
    assert said in done.stderr


def test_broken_input_leaves_with_2(pair: Callable[..., Pair]) -> None:
    words = ["verify", str(pair().package), "--inputs", "no such file"]
    done = subprocess.run([sys.executable, "-m", "deploycc", *words], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"error[DC812]" in done.stderr


def test_infinite_numbers_go_through_json(pair: Callable[..., Pair]) -> None:
    found = verify(pair().package)
    odd = replace(found.outputs[0], max_scaled=math.inf, worst_expected=-math.inf, sqnr_db=None)
    made = replace(found, outputs=(odd,))
    assert "Infinity" not in json_report(made)
    assert from_json(Verification, json.loads(json_report(made))) == made


def test_the_report_is_as_agreed(golden: Callable[[str, str], None]) -> None:
    good = TensorDifference(
        tensor="boxes", dtype="float32", elements=400, ok=True, tolerance=5e-5, max_abs=1.25e-4, max_rel=0.5,
        max_scaled=3.0518e-07, max_ulp=2048, cosine=0.9999999999, sqnr_db=121.04,
        histogram=((0.0, 100), (1e-8, 250), (1e-7, 0), (1e-6, 50), (1.0, 0)), nan=0, infinite=0, unexpected=0,
        worst_index=(0, 17, 3), worst_expected=410.25, worst_got=410.250125,
    )  # fmt: skip
    bad = replace(
        good, tensor="scores", ok=False, max_scaled=0.25, nan=1, unexpected=1, cosine=None, sqnr_db=None,
        histogram=((0.0, 3), (math.inf, 397)), worst_got=math.nan, reason="1 of 400 values NaN or infinite",
    )  # fmt: skip
    found = Verification("det", "qemu-aarch64-static", "onnxruntime 1.31.1", "golden, seed 0", 1, (good, bad))
    golden("report.txt", text_report(found))


def test_the_tightest_tolerance_shown_passes() -> None:
    generator = np.random.default_rng()
    for _ in range(200):
        value = float(10 ** generator.uniform(-9, 2))
        one = TensorDifference(
            "y", "float32", 1, True, 1.0, 0.0, 0.0, value, 0, None, None, (), 0, 0, 0, (), 0.0, 0.0
        )
        report = text_report(Verification("p", "here", "e", "i", 1, (one,)))
        shown = float(report.splitlines()[4].split()[5])
        assert value <= shown <= value * 1.02


# ---- build --verify ----


def test_a_build_that_computes_wrongly_leaves_nothing(tmp_path: Path) -> None:
    model = write_small_net(tmp_path / "small.onnx")
    schedules = tmp_path / "schedules"
    schedules.mkdir()
    (schedules / "wrong.py").write_text(WRONG_WEIGHTS, encoding="utf-8")
    events: list[dict[str, object]] = []
    with pytest.raises(DeployccError) as caught:
        build(
            model, "x86-64", tmp_path / "out" / "small", schedule_dirs=[schedules], verify=True,
            on_event=events.append,
        )  # fmt: skip
    [diagnostic] = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.tensor) == ("DC810", "y")
    assert "no package was written" in diagnostic.help
    assert not (tmp_path / "out").exists()
    assert build(model, "x86-64", tmp_path / "out" / "small", verify=True).path.is_dir()


def test_a_build_that_could_not_be_verified_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "none.onnx"
    with pytest.raises(DeployccError) as caught:
        build(model, "android-arm64", tmp_path / "out", verify=True)
    assert caught.value.diagnostics[0].code == "DC802"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeployccError) as caught:
        build(model, "riscv64", tmp_path / "out", verify=True)
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == "DC800"
    assert "build without --verify" in diagnostic.help
