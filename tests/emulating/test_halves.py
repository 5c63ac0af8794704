"""float16 and bfloat16: arithmetic and conversions, bit by bit against numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from deploycc.emulating import EmulatedModule
from tests.emulating.compiling import module_of

SOURCE = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" __global__ void halves(__half* y, const __half* a, const __half* b, const __half* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  y[i] = __hadd(a[i], b[i]); y[n + i] = __hmul(a[i], b[i]); y[2 * n + i] = __hfma(a[i], b[i], c[i]);
  y[3 * n + i] = __hmax(a[i], b[i]); y[4 * n + i] = __hneg(a[i]); y[5 * n + i] = __hsub(a[i], b[i]);
  y[6 * n + i] = __habs(a[i]); y[7 * n + i] = __hgt(a[i], b[i]) ? a[i] : c[i];
  y[8 * n + i] = __hmin(a[i], b[i]);
}
extern "C" __global__ void pairs(__half2* y, const __half2* a, const __half2* b, const __half2* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  y[i] = __hadd2(a[i], b[i]); y[n + i] = __hmul2(a[i], b[i]); y[2 * n + i] = __hfma2(a[i], b[i], c[i]);
  y[3 * n + i] = __hmax2(a[i], b[i]); y[4 * n + i] = __hneg2(a[i]); y[5 * n + i] = __hgt2(a[i], b[i]);
  y[6 * n + i] = __lowhigh2highlow(a[i]); y[7 * n + i] = __hfma2_relu(a[i], b[i], c[i]);
  y[8 * n + i] = __hadd2_sat(a[i], b[i]);
}
extern "C" __global__ void brains(__nv_bfloat16* y, const __nv_bfloat16* a, const __nv_bfloat16* b,
                                  const __nv_bfloat16* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  y[i] = __hadd(a[i], b[i]); y[n + i] = __hmul(a[i], b[i]); y[2 * n + i] = __hfma(a[i], b[i], c[i]);
  y[3 * n + i] = __hmax(a[i], b[i]);
}
extern "C" __global__ void conversions(unsigned* y, const float* x, const int* k, const double* d, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  float v = x[i];
  y[i] = __half_as_ushort(__float2half_rn(v)); y[n + i] = __bfloat16_as_ushort(__float2bfloat16_rn(v));
  __half2 h = __floats2half2_rn(v, -v); y[2 * n + i] = *(unsigned*)&h;
  __nv_bfloat162 b = __floats2bfloat162_rn(v, -v); y[3 * n + i] = *(unsigned*)&b;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y[4 * n + i]) : "f"(v));
  y[5 * n + i] = __half_as_ushort(__int2half_rn(k[i])); y[6 * n + i] = __half2int_rz(__float2half_rn(v));
  y[7 * n + i] = __half_as_ushort(__double2half(d[i])); y[8 * n + i] = __half2int_rn(__float2half_rn(v));
  y[9 * n + i] = __float_as_uint(__half2float(__ushort_as_half((unsigned short)k[i])));
}
"""


@pytest.fixture(scope="module")
def module() -> EmulatedModule:
    return module_of(SOURCE)


