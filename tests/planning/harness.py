"""Run a ``Plan`` without the C runtime of deploycc: numbers of kernels and plans, in tests.

``run_plan`` writes the call list as C, links it with the kernels and a few stand-ins for the
runtime, and runs it in this process (``X86_64``) or under an emulator (``ARM64`` and others, as a
static musl program that takes its data from files).  It is stricter than a package: caller's buffers
are aligned to their element only, arena and workspace start out poisoned, guard bytes behind the
arena and each output must survive, and no more workspace may be taken than the plan says.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.planning.codegen import compile_kernels
from deploycc.types import Buffer, Cache, Call, Linker, LLVMTarget, Plan, Simd, Target

GUARD = 4096
TASKS = 3
"""Into how many tasks a parallel loop is cut; they run one after the other."""


def _machine(
    name: str, llvm: LLVMTarget, bits: int, registers: int, zig: str, emulator: tuple[str, ...] = ()
) -> Target:
    return Target(
        name=name,
        description="for tests",
        llvm=llvm,
        simd=Simd(bits, registers, fma=True, fma_by_lane=llvm.triple.startswith("aarch64")),
        cache=Cache(32 << 10, 512 << 10, 64),
        cores=2,
        linker=Linker("zig", zig, "musl" if emulator else "glibc"),
        emulator=emulator,
    )


_ZIG_X86_64 = "x86_64-linux-gnu.2.17"
X86_64 = _machine(
    "x86-64", LLVMTarget("x86_64-unknown-linux-gnu", "x86-64-v3"), 256, 16, "x86_64-linux-gnu.2.17"
)
X86_64_V4 = _machine(
    "x86-64-v4", LLVMTarget("x86_64-unknown-linux-gnu", "x86-64-v4"), 512, 32, "x86_64-linux-gnu.2.17"
)
ARM64 = _machine(
    "arm64",
    LLVMTarget("aarch64-unknown-linux-musl", "generic", ("+neon",)),
    128,
    32,
    "aarch64-linux-musl",
    ("qemu-aarch64",),
)
ARMV7 = _machine(
    "armv7",
    LLVMTarget("armv7-unknown-linux-musleabihf", "cortex-a7", ("+neon", "+vfp4"), "hard"),
    128,
    16,
    "arm-linux-musleabihf",
    ("qemu-arm",),
)
RISCV64 = _machine(
    "riscv64",
    LLVMTarget("riscv64-unknown-linux-musl", "", ("+m", "+a", "+f", "+d", "+c")),
    64,
    32,
    "riscv64-linux-musl",
    ("qemu-riscv64",),
)


def find_emulator(target: Target) -> str | None:
    """Path of the target's emulator (or its ``-static`` twin), ``None`` if it is not installed."""
    if not target.emulator:
        return None
    return shutil.which(target.emulator[0]) or shutil.which(target.emulator[0] + "-static")


def host_can_run(target: Target) -> bool:
    """Whether this processor has what ``target`` needs (only AVX-512 is asked about)."""
    if target.simd.bits < 512 or target.emulator:
        return True
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512vl" in cpuinfo.read_text()


def run_plan(
    plan: Plan,
    inputs: Sequence[np.ndarray[Any, Any]] | Mapping[str, np.ndarray[Any, Any]],
    target: Target = X86_64,
) -> list[np.ndarray[Any, Any]]:
    """Outputs of ``plan``, compiled for ``target``, on ``inputs`` (by position or by name).

    Raises ``AssertionError`` if an input does not fit its description, a guard was overwritten or a
    call took more workspace than planned; ``RuntimeError`` if a kernel reported failure.
    """
    if isinstance(inputs, Mapping):
        inputs = [inputs[info.name] for info in plan.inputs]
    arrays = []
    for info, array in zip(plan.inputs, inputs, strict=True):
        assert array.dtype == np.dtype(info.dtype), (info, array.dtype)
        assert array.shape == info.shape, (info, array.shape)
        arrays.append(np.ascontiguousarray(array))
    if plan.gpu is not None:
        from tests.planning.device_harness import run_device_plan

        return run_device_plan(plan, arrays, target)
    with tempfile.TemporaryDirectory() as folder:
        if target.emulator:
            return _run_emulated(plan, arrays, target, Path(folder))
        return _run_here(plan, arrays, target, Path(folder))


