"""Packages for GPUs: what they hold and need, what is refused, and apps of them on the emulated driver."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploycc.cli.inspect_command import inspect_command
from deploycc.emulating import build_module
from deploycc.emulating.driver import emulated_driver, emulated_environment
from deploycc.packaging import inspect, package
from deploycc.packaging.check_gpu import check_gpu, read_image
from deploycc.packaging.checks import check_driver_symbols
from deploycc.packaging.elf import parse
from deploycc.packaging.interface import API_FUNCTIONS, GPU_FUNCTIONS
from deploycc.types import Buffer, Call, DeployccError, Image, Plan, Variant
from tests.packaging import cuda_plans, plans
from tests.packaging.conftest import STRICT, run, tool

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def built_for_gpus(tmp_path_factory) -> Callable[..., Path]:
    """``built_for_gpus(emit=..., host=...)``: a package's folder, for sm_90 and, with ``host``, sm_75."""

    @functools.cache
    def build(emit: str = "shared", host: bool = True) -> Path:
        root = tmp_path_factory.mktemp("cuda") / "package"
        root.mkdir()
        package(
            cuda_plans.make_plan(host=host),
            cuda_plans.make_request(emit=emit),
            plans.make_model(),
            cuda_plans.make_golden(host=host),
            root,
            chips=(cuda_plans.make_plan("sm_75"),) if host else (),
        )
        return root

    return build


def emulated(**changes) -> dict[str, str]:
    modules = [cuda_plans.module(), cuda_plans.module("sm_75")]
    return emulated_environment(emulated_driver(), modules=changes.pop("modules", modules), **changes)


def refused(*codes: str, plan: Plan | None = None, request=None, chips=(), variants=()) -> str:
    """What the diagnostics of a package that must be refused say."""
    with pytest.raises(DeployccError) as caught:
        package(
            plan or cuda_plans.make_plan(),
            request or cuda_plans.make_request(),
            plans.make_model(),
            cuda_plans.make_golden(),
            Path("not-written"),
            variants=variants,
            chips=chips,
        )
    assert tuple(one.code for one in caught.value.diagnostics) == codes
    return "\n".join(f"{one.message}: {one.got}; {one.need}" for one in caught.value.diagnostics)


# ---- what a package is ----


def test_library_needs_no_driver_to_load(built_for_gpus) -> None:
    library = built_for_gpus() / "lib" / "libtiny.so"
    elf = parse(library.read_bytes())
    assert set(elf.needed) <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"}
    undefined = [symbol.name for symbol in elf.dynamic_symbols if not symbol.defined]
    assert not [name for name in undefined if name.startswith("cu")]
    exported = run([tool("nm"), "-D", "--defined-only", library]).stdout.split("\n")
    names = sorted(line.split()[-1] for line in exported if line)
    assert names == sorted(f"tiny_{name}" for name in (*API_FUNCTIONS, *GPU_FUNCTIONS))
    for plan in (cuda_plans.make_plan(), cuda_plans.make_plan("sm_75")):
        assert all(image.code in library.read_bytes() for image in plan.images)
    loads = (
        f"import ctypes; library = ctypes.CDLL({str(library)!r}); handle = ctypes.c_void_p()\n"
        "library.tiny_last_error.restype = ctypes.c_char_p\n"
        "print(library.tiny_create(None, ctypes.byref(handle)), library.tiny_last_error(None).decode())"
    )
    said = run([sys.executable, "-c", loads], env={**os.environ, "LD_LIBRARY_PATH": ""}).stdout
    assert said.startswith("7 the NVIDIA driver is not installed here: libcuda.so.1")


def test_library_can_be_unloaded(built_for_gpus, tmp_path: Path) -> None:
    library, log = built_for_gpus() / "lib" / "libtiny.so", tmp_path / "log"
    program = f"""
import _ctypes, ctypes
for _ in range(3):
    library = ctypes.CDLL({str(library)!r})
    handle = ctypes.c_void_p()
    assert library.tiny_create(None, ctypes.byref(handle)) == 0
    x, y, copy = ((ctypes.c_float * 1000)() for _ in range(3))
    x[999] = 1.0
    inputs, outputs = (ctypes.c_void_p * 1), (ctypes.c_void_p * 2)
    given = inputs(ctypes.addressof(x))
    assert library.tiny_run(handle, given, outputs(ctypes.addressof(y), ctypes.addressof(copy))) == 0
    assert (copy[999], round(y[999], 4)) == (1.0, 1.4621)
    assert library.tiny_destroy(handle) == 0
    _ctypes.dlclose(library._handle)
    assert "libtiny" not in open("/proc/self/maps").read()
"""
    run([sys.executable, "-c", program], env=emulated(log=log))
    assert " memory=0 host=0 streams=0 events=0 " in log.read_text()