def some_halves(seed: int, n: int) -> list[np.ndarray]:
    """Three arrays: half of them any bits that are numbers, half of one magnitude, where sums round."""
    rng = np.random.default_rng(seed)
    arrays = []
    for _ in range(3):
        bits = rng.integers(0, 2**16, n).astype(np.uint16).view(np.float16)
        bits = np.where(np.isfinite(bits), bits, np.float16(1.5))
        bits[n // 2 :] = rng.standard_normal(n - n // 2)
        arrays.append(bits)
    return arrays


def fused(a: float, b: float, c: float, narrow: int) -> float:
    """a b + c rounded once to ``narrow`` bits; None of the numbers is near the end of the range."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return exact_rounded(exact, narrow, -24 if narrow == 11 else -133)


def exact_rounded(exact: Fraction, bits: int, least: int) -> float:
    if exact == 0:
        return 0.0
    exponent = 0
    size = abs(exact)
    while size >= 2:
        size, exponent = size / 2, exponent + 1
    while size < 1:
        size, exponent = size * 2, exponent - 1
    step = Fraction(2) ** max(exponent - bits + 1, least)
    return float(round(exact / step) * step)


def overflowed(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def test_half_arithmetic_rounds_once(module: EmulatedModule) -> None:
    n = 600
    a, b, c = some_halves(11, n)
    y = np.zeros((9, n), np.float16)
    module.launch("halves", (3,), (256,), 0, [y, a, b, c, np.int32(n)])
    fma = overflowed(np.array([fused(*map(float, three), 11) for three in zip(a, b, c, strict=True)]))
    with np.errstate(over="ignore"):
        want = [a + b, a * b, fma, np.maximum(a, b), -a, a - b]
        want += [abs(a), np.where(a > b, a, c), np.minimum(a, b)]
    for row, expected in zip(y, want, strict=True):
        np.testing.assert_array_equal(row, expected)


def test_pairs_of_halves(module: EmulatedModule) -> None:
    n = 300
    a, b, c = some_halves(12, 2 * n)
    y = np.zeros((9, 2 * n), np.float16)
    module.launch("pairs", (2,), (256,), 0, [y, a, b, c, np.int32(n)])
    fma = overflowed(np.array([fused(*map(float, three), 11) for three in zip(a, b, c, strict=True)]))
    with np.errstate(over="ignore"):
        want = [
            *(a + b, a * b, fma, np.maximum(a, b), -a, (a > b).astype(np.float16)),
            *(a.reshape(n, 2)[:, ::-1].ravel(), np.maximum(fma, 0), np.clip(a + b, 0, 1)),
        ]
    for row, expected in zip(y, want, strict=True):
        np.testing.assert_array_equal(row, expected)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Nearest, ties to even, as bits."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def test_bfloat16_arithmetic_rounds_once(module: EmulatedModule) -> None:
    n = 500
    rng = np.random.default_rng(13)
    bits = [to_bfloat16(rng.standard_normal(n) * 10 ** rng.uniform(-3, 3, n)) for _ in range(3)]
    a, b, c = ((value.astype(np.uint32) << 16).view(np.float32) for value in bits)
    y = np.zeros((4, n), np.uint16)
    module.launch("brains", (2,), (256,), 0, [y, *bits, np.int32(n)])
    fma = np.array([fused(*map(float, three), 8) for three in zip(a, b, c, strict=True)])
    for row, expected in zip(y, (a + b, a * b, fma, np.maximum(a, b)), strict=True):
        np.testing.assert_array_equal(row, to_bfloat16(expected))


def test_conversions(module: EmulatedModule) -> None:
    n = 700
    rng = np.random.default_rng(14)
    x = (rng.standard_normal(n) * 10 ** rng.uniform(-9, 6, n)).astype(np.float32)
    x[:4] = 65519.0, 65520.0, 2.0**-25, 1.00048828125
    k = rng.integers(-70000, 70000, n).astype(np.int32)
    d = 1 + rng.integers(0, 2**11, n) * 2.0**-11 + rng.choice([-1e-13, 0, 1e-13], n)
    y = np.zeros((10, n), np.uint32)
    module.launch("conversions", (3,), (256,), 0, [y, x, k, d, np.int32(n)])
    with np.errstate(over="ignore", invalid="ignore"):
        half, brain = x.astype(np.float16), to_bfloat16(x)
        wide = half.astype(np.float64)
        from_bits = k.astype(np.uint16).view(np.float16)
        want = [
            half.view(np.uint16),
            brain,
            half.view(np.uint16).astype(np.uint32) | (-half).view(np.uint16).astype(np.uint32) << 16,
            brain.astype(np.uint32) | (to_bfloat16(-x).astype(np.uint32) << 16),
            (x.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000),
            k.astype(np.float16).view(np.uint16),
            np.clip(np.trunc(wide), -(2**31), 2**31 - 1).astype(np.int64).astype(np.uint32),
            d.astype(np.float16).view(np.uint16),
            np.clip(np.rint(wide), -(2**31), 2**31 - 1).astype(np.int64).astype(np.uint32),
        ]
    for number, expected in enumerate(want):
        np.testing.assert_array_equal(y[number], expected, err_msg=f"row {number}")
    got = y[9].view(np.float32)
    np.testing.assert_array_equal(got, from_bits.astype(np.float32))