def load_kernels(functions: Mapping[str, Any], target: Target = X86_64) -> dict[str, Callable[..., None]]:
    """PrimFuncs by name, compiled for this processor, as Python functions of contiguous arrays.

    The arrays are the kernel's parameters in order, outputs last; they are neither copied nor checked.
    Workspace is limited to 64 MiB.
    """
    kernels = compile_kernels(list(functions.items()), target, "kernel")
    calls = tuple(
        Call(kernels.symbols[name], (Buffer("arena", 0, 0, 0),) * len(func.params))
        for name, func in functions.items()
    )
    plan = Plan(kernels.code, calls, b"", 0, 64 << 20, 64 << 20, (), ())
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / f"kernels-{hashlib.sha256(kernels.code).hexdigest()[:12]}.so"
        _link(plan, target, Path(folder), library, "-shared", "-Wl,-z,defs")
        loaded = ctypes.CDLL(str(library))

    def callable_for(symbol: str) -> Callable[..., None]:
        def call(*arrays: np.ndarray[Any, Any]) -> None:
            code = getattr(loaded, symbol)(*[ctypes.c_void_p(array.ctypes.data) for array in arrays])
            assert code == 0, f"{symbol} returned {code}"

        return call

    return {name: callable_for(kernels.symbols[name]) for name in functions}


