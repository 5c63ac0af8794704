"""Packages of every form run here, under an emulator and behind ssh; what goes wrong is told by its code."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploycc.running import Dump, Orders, Package, Session, place_of, places, run
from deploycc.types import DeployccError, Diagnostic
from tests.packaging import plans
from tests.running.conftest import Device

NATIVE = pytest.mark.skipif(platform.machine() != "x86_64", reason="packages of this test are for x86-64")
QEMU = pytest.mark.skipif(
    shutil.which("qemu-aarch64-static") is None, reason="no qemu-aarch64-static (Debian: qemu-user-static)"
)
SYSROOT = pytest.mark.skipif(
    not Path("/usr/aarch64-linux-gnu/lib/libc.so.6").exists(), reason="no libc6-arm64-cross"
)


def inputs_of(package: Package, seed: int = 7) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [
        generator.uniform(0.1, 2, tensor["shape"]).astype(tensor["dtype"])
        for tensor in package.manifest["inputs"]
    ]


def assert_right(package: Package, outputs: list[np.ndarray], inputs: list[np.ndarray]) -> None:
    x = inputs[0]
    np.testing.assert_allclose(outputs[0], plans.expected(x.ravel()).reshape(x.shape), rtol=1e-6)
    np.testing.assert_array_equal(outputs[1], x)


def refusal(package: Package, runner: str | None = None, limit: float = 60) -> Diagnostic:
    with pytest.raises(DeployccError) as caught:
        run(package, place_of(runner, package.manifest), inputs_of(package), Orders(), limit)
    [diagnostic] = caught.value.diagnostics
    return diagnostic


def altered(package: Package, section: str, **values: object) -> Package:
    manifest = dict(package.manifest)
    manifest[section] = {**manifest[section], **values}
    return replace(package, manifest=manifest)


# ---- here ----


@NATIVE
@pytest.mark.parametrize("form", [("shared", "private"), ("static", "private"), ("shared", "shared")])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_form_of_package_runs(
    built: Callable[..., Package], form: tuple[str, str], threads: int
) -> None:
    package = built("X86_64", *form)
    inputs = inputs_of(package)
    place = place_of(None, package.manifest)
    assert place.shown == "this machine"
    measured = run(package, place, inputs, Orders(threads=threads, warmup=2, runs=3, steps=True))
    assert_right(package, measured.outputs, inputs)
    assert measured.threads == threads
    assert len(measured.run_us) == len(measured.observed_us) == 3
    assert measured.step_ns is not None
    assert measured.step_ns.shape == (3, len(package.manifest["calls"]))
    assert measured.peak_kib > measured.idle_kib > 0


@NATIVE
def test_dumps_are_what_each_step_wrote(built: Callable[..., Package]) -> None:
    package = built()
    inputs = inputs_of(package)
    dumps = tuple(
        Dump(step, write["kind"], write.get("index", 0), write["offset"], write["bytes"])
        for step, call in enumerate(package.manifest["calls"])
        for write in call["writes"]
        if write["kind"] in ("arena", "output")
    )
    found = run(package, place_of(None, package.manifest), inputs, Orders(dumps=dumps[::-1])).dumps
    assert set(found) == set(dumps)
    scaled = next(data for dump, data in found.items() if dump.kind == "arena")
    want = inputs[0].ravel() * plans.weights()
    np.testing.assert_allclose(np.frombuffer(scaled, np.float32), want, rtol=1e-6)


@NATIVE
def test_a_session_gives_as_many_runs_as_are_asked_for(built: Callable[..., Package]) -> None:
    package = built()
    inputs = inputs_of(package)
    with Session(package, place_of(None, package.manifest), inputs, Orders(serve=True)) as session:
        assert [len(session.ask(count)) for count in (1, 4, 2)] == [1, 4, 2]
        assert_right(package, session.finish().outputs, inputs)


@NATIVE
@pytest.mark.parametrize(
    ("fault", "said"), [("crash", "ended by SIG"), ("refuse", "run: "), ("hang", "stopped after 1 s")]
)
def test_a_package_that_fails_is_told(built: Callable[..., Package], fault: str, said: str) -> None:
    found = refusal(built("X86_64", fault=fault), limit=1 if fault == "hang" else 60)
    assert found.code == "DC805"
    assert said in found.got


def ended(process: int) -> bool:
    """Whether a process, which need not be a child of ours, is gone or waits to be collected."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


