"""Plans for GPUs, by hand: kernels of the GPU and one of the processor, compiled by NVRTC and zig."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploycc.nvrtc import find_compiler
from deploycc.types import (
    TO_DEVICE,
    TO_HOST,
    Buffer,
    BuildRequest,
    Call,
    Golden,
    Gpu,
    Image,
    KernelFacts,
    Launch,
    Plan,
    Target,
    TensorInfo,
)
from tests.packaging import plans

COUNT = 1000
SIZE = 4 * COUNT
WEIGHTS_AT = 512

KERNELS = """
extern "C" __global__ void __launch_bounds__(128) PREFIX_scale(const float* x, const float* w, float* t) {
    extern __shared__ float row[];
    int i = blockIdx.x * 128 + threadIdx.x;
    row[threadIdx.x] = i < 1000 ? x[i] : 0.0f;
    __syncthreads();
    if (i < 1000) t[i] = row[threadIdx.x] * w[i];
}
extern "C" __global__ void __launch_bounds__(64) PREFIX_add_one(const float* t, float* y) {
    int i = (blockIdx.y * gridDim.x + blockIdx.x) * 64 + threadIdx.x;
    if (i < 1000) y[i] = t[i] + 1.0f;
}
"""

HOST = """
#include <math.h>
#include <stdint.h>
int32_t h_tanh(void *x, void *bias, void *y) {
    const float *in = x, *b = bias;
    float *out = y;
    if (in[0] == 1234.0f * b[0]) return 7;
    for (int i = 0; i < 1000; i++) out[i] = tanhf(in[i]);
    return 0;
}
"""

MODULE = """
/* The same kernels as the emulated driver's interface of translated modules has them. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "module.h"

static int32_t scale(const uint32_t grid[3], const uint32_t block[3], uint32_t shared,
               const void *p, char *error) {
    const float *x, *w;
    float *t;
    memcpy(&x, p, 8), memcpy(&w, (const char *)p + 8, 8), memcpy(&t, (const char *)p + 16, 8);
    if (grid[0] * block[0] < 1000 || shared != 512) {
        snprintf(error, 256, "bad launch");
        return 1;
    }
    if (x[0] == -4321.0f) {
        snprintf(error, 256, "a trap");
        return 1;
    }
    const int end = x[0] == -555.0f ? 6140 : 1000; /* up to the guard zone behind the handle's memory */
    for (int i = 0; i < end; i++) t[i] = x[i % 1000] * w[i % 1000];
    return 0;
}

static int32_t add_one(const uint32_t grid[3], const uint32_t block[3], uint32_t shared,
               const void *p, char *error) {
    const float *t;
    float *y;
    (void)grid, (void)block, (void)shared, (void)error;
    memcpy(&t, p, 8), memcpy(&y, (const char *)p + 8, 8);
    for (int i = 0; i < 1000; i++) y[i] = t[i] + 1.0f;
    return 0;
}

