"""The CUDA runtime in packages on the emulated driver: launches, numbers, failures, nothing left over."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from deploycc.emulating.driver import emulated_driver, emulated_environment
from deploycc.packaging import package
from deploycc.packaging.generate_c import header, source, weights_assembly
from deploycc.packaging.generate_cuda_source import image_files, images_assembly
from deploycc.packaging.interface import interface_of
from deploycc.packaging.toolchain import runtime_directory, runtime_sources
from tests.packaging import cuda_plans, plans

HERE = Path(__file__).parent
ZIG = [plans.zig(), "cc", "-target", "x86_64-linux-gnu.2.17", "-fno-sanitize=undefined"]
NOTHING_LEFT = "end memory=0 host=0 streams=0 events=0 graphs=0 execs=0 modules=0 contexts=0"
LAUNCHES = [
    "run kernel sm90_scale grid 8 1 1 block 128 1 1 shared 512",
    "run kernel sm90_add_one grid 4 4 1 block 64 1 1 shared 0",
]
FREED_BY = re.compile(r"Destroy|Free|Unload|Release|PopCurrent")


def compile_app(root: Path, *flags: str) -> Path:
    """``use_cuda.c`` linked with the package's library, by zig."""
    program = root.parent / f"use-{root.name}"
    command = [*ZIG, "-O1", *flags]
    command += ["-Wall", "-Wextra", "-Werror", f"-I{root / 'include'}", str(HERE / "use_cuda.c")]
    command += [f"-L{root / 'lib'}", "-ltiny", f"-Wl,-rpath,{root / 'lib'}", "-lpthread", "-o", str(program)]
    done = subprocess.run(command, env=plans.zig_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def apps(tmp_path_factory) -> Callable[..., Path]:
    """``apps(profile=False)``: a program with a package for sm_90 and sm_75."""

    @functools.cache
    def build(profile: bool = False) -> Path:
        root = tmp_path_factory.mktemp("cuda") / "package"
        root.mkdir()
        request = cuda_plans.make_request(profile=profile)
        chips = (cuda_plans.make_plan("sm_75"),)
        package(
            cuda_plans.make_plan(), request, plans.make_model(), cuda_plans.make_golden(), root, chips=chips
        )
        return compile_app(root, *(["-DTIMED"] if profile else []))

    return build


@dataclass(frozen=True)
class Ran:
    """What a program said, wrote and did to the emulated driver."""

    status: int
    said: list[str]
    errors: str
    inputs: np.ndarray
    outputs: np.ndarray
    log: list[str]

    def count(self, symbol: str) -> int:
        return sum(line.split(" ", 1)[0] == symbol for line in self.log)

    def agrees(self, *numbers: int) -> None:
        for number in numbers:
            expected = cuda_plans.expected(self.inputs[number])
            np.testing.assert_allclose(self.outputs[number, 0], expected, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(self.outputs[number, 1], self.inputs[number])


@pytest.fixture
def use(apps, tmp_path: Path) -> Callable[..., Ran]:
    """``use(what, seed=..., first=..., program=..., **environment)``: run the program, emulated or not."""

    def run(
        what: str,
        *,
        seed: int = 0,
        first: dict[int, float] | None = None,
        program: Path | None = None,
        emulated: bool = True,
        translated: bool = True,
        leaks: bool = False,
        **environment,
    ) -> Ran:
        inputs = np.random.default_rng(seed).standard_normal((6, 1000)).astype(np.float32)
        for number, value in (first or {}).items():
            inputs[number, 0] = value
        inputs.tofile(tmp_path / "in.bin")
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        modules = [cuda_plans.module(), cuda_plans.module("sm_75")] if translated else []
        settings = emulated_environment(emulated_driver(), modules=modules, log=log, **environment)
        settings["ASAN_OPTIONS"] = f"detect_leaks={int(not leaks)}"
        if not emulated:
            settings = {}
        done = subprocess.run(
            [program or apps(), what], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60
        )
        lines = log.read_text().splitlines() if log.exists() else []
        written = tmp_path / "out.bin"
        outputs = np.fromfile(written, np.float32) if written.exists() else np.empty(0, np.float32)
        written.unlink(missing_ok=True)
        outputs = outputs.reshape(-1, 2, 1000)
        return Ran(done.returncode, done.stdout.splitlines(), done.stderr, inputs, outputs, lines)

    return run


# ---- runs ----


def test_one_graph_launch_a_run_and_exactly_the_planned_launches(use) -> None:
    ran = use("runs", seed=1)
    assert (ran.status, ran.errors) == (0, "")
    assert ran.said == ["chip 0 of 2: chip-sm_90", "threads 1"]
    ran.agrees(0, 1, 2, 3, 4, 5)
    assert ran.count("cuGraphLaunch") == 6
    assert ran.count("cuLaunchKernel") == 0
    assert [line for line in ran.log if line.startswith("run kernel")] == LAUNCHES * 6
    assert ran.count("cuMemAlloc_v2") == 2  # weights, and a handle's arena with inputs and outputs
    first = ran.log.index("cuGraphLaunch")
    during = {line.split(" ")[0] for line in ran.log[first : ran.log.index("cuGraphExecDestroy")]}
    assert during == {
        *("run", "cuGraphLaunch", "cuStreamSynchronize", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2")
    }
    assert ran.log[-1] == NOTHING_LEFT


def test_without_graphs(use) -> None:
    ran = use("plain", seed=2)
    assert (ran.status, ran.errors) == (0, "")
    ran.agrees(0, 1, 2, 3, 4, 5)
    assert ran.count("cuGraphCreate") == 0
    assert ran.count("cuLaunchKernel") == 12
    assert [line for line in ran.log if line.startswith("run kernel")] == LAUNCHES * 6


def test_branches_wait_for_what_they_need_only(tmp_path: Path, use) -> None:
    """Of two chains in turn; the emulated driver runs the newest node that is ready."""
    plan = cuda_plans.make_plan(host=False)
    scale, add_one = plan.calls[0], plan.calls[1]
    x, w, t = scale.arguments
    u, y, copy = replace(t, offset=8192), add_one.arguments[1], plan.calls[2].arguments[0]
    calls = (
        scale,
        replace(scale, arguments=(x, w, u)),
        replace(add_one, arguments=(u, copy)),
        replace(add_one, arguments=(t, y)),
        replace(scale, arguments=(x, w, t)),  # writes what the step before reads
    )
    root = tmp_path / "branched"
    root.mkdir()
    made = replace(plan, calls=calls)
    golden = cuda_plans.make_golden(host=False)
    package(made, cuda_plans.make_request(), plans.make_model(), golden, root)
    program = compile_app(root)
    orders = {}
    for what in ("runs", "branches", "branches-async"):
        ran = use(what, seed=18, program=program)
        assert (ran.status, ran.errors) == (0, "")
        expected = ran.inputs * cuda_plans.weights() + np.float32(1)
        np.testing.assert_allclose(ran.outputs, np.stack([expected, expected], 1), rtol=1e-6)
        names = [line.split()[2].removeprefix("sm90_") for line in ran.log if line.startswith("run kernel")]
        orders[what] = names[:5]
    assert orders["runs"] == ["scale", "scale", "add_one", "add_one", "scale"]
    assert orders["branches"] == orders["branches-async"] == ["scale", "add_one", "scale", "add_one", "scale"]


@pytest.mark.parametrize("what", ["branches", "branches-async"])
def test_branches_with_steps_of_the_processor(use, what: str) -> None:
    ran = use(what, seed=19)
    assert (ran.status, ran.errors) == (0, "")
    ran.agrees(0, 1, 2, 3, 4, 5)
    assert ran.log[-1] == NOTHING_LEFT


def test_a_driver_that_builds_no_graph_gets_plain_launches(use) -> None:
    ran = use("runs", seed=3, fail="cuGraphInstantiateWithFlags:1:801")
    assert (ran.status, ran.errors) == (0, "")
    ran.agrees(0, 1, 2, 3, 4, 5)
    assert ran.count("cuLaunchKernel") == 12
    assert ran.log[-1] == NOTHING_LEFT


@pytest.mark.parametrize("what", ["async", "plain-async"])
def test_device_pointers_that_change_on_two_streams(use, what: str) -> None:
    ran = use(what, seed=4)
    assert (ran.status, ran.said, ran.errors) == (0, [], "")
    ran.agrees(0, 1, 2, 3, 4, 5)
    if what == "async":
        assert ran.count("cuGraphInstantiateWithFlags") == 2  # for the host's memory, and for the GPU's
        assert ran.count("cuGraphLaunch") == 13
        # Eleven of the twelve first runs change pointers; three nodes have any.
        assert ran.count("cuGraphExecKernelNodeSetParams") == 22
        assert ran.count("cuGraphExecMemcpyNodeSetParams") == 11
    assert ran.log[-1] == NOTHING_LEFT


def test_runs_of_both_kinds_follow_one_another(use) -> None:
    ran = use("mixed", seed=5)
    assert (ran.status, ran.said, ran.errors) == (0, [], "")
    ran.agrees(0, 1)
    assert ran.count("cuStreamWaitEvent") > 0


def test_threads_and_devices(use) -> None:
    ran = use("threads", seed=6, devices=2)
    assert (ran.status, ran.said, ran.errors) == (0, [], "")
    ran.agrees(0, 1, 2, 3)
    assert ran.count("cuGraphLaunch") == 40
    assert ran.log[-1] == NOTHING_LEFT


def test_weights_are_there_once_a_device(use) -> None:
    ran = use("shared", seed=7, devices=2)
    assert (ran.status, ran.said, ran.errors) == (0, [], "")
    ran.agrees(0, 1, 2)
    assert ran.count("cuModuleLoadDataEx") == 2
    assert ran.count("cuMemcpyHtoDAsync_v2") == 2
    assert ran.log[-1] == NOTHING_LEFT


@pytest.mark.parametrize(
    ("arch", "chip", "loaded"),
    [
        ("sm_75", "chip-sm_75", ["cubin"]),
        ("sm_86", "chip-sm_75", ["ptx"]),  # machine code of another major number does not run
        ("sm_100", "chip-sm_90", ["ptx"]),
    ],
)
def test_the_image_for_the_chip(use, arch: str, chip: str, loaded: list[str]) -> None:
    ran = use("runs", seed=8, arch=arch)
    assert (ran.status, ran.errors) == (0, "")
    assert chip in ran.said[0]
    assert [line.split()[1] for line in ran.log if line.startswith("cuModuleLoadDataEx")] == loaded
    ran.agrees(0, 5)


def test_code_for_one_chip_alone(tmp_path: Path, use) -> None:
    """``sm_90a`` runs on sm_90 alone, and a network without kernels on every GPU."""
    plan = cuda_plans.make_plan(host=False)
    cubin, ptx = plan.images
    text = ptx.code.replace(b".target sm_90", b".target sm_90a")
    exact = (replace(cubin, arch="sm_90a"), replace(ptx, arch="sm_90a", code=text))
    copies = tuple(call for call in plan.calls if call.symbol == "memcpy")
    for name, made in (
        ("exact", replace(plan, images=exact)),
        ("bare", replace(plan, images=(), calls=copies)),
    ):
        root = tmp_path / name
        root.mkdir()
        golden = cuda_plans.make_golden(host=False)
        package(made, cuda_plans.make_request(), plans.make_model(), golden, root)
        program = compile_app(root)
        assert use("runs", program=program, arch="sm_90").status == 0
        later = use("runs", program=program, arch="sm_100")
        if name == "bare":
            assert later.status == 0
            np.testing.assert_array_equal(later.outputs[:, 1], later.inputs)
        else:
            assert later.said[0].endswith("and the library has only cubin sm_90a, ptx sm_90a")


@pytest.mark.slow
def test_a_destroyed_handle_is_told(tmp_path: Path, use) -> None:
    root = tmp_path / "debug"
    root.mkdir()
    request = cuda_plans.make_request(debug_runtime=True)
    package(cuda_plans.make_plan(), request, plans.make_model(), cuda_plans.make_golden(), root)
    ran = use("destroyed", program=compile_app(root))
    text = "the handle was destroyed, or never was one"
    assert ran.status == 0
    assert ran.said == [
        f"run: 1 bad argument: dcc_cuda_run: {text}",
        f"destroy: 1 bad argument: dcc_cuda_destroy: {text}",
    ]


def test_code_that_the_driver_refuses_gives_way_to_text(use) -> None:
    ran = use("runs", seed=9, fail="cuModuleLoadDataEx:1:209")
    assert (ran.status, ran.errors) == (0, "")
    loads = [line for line in ran.log if line.startswith("cuModuleLoadDataEx")]
    assert loads == ["cuModuleLoadDataEx cubin = 209", "cuModuleLoadDataEx ptx"]
    ran.agrees(0)


def test_without_translated_kernels_launches_are_recorded(use) -> None:
    ran = use("runs", translated=False)
    assert (ran.status, ran.errors) == (0, "")
    assert [line for line in ran.log if line.startswith("run kernel")] == LAUNCHES * 6


# ---- watched and timed ----


def test_an_observer_sees_every_step(use, tmp_path: Path) -> None:
    ran = use("observed", seed=10)
    assert ran.status == 0
    assert ran.said[:2] == [
        "inside: 2 the handle is in use: ",
        "run_async: 1 bad argument: a run on device pointers cannot be observed",
    ]
    ran.agrees(0, 1)
    arena = 12288  # its size, rounded up to 256: from there on lies the host's block
    shown = np.fromfile(tmp_path / "shown.bin", np.uint8).reshape(6, -1)

    def at(step: int, offset: int) -> np.ndarray:
        return shown[step, offset : offset + 4000].view(np.float32)

    product = ran.inputs[0] * cuda_plans.weights()
    np.testing.assert_array_equal(at(0, 64), product)
    np.testing.assert_array_equal(at(1, arena + 128), product)
    tanh = np.tanh(product)
    np.testing.assert_allclose(at(2, arena + 8192), tanh, rtol=1e-6)
    np.testing.assert_allclose(at(3, 8192), tanh, rtol=1e-6)
    np.testing.assert_allclose(at(4, arena + 12288), tanh + 1, rtol=1e-6)
    steps = [f"step {symbol}" for symbol in ("sm90_k000_scale", "to_host", "h_tanh", "to_device")]
    assert ran.said[2:] == [*steps, "step sm90_k001_add_one", "step memcpy"]


@pytest.mark.parametrize("what", ["timed", "plain-timed"])
def test_times_of_steps(apps, use, what: str) -> None:
    ran = use(what, seed=11, program=apps(profile=True))
    assert (ran.status, ran.errors) == (0, "")
    assert ran.said[:-1] == [f"step {step} runs 1 total 1" for step in range(6)] * 3
    assert ran.said[-1].startswith("profile: 1 bad argument: room for another number")
    ran.agrees(0, 1, 2)
    assert ran.count("cuGraphLaunch") == (9 if what == "timed" else 0)
    assert ran.log[-1] == NOTHING_LEFT


# ---- what goes wrong ----


def test_without_a_driver(use) -> None:
    ran = use("runs", emulated=False)
    assert ran.status == 3
    assert ran.said[0].startswith(
        "create: 7 no usable NVIDIA driver: the NVIDIA driver is not installed here: "
    )
    assert "libcuda.so.1" in ran.said[0]
    counted = use("everything", emulated=False)
    assert counted.said[0].startswith("count: 7 no usable NVIDIA driver")


def test_a_driver_without_what_is_needed(apps, use, tmp_path: Path) -> None:
    (tmp_path / "old.c").write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    command = [*ZIG, "-shared", "-o", "libcuda.so.1", "old.c"]
    subprocess.run(command, cwd=tmp_path, env=plans.zig_environment(), check=True, timeout=300)
    done = subprocess.run(
        [apps(), "runs"],
        cwd=tmp_path,
        env={"LD_LIBRARY_PATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    expected = "the NVIDIA driver is too old: its libcuda.so.1 has no cuDriverGetVersion"
    assert done.stdout == f"create: 7 no usable NVIDIA driver: {expected}\n"


def test_no_device_and_no_code_for_it(use) -> None:
    none = use("runs", devices=0)
    expected = "create: 8 no such GPU: cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)"
    assert (none.status, none.said) == (3, [expected])
    old = use("runs", arch="sm_70")
    expected = "GPU 0 is of sm_70, and the library has only cubin sm_90, ptx sm_90, cubin sm_75, ptx sm_75"
    assert (old.status, old.said) == (3, [f"create: 9 the library has no code for this GPU: {expected}"])
    assert old.log[-1] == NOTHING_LEFT


def test_arguments(use) -> None:
    ran = use("arguments", devices=2)
    assert (ran.status, ran.errors) == (0, "")
    told, free = "a call of the GPU's driver failed", "GPU 0 has 17179828608 of 17179869184 bytes free"
    assert ran.said == [
        "device: 8 no such GPU: there is no GPU 7: the driver has 2",
        "device: 8 no such GPU: there is no GPU -1: the driver has 2",
        "graph: 1 bad argument: options.graph is 3, not 0 to 2",
        "size: 1 bad argument: options.struct_size is 48, not 56: start from the OPTIONS_INIT macro",
        "place: 1 bad argument: the place for the new handle is NULL",
        "info: 8 no such GPU: there is no GPU 3: the driver has 2",
        "info: 1 bad argument: the place for what a GPU is like is NULL",
        "count: 1 bad argument: the place for the number of GPUs is NULL",
        "host: 1 bad argument: input 'x' is no memory of a GPU",
        "aligned: 1 bad argument: input 'x' is not aligned to 16 bytes",
        "null: 1 bad argument: input 'x' is NULL",
        "overlap: 1 bad argument: output 'y' overlaps input 'x'",
        "copy: 1 bad argument: the destination of a copy is NULL",
        f"copy: 10 {told}: cuMemcpyHtoDAsync_v2: CUDA_ERROR_INVALID_VALUE (invalid argument) in a copy",
        f"large: 3 out of memory: cuMemAlloc_v2: no memory for {1 << 40} bytes of a buffer: {free}",
        "stream: 1 bad argument: the place for the new stream is NULL",
        "no handle: 1 bad argument: ",
        "chip 2, stream 1, threads 0, memory 1",
    ]
    assert ran.log[-1] == NOTHING_LEFT


def test_a_kernel_of_the_processor_that_fails(use) -> None:
    ran = use("faults", seed=12, first={1: -1234.0})
    assert (ran.status, ran.errors) == (0, "")
    assert ran.said[2] == "run: 5 a kernel failed: step 2 of 6, h_tanh, returned 7"
    assert [line for line in ran.said if not line.startswith("run ")] == [ran.said[2]]
    ran.agrees(0, 2, 3, 4, 5)
    later = use("async-fault", seed=13, first={0: -1234.0})
    assert later.said == ["synchronize: 5 a kernel failed: step 2 of 6, h_tanh, returned 7"]
    assert later.log[-1] == NOTHING_LEFT


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (-4321.0, "CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure)"),
        (-555.0, "CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)"),
    ],
)
def test_an_error_that_costs_the_context_is_told_from_then_on(use, first: float, error: str) -> None:
    ran = use("faults", seed=14, first={2: first})
    assert ran.status == 0
    assert "emulated GPU: " in ran.errors
    told = "10 a call of the GPU's driver failed:"
    in_run = f"run: {told} cuStreamSynchronize: {error} in a run (of an observed one the step is told)"
    assert ran.said[3] == f"{in_run}; the process cannot use this GPU any longer"
    later = f"{told} an earlier error cost this process the GPU: {error}"
    assert [line for line in ran.said[4:] if not line.startswith("run ")] == [
        *[f"run: {later}"] * 3,
        f"create: {later}",
    ]
    ran.agrees(0, 1)


def test_a_forked_child_is_told(use) -> None:
    ran = use("forked", seed=15)
    assert (ran.status, ran.errors) == (0, "")
    told = "10 a call of the GPU's driver failed: this process was forked from"
    assert ran.said[0] == f"run: {told} the one that made the handle: it cannot use the GPU"
    assert ran.said[1].startswith(f"create: {told} one that had used the GPU: a forked child cannot use it")
    assert ran.said[2].startswith(f"count: {told} one that had used the GPU")
    assert ran.said[3:] == ["child 0"]
    ran.agrees(0, 1)
    assert ran.log[-1] == NOTHING_LEFT


def failures(use, what: str, program: Path | None = None, *, every: bool = True) -> None:
    """Have calls of the driver fail, one a run: it is told by name, and all the rest is given back.

    Without ``every`` only the first and the last call of each function.
    """
    plain = use(what, seed=16, program=program)
    assert plain.status == 0, plain.said
    assert plain.log[-1] == NOTHING_LEFT
    calls = Counter(line.split(" ")[0] for line in plain.log if re.match(r"cu[A-Z]", line))
    for symbol, count in calls.items():
        for number in range(1, count + 1) if every else {1, count}:
            # Nothing can be done about what the driver does not take back.
            leaks = FREED_BY.search(symbol) is not None or symbol == "cuCtxPushCurrent_v2"
            ran = use(what, seed=16, program=program, fail=f"{symbol}:{number}:999", leaks=leaks)
            said = [line for line in ran.said if not line.startswith("inside")]
            text = "\n".join(said)
            label = f"{symbol} {number}: {ran.status} {text} {ran.errors} {ran.log[-1:]}"
            if FREED_BY.search(symbol) or (leaks and ran.status == 0):
                assert ran.status == 0, label
                continue
            if symbol == "cuMemGetInfo_v2" or (symbol == "cuStreamSynchronize" and not text):
                continue
            assert ran.status == 3, label
            assert symbol in text, label
            assert "CUDA_ERROR_UNKNOWN (unknown error)" in text, label
            if symbol != "cuInit":
                assert ran.log[-1] == NOTHING_LEFT, label


def test_every_function_of_the_driver_fails(use) -> None:
    failures(use, "everything", every=False)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["everything", "everything-plain"])
def test_every_call_of_the_driver_fails_once(use, what: str) -> None:
    failures(use, what)


def test_out_of_memory(use) -> None:
    for symbol, number, purpose in (
        ("cuMemAlloc_v2", 1, "for 4000 bytes of weights"),
        ("cuMemAlloc_v2", 2, "for 24576 bytes of a handle"),
        ("cuMemHostAlloc", 1, "for 24576 bytes of pinned memory"),
        ("cuGraphInstantiateWithFlags", 1, "of the graph of a run"),
        ("cuDevicePrimaryCtxRetain", 1, "of the GPU's context"),
    ):
        ran = use("runs", fail=f"{symbol}:{number}:2")
        assert ran.status == 3
        assert ran.said[0].startswith(f"create: 3 out of memory: {symbol}: no memory {purpose}: GPU 0 has ")
        assert ran.log[-1] == NOTHING_LEFT


# ---- the sources ----


def compile_plain(folder: Path, *arguments: str) -> None:
    command = [*ZIG, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=plans.zig_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_own_declarations_are_those_of_cuda_h(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("nvidia.cuda_runtime")
    assert spec is not None
    assert spec.submodule_search_locations
    include = Path(next(iter(spec.submodule_search_locations))) / "include"
    checks = "".join(
        f'_Static_assert(sizeof({ours}) == sizeof({theirs}), "{ours}");\n'
        for ours, theirs in (
            ("cu_result", "CUresult"),
            ("cu_device", "CUdevice"),
            ("cu_address", "CUdeviceptr"),
            ("cu_kernel_node", "CUDA_KERNEL_NODE_PARAMS_v1"),
            ("cu_copy_node", "CUDA_MEMCPY3D_v2"),
            ("cu_host_node", "CUDA_HOST_NODE_PARAMS_v1"),
        )
    )
    offsets = (
        ("cu_kernel_node", "block", "CUDA_KERNEL_NODE_PARAMS_v1", "blockDimX"),
        ("cu_kernel_node", "shared_bytes", "CUDA_KERNEL_NODE_PARAMS_v1", "sharedMemBytes"),
        ("cu_kernel_node", "parameters", "CUDA_KERNEL_NODE_PARAMS_v1", "kernelParams"),
        ("cu_copy_node", "source.memory", "CUDA_MEMCPY3D_v2", "srcMemoryType"),
        ("cu_copy_node", "source.host", "CUDA_MEMCPY3D_v2", "srcHost"),
        ("cu_copy_node", "source.device", "CUDA_MEMCPY3D_v2", "srcDevice"),
        ("cu_copy_node", "source.pitch", "CUDA_MEMCPY3D_v2", "srcPitch"),
        ("cu_copy_node", "destination.memory", "CUDA_MEMCPY3D_v2", "dstMemoryType"),
        ("cu_copy_node", "destination.device", "CUDA_MEMCPY3D_v2", "dstDevice"),
        ("cu_copy_node", "destination.height", "CUDA_MEMCPY3D_v2", "dstHeight"),
        ("cu_copy_node", "width", "CUDA_MEMCPY3D_v2", "WidthInBytes"),
        ("cu_host_node", "data", "CUDA_HOST_NODE_PARAMS_v1", "userData"),
    )
    checks += "".join(
        f'_Static_assert(offsetof({ours}, {member}) == offsetof({theirs}, {other}), "{member}");\n'
        for ours, member, theirs, other in offsets
    )
    values = {
        "CU_ILLEGAL_ADDRESS": "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CU_LAUNCH_TIMEOUT": "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CU_ASSERT": "CUDA_ERROR_ASSERT",
        "CU_HARDWARE_STACK_ERROR": "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CU_LAUNCH_FAILED": "CUDA_ERROR_LAUNCH_FAILED",
        "CU_NOT_SUPPORTED": "CUDA_ERROR_NOT_SUPPORTED",
        "CU_NO_BINARY_FOR_GPU": "CUDA_ERROR_NO_BINARY_FOR_GPU",
        "CU_INVALID_IMAGE": "CUDA_ERROR_INVALID_IMAGE",
        "CU_INVALID_PTX": "CUDA_ERROR_INVALID_PTX",
        "CU_UNSUPPORTED_PTX_VERSION": "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        "CU_OUT_OF_MEMORY": "CUDA_ERROR_OUT_OF_MEMORY",
        "CU_NO_DEVICE": "CUDA_ERROR_NO_DEVICE",
        "CU_MEMORY_HOST": "CU_MEMORYTYPE_HOST",
        "CU_MEMORY_DEVICE": "CU_MEMORYTYPE_DEVICE",
        "CU_STREAM_APART": "CU_STREAM_NON_BLOCKING",
        "CU_EVENT_UNTIMED": "CU_EVENT_DISABLE_TIMING",
        "CU_HOST_PORTABLE": "CU_MEMHOSTALLOC_PORTABLE",
        "CU_FUNCTION_MAX_DYNAMIC_SHARED": "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
        "CU_POINTER_MEMORY_TYPE": "CU_POINTER_ATTRIBUTE_MEMORY_TYPE",
        "CU_JIT_ERROR_LOG": "CU_JIT_ERROR_LOG_BUFFER",
        "CU_JIT_ERROR_LOG_BYTES": "CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES",
        "CU_DEVICE_PROCESSORS": "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT",
        "CU_DEVICE_MAJOR": "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR",
        "CU_DEVICE_MINOR": "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR",
        "CU_DEVICE_PAGEABLE_ACCESS": "CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS",
    }
    theirs = "\n".join(f"int ours_{ours} = (int)({value});" for ours, value in values.items())
    ours = "\n".join(f'_Static_assert({name} == NUMBER_{name}, "{name}");' for name in values)
    (tmp_path / "theirs.c").write_text(f"#include <cuda.h>\n{theirs}\n")
    compile_plain(tmp_path, "-S", "-O0", f"-I{include}", "-o", "theirs.s", "theirs.c")
    text = (tmp_path / "theirs.s").read_text()
    found = dict(re.findall(r"^ours_(\w+):\s+\.(?:long|4byte)\s+(\d+)", text, re.MULTILINE))
    assert set(found) == set(values)
    defines = [f"-DNUMBER_{name}={number}" for name, number in found.items()]
    (tmp_path / "ours.c").write_text(f'#include "driver.h"\n{ours}\n')
    (tmp_path / "layout.c").write_text(f'#include <cuda.h>\n#include "driver.h"\n{checks}\n')
    for file in ("ours.c", "layout.c"):
        own = f"-I{runtime_directory() / 'cuda'}"
        compile_plain(tmp_path, "-c", *defines, f"-I{include}", own, "-o", f"{file}.o", file)


@pytest.fixture(scope="module")
def checked(tmp_path_factory) -> Path:
    """The app with package and runtime from source, under AddressSanitizer and UBSan."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc here")
    folder = tmp_path_factory.mktemp("sources")
    both = (cuda_plans.make_plan(), cuda_plans.make_plan("sm_75"))
    interface = interface_of(both[0], cuda_plans.make_request(), (), both[1:])
    (folder / "tiny.h").write_text(header(interface))
    (folder / "tiny.c").write_text(source(interface, both[0], both[1:]))
    (folder / "weights.bin").write_bytes(both[0].weights)
    (folder / "weights.S").write_text(weights_assembly("tiny", "weights.bin", "0"))
    (folder / "kernels.o").write_bytes(both[0].kernels)
    files = image_files(interface, both)
    for one in files:
        (folder / one.file).write_bytes(one.image.code)
    (folder / "images.S").write_text(images_assembly(files))
    runtime = [str(path) for path in runtime_sources(cuda=True)]
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror", "-pedantic"]
    command = [gcc, "-std=c11", "-O1", "-g", *warnings, "-fno-strict-aliasing", "-Wno-format-truncation"]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I."]
    command += [f"-I{runtime_directory()}", f"-I{runtime_directory() / 'cuda'}", str(HERE / "use_cuda.c")]
    command += ["tiny.c", "weights.S", "images.S", "kernels.o", *runtime, "-lm", "-lpthread", "-ldl"]
    done = subprocess.run(
        [*command, "-o", "checked"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    if done.returncode and "cannot find" in done.stderr:
        pytest.skip("gcc has no sanitisers here")
    assert done.returncode == 0, done.stderr
    return folder / "checked"


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["runs", "plain", "async", "branches", "mixed", "threads", "observed", "everything"]
)
def test_under_sanitizers(use, checked: Path, what: str) -> None:
    ran = use(what, seed=17, devices=2, program=checked)
    assert (ran.status, ran.errors) == (0, "")
    ran.agrees(0, 1)


@pytest.mark.slow
def test_failures_under_sanitizers(use, checked: Path) -> None:
    failures(use, "everything", checked)