@NATIVE
def test_a_runner_that_is_a_script_ends_with_what_it_started(
    built: Callable[..., Package], tmp_path: Path
) -> None:
    script = tmp_path / "runner"
    script.write_text(f'#!/bin/sh\n"$@" &\necho $! >{tmp_path}/pid\nwait\n', encoding="utf-8")
    script.chmod(0o755)
    found = refusal(built("X86_64", fault="hang"), str(script), limit=2)
    assert (found.code, found.got) == ("DC805", "stopped after 2 s")
    child = int((tmp_path / "pid").read_text(encoding="utf-8"))
    end = time.monotonic() + 30
    while (
        not ended(child) and time.monotonic() < end
    ):  # SIGKILL is sent, not awaited: its effect takes a moment
        time.sleep(0.02)
    assert ended(child)


@NATIVE
def test_what_a_runner_says_beside_the_driver_is_passed_over(
    built: Callable[..., Package], tmp_path: Path
) -> None:
    script = tmp_path / "runner"
    script.write_text('#!/bin/sh\necho welcome\necho "a warning" >&2\nexec "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    package = built()
    inputs = inputs_of(package)
    place = place_of(str(script), package.manifest)
    assert_right(package, run(package, place, inputs, Orders()).outputs, inputs)


@NATIVE
@pytest.mark.parametrize("leaves", ["", "cut", "none"])
def test_results_that_are_broken_are_told(built: Callable[..., Package], tmp_path: Path, leaves: str) -> None:
    """A device with a full disk, say: the driver's own output is right, its files are not."""
    script = tmp_path / "runner"
    spoil = {"": ":", "cut": "truncate -s 6 $2/output_0.bin", "none": "rm $2/output_0.bin"}[leaves]
    script.write_text(f'#!/bin/sh\n"$@"\n{spoil}\n', encoding="utf-8")
    script.chmod(0o755)
    package = built()
    if not leaves:
        run(package, place_of(str(script), package.manifest), inputs_of(package), Orders())
        return
    found = refusal(package, str(script))
    assert found.code == "DC805"
    assert "broken results" in found.got


def test_a_runner_that_is_not_there_is_told(built: Callable[..., Package]) -> None:
    for runner in ("no-such-emulator -x", "'unfinished"):
        found = refusal(built(), runner)
        assert found.code == "DC801"
        assert "runner" in found.message


def test_a_package_of_another_machine_needs_an_emulator(
    built: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    package = altered(built(), "target", llvm_triple="riscv64-unknown-linux-gnu")
    found = refusal(package)
    assert found.code == "DC800"
    assert "riscv64" in found.message
    assert "--runner" in found.help


def test_a_package_without_a_library_is_told(built: Callable[..., Package]) -> None:
    found = refusal(built("UNLINKED"))
    assert found.code == "DC802"
    assert "toolchain" in found.message


def test_a_package_of_another_interface_is_told(built: Callable[..., Package]) -> None:
    found = refusal(altered(built(), "interface", abi_version=1))
    assert (found.code, found.got) == ("DC806", "ABI version 1")


# ---- emulated ----


@QEMU
@SYSROOT
@pytest.mark.parametrize(
    "runner",
    [
        None,
        "qemu-aarch64-static",
        "qemu-aarch64-static -L /usr/aarch64-linux-gnu",
        "env A=1 qemu-aarch64-static",
    ],
)
def test_arm_packages_run_under_qemu(built: Callable[..., Package], runner: str | None) -> None:
    package = built("ARM64")
    inputs = inputs_of(package)
    place = place_of(runner, package.manifest)
    assert place.shown.count("-L /usr/aarch64-linux-gnu") == 1
    assert_right(package, run(package, place, inputs, Orders(threads=2)).outputs, inputs)


@QEMU
@pytest.mark.slow  # zig compiles a C library first
def test_static_packages_need_no_c_library_there(
    built: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_CROSS_LIBRARIES", {"aarch64": ("no-such-folder", "libc6-arm64-cross")})
    package = built("ARM64_MUSL", "static")
    inputs = inputs_of(package)
    place = place_of(None, package.manifest)
    assert "-L" not in place.shown
    assert_right(package, run(package, place, inputs, Orders()).outputs, inputs)


@QEMU
@pytest.mark.parametrize("target", ["ARM64", "ARM64_MUSL"])
def test_an_emulator_without_a_c_library_is_told(
    built: Callable[..., Package], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(places, "_CROSS_LIBRARIES", {"aarch64": ("no-such-folder", "libc6-arm64-cross")})
    monkeypatch.delenv("QEMU_LD_PREFIX", raising=False)
    found = refusal(built(target))
    assert found.code == "DC803"
    assert "-L FOLDER" in found.help
    assert "--emit static" in found.need


# ---- devices ----


@NATIVE
def test_a_package_runs_behind_ssh_and_nothing_stays_there(
    built: Callable[..., Package], device: Device
) -> None:
    package = built()
    inputs = inputs_of(package)
    place = place_of(device.runner, package.manifest)
    dump = Dump(1, "arena", 0, 64, 4000)
    measured = run(package, place, inputs, Orders(runs=2, steps=True, dumps=(dump,)))
    assert_right(package, measured.outputs, inputs)
    assert len(measured.dumps[dump]) == 4000
    assert measured.step_ns is not None
    assert list(device.scratch.iterdir()) == []


@NATIVE
@pytest.mark.parametrize("form", [("shared", "shared")])
def test_other_forms_run_behind_ssh(
    built: Callable[..., Package], device: Device, form: tuple[str, str]
) -> None:
    package = built("X86_64", *form)
    inputs = inputs_of(package)
    measured = run(package, place_of(device.runner, package.manifest), inputs, Orders())
    assert_right(package, measured.outputs, inputs)


@NATIVE
def test_a_session_asks_through_ssh(built: Callable[..., Package], device: Device) -> None:
    package = built()
    inputs = inputs_of(package)
    with Session(package, place_of(device.runner, package.manifest), inputs, Orders(serve=True)) as session:
        assert [len(session.ask(count)) for count in (3, 1)] == [3, 1]
        assert_right(package, session.finish().outputs, inputs)
    assert list(device.scratch.iterdir()) == []


@NATIVE
@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_what_fails_on_a_device_is_told_and_ends_there(
    built: Callable[..., Package], device: Device, fault: str
) -> None:
    found = refusal(built("X86_64", fault=fault), device.runner, limit=3 if fault == "hang" else 60)
    assert found.code == "DC805"
    assert list(device.scratch.iterdir()) == []
    deadline = time.monotonic() + 20  # a process that was killed takes a moment to go
    while (left := working_in(device.scratch)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def working_in(folder: Path) -> list[str]:
    """Processes whose working directory is under ``folder``, those that are gone from there included."""
    found = []
    for name in os.listdir("/proc"):
        try:
            where = os.readlink(f"/proc/{name}/cwd") if name.isdigit() else ""
        except OSError:
            continue
        if where.startswith(str(folder)):
            found.append(name)
    return found


@NATIVE
def test_a_device_that_cannot_be_reached_is_told(built: Callable[..., Package], device: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    found = refusal(built(), device.runner.replace(f"-p {device.port}", f"-p {closed}"))
    assert found.code == "DC804"
    assert "refused" in found.got


@NATIVE
def test_a_device_whose_key_is_not_known_is_told_without_a_question(
    built: Callable[..., Package], device: Device, tmp_path: Path
) -> None:
    runner = " ".join(
        f"UserKnownHostsFile={tmp_path}/none" if word.startswith("UserKnownHostsFile") else word
        for word in device.runner.split()
    )
    found = refusal(built(), runner)
    assert found.code == "DC804"
    assert "verification failed" in found.got


@NATIVE
def test_a_login_shell_that_talks_is_no_obstacle(
    built: Callable[..., Package], fake_ssh: Path, tmp_path: Path
) -> None:
    package = built()
    inputs = inputs_of(package)
    place = place_of(f"{fake_ssh} host", package.manifest)
    assert_right(package, run(package, place, inputs, Orders()).outputs, inputs)
    assert [path.name for path in tmp_path.iterdir()] == ["ssh"]


def test_orders_are_a_line_each() -> None:
    orders = Orders(
        2,
        (0, 3),
        1,
        5,
        steps=True,
        serve=True,
        dumps=(Dump(4, "output", 1, 0, 8), Dump(2, "arena", 0, 64, 4)),
    )
    assert orders.text("./libx.so").splitlines() == [
        "library ./libx.so", "threads 2", "warmup 1", "runs 5", "cpus 0 3", "steps", "serve",
        "dump 2 arena 0 64 4", "dump 4 output 1 0 8",
    ]  # fmt: skip
    assert json.dumps(Orders().text("")) == json.dumps("threads 1\nwarmup 1\nruns 0\n")
