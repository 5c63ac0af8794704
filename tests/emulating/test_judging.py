"""Faults of kernels that a run on the processor has to find."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from deploycc.emulating import EmulatedModule, build_module
from deploycc.types import DeployccError
from tests.emulating.compiling import module_of, ptx_of

SOURCE = r"""
extern "C" __global__ void no_barrier(float* y, const float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void no_second_barrier(float* y, const float* x) {
  __shared__ float s[64];
  float sum = 0;
  for (int k = 0; k < 4; k++) {
    s[threadIdx.x] = x[k * 64 + threadIdx.x];
    __syncthreads();
    sum += s[63 - threadIdx.x];
  }
  y[threadIdx.x] = sum;
}
extern "C" __global__ void blocks_race(float* y) { y[0] = blockIdx.x; }
extern "C" __global__ void blocks_in_turn(float* y) { y[blockIdx.x + 1] = y[blockIdx.x] + 1; }
extern "C" __global__ void vector_load(float* y, const float* x) {
  *(float4*)y = *(const float4*)(x + threadIdx.x);
}
extern "C" __global__ void half_a_warp(float* y) {
  if (threadIdx.x < 16) __syncthreads();
  y[threadIdx.x] = 1;
}
extern "C" __global__ void two_barriers(float* y) {
  if (threadIdx.x < 16) { asm volatile("bar.sync 1;"); y[0] = 1; }
  else { asm volatile("bar.sync 2;"); y[1] = 1; }
}
extern "C" __global__ void same_barrier_twice(float* y) {
  if (threadIdx.x < 16) { asm volatile("bar.sync 0;"); y[0] = 1; }
  else { asm volatile("bar.sync 0;"); y[1] = 1; }
}
extern "C" __global__ void a_warp_less(float* y) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  y[threadIdx.x] = 1;
}
extern "C" __global__ void past_shared(float* y, int n) {
  extern __shared__ float s[];
  s[threadIdx.x + n] = 1;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void past_global(float* y, const float* x, int n) {
  y[threadIdx.x] = x[threadIdx.x + n];
}
extern "C" __global__ void never_written(float* y, int n) {
  extern __shared__ float s[];
  if (threadIdx.x < n) s[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void traps(float* y) { if (y[threadIdx.x] > 0) __trap(); }
extern "C" __global__ void early_shuffle(float* y) {
  if (threadIdx.x == 3) return;
  y[threadIdx.x] = __shfl_xor_sync(~0u, y[threadIdx.x], 1);
}
extern "C" __global__ void part_of_warp(float* y) {
  unsigned r = 0;
  if (threadIdx.x != 3)
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%0}, {%0}, {%0}, {%0,%0};"
      : "+r"(r));
  y[threadIdx.x] = r;
}
extern "C" __global__ void other_masks(float* y) {
  float v = y[threadIdx.x];
  if (threadIdx.x < 16) v += __shfl_xor_sync(~0u, v, 1);
  else v -= __shfl_down_sync(~0u, v, 1);
  y[threadIdx.x] = v;
}
extern "C" __global__ void no_wait(float* y, const float* x, int wait) {
  __shared__ __align__(16) float s[128];
  unsigned to = (unsigned)__cvta_generic_to_shared(s + threadIdx.x * 4);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + threadIdx.x * 4));
  asm volatile("cp.async.commit_group;");
  if (wait) asm volatile("cp.async.wait_group 0;"); else asm volatile("cp.async.wait_group 1;");
  __syncthreads();
  for (int i = 0; i < 4; i++) y[i * 32 + threadIdx.x] = s[i * 32 + threadIdx.x];
}
extern "C" __global__ void waits_for_another_block(volatile float* y) {
  if (blockIdx.x == 0) while (y[1] == 0) {}
  else y[1] = 1;
}
extern "C" __global__ void __launch_bounds__(64) bounded(float* y) { y[threadIdx.x] = 1; }
"""


@pytest.fixture(scope="module")
def module() -> EmulatedModule:
    return module_of(SOURCE)


def failure(module: EmulatedModule, *launch: object, **options: int) -> str:
    with pytest.raises(DeployccError) as caught:
        module.launch(*launch, **options)  # type: ignore[arg-type]
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "DC881"
    return diagnostic.message


def test_a_missing_barrier_shows(module: EmulatedModule) -> None:
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    module.launch("no_barrier", (1,), (64,), 0, [y, x])
    assert np.isnan(y).any()


def test_a_missing_barrier_of_a_loop_shows_in_random_order(module: EmulatedModule) -> None:
    x = np.random.default_rng(1).standard_normal((4, 64), dtype=np.float32)
    want = x.sum(0)[::-1]
    wrong = 0
    for seed in range(1, 6):
        y = np.zeros(64, np.float32)
        module.launch("no_second_barrier", (1,), (64,), 0, [y, x], seed=seed)
        wrong += not np.allclose(y, want, atol=1e-5)
    assert wrong == 5


def test_races_between_blocks_show_in_random_order(module: EmulatedModule) -> None:
    y = np.zeros(1, np.float32)
    module.launch("blocks_race", (50,), (32,), 0, [y])
    assert y[0] == 49
    last = set()
    for seed in range(1, 6):
        module.launch("blocks_race", (50,), (32,), 0, [y], seed=seed)
        last.add(float(y[0]))
    assert len(last) > 2
    z = np.zeros(51, np.float32)
    module.launch("blocks_in_turn", (50,), (1,), 0, [z], seed=1)
    assert z[50] != 50


def test_the_seed_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For packages that run under the emulated driver."""
    copy = tmp_path / "module.so"
    shutil.copy(build_module(ptx_of(SOURCE)), copy)
    monkeypatch.setenv("DEPLOYCC_EMULATED_SEED", "12")
    y = np.zeros(1, np.float32)
    EmulatedModule(copy).launch("blocks_race", (50,), (32,), 0, [y])
    assert y[0] != 49


