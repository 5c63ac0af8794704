"""deploycc/timing/baseline.py: what is kept, what is compared, and what cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploycc.result_types import Benchmark, Contest, Timed
from deploycc.timing.baseline import changes, load_benchmarks, save_benchmarks, slowdowns
from deploycc.types import DeployccError


def timed(name: str, launches: tuple[float, ...], version: str = "1.0") -> Timed:
    middle = float(np.median(launches))
    return Timed(name, version, middle, min(launches), max(launches), 9.5, 3.25, 2.0, 640, 1000, launches)


def benchmark(
    us: float = 100.0, peer_us: float | None = None, *, threads: int = 1, drift: float = 1.0
) -> Benchmark:
    """Ten launches around ``us``, fresh luck each; ``drift`` slows the whole machine down."""
    luck = np.random.default_rng()
    ours = tuple((us * drift * np.exp(luck.uniform(-0.01, 0.01, 10))).tolist())
    peers: tuple[Timed, ...] = ()
    contests: tuple[Contest, ...] = ()
    if peer_us is not None:
        theirs = tuple((peer_us * drift * np.exp(luck.uniform(-0.01, 0.01, 10))).tolist())
        ratios = tuple(b / a for a, b in zip(ours, theirs, strict=True))
        peers = (timed("engine", theirs),)
        contests = (Contest("engine", float(np.median(ratios)), 1.0, 2.0, "faster", "test", ratios),)
    return Benchmark(
        "net", "this machine", threads, True, timed("deploycc", ours), peers, contests, "Chip, 2 processors",
        "golden",
    )  # fmt: skip


def codes(error: pytest.ExceptionInfo[DeployccError]) -> list[str]:
    return [diagnostic.code for diagnostic in error.value.diagnostics]


def test_a_file_brings_back_what_was_saved(tmp_path: Path) -> None:
    kept = (benchmark(peer_us=200.0), benchmark(threads=2))
    save_benchmarks(tmp_path / "b.json", kept)
    assert load_benchmarks(tmp_path / "b.json") == kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting"),
        ("[]", 'no "format"'),
        ('{"format": "deploycc package"}', 'no "format"'),
        ('{"format": "deploycc benchmark"}', "no 'schema_version'"),
        ('{"format": "deploycc benchmark", "schema_version": 9}', "schema version 9"),
        ('{"format": "deploycc benchmark", "schema_version": 1, "benchmarks": [{}]}', "no 'package'"),
        ('{"format": "deploycc benchmark", "schema_version": 1, "benchmarks": [7]}', "subscriptable"),
        ('{"format": "deploycc benchmark", "schema_version": 1, "benchmarks": 7}', "iterable"),
    ],
)
def test_what_is_no_saved_benchmark_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(DeployccError, match="is not a saved benchmark") as error:
        load_benchmarks(tmp_path / "b.json")
    assert codes(error) == ["DC836"]
    assert said in error.value.diagnostics[0].got


def test_a_missing_file_is_no_saved_benchmark(tmp_path: Path) -> None:
    with pytest.raises(DeployccError) as error:
        load_benchmarks(tmp_path / "none.json")
    assert codes(error) == ["DC836"]


def test_without_a_peer_times_are_compared_with_a_wide_margin() -> None:
    (same,) = changes([benchmark(105.0)], [benchmark(100.0)])
    assert (same.measure, same.slower) == ("time", False)
    (slower,) = changes([benchmark(120.0)], [benchmark(100.0)])
    assert slower.slower
    assert slower.factor == pytest.approx(1.2, rel=0.02)
    assert 1.1 < slower.low <= slower.factor
    (strict,) = changes([benchmark(105.0)], [benchmark(100.0)], margin=0.01)
    assert strict.slower
    (faster,) = changes([benchmark(50.0)], [benchmark(100.0)])
    assert not faster.slower


def test_with_a_peer_a_slower_machine_is_no_slower_package() -> None:
    then = benchmark(100.0, 200.0)
    (same,) = changes([benchmark(100.0, 200.0, drift=1.5)], [then])
    assert (same.measure, same.slower) == ("engine", False)
    assert same.factor == pytest.approx(1.0, rel=0.02)
    (slower,) = changes([benchmark(110.0, 200.0, drift=0.7)], [then])
    assert slower.slower
    assert slower.factor == pytest.approx(1.1, rel=0.02)


def test_a_peer_of_another_version_is_another_peer() -> None:
    then = benchmark(100.0, 200.0)
    now = benchmark(100.0, 400.0)
    now = replace(now, peers=(replace(now.peers[0], version="2.0"),))
    assert changes([now], [then])[0].measure == "time"


@pytest.mark.parametrize(
    "different",
    [{"machine": "Other, 2 processors"}, {"threads": 4}, {"package": "other"}, {"pinned": False},
     {"place": "ssh board"}, {"inputs": "random"}],
)  # fmt: skip
def test_other_conditions_cannot_be_compared(different: dict[str, object]) -> None:
    with pytest.raises(DeployccError, match="can be compared with") as error:
        changes([benchmark()], [replace(benchmark(), **different)])  # type: ignore[arg-type]
    assert codes(error) == ["DC837"]
    assert "net on Chip, 2 processors, this machine, 1 thread, pinned, golden inputs" in (
        error.value.diagnostics[0].need
    )


def test_too_few_launches_cannot_be_compared() -> None:
    few = benchmark()
    few = replace(few, ours=replace(few.ours, launch_us=few.ours.launch_us[:3]))
    with pytest.raises(DeployccError, match="too few launches") as error:
        changes([few], [few])
    assert codes(error) == ["DC837"]


def test_a_slower_package_is_told_with_what_it_is_and_may_be() -> None:
    found = changes([benchmark(150.0, 200.0), benchmark(100.0, threads=2)],
                    [benchmark(100.0, 200.0), benchmark(100.0, threads=2)])  # fmt: skip
    (told,) = slowdowns("net", found)
    assert told.code == "DC838"
    assert told.message == "net on 1 thread is slower than the baseline"
    assert 1.4 < float(told.got.split()[0]) < 1.6  # the launches are drawn
    assert "times its share of engine's time, at least 1." in told.got
    assert told.need == "at most 1.05 times"


def test_the_form_of_the_file_is_as_agreed(tmp_path: Path) -> None:
    save_benchmarks(tmp_path / "b.json", [benchmark(peer_us=200.0)])
    table = json.loads((tmp_path / "b.json").read_text())
    assert table["format"] == "deploycc benchmark"
    assert table["schema_version"] == 1
    (kept,) = table["benchmarks"]
    assert kept["ours"]["cold_us"] == 9.5
    assert kept["peers"][0]["name"] == "engine"
    assert kept["contests"][0]["verdict"] == "faster"
    assert len(kept["contests"][0]["launch_ratios"]) == 10
