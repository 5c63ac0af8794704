"""What the lanes of a warp do together, against numpy: fragments as the PTX ISA draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from deploycc.emulating import EmulatedModule
from tests.emulating.compiling import module_of


@dataclass(frozen=True)
class Form:
    """An mma: shape, types of A and B, of C and D."""

    m: int
    k: int
    a: str
    b: str
    c: str

    @property
    def name(self) -> str:
        return f"m{self.m}n8k{self.k}_{self.a}_{self.b}_{self.c}"

    @property
    def elements(self) -> int:
        """Of A and B in a register."""
        return {"f16": 2, "bf16": 2, "tf32": 1}.get(self.a, 4)

    @property
    def registers(self) -> tuple[int, int, int]:
        accumulators = self.m * 8 // 32 // (2 if self.c == "f16" else 1)
        return self.m * self.k // 32 // self.elements, self.k * 8 // 32 // self.elements, accumulators


FORMS = (
    *(Form(16, k, "f16", "f16", c) for k in (8, 16) for c in ("f32", "f16")),
    *(Form(16, k, "bf16", "bf16", "f32") for k in (8, 16)),
    *(Form(16, k, "tf32", "tf32", "f32") for k in (4, 8)),
    *(
        Form(m, k, a, b, "s32")
        for m, k in ((8, 16), (16, 16), (16, 32))
        for a in ("s8", "u8")
        for b in ("s8", "u8")
    ),
)


def mma_source(form: Form) -> str:
    a, b, c = form.registers
    kind = "f" if form.c == "f32" else "r"
    word = "float" if kind == "f" else "unsigned"
    numbers = iter(range(100))
    text = ", ".join("{" + ",".join(f"%{next(numbers)}" for _ in range(count)) + "}" for count in (c, a, b))
    text += ", {" + ",".join(f"%{number}" for number in range(c)) + "}"
    outputs = ", ".join(f'"+{kind}"(d[{n}])' for n in range(c))
    inputs = ", ".join([*(f'"r"(a[{n}])' for n in range(a)), *(f'"r"(b[{n}])' for n in range(b))])
    instruction = f"mma.sync.aligned.m{form.m}n8k{form.k}.row.col.{form.c}.{form.a}.{form.b}.{form.c}"
    return f"""
