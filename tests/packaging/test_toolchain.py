"""The compiler missing, failing, hanging; disks full and folders closed; two builds at once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.packaging import package, toolchain
from deploycc.packaging.toolchain import runtime_sources
from deploycc.types import Buffer, Call, DeployccError, Diagnostic, Target
from tests.packaging import plans
from tests.packaging.conftest import run, tool


def refused(target: Target, folder: Path, name: str = "tiny") -> Diagnostic:
    folder.mkdir(exist_ok=True)
    plan = plans.make_plan(target, kernels=plans.compile_kernels(plans.X86_64.linker.triple))
    with pytest.raises(DeployccError) as caught:
        package(plan, plans.make_request(target, name), plans.make_model(), plans.make_golden(), folder)
    [diagnostic] = caught.value.diagnostics
    return diagnostic


def with_compiler(path: object) -> Target:
    return replace(plans.X86_64, linker=replace(plans.X86_64.linker, toolchain=str(path)))


def script(folder: Path, text: str) -> Path:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own cache for runtimes, zig's shared: zig takes long to fill an empty one."""
    zig = toolchain.cache_directory() / "zig"
    zig.mkdir(parents=True, exist_ok=True)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "zig").symlink_to(zig)
    monkeypatch.setenv("DEPLOYCC_CACHE_DIR", str(cache))


def test_no_such_compiler(tmp_path: Path) -> None:
    diagnostic = refused(with_compiler("/nowhere/bin/cc"), tmp_path / "out")
    assert diagnostic.code == "DC710"
    assert diagnostic.message == "the compiler of target x86-64 was not found"
    assert diagnostic.got == "/nowhere/bin/cc"
    assert "linker.toolchain" in diagnostic.help


def test_no_zig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    diagnostic = refused(plans.X86_64, tmp_path / "out")
    assert diagnostic.code == "DC710"
    assert "the zig compiler, which links packages, is not installed" in diagnostic.message
    assert "pip install ziglang" in diagnostic.help


def test_failing_compiler(tmp_path: Path) -> None:
    compiler = script(tmp_path, 'for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i" >&2; done; exit 3')
    diagnostic = refused(with_compiler(compiler), tmp_path / "out")
    assert diagnostic.code == "DC711"
    first = runtime_sources()[0].name
    assert diagnostic.message == f"the compiler failed to compile the runtime's {first} (exit status 3)"
    assert diagnostic.got == "\n".join(f"line {i}" for i in range(1, 9))


def test_compiler_out_of_disk(tmp_path: Path) -> None:
    compiler = script(tmp_path, 'echo "ld: final link failed: No space left on device" >&2; exit 1')
    assert refused(with_compiler(compiler), tmp_path / "out").code == "DC730"


def test_hanging_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_TIMEOUT_SECONDS", 0.5)
    diagnostic = refused(
        with_compiler(script(tmp_path, '[ "$1" = --version ] || exec sleep 20')), tmp_path / "out"
    )
    assert diagnostic.code == "DC712"
    assert "took more than" in diagnostic.message


def test_unresolved_kernel_symbol(tmp_path: Path) -> None:
    source = "int nobody_has_this(void);\nint k(void *x) { (void)x; return nobody_has_this(); }\n"
    plan = plans.make_plan(
        plans.X86_64,
        kernels=plans.compile_kernels(plans.X86_64.linker.triple, "", source),
        calls=(Call("k", (Buffer("input", 0, 0, 4000),)),),
    )
    for emit in ("shared", "static"):
        folder = tmp_path / emit
        folder.mkdir()
        request = plans.make_request(plans.X86_64, emit=emit)
        with pytest.raises(DeployccError) as caught:
            package(plan, request, plans.make_model(), plans.make_golden(), folder)
        [diagnostic] = caught.value.diagnostics
        assert diagnostic.code == "DC711"
        assert "failed to link the library" in diagnostic.message
        assert "nobody_has_this" in diagnostic.got
        assert str(tmp_path) not in diagnostic.got


@pytest.mark.slow
def test_another_compiler_makes_a_package(tmp_path: Path) -> None:
    """gcc on this machine in place of zig: the package is made, and refused for its glibc only."""
    floor = replace(plans.X86_64.linker, toolchain=tool("gcc"), glibc_floor="9.9", cpu="x86-64-v2")
    for emit in ("shared", "static"):
        folder = tmp_path / emit
        folder.mkdir()
        target = replace(plans.X86_64, linker=floor)
        plan = plans.make_plan(target, kernels=plans.compile_kernels(plans.X86_64.linker.triple))
        request = plans.make_request(target, emit=emit)
        made = package(plan, request, plans.make_model(), plans.make_golden(), folder)
        assert made.manifest["target"]["toolchain"] == "other"
        build = tmp_path / f"build-{emit}"
        run([tool("cmake"), "-S", folder / "example", "-B", build])
        run([tool("cmake"), "--build", build])
        assert "copy: max error 0, " in run([build / "tiny_example"]).stdout


