"""Packages with and without timers, profiled where they run: here and under an emulator."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploycc.profile import profile, profile_to_json
from deploycc.profiling import measured_ceilings, target_ceilings
from deploycc.profiling.ceilings import _told
from deploycc.result_types import Profile, from_json
from deploycc.running import Orders, open_package, place_of, run
from deploycc.types import DeployccError
from tests.packaging.conftest import STRICT, tool
from tests.packaging.conftest import run as run_tool
from tests.profiling.profiles import CEILINGS, drawn_inputs, make_package
from tests.profiling.test_timeline import check_events

FORMS = [("shared", "private"), ("static", "private"), ("shared", "shared"), ("static", "shared")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function from a form to a package, each made once."""
    root = tmp_path_factory.mktemp("packages")
    known: dict[str, Path] = {}

    def package(target: str = "X86_64", **options: object) -> Path:
        name = "-".join(map(str, (target, *options.values())))
        if name not in known:
            known[name] = make_package(root / name, target, **options)
        return known[name]

    return package


@pytest.fixture
def told_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings without the seconds that measuring them takes."""
    monkeypatch.setattr("deploycc.profile.measured_ceilings", lambda *_: CEILINGS)


@pytest.mark.parametrize(("emit", "runtime"), FORMS[:3])
def test_timers_change_neither_kernels_nor_outputs(made, emit: str, runtime: str) -> None:
    plain, timed = (
        open_package(made(emit=emit, runtime=runtime, profile=profiled)) for profiled in (False, True)
    )
    assert plain.manifest["interface"]["profile"] is False
    assert timed.manifest["interface"]["profile"] is True
    assert plain.manifest["kernels_sha256"] == timed.manifest["kernels_sha256"]
    assert plain.manifest["calls"] == timed.manifest["calls"]
    more = set(timed.manifest["interface"]["symbols"]) - set(plain.manifest["interface"]["symbols"])
    assert more == {"tiny_profile", "tiny_profile_reset"}
    inputs = drawn_inputs()
    for threads in (1, 3):
        orders = Orders(threads=threads, runs=4, steps=True)
        one, other = (run(p, place_of(None, p.manifest), inputs, orders) for p in (plain, timed))
        for a, b in zip(one.outputs, other.outputs, strict=True):
            assert a.tobytes() == b.tobytes()
            assert np.any(a != 0)


@pytest.mark.parametrize("timers", [False, True])
def test_a_profile_has_every_step_with_what_the_manifest_says(made, told_ceilings, timers: bool) -> None:
    found = profile(made(emit="shared", runtime="private", profile=timers), runs=7)
    assert found.method == ("timers" if timers else "observer")
    assert (found.package, found.place, found.threads, found.runs) == ("tiny", "this machine", 1, 7)
    assert [layer.symbol for layer in found.layers] == ["k_check", "fused_scale", "k_tanh", "memcpy"]
    scale = found.layers[1]
    assert (scale.nodes, scale.operators, scale.schedule) == (("node_1",), ("Mul",), "elementwise")
    assert (scale.knobs, scale.nbytes) == ({"lanes": 4}, 12000)
    assert all(0 <= one.low_us <= one.time_us <= one.high_us for one in found.layers)
    assert sum(one.share for one in found.layers) == pytest.approx(1)
    # A thousand hyperbolic tangents: the longest step, and none is longer than the run it is part of.
    assert max(found.layers, key=lambda one: one.time_us).symbol == "k_tanh"
    assert 0 < found.layers[2].time_us <= found.timed_us
    table = json.loads(json.dumps(profile_to_json(found)))
    assert from_json(Profile, table) == found
    assert all("why" in layer for layer in table["layers"])


def test_steps_are_timed_in_as_many_runs_as_time_allows(made) -> None:
    package = open_package(made(emit="shared", runtime="private", profile=False))
    place = place_of(None, package.manifest)
    few = run(package, place, drawn_inputs(), Orders(runs=50, steps=True, seconds=1e-9))
    assert len(few.run_us) == len(few.observed_us) == 5
    assert few.step_ns is not None
    assert few.step_ns.shape == (5, 4)
    assert 0 < few.timer_ns < 1e5
    assert np.all(few.step_ns.sum(axis=1) / 1e3 <= np.array(few.observed_us) + 0.001)
    all_of_them = run(package, place, drawn_inputs(), Orders(runs=9, steps=True, seconds=600))
    assert len(all_of_them.run_us) == 9


def test_a_trace_is_written_beside_the_profile(made, told_ceilings, tmp_path: Path) -> None:
    found = profile(made(emit="shared", runtime="private", profile=False), runs=3, trace=tmp_path / "t.json")
    trace = json.loads((tmp_path / "t.json").read_text())
    check_events(trace)
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert re.fullmatch(r"run \d of 3", events[0]["name"])
    assert [event["name"] for event in events[1:5]] == ["node_0", "node_1", "node_2", "node_3"]
    assert len(events) == 3 * (1 + len(found.layers))
    with pytest.raises(DeployccError, match="DC843: the profile cannot be written to"):
        profile(
            made(emit="shared", runtime="private", profile=False), runs=1, trace=tmp_path / "no" / "t.json"
        )


def test_under_an_emulator(made, told_ceilings) -> None:
    if shutil.which("qemu-aarch64-static") is None and shutil.which("qemu-aarch64") is None:
        pytest.skip("no qemu-aarch64 here")
    if not Path("/usr/aarch64-linux-gnu/lib/libc.so.6").exists():
        pytest.skip("no C library of arm64 here (Debian: apt install libc6-arm64-cross)")
    found = profile(made("ARM64", profile=True), runs=2)
    assert found.place.startswith("qemu-aarch64")
    assert found.method == "timers"
    assert all(layer.time_us > 0 for layer in found.layers[1:3])


def test_behind_ssh(made, tmp_path: Path) -> None:
    """With a command in ssh's place that runs here what it is given for another host."""
    ssh = tmp_path / "ssh"
    skip = 'while [ "$1" != somewhere ]; do shift || exit 255; done; shift'
    ssh.write_text(f'#!/bin/sh\n{skip}\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    found = profile(made(emit="shared", runtime="private", profile=False), f"{ssh} somewhere", runs=2)
    assert found.place == f"{ssh} somewhere"
    assert found.runs == 2
    assert found.ceilings is not None
    assert found.ceilings.source == f"measured on {ssh} somewhere, 1 thread"


def test_times_from_cpp(made, tmp_path: Path) -> None:
    package = made(emit="shared", runtime="private", profile=True)
    source = tmp_path / "main.cpp"
    source.write_text(
        '#include "tiny.hpp"\n'
        "#include <vector>\n"
        "int main() {\n"
        "    tiny::Model model;\n"
        "    std::vector<float> x(tiny::input::x::size), y(tiny::output::y::size), copy(y);\n"
        "    tiny::Inputs inputs;\n    inputs.x = x;\n"
        "    tiny::Outputs outputs;\n    outputs.y = y;\n    outputs.copy = copy;\n"
        "    for (int i = 0; i < 3; i++) model.run(inputs, outputs);\n"
        "    std::vector<tiny_step_time> times = model.profile();\n"
        "    if (times.size() != tiny_step_count()) return 1;\n"
        "    for (const tiny_step_time &t : times) {\n"
        "        if (t.runs < 1 || t.runs > 3 || t.min_ns > t.max_ns) return 2;\n"
        "        if (t.total_ns < t.runs * t.min_ns) return 4;\n"
        "    }\n"
        "    model.reset_profile();\n"
        "    return model.profile()[0].runs == 0 ? 0 : 3;\n}\n"
    )
    program = tmp_path / "main"
    command = [tool("g++"), "-std=c++17", *STRICT, f"-I{package / 'include'}", source]
    run_tool([*command, f"-L{package / 'lib'}", "-ltiny", "-o", program])
    run_tool([program], env={"LD_LIBRARY_PATH": str(package / "lib")})
    assert (
        "profile"
        not in (made(emit="shared", runtime="private", profile=False) / "include/tiny.h").read_text()
    )


def test_a_package_from_before_is_refused(made, tmp_path: Path) -> None:
    old = shutil.copytree(made(emit="shared", runtime="private", profile=False), tmp_path / "old")
    path = old / "share" / "tiny" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["interface"]["abi_version"] = 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(DeployccError, match="DC840: the package tiny is from before runs could be watched"):
        profile(old)


# ---- ceilings ----


def test_ceilings_are_measured_where_it_runs(made) -> None:
    package = open_package(made(emit="shared", runtime="private", profile=False))
    place = place_of(None, package.manifest)
    found = measured_ceilings(package.manifest, place, 1)
    assert found is not None
    assert found.source == "measured on this machine, 1 thread"
    # Any machine that runs this has between a tenth and a thousand GFLOP/s on one thread.
    assert 0.1 < found.gflops < 1000
    sizes = [size for size, _ in found.levels]
    assert sizes == [1 << n for n in (14, 16, 18, 20, 22, 24, 26)]
    assert found.gbs in [gbs for _, gbs in found.levels]
    before = _told.cache_info().misses
    assert measured_ceilings(package.manifest, place, 1) == found
    assert _told.cache_info().misses == before


def test_without_a_program_there_are_no_ceilings(made, tmp_path: Path) -> None:
    package = open_package(made(emit="shared", runtime="private", profile=False))
    broken = tmp_path / "broken"
    broken.write_text(f"#!{sys.executable}\nprint('no JSON')\n")
    broken.chmod(0o755)
    place = place_of(str(broken), package.manifest)
    assert measured_ceilings(package.manifest, place, 1) is None
    other = replace_target(package.manifest, linker_triple="no-such-machine")
    assert measured_ceilings(other, place_of(None, package.manifest), 1) is None


def test_the_targets_own_ceilings_are_those_of_its_file() -> None:
    told = target_ceilings({"target": {"name": "rpi4"}})
    assert (told.gflops, told.gbs, told.levels) == (48.0, 12.8, ())
    assert told.source == "the description of target rpi4, all its cores"
    with pytest.raises(DeployccError, match="DC842: the target x86-64 does not tell what it can do at most"):
        target_ceilings({"target": {"name": "x86-64"}})


def replace_target(manifest: object, **changes: str) -> dict[str, object]:
    """The manifest with another target."""
    table = dict(manifest)  # type: ignore[call-overload]
    return {**table, "target": {**table["target"], **changes}}