def test_manifest(built_for_gpus) -> None:
    root = built_for_gpus()
    manifest = inspect(root)
    target = manifest["target"]
    assert [(gpu["name"], gpu["arch"]) for gpu in target["gpus"]] == [
        ("chip-sm_90", "sm_90"),
        ("chip-sm_75", "sm_75"),
    ]
    images = [(one["kind"], one["arch"], one["bytes"]) for one in target["gpus"][0]["images"]]
    assert images == [(one.kind, one.arch, len(one.code)) for one in cuda_plans.images()]
    assert target["precision"] == "fp32"
    assert manifest["device"] == {"arena_bytes": 12192, "host_bytes": 12192, "weights_bytes": 4000}
    launch = {
        "arguments": [0, 1, 2],
        "block": [128, 1, 1],
        "function": "sm90_scale",
        "grid": [8, 1, 1],
        "shared_bytes": 512,
    }
    assert manifest["calls"][0]["launches"] == [launch]
    assert [chip["name"] for chip in manifest["chips"]] == ["chip-sm_90", "chip-sm_75"]
    assert manifest["chips"][0]["calls"] == manifest["calls"]
    assert manifest["chips"][1]["calls"][0]["launches"][0]["function"] == "sm75_scale"
    assert manifest["chips"][0]["kernels"][0]["registers"] == 10
    shown = CliRunner().invoke(inspect_command, [str(root)])
    assert shown.exit_code == 0
    assert re.search(r"0 +0 +gpu +8x1x1 of 128x1x1 +10 +0.5 KiB +elementwise +Mul", shown.output)
    assert "chip sm_75 (chip-sm_75), code cubin sm_75, ptx sm_75, steps 6, launches 2" in shown.output
    assert json.loads(CliRunner().invoke(inspect_command, [str(root), "--json"]).output) == manifest