extern "C" __global__ void {form.name}({word}* out, const unsigned* a, const unsigned* b) {{
  {word} d[{c}];
  a += threadIdx.x * {a}; b += threadIdx.x * {b}; out += threadIdx.x * {c};
  for (int i = 0; i < {c}; i++) d[i] = out[i];
  asm volatile("{instruction} {text};" : {outputs} : {inputs});
  for (int i = 0; i < {c}; i++) out[i] = d[i];
}}"""


OTHERS = r"""
extern "C" __global__ void shuffles(float* y, const float* x) {
  int t = threadIdx.x; float v = x[t];
  y[t] = __shfl_sync(~0u, v, 5); y[32 + t] = __shfl_up_sync(~0u, v, 3);
  y[64 + t] = __shfl_down_sync(~0u, v, 7);
  y[96 + t] = __shfl_xor_sync(~0u, v, 9); y[128 + t] = __shfl_sync(~0u, v, t * 7, 8);
  y[160 + t] = __shfl_up_sync(~0u, v, 2, 8); y[192 + t] = __shfl_down_sync(~0u, v, 1, 16);
  y[224 + t] = __shfl_xor_sync(~0u, v, 12, 8);
  if (t < 7) y[256 + t] = __shfl_down_sync(0x7fu, v, 2);
}
extern "C" __global__ void votes(unsigned* y, const int* x) {
  int t = threadIdx.x, v = x[t];
  y[t] = __ballot_sync(~0u, v > 3); y[32 + t] = __any_sync(~0u, v > 3); y[64 + t] = __all_sync(~0u, v > 3);
  y[96 + t] = __reduce_add_sync(~0u, v); y[128 + t] = __reduce_min_sync(~0u, v);
  y[160 + t] = __reduce_max_sync(~0u, (unsigned)v); y[192 + t] = __reduce_xor_sync(~0u, (unsigned)v);
  y[224 + t] = __match_any_sync(~0u, v); y[256 + t] = __reduce_or_sync(~0u, (unsigned)v);
  y[288 + t] = __reduce_and_sync(~0u, (unsigned)v | 2); y[320 + t] = __activemask();
  __syncwarp(); y[352 + t] = __syncthreads_count(v > 3); y[384 + t] = __syncthreads_or(v > 3);
  y[416 + t] = __syncthreads_and(v > 3);
}
extern "C" __global__ void matrices(unsigned* y, const unsigned short* x) {
  __shared__ __align__(16) unsigned short s[32 * 8];
  int t = threadIdx.x;
  for (int i = 0; i < 8; i++) s[t * 8 + i] = x[t * 8 + i];
  __syncthreads();
  unsigned at = (unsigned)__cvta_generic_to_shared(s + t * 8), r[4];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
  for (int i = 0; i < 4; i++) y[i * 32 + t] = r[i];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
    : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
  for (int i = 0; i < 4; i++) y[128 + i * 32 + t] = r[i];
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(at));
  y[256 + t] = r[0]; y[288 + t] = r[1];
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(at));
  y[320 + t] = r[0];
}
"""


@pytest.fixture(scope="module")
def module() -> EmulatedModule:
    return module_of("\n".join((*map(mma_source, FORMS), OTHERS)))


def bits_of(values: np.ndarray, kind: str) -> np.ndarray:
    """The bits of float32 numbers in the type: bfloat16 and tf32 by leaving out what they have not."""
    if kind == "f16":
        return values.astype(np.float16).view(np.uint16)
    if kind == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    if kind == "tf32":
        return values.view(np.uint32)
    return values.astype(np.uint8 if kind == "u8" else np.int8)


def values_of(bits: np.ndarray, kind: str) -> np.ndarray:
    if kind == "f16":
        return bits.view(np.float16).astype(np.float64)
    if kind == "bf16":
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if kind == "tf32":
        return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    return bits.astype(np.float64)


def position_in_a(form: Form, lane: int, i: int) -> tuple[int, int]:
    """Row and column of element a_i, as the PTX ISA's formulas say it for each shape."""
    group, within = lane >> 2, lane % 4
    if form.a == "tf32":
        return group + 8 * (i in (1, 3)), within + 4 * (i >= 2)
    if form.elements == 2:
        upper = 2 <= i < 4 or i >= 6
        return group + 8 * upper, within * 2 + (i & 1) + 8 * (i >= 4)
    if form.m == 8:
        return group, within * 4 + i
    upper = 4 <= i < 8 or i >= 12
    return group + 8 * upper, within * 4 + (i & 3) + 16 * (i >= 8)


def position_in_b(form: Form, lane: int, i: int) -> tuple[int, int]:
    group, within = lane >> 2, lane % 4
    if form.a == "tf32":
        return within + 4 * i, group
    if form.elements == 2:
        return within * 2 + (i & 1) + 8 * (i >= 2), group
    return within * 4 + (i & 3) + 16 * (i >= 4), group