def test_every_block_and_thread_runs_once_in_random_order(module: EmulatedModule) -> None:
    for blocks in (1, 2, 3, 16, 30, 97):
        z = np.zeros(blocks + 1, np.float32)
        module.launch("blocks_in_turn", (blocks,), (1,), 0, [z], seed=5)
        assert (z[1:] >= 1).all()


def test_a_misaligned_vector(module: EmulatedModule) -> None:
    space = np.zeros(72, np.float32)
    x = space[(-space.ctypes.data // 4) % 4 :][:68]
    aligned = np.zeros(8, np.float32)
    y = aligned[(-aligned.ctypes.data // 4) % 4 :][:4]
    module.launch("vector_load", (1,), (1,), 0, [y, x])
    text = failure(module, "vector_load", (1,), (32,), 0, [y, x])
    assert "thread (1,0,0)" in text
    assert "misaligned: 16 bytes at 0x" in text


def test_a_barrier_that_lanes_return_without(module: EmulatedModule) -> None:
    text = failure(module, "half_a_warp", (1,), (64,), 0, [np.zeros(64, np.float32)])
    assert "barrier that lanes of the same warp returned without reaching" in text


def test_two_barriers_that_wait_for_each_other(module: EmulatedModule) -> None:
    text = failure(module, "two_barriers", (2,), (32,), 0, [np.zeros(64, np.float32)])
    assert "stuck: 32 threads wait at a barrier" in text
    assert "waits at line" in text


def test_a_divergent_barrier(module: EmulatedModule) -> None:
    text = failure(module, "same_barrier_twice", (1,), (32,), 0, [np.zeros(64, np.float32)])
    assert "divergent barrier" in text


def test_whole_warps_may_return_before_a_barrier(module: EmulatedModule) -> None:
    y = np.zeros(64, np.float32)
    module.launch("a_warp_less", (1,), (64,), 0, [y])
    assert y.sum() == 32


def test_accesses_outside_shared_memory(module: EmulatedModule) -> None:
    y = np.zeros(64, np.float32)
    module.launch("past_shared", (1,), (64,), 256, [y, np.int32(0)])
    text = failure(module, "past_shared", (1,), (64,), 256, [y, np.int32(1)])
    assert "thread (63,0,0)" in text
    assert "4 bytes at 256 of 256 bytes of shared memory" in text
    assert "of shared memory" in failure(module, "past_shared", (1,), (64,), 256, [y, np.int32(-1)])


def test_accesses_outside_the_arguments(module: EmulatedModule) -> None:
    x, y = np.ones(32, np.float32), np.zeros(32, np.float32)
    module.launch("past_global", (1,), (32,), 0, [y, x, np.int32(0)])
    text = failure(module, "past_global", (1,), (32,), 0, [y, x, np.int32(1)])
    assert "kernel past_global, block (0,0,0), thread (31,0,0)" in text
    assert "are in no allocation" in text


def test_shared_memory_that_was_never_written_is_nan(module: EmulatedModule) -> None:
    y = np.zeros(64, np.float32)
    module.launch("never_written", (1,), (64,), 256, [y, np.int32(40)])
    assert (np.isnan(y) == (np.arange(64) >= 40)).all()


def test_traps(module: EmulatedModule) -> None:
    y = np.zeros(64, np.float32)
    module.launch("traps", (2,), (64,), 0, [y])
    y[17] = 1
    text = failure(module, "traps", (2,), (64,), 0, [y], seed=3)
    assert "thread (17,0,0)" in text
    assert text.endswith("trap")


def test_lanes_that_returned(module: EmulatedModule) -> None:
    y = np.arange(32, dtype=np.float32)
    module.launch("early_shuffle", (1,), (32,), 0, [y])
    assert np.isnan(y[2])
    assert (y[:2] == [1, 0]).all()
    text = failure(module, "part_of_warp", (1,), (32,), 0, [np.zeros(32, np.float32)])
    assert "needs all 32 lanes" in text
    text = failure(module, "part_of_warp", (1,), (16,), 0, [np.zeros(32, np.float32)])
    assert "needs all 32 lanes" in text


def test_lanes_at_different_instructions(module: EmulatedModule) -> None:
    text = failure(module, "other_masks", (1,), (32,), 0, [np.zeros(32, np.float32)])
    assert "different instructions" in text


def test_a_missing_wait_for_copies_shows(module: EmulatedModule) -> None:
    space = np.random.default_rng(2).standard_normal(132, dtype=np.float32)
    x = space[(-space.ctypes.data // 4) % 4 :][:128]
    y = np.zeros(128, np.float32)
    module.launch("no_wait", (1,), (32,), 0, [y, x, np.int32(1)])
    np.testing.assert_array_equal(y, x)
    module.launch("no_wait", (1,), (32,), 0, [y, x, np.int32(0)])
    assert np.isnan(y).all()


def test_a_loop_without_end(module: EmulatedModule) -> None:
    text = failure(module, "waits_for_another_block", (2,), (1,), 0, [np.zeros(2, np.float32)], bounds=False)
    assert "a loop without end" in text


def test_more_threads_than_the_kernel_takes(module: EmulatedModule) -> None:
    y = np.zeros(128, np.float32)
    text = failure(module, "bounded", (1,), (65,), 0, [y])
    assert "at most 64 threads" in text
    assert "at most 1024 threads" in failure(module, "traps", (1,), (1025,), 0, [y])


def test_launches_that_do_not_fit(module: EmulatedModule) -> None:
    y = np.zeros(64, np.float32)
    for name, arguments in (
        ("nobody", [y]),
        ("traps", [y, y]),
        ("traps", [np.int32(3)]),
        ("traps", [y[::2]]),
    ):
        with pytest.raises(DeployccError) as caught:
            module.launch(name, (1,), (32,), 0, arguments)
        assert caught.value.diagnostics[0].code == "DC882"


RACES = r"""
extern "C" __global__ void no_barrier_of_warps(float* y, const float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[threadIdx.x ^ 32];
}
extern "C" __global__ void no_second_barrier(float* y, const float* x) {
  __shared__ float s[64];
  float sum = 0;
  for (int k = 0; k < 4; k++) {
    s[threadIdx.x] = x[k * 64 + threadIdx.x];
    __syncthreads();
    sum += s[63 - threadIdx.x];
  }
  y[threadIdx.x] = sum;
}
extern "C" __global__ void two_writers(float* y, const float* x) {
  __shared__ float s[32];
  s[threadIdx.x / 2] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x / 2];
}
extern "C" __global__ void right(float* y, const float* x) {
  __shared__ float s[64], total;
  __shared__ unsigned char flags[64];
  __shared__ int count;
  if (threadIdx.x == 0) count = 0, total = 0;
  for (int k = 0; k < 4; k++) {
    s[threadIdx.x] = x[k * 64 + threadIdx.x];
    flags[threadIdx.x] = threadIdx.x;
    __syncthreads();
    atomicAdd(&count, 1); atomicAdd(&total, s[threadIdx.x ^ 33]);
    y[threadIdx.x] = s[63 - threadIdx.x] + flags[threadIdx.x ^ 1];
    __syncthreads();
  }
  s[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  y[threadIdx.x] = s[threadIdx.x ^ 5] + count + total;
}
extern "C" __global__ void not_even_a_warp(float* y, const float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[threadIdx.x ^ 5];
}
extern "C" __global__ void copied_too_early(float* y, const float* x, int n) {
  __shared__ __align__(16) float s[64];
  unsigned to = (unsigned)__cvta_generic_to_shared(s + threadIdx.x * 4);
  for (int k = 0; k < 3; k++) {
    if (threadIdx.x < 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + k * 64 + threadIdx.x * 4));
    asm volatile("cp.async.commit_group; cp.async.wait_group 0;");
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
    if (k < n) __syncthreads();
  }
}
"""


@pytest.fixture(scope="module")
def races() -> EmulatedModule:
    return EmulatedModule(build_module(ptx_of(RACES), races=True))


def some_rows(seed: int) -> np.ndarray:
    """Four rows of 64, at an address that is a multiple of 16."""
    space = np.random.default_rng(seed).standard_normal(260, dtype=np.float32)
    return space[(-space.ctypes.data // 4) % 4 :][:256]


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("no_barrier_of_warps", "of shared memory"),
        ("no_second_barrier", "of shared memory"),
        ("two_writers", "writes over byte"),
        ("not_even_a_warp", "of shared memory"),
    ],
)
def test_races_in_shared_memory_are_found_in_any_order(
    races: EmulatedModule, name: str, what: str, seed: int
) -> None:
    x = some_rows(30 + seed)
    text = failure(races, name, (2,), (64,), 0, [np.zeros(64, np.float32), x], seed=seed)
    assert "race: " in text
    assert what in text
    assert "at line" in text


@pytest.mark.parametrize("seed", [0, 6, 7])
def test_kernels_without_races(races: EmulatedModule, seed: int) -> None:
    x, y = some_rows(40 + seed), np.zeros(64, np.float32)
    races.launch("right", (3,), (64,), 0, [y, x], seed=seed)
    want = x[:64][np.arange(64) ^ 5] + 256 + x.sum(dtype=np.float64)
    np.testing.assert_allclose(y, want, rtol=1e-4)


def test_the_environment_asks_for_races(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYCC_EMULATED_RACES", "1")
    assert build_module(ptx_of(RACES)) == build_module(ptx_of(RACES), races=True)
    monkeypatch.delenv("DEPLOYCC_EMULATED_RACES")
    assert build_module(ptx_of(RACES)) != build_module(ptx_of(RACES), races=True)


def test_copies_into_what_others_still_read(races: EmulatedModule) -> None:
    x, y = some_rows(50), np.zeros(64, np.float32)
    races.launch("copied_too_early", (1,), (64,), 0, [y, x, np.int32(3)])
    np.testing.assert_array_equal(y, x[128:192][::-1])
    assert "race: " in failure(races, "copied_too_early", (1,), (64,), 0, [y, x, np.int32(0)])