static const uint32_t offsets[] = {0, 8, 16}, sizes[] = {8, 8, 8};
static const dcc_emulated_kernel kernels[] = {
    {"PREFIX_scale", 3, offsets, sizes, 24, 0, 128, scale},
    {"PREFIX_add_one", 2, offsets, sizes, 16, 0, 64, add_one},
};
extern const dcc_emulated_module dcc_emulated_module_table;
__attribute__((visibility("default"))) const dcc_emulated_module dcc_emulated_module_table = {1, 2, kernels};
"""

TARGET = replace(plans.X86_64, name="cuda")


def chip(arch: str = "sm_90") -> Gpu:
    """A chip of that arch; the numbers are those of an H200 where they do not matter."""
    return Gpu(
        name=f"chip-{arch}",
        description="for tests",
        arch=arch,
        processors=132,
        clock_hz=1.98e9,
        threads_per_processor=2048,
        registers_per_processor=65536,
        shared_bytes_per_processor=233472,
        shared_bytes_per_block={"sm_75": 65536}.get(arch, 101376),
        l2_bytes=50 << 20,
        memory_bytes=16 << 30,
        bytes_per_second=4.8e12,
    )


@functools.cache
def compile_cuda(source: str, arch: str) -> tuple[bytes, bytes]:
    """Cubin and PTX of CUDA C, by NVRTC."""
    made = find_compiler().compile(source, arch)
    return made.cubin, made.ptx


def images(arch: str = "sm_90") -> tuple[Image, ...]:
    cubin, ptx = compile_cuda(KERNELS.replace("PREFIX", arch.replace("_", "")), arch)
    return Image("cubin", arch, cubin), Image("ptx", arch, ptx)


@functools.cache
def module(arch: str = "sm_90") -> Path:
    """The hand-written module that stands in for translated PTX."""
    folder = Path(tempfile.mkdtemp(prefix="deploycc-module-"))
    (folder / "module.c").write_text(MODULE.replace("PREFIX", arch.replace("_", "")))
    headers = Path(__file__).parents[2] / "deploycc"
    subprocess.run(
        [
            *(plans.zig(), "cc", "-target", TARGET.linker.triple, "-fno-sanitize=undefined"),
            *("-O1", "-shared", "-fPIC", "module.c"),
            *(f"-I{headers / 'emulating' / 'runtime'}", "-lm", "-o", "module.so"),
        ],
        cwd=folder,
        env=plans.zig_environment(),
        check=True,
        timeout=300,
    )
    return folder / "module.so"


def weights() -> np.ndarray:
    return np.linspace(-0.5, 0.5, COUNT, dtype=np.float32)


def make_plan(arch: str = "sm_90", *, host: bool = True) -> Plan:
    """y = tanh(x * w) + 1 and a copy of x; without ``host`` y = x * w + 1."""
    prefix = arch.replace("_", "")
    x, y, copy = Buffer("input", 0, 0, SIZE), Buffer("output", 0, 0, SIZE), Buffer("output", 1, 0, SIZE)
    t, u = Buffer("arena", 0, 64, SIZE), Buffer("arena", 0, 8192, SIZE)
    w, bias = Buffer("constant", 0, WEIGHTS_AT, SIZE), Buffer("constant", 0, 0, 4)
    h, g = Buffer("host", 0, 128, SIZE), Buffer("host", 0, 8192, SIZE)
    scale = Launch(f"{prefix}_scale", (8, 1, 1), (128, 1, 1), 512, (0, 1, 2))
    add_one = Launch(f"{prefix}_add_one", (4, 4, 1), (64, 1, 1), 0, (0, 1))
    calls = (
        Call(f"{prefix}_k000_scale", (x, w, t), ("Mul",), "elementwise", launches=(scale,)),
        *(
            (
                Call(TO_HOST, (h, t)),
                Call("h_tanh", (h, bias, g), ("Tanh",)),
                Call(TO_DEVICE, (u, g)),
            )
            if host
            else ()
        ),
        Call(f"{prefix}_k001_add_one", (u if host else t, y), ("Add",), launches=(add_one,)),
        Call("memcpy", (copy, x)),
    )
    head = np.zeros(WEIGHTS_AT // 4, np.float32)
    head[0] = 0.5
    return Plan(
        kernels=plans.compile_kernels(TARGET.linker.triple, "", HOST) if host else b"",
        calls=calls,
        weights=head.tobytes() + weights().tobytes(),
        arena_bytes=8192 + SIZE,
        workspace_bytes=0,
        thread_workspace_bytes=0,
        inputs=(TensorInfo("x", "float32", (1, COUNT)),),
        outputs=(TensorInfo("y", "float32", (1, COUNT)), TensorInfo("copy", "float32", (1, COUNT))),
        parameters=COUNT,
        gpu=chip(arch),
        images=images(arch),
        host_bytes=8192 + SIZE if host else 0,
        kernel_facts=(KernelFacts(f"{prefix}_scale", 10, 0, 0), KernelFacts(f"{prefix}_add_one", 8, 0, 0)),
    )


def expected(x: np.ndarray, *, host: bool = True) -> np.ndarray:
    product = x * weights()
    return ((np.tanh(product) if host else product) + np.float32(1)).astype(np.float32)


def make_golden(*, host: bool = True) -> Golden:
    x = np.abs(np.random.default_rng(0).standard_normal(COUNT).astype(np.float32))
    return Golden((x.tobytes(),), (expected(x, host=host).tobytes(), x.tobytes()), "numpy", 0)


def make_request(target: Target | None = None, name: str = "tiny", **changes: object) -> BuildRequest:
    chosen = replace(target or TARGET, gpus=(chip(),))
    return BuildRequest(Path("tiny.onnx"), chosen, Path("out"), name, **changes)  # type: ignore[arg-type]