def position_in_c(lane: int, i: int) -> tuple[int, int]:
    return (lane >> 2) + 8 * (i >= 2), (lane % 4) * 2 + (i & 1)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_mma_is_the_product_of_the_fragments(module: EmulatedModule, form: Form) -> None:
    rng = np.random.default_rng([7, FORMS.index(form)])
    a_count, b_count, c_count = (
        count * n for count, n in zip(form.registers, (form.elements, form.elements, 1), strict=True)
    )
    if form.c == "s32":
        a, b = (
            rng.integers(-128, 128, shape) & (255 if kind == "u8" else -1)
            for shape, kind in (((form.m, form.k), form.a), ((form.k, 8), form.b))
        )
        c = rng.integers(-(10**6), 10**6, (form.m, 8))
    else:
        a = rng.standard_normal((form.m, form.k), dtype=np.float32)
        b = rng.standard_normal((form.k, 8), dtype=np.float32)
        c = rng.standard_normal((form.m, 8), dtype=np.float32)
    a_bits, b_bits = bits_of(a, form.a), bits_of(b, form.b)
    c_bits = c.astype({"f16": np.float16, "f32": np.float32, "s32": np.int32}[form.c])
    per_lane = c_count * (2 if form.c == "f16" else 1)
    a_words = np.array([[a_bits[position_in_a(form, lane, i)] for i in range(a_count)] for lane in range(32)])
    b_words = np.array([[b_bits[position_in_b(form, lane, i)] for i in range(b_count)] for lane in range(32)])
    out = np.array([[c_bits[position_in_c(lane, i)] for i in range(per_lane)] for lane in range(32)])
    module.launch(form.name, (1,), (32,), 0, [out, a_words, b_words])
    got = np.zeros((form.m, 8))
    for lane in range(32):
        for i in range(per_lane):
            got[position_in_c(lane, i)] = out[lane, i]
    want = values_of(a_bits, form.a) @ values_of(b_bits, form.b) + c_bits.astype(np.float64)
    tolerance = {"s32": 0, "f32": 1e-5, "f16": 1e-2}[form.c]
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("seed", [0, 3])
def test_shuffles_take_from_the_lane_that_is_named(module: EmulatedModule, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(32, dtype=np.float32)
    y = np.zeros(32 * 9, np.float32)
    module.launch("shuffles", (1,), (32,), 0, [y, x], seed=seed)
    t = np.arange(32)
    sources = [
        np.full(32, 5),
        np.where(t >= 3, t - 3, t),
        np.where(t + 7 < 32, t + 7, t),
        t ^ 9,
        t // 8 * 8 + t * 7 % 8,
        np.where(t % 8 >= 2, t - 2, t),
        np.where(t % 16 < 15, t + 1, t),
        np.where((t ^ 12) <= (t | 7), t ^ 12, t),
    ]
    np.testing.assert_array_equal(y[:256], x[np.concatenate(sources)])
    np.testing.assert_array_equal(y[256:261], x[2:7])
    # Lanes 7 and 8 take no part: what they would give is not defined, and shows.
    assert np.isnan(y[261:263]).all()


@pytest.mark.parametrize("seed", [0, 4])
def test_votes_and_reductions(module: EmulatedModule, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-5, 20, 32).astype(np.int32)
    y = np.zeros(32 * 14, np.uint32)
    module.launch("votes", (1,), (32,), 0, [y, x], seed=seed)
    got = y.reshape(14, 32)
    high, unsigned = x > 3, x.view(np.uint32)
    ballot = int(sum(1 << int(lane) for lane in np.flatnonzero(high)))
    same = [int(sum(1 << int(lane) for lane in np.flatnonzero(x == value))) for value in x]
    want = [
        *(ballot, high.any(), high.all(), int(x.sum()) % 2**32, int(x.min()) % 2**32, int(unsigned.max())),
        *(int(np.bitwise_xor.reduce(unsigned)), same, int(np.bitwise_or.reduce(unsigned))),
        *(int(np.bitwise_and.reduce(unsigned | 2)), 2**32 - 1, high.sum(), high.any(), high.all()),
    ]
    for row, expected in zip(got, want, strict=True):
        np.testing.assert_array_equal(row, np.broadcast_to(np.asarray(expected, np.uint32), 32))


def test_ldmatrix_hands_out_rows_and_columns(module: EmulatedModule) -> None:
    x = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    y = np.zeros(11 * 32, np.uint32)
    module.launch("matrices", (1,), (32,), 0, [y, x])
    plain = np.ascontiguousarray(x).view(np.uint32).reshape(4, 32)
    transposed = np.ascontiguousarray(x.transpose(0, 2, 1)).view(np.uint32).reshape(4, 32)
    np.testing.assert_array_equal(
        y.reshape(11, 32), np.concatenate((plain, transposed, plain[:2], transposed[:1]))
    )