def test_same_plans_same_bytes(built_for_gpus, tmp_path: Path) -> None:
    plan, other = cuda_plans.make_plan(), cuda_plans.make_plan("sm_75")
    request = cuda_plans.make_request()
    package(plan, request, plans.make_model(), cuda_plans.make_golden(), tmp_path, chips=(other,))
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert all((built_for_gpus() / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


# ---- apps ----


def test_from_cpp(built_for_gpus, tmp_path: Path) -> None:
    root = built_for_gpus()
    program = tmp_path / "use"
    strict = [*STRICT, "-Wshadow", "-Wconversion", "-Wold-style-cast"]
    command = [tool("g++"), "-std=c++17", *strict, f"-I{root / 'include'}", HERE / "use_cuda.cpp"]
    run([*command, f"-L{root / 'lib'}", "-ltiny", f"-Wl,-rpath,{root / 'lib'}", "-o", program])
    log = tmp_path / "log"
    assert run([program], env=emulated(log=log)).stdout.splitlines() == [
        "tiny: a copy of 3 elements and a buffer of 1000",
        "tiny: bad argument: input 'x' is no memory of a GPU",
    ]
    assert " memory=0 host=0 streams=0 events=0 " in log.read_text()
    without = subprocess.run([program], env={}, capture_output=True, text=True, timeout=60)
    assert without.returncode == 3
    assert without.stdout.startswith("7 tiny: no usable NVIDIA driver: the NVIDIA driver is not installed")


def test_header_compiles_with_clang(built_for_gpus, tmp_path: Path) -> None:
    command = [plans.zig(), "c++", "-std=c++17", *STRICT, "-Wconversion", f"-I{built_for_gpus() / 'include'}"]
    # An object only: linking would make zig build its C++ library.
    run([*command, "-c", HERE / "use_cuda.cpp", "-o", tmp_path / "use.o"], env=plans.zig_environment())


@pytest.mark.slow
@pytest.mark.parametrize("emit", ["shared", "static"])
def test_example(built_for_gpus, tmp_path: Path, emit: str) -> None:
    root = built_for_gpus(emit=emit)
    build = tmp_path / "build"
    flags = "-DCMAKE_CXX_FLAGS=" + " ".join(STRICT)
    run([tool("cmake"), "-S", root / "example", "-B", build, flags])
    run([tool("cmake"), "--build", build])
    program = build / "tiny_example"
    text = run([program], env=emulated()).stdout
    assert "device: Emulated GPU 0 (sm_90), 132 processors, cubin sm_90" in text
    assert "y: max error" in text
    assert "copy: max error 0, " in text
    done = subprocess.run([program], env={}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 77
    assert done.stderr.startswith("tiny: no usable NVIDIA driver: the NVIDIA driver is not installed here")


def example_of(root: Path, program: Path) -> Path:
    command = [tool("g++"), "-std=c++17", *STRICT, f"-I{root / 'include'}", root / "example" / "main.cpp"]
    command.append(f'-DGOLDEN_FOLDER="{root / "share" / "tiny" / "golden"}"')
    run([*command, f"-L{root / 'lib'}", "-ltiny", f"-Wl,-rpath,{root / 'lib'}", "-o", program])
    return program


def test_translated_kernels_compute(built_for_gpus, tmp_path: Path) -> None:
    """The very PTX of the package, run on the processor; no kernel of the host is in it."""
    program = example_of(built_for_gpus(host=False), tmp_path / "example")
    text = cuda_plans.images()[1].code.rstrip(b"\0").decode()
    log = tmp_path / "log"
    done = subprocess.run(
        [program],
        env=emulated(modules=[build_module(text)], log=log),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "copy: max error 0, " in done.stdout
    assert "run kernel sm90_add_one grid 4 4 1 block 64 1 1 shared 0" in log.read_text()
    without = subprocess.run([program], env={}, capture_output=True, text=True, timeout=60)
    assert without.returncode == 77


# ---- what is refused ----


def test_forms() -> None:
    said = refused("DC732", request=cuda_plans.make_request(runtime="shared"))
    assert (
        "a package for GPUs (target cuda) cannot have this form: --runtime shared; --runtime private" in said
    )
    unlinked = replace(plans.UNLINKED, name="unlinked")
    said = refused("DC732", request=cuda_plans.make_request(unlinked))
    assert "a target whose library the app's own toolchain builds" in said
    variant = Variant(cuda_plans.make_plan(), cuda_plans.make_golden())
    said = refused("DC732", variants=(variant,), chips=(cuda_plans.make_plan("sm_75"),))
    assert "2 shapes and 2 chips" in said


def with_images(*images: Image) -> Plan:
    return replace(cuda_plans.make_plan(), images=images)


def test_broken_images() -> None:
    cubin, ptx = cuda_plans.images()
    other = cuda_plans.images("sm_75")
    host = replace(cubin, code=cuda_plans.make_plan().kernels)
    assert "an ELF file for x86-64; cubin for sm_90" in refused("DC733", plan=with_images(host, ptx))
    cut = replace(cubin, code=cubin.code[:900])
    assert "what it should be" in refused("DC733", plan=with_images(cut, ptx))
    open_end = replace(ptx, code=ptx.code[:-1])
    assert "text that does not end with its only 0 byte" in refused(
        "DC733", plan=with_images(cubin, open_end)
    )
    empty = replace(ptx, code=b"// nothing\0")
    assert "no .version and .target" in refused("DC733", plan=with_images(cubin, empty))
    assert "no image" in refused("DC733", plan=with_images())
    mixed = with_images(replace(other[0], arch="sm_90"), ptx)
    assert "code for sm_75; cubin for sm_90" in refused("DC733", "DC734", plan=mixed)


def test_kernels_that_are_missing() -> None:
    plan = cuda_plans.make_plan()
    launch = replace(plan.calls[0].launches[0], function="sm90_other")
    plan = replace(plan, calls=(replace(plan.calls[0], launches=(launch,)), *plan.calls[1:]))
    said = refused("DC734", "DC734", plan=plan)
    assert "the cubin code for chip-sm_90 lacks kernels that are launched: sm90_other; all 2 of them" in said
    assert "the ptx code for chip-sm_90 lacks" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"block": (256, 1, 1)}, "blocks of 256 threads; at most 128"),
        ({"block": (0, 1, 1)}, "a block of 0x1x1; 1 to 1024x1024x64"),
        ({"block": (1, 1, 128)}, "a block of 1x1x128; 1 to 1024x1024x64"),
        ({"grid": (1, 65536, 1)}, "a grid of 1x65536x1; 1 to 2147483647x65535x65535"),
        ({"shared_bytes": 101377}, "101377 bytes of shared memory; at most 101376"),
        ({"arguments": (0, 1)}, "2 arguments; 3, one for each parameter"),
        ({"arguments": (0, 1, 3)}, "arguments (0, 1, 3); numbers of the call's 3 arguments"),
    ],
)
def test_launches_beyond_limits(change: dict[str, object], said: str) -> None:
    plan = cuda_plans.make_plan()
    launch = replace(plan.calls[0].launches[0], **change)
    broken = replace(plan, calls=(replace(plan.calls[0], launches=(launch,)), *plan.calls[1:]))
    text = refused("DC735", plan=broken)
    assert f"step 0 launches sm90_scale in a way that chip-sm_90 does not take: {said}" in text