def test_runtime_is_compiled_once(tmp_path: Path) -> None:
    compiler = toolchain.find_compiler(plans.X86_64, tmp_path / "scratch")
    first = toolchain.build_runtime(compiler, shared=False)
    times = [path.stat().st_mtime_ns for path in first]
    assert [path.name for path in first] == [
        "arena.o",
        "checks.o",
        "failures.o",
        "handle.o",
        "lives.o",
        "parallel.o",
        "placement.o",
        "pool.o",
        "timers.o",
        "variants.o",
        "workers.o",
        "workspace.o",
    ]
    second = toolchain.build_runtime(compiler, shared=False)
    assert second == first
    assert [path.stat().st_mtime_ns for path in second] == times
    shared = toolchain.build_runtime(compiler, shared=True)
    assert [path.name for path in shared] == ["libdeploycc_rt.so.2"]
    other = toolchain.find_compiler(replace(plans.X86_64, linker=plans.ARM64.linker), tmp_path / "scratch")
    assert toolchain.build_runtime(other, shared=False)[0].parent != first[0].parent
    left = sorted(path.name for path in (tmp_path / "cache" / "runtime").iterdir())
    assert len(left) == 3
    assert not any(name.startswith(".") for name in left)


def test_two_builds_at_once(tmp_path: Path) -> None:
    def build(index: int) -> dict[str, object]:
        folder = tmp_path / f"out{index}"
        folder.mkdir()
        request = plans.make_request(plans.X86_64, runtime="shared" if index % 2 else "private")
        plan = plans.make_plan(plans.X86_64)
        return dict(package(plan, request, plans.make_model(), plans.make_golden(), folder).manifest["files"])

    plans.make_plan(plans.X86_64)
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(build, range(4)))
    assert files[0] == files[2]
    assert files[1] == files[3]
    assert len(list((tmp_path / "cache" / "runtime").iterdir())) == 2


def test_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYCC_CACHE_DIR", "relative")
    assert toolchain.cache_directory() == Path.cwd() / "relative"
    monkeypatch.delenv("DEPLOYCC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert toolchain.cache_directory() == Path("/x/deploycc")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert toolchain.cache_directory() == Path.home() / ".cache" / "deploycc"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert toolchain.cache_directory().name == f"deploycc-{os.getuid()}"


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    plans.compile_kernels(plans.X86_64.linker.triple)
    monkeypatch.setenv("DEPLOYCC_CACHE_DIR", str(tmp_path / "file" / "cache"))
    diagnostic = refused(plans.X86_64, tmp_path / "out")
    assert diagnostic.code == "DC731"
    assert "cache folder" in diagnostic.need
    assert "DEPLOYCC_CACHE_DIR" in diagnostic.help


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (errno.ENOSPC, "DC730", "no space left on the disk while the package was written"),
        (errno.EDQUOT, "DC730", "no space left on the disk while the package was written"),
        (errno.EACCES, "DC731", "the package could not be written"),
        (errno.EROFS, "DC731", "the package could not be written"),
    ],
)
@pytest.mark.parametrize("file", ["tiny.h", "libtiny.so", "output_1.bin", "manifest.json"])
def test_write_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str, text: str, file: str
) -> None:
    """The file system fails at one file or another; the caller gets a diagnostic each time."""
    real_open = Path.open

    def failing_open(self: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        if self.name == file and "r" not in mode:
            raise OSError(number, os.strerror(number), str(self))
        return real_open(self, mode, *arguments, **options)  # type: ignore[arg-type]

    real_move = toolchain.shutil.move

    def failing_move(source: object, destination: Path) -> object:
        if destination.name == file:
            raise OSError(number, os.strerror(number), str(destination))
        return real_move(source, destination)

    monkeypatch.setattr(Path, "open", failing_open)
    monkeypatch.setattr(toolchain.shutil, "move", failing_move)
    diagnostic = refused(plans.X86_64, tmp_path / "out")
    assert diagnostic.code == code
    assert text in diagnostic.message
    assert os.strerror(number) in diagnostic.got


def test_real_full_disk(tmp_path: Path) -> None:
    """On a file system of 64 KiB, where this machine lets one be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    try:
        diagnostic = refused(plans.X86_64, folder / "out")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert diagnostic.code == "DC730"


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        target = Path("/proc/self")  # where nobody can write, not even the superuser
        plan = plans.make_plan(plans.X86_64)
        with pytest.raises(DeployccError) as caught:
            package(plan, plans.make_request(plans.X86_64), plans.make_model(), plans.make_golden(), target)
        [diagnostic] = caught.value.diagnostics
    else:
        (tmp_path / "out").mkdir(mode=0o555)
        diagnostic = refused(plans.X86_64, tmp_path / "out")
    assert diagnostic.code == "DC731"
    assert "write access to the output folder" in diagnostic.need


def test_import_is_light() -> None:
    """The package stage needs no TVM and no ONNX Runtime."""
    code = (
        "import sys, deploycc.packaging.assemble\n"
        "print(sorted(m for m in ('tvm', 'onnxruntime', 'onnxsim', 'torch') if m in sys.modules))"
    )
    assert run([sys.executable, "-c", code]).stdout == "[]\n"