def _run_here(
    plan: Plan, inputs: Sequence[np.ndarray[Any, Any]], target: Target, folder: Path
) -> list[np.ndarray[Any, Any]]:
    library = folder / f"plan-{hashlib.sha256(plan.kernels).hexdigest()[:12]}.so"
    _link(plan, target, folder, library, "-shared", "-Wl,-z,defs")
    run = ctypes.CDLL(str(library)).run_network
    run.argtypes = [ctypes.c_void_p] * 4
    arena = _poisoned(plan.arena_bytes, 0)
    weights = _poisoned(len(plan.weights), 0)
    weights[: len(plan.weights)] = np.frombuffer(plan.weights, np.uint8)
    placed_inputs = []
    for info, array in zip(plan.inputs, inputs, strict=True):
        place = _poisoned(array.nbytes, np.dtype(info.dtype).itemsize)
        place[: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
        placed_inputs.append(place)
    sizes = [_nbytes(info.dtype, info.shape) for info in plan.outputs]
    outputs = [_poisoned(s, np.dtype(i.dtype).itemsize) for s, i in zip(sizes, plan.outputs, strict=True)]
    code = run(
        _pointers(placed_inputs),
        _pointers(outputs),
        arena.ctypes.data_as(ctypes.c_void_p),
        weights.ctypes.data,
    )
    _check(code)
    for buffer, size in [(arena, plan.arena_bytes), *zip(outputs, sizes, strict=True)]:
        assert (buffer[size:] == 0xFF).all(), "a kernel wrote behind the end of its buffer"
    assert bytes(weights[: len(plan.weights)]) == plan.weights, "a kernel wrote to the weights"
    for place, array in zip(placed_inputs, inputs, strict=True):
        assert bytes(place[: array.nbytes]) == array.tobytes(), "a kernel wrote to an input"
    return [
        np.frombuffer(bytes(place[:size]), np.dtype(info.dtype)).reshape(info.shape)
        for place, size, info in zip(outputs, sizes, plan.outputs, strict=True)
    ]


def _run_emulated(
    plan: Plan, inputs: Sequence[np.ndarray[Any, Any]], target: Target, folder: Path
) -> list[np.ndarray[Any, Any]]:
    emulator = find_emulator(target)
    assert emulator is not None, f"{target.emulator[0]} is not installed"
    program = folder / "plan"
    _link(plan, target, folder, program, "-static", "-DPROGRAM")
    (folder / "weights").write_bytes(plan.weights)
    (folder / "inputs").write_bytes(b"".join(array.tobytes() for array in inputs))
    done = subprocess.run([emulator, str(program)], cwd=folder, capture_output=True, timeout=300, check=False)
    if done.returncode < 0 or done.returncode > 127:
        raise RuntimeError(
            f"the emulated program ended with {done.returncode}: {done.stderr.decode()[-500:]}"
        )
    _check(done.returncode if done.returncode < 100 else 100 - done.returncode)
    data = (folder / "outputs").read_bytes()
    outputs, position = [], 0
    for info in plan.outputs:
        size = _nbytes(info.dtype, info.shape)
        outputs.append(
            np.frombuffer(data[position : position + size], np.dtype(info.dtype)).reshape(info.shape)
        )
        position += size
    return outputs


def _check(code: int) -> None:
    assert code != -1, "a call took more workspace than the plan says"
    assert code != -2, "workspace was freed out of order or not at all"
    assert code != -3, "a kernel wrote behind the end of its buffer"
    if code:
        raise RuntimeError(f"call {code - 1} failed")


def _nbytes(dtype: str, shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _poisoned(size: int, misalignment: int) -> np.ndarray[Any, Any]:
    """``size`` + guard bytes of 0xFF (NaN, or all bits set), ``misalignment`` bytes off a multiple of 64."""
    whole = np.full(size + GUARD + 128, 0xFF, np.uint8)
    start = -whole.ctypes.data % 64 + misalignment
    return whole[start : start + size + GUARD]


def _pointers(buffers: Sequence[np.ndarray[Any, Any]]) -> Any:
    return (ctypes.c_void_p * max(len(buffers), 1))(*[b.ctypes.data for b in buffers])


def _link(plan: Plan, target: Target, folder: Path, output: Path, *flags: str) -> None:
    (folder / "kernels.o").write_bytes(plan.kernels)
    (folder / "plan.c").write_text(c_source(plan))
    cache = Path(__file__).resolve().parents[2] / ".cache" / "zig"
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target.linker.triple, "-O1", "-w", *flags]
    if target.linker.cpu:
        command.append(f"-mcpu={target.linker.cpu}")
    for file, text in plan.routines.items():
        (folder / file).write_text(text)
    if "-shared" in flags:
        command.append("-fPIC")
    command += ["-o", str(output), "plan.c", *plan.routines, "kernels.o", "-lm"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def c_source(plan: Plan) -> str:
    """The call list and the stand-ins as one C file, its data only sizes and offsets."""
    symbols = {call.symbol: len(call.arguments) for call in plan.calls if call.symbol != "memcpy"}
    lines = [
        f"#define WORKSPACE {plan.workspace_bytes}",
        f"#define THREAD_WORKSPACE {plan.thread_workspace_bytes}",
        f"#define ARENA {plan.arena_bytes}",
        f"#define WEIGHTS {len(plan.weights)}",
        f"#define TASKS {TASKS}",
        f"#define GUARD {GUARD}",
        _STAND_INS,
    ]
    for symbol, count in symbols.items():
        lines.append(f"extern int32_t {symbol}({', '.join(['void *'] * count) or 'void'});")
    lines.append("int run_network(char **in, char **out, char *arena, char *weights) {")
    for number, call in enumerate(plan.calls, start=1):
        arguments = ", ".join(_argument(a) for a in call.arguments)
        if call.symbol == "memcpy":
            lines.append(f"  memcpy({arguments}, {call.arguments[0].nbytes});")
        else:
            lines.append(f"  if ({call.symbol}({arguments})) return failure ? failure : {number};")
            lines.append("  if (used[0] || used[1]) return -2;")
    lines.append("  return failure;\n}")
    sizes = ", ".join(str(_nbytes(i.dtype, i.shape)) for i in plan.inputs)
    out_sizes = ", ".join(str(_nbytes(i.dtype, i.shape)) for i in plan.outputs)
    lines.append(f"static const size_t in_sizes[] = {{{sizes or 0}}}, out_sizes[] = {{{out_sizes or 0}}};")
    lines.append(f"enum {{ INPUTS = {len(plan.inputs)}, OUTPUTS = {len(plan.outputs)} }};")
    lines.append(_PROGRAM)
    return "\n".join(lines) + "\n"


def _argument(buffer: Buffer) -> str:
    base = {
        "input": f"in[{buffer.index}]",
        "output": f"out[{buffer.index}]",
        "arena": "arena",
        "constant": "weights",
    }[buffer.kind]
    return f"{base} + {buffer.offset}"


_STAND_INS = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static _Alignas(64) char space[WORKSPACE + 64], thread_space[THREAD_WORKSPACE + 64];
static size_t used[2];
static int in_task, failure;
static void *alloc(int device, int id, uint64_t size, int code, int bits) {
  size_t rounded = (size + 63) / 64 * 64, limit = in_task ? THREAD_WORKSPACE : WORKSPACE;
  if (used[in_task] + rounded > limit) { failure = -1; return NULL; }
  void *block = (in_task ? thread_space : space) + used[in_task];
  used[in_task] += rounded;
  memset(block, 0xFF, rounded);
  return block;
}
static int release(int device, int id, void *block) {
  size_t offset = (char *)block - (in_task ? thread_space : space);
  if (offset >= used[in_task]) { failure = -2; return -1; }
  used[in_task] = offset;
  return 0;
}
struct group { void *sync; int32_t tasks; };
static int launch(int (*body)(int, struct group *, void *), void *data, int tasks) {
  struct group group = {NULL, TASKS};
  int code = 0;
  in_task = 1;
  for (int task = 0; task < TASKS && !code; ++task) code = body(task, &group, data);
  in_task = 0;
  return code;
}
void *__TVMBackendAllocWorkspace = (void *)alloc, *__TVMBackendFreeWorkspace = (void *)release,
     *__TVMBackendParallelLaunch = (void *)launch;
"""

_PROGRAM = """
#ifdef PROGRAM
static char *block(size_t size, size_t off) {
  char *start = aligned_alloc(64, (size + GUARD + 191) / 64 * 64);
  memset(start, 0xFF, size + GUARD + 64);
  return start + off;
}
static int broken(const char *start, size_t size) {
  for (size_t i = 0; i < GUARD; ++i) if (start[size + i] != (char)0xFF) return 1;
  return 0;
}
int main(void) {
  char *in[INPUTS + 1], *out[OUTPUTS + 1], *arena = block(ARENA, 0), *weights = block(WEIGHTS, 0);
  FILE *file = fopen("weights", "rb");
  if (fread(weights, 1, WEIGHTS, file) != WEIGHTS) return 127;
  fclose(file);
  file = fopen("inputs", "rb");
  for (int i = 0; i < INPUTS; ++i) {
    in[i] = block(in_sizes[i], 0);
    if (fread(in[i], 1, in_sizes[i], file) != in_sizes[i]) return 127;
  }
  fclose(file);
  for (int i = 0; i < OUTPUTS; ++i) out[i] = block(out_sizes[i], 0);
  int code = run_network(in, out, arena, weights);
  for (int i = 0; i < OUTPUTS; ++i) if (broken(out[i], out_sizes[i])) code = -3;
  if (broken(arena, ARENA)) code = -3;
  if (code) return code < 0 ? 100 - code : (code > 99 ? 99 : code);
  file = fopen("outputs", "wb");
  for (int i = 0; i < OUTPUTS; ++i) fwrite(out[i], 1, out_sizes[i], file);
  return fclose(file);
}
#endif
"""
