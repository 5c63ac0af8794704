"""The C runtime's own exercises (``exercise.c``), plain, under sanitisers and under emulation."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploycc.packaging.toolchain import cache_directory, runtime_directory, runtime_sources

EXERCISE = Path(__file__).with_name("exercise.c")
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
WRAPPED = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=posix_memalign"
EXERCISES = (
    "results sleeping two_handles misuse contended cycles forked forked_inside nested barrier errors"
    " bad_options workspace own_memory no_allocation affinity kept_apart"
    " observed timers seldom_timed"
).split()
SANITIZERS = {"plain": "", "address-undefined": "address,undefined", "thread": "thread"}
POOLS = {"private": [], "shared": ["-DDCC_SHARED_POOL"]}
EMULATED = {
    "arm64": ("aarch64-linux-musl", "qemu-aarch64"),
    "armv7": ("arm-linux-musleabihf", "qemu-arm"),
    "riscv64": ("riscv64-linux-musl", "qemu-riscv64"),
}
ENVIRONMENT = {
    **os.environ,
    "ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1",
    "TSAN_OPTIONS": "allocator_may_return_null=1:halt_on_error=1",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Builds a variant of the exercise program once and gives its path."""
    folder = tmp_path_factory.mktemp("exercise")

    @functools.cache
    def build(sanitizer: str, pool: str) -> Path:
        gcc = shutil.which("gcc")
        if gcc is None:
            pytest.skip("no gcc here")
        program = folder / f"{sanitizer}-{pool}"
        flags = (
            [f"-fsanitize={SANITIZERS[sanitizer]}", "-fno-sanitize-recover=all"]
            if SANITIZERS[sanitizer]
            else []
        )
        command = [gcc, *WARNINGS, "-O1", "-g", *flags, *POOLS[pool], f"-I{runtime_directory()}"]
        command += [str(EXERCISE), *map(str, runtime_sources()), WRAPPED, "-lpthread", "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode and "cannot find" in done.stderr and SANITIZERS[sanitizer]:
            pytest.skip(f"gcc has no {sanitizer} sanitiser here")
        assert done.returncode == 0, done.stderr
        return program

    return build


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_exercise(programs, sanitizer: str, pool: str, exercise: str) -> None:
    if sanitizer == "thread" and exercise.startswith("forked"):
        pytest.skip("ThreadSanitizer does not support threads in a forked child")
    done = subprocess.run(
        [programs(sanitizer, pool), exercise], capture_output=True, text=True, timeout=120, env=ENVIRONMENT
    )
    said = [line for line in done.stderr.splitlines() if "failed to allocate" not in line]
    assert (done.returncode, said) == (0, [])


def test_every_exercise_is_listed(programs) -> None:
    done = subprocess.run([programs("plain", "private"), "?"], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == EXERCISES


def zig_command() -> tuple[str, dict[str, str]]:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("ziglang is not installed")
    cache = str(cache_directory() / "zig")
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    return str(Path(next(iter(spec.submodule_search_locations))) / "zig"), environment


@pytest.mark.parametrize("pool", POOLS)
def test_clang_finds_nothing_to_warn_about(tmp_path: Path, pool: str) -> None:
    zig, environment = zig_command()
    for path in runtime_sources():
        command = [zig, "cc", "-target", "aarch64-linux-gnu.2.17", *WARNINGS, "-Wshadow", "-Wconversion"]
        command += [
            "-Wno-sign-conversion",
            *POOLS[pool],
            "-O2",
            "-c",
            str(path),
            "-o",
            str(tmp_path / "out.o"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert (done.returncode, done.stderr) == (0, "")


# A first build of musl for a machine takes zig half a minute, so one machine stands for the others.
@pytest.mark.parametrize(
    "target", [name if name == "arm64" else pytest.param(name, marks=pytest.mark.slow) for name in EMULATED]
)
def test_on_another_machine(request: pytest.FixtureRequest, tmp_path: Path, target: str) -> None:
    triple, emulator = EMULATED[target]
    if shutil.which(emulator) is None:
        pytest.skip(f"no {emulator} here")
    zig, environment = zig_command()
    program = tmp_path / "exercise"
    command = [zig, "cc", "-target", triple, *WARNINGS, "-O2", "-g0", "-static", f"-I{runtime_directory()}"]
    command += [str(EXERCISE), *map(str, runtime_sources()), WRAPPED, "-o", str(program)]
    subprocess.run(command, check=True, timeout=300, env=environment)
    exercises = ["results", "two_handles", "misuse", "nested", "errors", "workspace", "own_memory"]
    exercises += ["observed", "timers"]
    if request.node.get_closest_marker("slow"):
        # Threads that all wait for each other: on two emulated processors that others use, minutes at worst.
        exercises.append("barrier")
    for exercise in exercises:
        done = subprocess.run([emulator, program, exercise], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, ""), exercise
