"""Plans for the packaging tests: three C kernels stand in for what the earlier stages make."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from deploycc.packaging.toolchain import cache_directory
from deploycc.types import (
    Buffer,
    BuildRequest,
    Cache,
    Call,
    Golden,
    Linker,
    LLVMTarget,
    Model,
    Plan,
    Simd,
    Target,
    TensorInfo,
)

KERNELS_C = Path(__file__).with_name("kernels.c")
COUNT = 1000
LIBRARIES = ("libc.so.6", "libm.so.6", "libpthread.so.0")


def _target(
    name: str,
    llvm: str,
    triple: str,
    machine: str,
    libc: str = "glibc",
    floor: str = "",
    cpu: str = "",
    toolchain: str = "zig",
    float_abi: str = "",
    emulator: tuple[str, ...] = (),
) -> Target:
    return Target(
        name=name,
        description="for tests",
        llvm=LLVMTarget(llvm, float_abi=float_abi),
        simd=Simd(128, 16, True),
        cache=Cache(32768, 262144, 64),
        cores=2,
        linker=Linker(
            toolchain=toolchain,
            triple=triple,
            libc=libc,
            cpu=cpu,
            glibc_floor=floor,
            elf_machine=machine,
            allowed_libraries=("libc.so",) if libc == "musl" else LIBRARIES,
        ),
        emulator=emulator,
    )


X86_64 = _target("x86-64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu.2.17", "EM_X86_64", floor="2.17")
ARM64 = _target("arm64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu.2.17", "EM_AARCH64", floor="2.17")
ARM64_MUSL = _target("arm64-musl", "aarch64-unknown-linux-musl", "aarch64-linux-musl", "EM_AARCH64", "musl")
ARMV7 = _target(
    "armv7",
    "armv7-unknown-linux-gnueabihf",
    "arm-linux-gnueabihf.2.17",
    "EM_ARM",
    floor="2.17",
    cpu="cortex_a7",
    float_abi="hard",
)
RISCV64 = _target("riscv64", "riscv64-unknown-linux-gnu", "riscv64-linux-gnu.2.27", "EM_RISCV", floor="2.27")
UNLINKED = _target("unlinked", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu", "EM_X86_64", toolchain="none")


def zig() -> str:
    spec = importlib.util.find_spec("ziglang")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(next(iter(spec.submodule_search_locations))) / "zig")


def zig_environment() -> dict[str, str]:
    cache = str(cache_directory() / "zig")
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}


@functools.cache
def compile_kernels(triple: str, cpu: str = "", source: str = "") -> bytes:
    """Object code of ``kernels.c`` (or of ``source``) for zig's ``triple``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.c"
        path.write_text(source or KERNELS_C.read_text())
        command = [zig(), "cc", "-target", triple, "-O2", "-g0", "-fPIC", "-fno-sanitize=undefined", "-c"]
        command += [f"-mcpu={cpu}"] if cpu else []
        subprocess.run(
            [*command, "kernels.c", "-o", "kernels.o"],
            cwd=folder,
            env=zig_environment(),
            check=True,
            timeout=300,
        )
        return (Path(folder) / "kernels.o").read_bytes()


def weights(scale: float = 0.5) -> np.ndarray:
    return np.linspace(-scale, scale, COUNT, dtype=np.float32)


def make_plan(
    target: Target,
    *,
    input_name: str = "x",
    output_name: str = "y",
    scale: float = 0.5,
    kernels: bytes | None = None,
    calls: tuple[Call, ...] | None = None,
) -> Plan:
    """y = tanh(x * w) + 1 and a copy of x, in four steps."""
    size = 4 * COUNT
    x, y, copy = Buffer("input", 0, 0, size), Buffer("output", 0, 0, size), Buffer("output", 1, 0, size)
    t, w = Buffer("arena", 0, 64, size), Buffer("constant", 0, 64, size)
    if calls is None:
        calls = (
            Call("k_check", (x,)),
            Call("fused_scale", (x, w, t), ("Mul",), "elementwise", {"lanes": 4}),
            Call("k_tanh", (t, y), ("Tanh", "Add")),
            Call("memcpy", (copy, x)),
        )
    return Plan(
        kernels=kernels if kernels is not None else compile_kernels(target.linker.triple, target.linker.cpu),
        calls=calls,
        weights=bytes(64) + weights(scale).tobytes(),
        arena_bytes=64 + size,
        workspace_bytes=size,
        thread_workspace_bytes=size,
        inputs=(TensorInfo(input_name, "float32", (1, COUNT)),),
        outputs=(TensorInfo(output_name, "float32", (1, COUNT)), TensorInfo("copy", "float32", (1, COUNT))),
        parameters=COUNT,
    )


def expected(x: np.ndarray, scale: float = 0.5) -> np.ndarray:
    return (np.tanh(x.astype(np.float64) * weights(scale)) + 1).astype(np.float32)


def make_golden(scale: float = 0.5) -> Golden:
    x = np.abs(np.random.default_rng(0).standard_normal(COUNT).astype(np.float32))
    return Golden((x.tobytes(),), (expected(x, scale).tobytes(), x.tobytes()), "numpy", 0)


def make_model() -> Model:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["t"]), helper.make_node("Tanh", ["t"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, COUNT])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, COUNT])],
    )
    proto: onnx.ModelProto = helper.make_model(graph)
    return Model(proto, (), (), 17, "0" * 64)


def make_request(target: Target, name: str = "tiny", **changes: object) -> BuildRequest:
    return BuildRequest(Path("tiny.onnx"), target, Path("out"), name, **changes)  # type: ignore[arg-type]