def test_kernels_beyond_limits() -> None:
    plan = cuda_plans.make_plan()
    facts = (replace(plan.kernel_facts[0], shared_bytes=50000), *plan.kernel_facts[1:])
    with pytest.raises(DeployccError) as caught:
        check_gpu(replace(plan, kernel_facts=facts))
    assert [one.code for one in caught.value.diagnostics] == ["DC735"]
    assert caught.value.diagnostics[0].got == "50000 bytes of static shared memory"
    on_host = Call("k", (Buffer("host", 0, 0, 4000),) * 3, launches=plan.calls[0].launches)
    with pytest.raises(DeployccError) as caught:
        check_gpu(replace(plan, calls=(on_host,)))
    assert [one.got for one in caught.value.diagnostics] == ["a buffer of the host"]


def test_images_tell_of_their_kernels() -> None:
    for arch in ("sm_75", "sm_80", "sm_90"):
        cubin, ptx = map(read_image, cuda_plans.images(arch))
        assert cubin == ptx
        assert cubin.arch == arch
        prefix = arch.replace("_", "")
        entry = cubin.entries[f"{prefix}_scale"]
        assert (entry.max_threads, entry.parameters) == (128, 3)


def test_driver_symbols(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int cuInit(unsigned flags);\nint start(void) { return cuInit(0); }\n")
    command = [plans.zig(), "cc", "-target", "x86_64-linux-gnu.2.17", "-fno-sanitize=undefined", "-shared"]
    run([*command, "-Wl,-z,undefs", "a.c", "-o", "liba.so"], cwd=tmp_path, env=plans.zig_environment())
    with pytest.raises(DeployccError) as caught:
        check_driver_symbols(parse((tmp_path / "liba.so").read_bytes()), "liba.so")
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.got) == ("DC736", "cuInit")


def test_plans_of_chips_share_what_they_must() -> None:
    other = replace(cuda_plans.make_plan("sm_75"), weights=b"\0" * 4512)
    with pytest.raises(ValueError, match="different weights"):
        package(
            cuda_plans.make_plan(),
            cuda_plans.make_request(),
            plans.make_model(),
            cuda_plans.make_golden(),
            Path("not-written"),
            chips=(other,),
        )


@pytest.mark.slow
@pytest.mark.parametrize(("triple", "needs_loader"), [("2.17", True), ("2.35", False)])
def test_arm64(tmp_path: Path, triple: str, needs_loader: bool) -> None:
    """``dlopen`` is in libdl before glibc 2.34."""
    linker = replace(plans.ARM64.linker, triple=f"aarch64-linux-gnu.{triple}", glibc_floor=triple)
    request = cuda_plans.make_request(replace(plans.ARM64, linker=linker))
    plan = cuda_plans.make_plan(host=False)
    package(plan, request, plans.make_model(), cuda_plans.make_golden(host=False), tmp_path)
    elf = parse((tmp_path / "lib" / "libtiny.so").read_bytes())
    assert elf.machine == "aarch64"
    assert ("libdl.so.2" in elf.needed) == needs_loader
