"""Whole kernels from NVRTC against numpy: arithmetic, shared memory, barriers, atomics, copies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deploycc.emulating import EmulatedModule
from tests.emulating.compiling import module_of

SOURCE = r"""
#include <cuda_fp16.h>
__constant__ float table[5] = {1, 2, 3, 4, 5.5f};
__device__ int counted;

extern "C" __global__ void __launch_bounds__(256) functions(float* __restrict__ y,
                                                                   const float* __restrict__ x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = x[i], w = fabsf(v);
  y[i] = expf(v); y[n + i] = tanhf(v); y[2 * n + i] = erff(v); y[3 * n + i] = sqrtf(w);
  y[4 * n + i] = v / (1.5f + w); y[5 * n + i] = sinf(v); y[6 * n + i] = logf(w); y[7 * n + i] = powf(w, 1.7f);
  y[8 * n + i] = 1 / (1 + __expf(-v)); y[9 * n + i] = rintf(v); y[10 * n + i] = floorf(v);
  y[11 * n + i] = fmaxf(v, 0); y[12 * n + i] = rsqrtf(w); y[13 * n + i] = cosf(v); y[14 * n + i] = roundf(v);
  y[15 * n + i] = fmodf(v, 0.7f); y[16 * n + i] = __fdividef(v, 3.0f) + table[i % 5];
  y[17 * n + i] = log1pf(w);
  y[18 * n + i] = expm1f(v); y[19 * n + i] = atanf(v); y[20 * n + i] = truncf(v); y[21 * n + i] = cbrtf(v);
  y[22 * n + i] = sinf(v * 1e5f); y[23 * n + i] = isnan(v) || isinf(v) ? 1 : __saturatef(v);
}
extern "C" __global__ void integers(long long* y, const int* a, const int* b, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int p = a[i], q = b[i]; unsigned u = p, w = q; long long l = (long long)p * 100003 + q;
  y[i] = p / q; y[n + i] = p % q; y[2 * n + i] = u / w; y[3 * n + i] = u % w; y[4 * n + i] = __mulhi(p, q);
  y[5 * n + i] = __umulhi(u, w); y[6 * n + i] = (long long)p * q; y[7 * n + i] = p >> (q & 31);
  y[8 * n + i] = u >> (w & 31); y[9 * n + i] = __clz(p); y[10 * n + i] = __popc(p); y[11 * n + i] = __brev(p);
  y[12 * n + i] = l / q; y[13 * n + i] = l % q; y[14 * n + i] = min(p, q); y[15 * n + i] = max(u, w);
  y[16 * n + i] = (p ^ q) & ~(p | 77); y[17 * n + i] = (signed char)p; y[18 * n + i] = (unsigned short)p;
  y[19 * n + i] = __byte_perm(p, q, 0x5410); y[20 * n + i] = __ffs(p); y[21 * n + i] = abs(p);
  y[22 * n + i] = __funnelshift_l(p, q, 5); y[23 * n + i] = l << (q & 63); y[24 * n + i] = p / 7;
  y[25 * n + i] = u % 12u; y[26 * n + i] = (long long)(float)l; y[27 * n + i] = (long long)(double)l;
  y[28 * n + i] = __dp4a(p, q, 5); y[29 * n + i] = __sad(p, q, 3u); y[30 * n + i] = (p < q) == (u < w);
}
extern "C" __global__ void doubles(double* y, const double* a, const double* b, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = a[i] / b[i]; y[n + i] = sqrt(fabs(a[i])); y[2 * n + i] = exp(a[i]);
  y[3 * n + i] = fma(a[i], b[i], 1.0);
  y[4 * n + i] = fmax(a[i], b[i]); y[5 * n + i] = floor(a[i]); y[6 * n + i] = (float)a[i];
  y[7 * n + i] = __dadd_rd(a[i], b[i]); y[8 * n + i] = __dadd_ru(a[i], b[i]); y[9 * n + i] = (int)a[i];
  y[10 * n + i] = __double2float_rd(a[i]); y[11 * n + i] = __fadd_ru((float)a[i], (float)b[i]);
  y[12 * n + i] = __fmul_rd((float)a[i], (float)b[i]); y[13 * n + i] = __fdiv_rz((float)a[i], (float)b[i]);
}
extern "C" __global__ void sum_rows(float* y, const float* x) {
  __shared__ float s[8];
  float v = x[blockIdx.x * 256 + threadIdx.x];
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
  if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < 8 ? s[threadIdx.x] : 0;
    for (int o = 4; o; o >>= 1) v += __shfl_down_sync(~0u, v, o);
    if (threadIdx.x == 0) y[blockIdx.x] = v;
  }
}
extern "C" __global__ void multiply(float* c, const float* a, const float* b, int n) {
  __shared__ float sa[16][16], sb[16][16];
  int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * 16 + ty, column = blockIdx.x * 16 + tx;
  float sum = 0;
  for (int k = 0; k < n; k += 16) {
    sa[ty][tx] = a[row * n + k + tx]; sb[ty][tx] = b[(k + ty) * n + column];
    __syncthreads();
    for (int j = 0; j < 16; j++) sum += sa[ty][j] * sb[j][tx];
    __syncthreads();
  }
  c[row * n + column] = sum;
}
extern "C" __global__ void reverse(float4* y, const float4* x, float* z) {
  extern __shared__ float4 s[];
  __shared__ float first[3];
  if (threadIdx.x < 3) first[threadIdx.x] = threadIdx.x;
  s[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  float4 v = s[blockDim.x - 1 - threadIdx.x];
  v.x += first[2];
  y[blockIdx.x * blockDim.x + threadIdx.x] = v;
  z[threadIdx.x] = ((float*)s)[threadIdx.x];
}
extern "C" __global__ void count(int* bins, float* sum, unsigned long long* most, const int* x, int n) {
  __shared__ int s[16];
  if (threadIdx.x < 16) s[threadIdx.x] = 0;
  __syncthreads();
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    atomicAdd(&s[x[i] & 15], 1); atomicAdd(sum, (float)x[i]); atomicMax(most, (unsigned long long)x[i]);
    atomicAdd(&counted, 1); atomicCAS(&bins[17], 0, x[i] + 1); atomicMin(&bins[18], x[i]);
  }
  __syncthreads();
  if (threadIdx.x < 16) atomicAdd(&bins[threadIdx.x], s[threadIdx.x]);
  if (threadIdx.x == 0) bins[16] = counted;
}
extern "C" __global__ void stages(float* y, const float* x, int n) {
  __shared__ __align__(16) float s[2][128];
  int t = threadIdx.x;
  auto copy = [&](int stage, int from) {
    unsigned to = (unsigned)__cvta_generic_to_shared(&s[stage][t * 4]);
    int left = max(0, min(16, (n - from - t * 4) * 4));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
      :: "r"(to), "l"(x + from + t * 4), "r"(left));
    asm volatile("cp.async.commit_group;");
  };
  copy(0, 0);
  float sum = 0;
  for (int k = 0, stage = 0; k < n; k += 128, stage ^= 1) {
    if (k + 128 < n) { copy(stage ^ 1, k + 128); asm volatile("cp.async.wait_group 1;"); }
    else asm volatile("cp.async.wait_group 0;");
    __syncthreads();
    for (int i = 0; i < 4; i++) sum += s[stage][i * 32 + t];
    __syncthreads();
  }
  y[t] = sum;
}
extern "C" __global__ void local_array(float* y, const float* x, const int* order, int n) {
  float kept[20];
  for (int i = 0; i < 20; i++) kept[i] = x[i] * 2;
  for (int i = 0; i < n; i++) kept[order[i]] += i;
  y[threadIdx.x] = kept[order[threadIdx.x % n]];
  switch (order[threadIdx.x % n]) {
    case 0: y[32] = 1; break; case 1: y[33] = 2; break; case 2: y[34] = 3; break; case 3: y[35] = 5; break;
    case 4: y[36] = 9; break; case 5: y[37] = 3; break; case 6: y[38] = 7; break; case 7: y[39] = 8; break;
  }
}
struct Sizes { int n; float scale; short by[6]; };
extern "C" __global__ void by_value(float* y, Sizes sizes, float add) {
  if (threadIdx.x < sizes.n) y[threadIdx.x] = threadIdx.x * sizes.scale + sizes.by[threadIdx.x % 6] + add;
}
"""


@pytest.fixture(scope="module")
def module() -> EmulatedModule:
    return module_of(SOURCE)


@pytest.mark.parametrize("seed", [0, 1])
def test_functions_of_floats(module: EmulatedModule, seed: int) -> None:
    n = 900
    x = np.random.default_rng(seed).standard_normal(n, dtype=np.float32) * 3
    y = np.zeros((24, n), np.float32)
    module.launch("functions", (4,), (256,), 0, [y, x, np.int32(n)], seed=seed)
    v = x.astype(np.float64)
    w = abs(v)
    turned = (x * np.float32(1e5)).astype(np.float64)
    table = np.array([1, 2, 3, 4, 5.5])[np.arange(n) % 5]
    want = [
        *(np.exp(v), np.tanh(v), np.vectorize(math.erf)(v), np.sqrt(w), v / (1.5 + w), np.sin(v), np.log(w)),
        *(w**1.7, 1 / (1 + np.exp(-v)), np.rint(v), np.floor(v), np.maximum(v, 0), w**-0.5, np.cos(v)),
        *(np.trunc(v + np.copysign(0.5, v)), np.fmod(x, np.float32(0.7)), v / 3 + table, np.log1p(w)),
        *(np.expm1(v), np.arctan(v), np.trunc(v), np.cbrt(v), np.sin(turned), np.clip(v, 0, 1)),
    ]
    for number, (row, expected) in enumerate(zip(y, want, strict=True)):
        np.testing.assert_allclose(row, expected, rtol=2e-6, atol=2e-6, err_msg=f"function {number}")


def wrapped(value: int, bits: int) -> int:
    """As a signed number of that many bits."""
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def integers_of(p: int, q: int) -> list[int]:
    """What the kernel computes, in Python's integers."""
    u, w, long = p % 2**32, q % 2**32, p * 100003 + q
    signed = [wrapped(value >> shift, 8) for value in (u, w) for shift in (0, 8, 16, 24)]
    return [
        *(quotient(p, q), p - q * quotient(p, q), u // w, u % w, p * q >> 32, u * w >> 32, p * q),
        *(p >> (q & 31), u >> (w & 31), 32 - u.bit_length(), u.bit_count()),
        *(int(f"{u:032b}"[::-1], 2), quotient(long, q), long - q * quotient(long, q), min(p, q), max(u, w)),
        *(wrapped((p ^ q) & ~(p | 77), 32), wrapped(u, 8), u & 0xFFFF, (u & 0xFFFF) | (w & 0xFFFF) << 16),
        *((u & -u).bit_length(), abs(p), ((w << 32 | u) << 5 >> 32) % 2**32, wrapped(long << (q & 63), 64)),
        *(quotient(p, 7), u % 12, int(np.float32(long)), int(float(long))),
        *(5 + sum(a * b for a, b in zip(signed[:4], signed[4:], strict=True)), abs(p - q) + 3),
        int((p < q) == (u < w)),
    ]


def test_integers(module: EmulatedModule) -> None:
    n = 500
    rng = np.random.default_rng(2)
    a = (rng.integers(-(2**31), 2**31, n) >> rng.integers(0, 31, n)).astype(np.int32)
    b = (rng.integers(-(2**31), 2**31, n) >> rng.integers(0, 31, n)).astype(np.int32)
    a[a == 0], b[b == 0] = 17, -3
    y = np.zeros((31, n), np.int64)
    module.launch("integers", (2,), (256,), 0, [y, a, b, np.int32(n)])
    want = np.array([integers_of(int(p), int(q)) for p, q in zip(a, b, strict=True)]).T
    # __brev, __byte_perm, __funnelshift_l: int or unsigned by CUDA's headers; the 32 bits are what counts.
    for row in (11, 19, 22):
        np.testing.assert_array_equal(y[row] % 2**32, want[row])
    rest = [row for row in range(31) if row not in (11, 19, 22)]
    np.testing.assert_array_equal(y[rest], want[rest])


def test_doubles_and_directed_rounding(module: EmulatedModule) -> None:
    n = 400
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(n) * 5, rng.standard_normal(n)
    y = np.zeros((14, n))
    module.launch("doubles", (2,), (256,), 0, [y, a, b, np.int32(n)])
    exact = [
        a / b,
        np.sqrt(abs(a)),
        None,
        None,
        np.maximum(a, b),
        np.floor(a),
        a.astype(np.float32).astype(float),
    ]
    for row, expected in zip(y, exact, strict=False):
        if expected is not None:
            np.testing.assert_array_equal(row, expected)
    np.testing.assert_allclose(y[2], np.exp(a), rtol=1e-14)
    np.testing.assert_allclose(y[3], a * b + 1, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(y[9], np.trunc(a))
    nearest = a + b
    assert (y[7] <= y[8]).all()
    assert ((y[7] == nearest) | (y[8] == nearest)).all()
    assert (y[8] - y[7] <= np.spacing(abs(nearest))).all()
    assert (y[7] < y[8]).any()
    single = a.astype(np.float32)
    assert (y[10] <= a).all()
    assert (y[10] >= np.nextafter(single, np.float32(-np.inf))).all()
    x, z = single.astype(float), b.astype(np.float32).astype(float)
    for row, exactly, sign in ((11, x + z, 1), (12, x * z, -1)):  # exact in double but for few sums
        assert ((y[row] - exactly) * sign >= -1e-12).all()
        assert (abs(y[row] - exactly) <= np.spacing(abs(exactly).astype(np.float32))).all()
    assert (abs(y[13]) <= abs(x / z)).all()
    assert (abs(y[13]) >= abs(x / z) * (1 - 2.0**-23)).all()


@pytest.mark.parametrize("seed", [0, 6])
def test_reduction_by_shuffles_and_shared_memory(module: EmulatedModule, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(2560, dtype=np.float32)
    y = np.zeros(10, np.float32)
    module.launch("sum_rows", (10,), (256,), 0, [y, x], seed=seed)
    np.testing.assert_allclose(y, x.reshape(10, 256).sum(1, dtype=np.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 7])
def test_tiled_matrix_product(module: EmulatedModule, seed: int) -> None:
    n = 64
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    c = np.zeros((n, n), np.float32)
    module.launch("multiply", (4, 4), (16, 16), 0, [c, a, b, np.int32(n)], seed=seed)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-4)


def test_dynamic_shared_memory_lies_after_the_static(module: EmulatedModule) -> None:
    x = np.random.default_rng(8).standard_normal((3, 64, 4), dtype=np.float32)
    y, z = np.zeros_like(x), np.zeros(64, np.float32)
    module.launch("reverse", (3,), (64,), 64 * 16, [y, x, z])
    want = x[:, ::-1].copy()
    want[..., 0] += 2
    np.testing.assert_array_equal(y, want)
    assert module.static_shared_bytes("reverse") == 12


@pytest.mark.parametrize("seed", [0, 9])
def test_atomics(module: EmulatedModule, seed: int) -> None:
    n = 1000
    x = np.random.default_rng(seed).integers(5, 1000, n).astype(np.int32)
    bins, total, most = np.zeros(19, np.int32), np.zeros(1, np.float32), np.zeros(1, np.uint64)
    bins[18] = 10**6
    fresh = module_of(SOURCE)
    before = np.zeros(19, np.int32)
    fresh.launch("count", (1,), (32,), 0, [before, total.copy(), most.copy(), x, np.int32(0)])
    fresh.launch("count", (4,), (256,), 0, [bins, total, most, x, np.int32(n)], seed=seed)
    np.testing.assert_array_equal(bins[:16], np.bincount(x & 15, minlength=16))
    assert (total[0], most[0], bins[18]) == (x.sum(), x.max(), x.min())
    assert bins[17] - 1 in x
    fresh.launch("count", (1,), (32,), 0, [bins, total, most, x, np.int32(0)])
    assert bins[16] - before[16] == n  # a variable of the module, which stays from launch to launch


@pytest.mark.parametrize("seed", [0, 10])
def test_asynchronous_copies_in_two_stages(module: EmulatedModule, seed: int) -> None:
    n = 128 * 4 + 77
    x = np.random.default_rng(seed).standard_normal(128 * 5, dtype=np.float32)
    y = np.zeros(32, np.float32)
    module.launch("stages", (1,), (32,), 0, [y, x, np.int32(n)], seed=seed)
    x[n:] = 0
    np.testing.assert_allclose(y, x.reshape(-1, 32).sum(0), rtol=1e-5, atol=1e-5)


def test_local_arrays_and_jump_tables(module: EmulatedModule) -> None:
    order = np.array([3, 0, 7, 5], np.int32)
    x = np.random.default_rng(5).standard_normal(20, dtype=np.float32)
    y = np.zeros(40, np.float32)
    module.launch("local_array", (1,), (32,), 0, [y, x, order, np.int32(4)])
    np.testing.assert_array_equal(y[:32], np.tile(x[order] * 2 + np.arange(4, dtype=np.float32), 8))
    np.testing.assert_array_equal(y[32:], [1, 0, 0, 5, 0, 3, 0, 8])


def test_parameters_that_are_no_pointers(module: EmulatedModule) -> None:
    sizes = np.zeros(1, np.dtype([("n", "i4"), ("scale", "f4"), ("by", "i2", 6)]))
    sizes["n"], sizes["scale"], sizes["by"] = 20, 1.5, np.arange(6) * 10
    y = np.zeros(32, np.float32)
    module.launch("by_value", (1,), (32,), 0, [y, sizes[0], np.float32(0.25)])
    want = np.arange(32) * 1.5 + np.arange(32) % 6 * 10 + 0.25
    np.testing.assert_array_equal(y, np.where(np.arange(32) < 20, want, 0).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["compute_75", "compute_87", "compute_90"])
def test_other_chips_and_no_checks_give_the_same(arch: str) -> None:
    n = 64
    source = SOURCE[
        SOURCE.index('extern "C" __global__ void sum_rows') : SOURCE.index('extern "C" __global__ void count')
    ]
    rng = np.random.default_rng(21)
    a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    results = []
    for checks in (True, False):
        c = np.zeros((n, n), np.float32)
        module_of(source, arch, checks=checks).launch("multiply", (4, 4), (16, 16), 0, [c, a, b, np.int32(n)])
        results.append(c)
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], a @ b, rtol=1e-5, atol=1e-4)
