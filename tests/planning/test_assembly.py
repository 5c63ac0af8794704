"""Reading assembly: loops, jumps and kinds of instructions of each machine, from code made for the tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploycc.planning.assembly import Loop, hot_loops, inner_loops
from deploycc.types import LLVMTarget, Target
from tests.planning.harness import ARM64, ARMV7, RISCV64, X86_64

NEST = """
kernel:
\tmov\tx8, xzr
.LBB0_1:                                // %outer
\tldr\tq0, [x0]
\tmov\tx9, xzr
.LBB0_2:                                // %inner
\tldr\tq1, [x1], #16                    // 16-byte Folded Reload
\tfmla\tv2.4s, v1.4s, v0.s[1]
\tfmla\tv3.4s, v1.4s, v0.s[2]
\tsubs\tx9, x9, #1
\tb.ne\t.LBB0_2
\tfmla\tv4.4s, v2.4s, v3.4s
\tstr\tq4, [sp, #16]
\tb.ne\t.LBB0_1
.LBB0_3:
\tfmadd\ts0, s1, s2, s0
\tcbz\tx9, .LBB0_4
\tsubs\tx3, x3, #1
\tb.ne\t.LBB0_3
.LBB0_4:
\tret
"""


def test_only_innermost_loops_count() -> None:
    vector, scalar = inner_loops(NEST, ARM64)
    assert vector == Loop(
        lines=(
            "ldr q1, [x1], #16",
            "fmla v2.4s, v1.4s, v0.s[1]",
            "fmla v3.4s, v1.4s, v0.s[2]",
            "subs x9, x9, #1",
            "b.ne .LBB0_2",
        ),
        vector_fmas=2,
        scalar_fmas=0,
        loads=1,
        stores=0,
        stack=0,
        other=2,
    )
    assert (scalar.scalar_fmas, scalar.vector_fmas, scalar.other) == (1, 0, 3)


def test_hot_loops_have_at_least_half_of_the_most_multiply_adds() -> None:
    assert len(hot_loops(NEST, ARM64)) == 2
    more = NEST.replace("\tsubs\tx9, x9, #1\n", "\tfmla\tv5.4s, v1.4s, v0.s[3]\n\tsubs\tx9, x9, #1\n")
    (hot,) = hot_loops(more, ARM64)
    assert hot.vector_fmas == 3
    assert hot_loops("kernel:\n\tret\n", ARM64) == ()


def loop(*lines: str, jump: str) -> str:
    return ".LBB0_1:\n" + "".join(f"\t{line}\n" for line in lines) + f"\t{jump}\n"


@pytest.mark.parametrize(
    ("target", "code", "expected"),
    [
        (
            X86_64,
            loop(
                "vbroadcastss\t(%rdi,%rax,4), %ymm1",
                "vfmadd231ps\t(%rsi), %ymm1, %ymm2       # ymm2 = (ymm1 * mem) + ymm2",
                "vfmadd231ps\t%zmm3, %zmm4, %zmm5 {%k1}",
                "vfnmadd213ss\t%xmm3, %xmm4, %xmm5",
                "vmovups\t%ymm2, 32(%rsp)                # 32-byte Spill",
                "vmovups\t%zmm2, (%rdx) {%k1}",
                "leaq\t(%rdi,%rcx), %rbx",
                "cmpq\t%rax, 8(%rsp)",
                jump="jne\t.LBB0_1",
            ),
            {"vector_fmas": 2, "scalar_fmas": 1, "loads": 3, "stores": 2, "stack": 2, "other": 2},
        ),
        (
            ARM64,
            loop(
                "ld1r\t{ v1.4s }, [x1], #4",
                "ldp\tq2, q3, [sp, #32]                 // 32-byte Folded Reload",
                "fmla\tv0.4s, v2.4s, v1.4s",
                "fmla\ts0, s2, v1.s[0]",
                "stp\tq2, q3, [x2]",
                "prfm\tpldl1keep, [x1, #256]",
                jump="cbnz\tx9, .LBB0_1",
            ),
            {"vector_fmas": 1, "scalar_fmas": 1, "loads": 2, "stores": 1, "stack": 1, "other": 2},
        ),
        (
            ARMV7,
            loop(
                "vld1.32\t{d16, d17}, [r0]!",
                "vfma.f32\tq0, q8, q9",
                "vmla.f32\tq1, q8, d0[1]",
                "vfma.f32\ts0, s1, s2",
                "vstr\ts0, [sp, #4]                      @ 4-byte Spill",
                "subs\tr1, r1, #1",
                jump="bne\t.LBB0_1",
            ),
            {"vector_fmas": 2, "scalar_fmas": 1, "loads": 1, "stores": 1, "stack": 1, "other": 2},
        ),
        (
            RISCV64,
            loop(
                "vle32.v\tv2, (t0)",
                "flw\tfa1, 4(a7)",
                "vfmacc.vf\tv9, fa1, v2",
                "vfmacc.vv\tv9, v1, v2",
                "fmadd.s\tfa0, fa1, fa2, fa0",
                "vse32.v\tv9, (a1)",
                "fsw\tfa0, 8(sp)                         # 4-byte Folded Spill",
                jump="bne\tt0, s0, .LBB0_1",
            ),
            {"vector_fmas": 2, "scalar_fmas": 1, "loads": 2, "stores": 2, "stack": 1, "other": 1},
        ),
    ],
    ids=["x86-64", "arm64", "armv7", "riscv64"],
)
def test_kinds_of_instructions(target: Target, code: str, expected: dict[str, int]) -> None:
    (found,) = inner_loops(code, target)
    assert {name: getattr(found, name) for name in expected} == expected


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="hexagon"):
        inner_loops(NEST, replace(ARM64, llvm=LLVMTarget("hexagon-unknown-linux-gnu", "")))
