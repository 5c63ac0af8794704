"""PTX text that NVRTC does not write, and what is refused."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from deploycc.emulating import EmulatedModule, build_module, translate
from deploycc.emulating.syntax import parse, split_operands
from deploycc.resources import cache_directory
from deploycc.types import DeployccError

HEAD = ".version 8.4\n.target sm_80\n.address_size 64\n"


def kernel(body: str, declarations: str = "") -> str:
    return f"""{HEAD}{declarations}
.visible .entry k(.param .u64 k_param_0)
{{
	.reg .pred %p<8>;
	.reg .b16 %h<8>;
	.reg .b32 %r<40>;
	.reg .f32 %f<8>;
	.reg .b64 %rd<16>;
	.reg .f64 %d<4>;
	ld.param.u64 %rd0, [k_param_0];
	mov.u32 %r0, %tid.x;
	mul.wide.u32 %rd1, %r0, 4;
	add.s64 %rd2, %rd0, %rd1;
{body}
	ret;
}}
"""


def run(body: str, threads: int = 1, words: int = 16, declarations: str = "") -> np.ndarray:
    y = np.zeros(words, np.uint32)
    module = EmulatedModule(build_module(kernel(body, declarations)))
    module.launch("k", (1,), (threads,), 0, [y])
    return y


def test_instructions_that_compilers_rarely_write() -> None:
    """One line of PTX a result: its instruction, and what the PTX ISA says of it."""
    cases = [
        ("bfe.u32 %r1, 0xABCD1234, 8, 12;", 0xD12),
        ("bfe.s32 %r1, 0xABCD1234, 8, 8;", 0x12),
        ("bfe.s32 %r1, 0xABCD9234, 8, 8;", 0xFFFFFF92),
        ("bfe.s32 %r1, 0x80000000, 28, 20;", 0xFFFFFFF8),
        ("bfe.u32 %r1, 0xABCD1234, 8, 0;", 0),
        ("bfi.b32 %r1, 0xF, 0xABCD0000, 4, 8;", 0xABCD00F0),
        ("bfi.b32 %r1, 0xF, 0xABCD0000, 40, 8;", 0xABCD0000),
        ("lop3.b32 %r1, 0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA, 0x96;", 0xF0F0F0F0 ^ 0xCCCCCCCC ^ 0xAAAAAAAA),
        ("prmt.b32 %r1, 0x33221180, 0x77665544, 0x80F4;", 0x00000000 | 0xFF << 24 | 0x80 << 16 | 0x44),
        ("shl.b32 %r1, 1, 32;", 0),
        ("shr.s32 %r1, 0x80000000, 40;", 0xFFFFFFFF),
        ("shr.u32 %r1, 0x80000000, 40;", 0),
        ("bfind.u32 %r1, 0x00010000;", 16),
        ("bfind.shiftamt.u32 %r1, 0x00010000;", 15),
        ("bfind.s32 %r1, -2;", 0),
        ("slct.u32.s32 %r1, 5, 7, -1;", 7),
        ("sad.u32 %r1, 3, 9, 100;", 106),
        ("mad.hi.s32 %r1, 0x40000000, 8, 3;", 5),
        ("add.sat.s32 %r1, 0x7fffffff, 5;", 0x7FFFFFFF),
        ("cvt.sat.s8.s32 %r1, 300;", 127),
        ("cvt.s32.s8 %r1, 0x1FF;", 0xFFFFFFFF),
        ("cvt.sat.u8.s32 %r1, -4;", 0),
        ("cvt.pack.sat.s8.s32.b32 %r1, 300, -300, 0x1234;", 0x12347F80),
        ("cvt.rni.s32.f32 %r1, 0f40200000;", 2),
        ("cvt.rpi.s32.f32 %r1, 0f40200000;", 3),
        ("cvt.rzi.s32.f32 %r1, 0f7FC00000;", 0),
        ("cvt.rzi.u32.f32 %r1, 0fBF800000;", 0),
        ("cvt.rzi.s32.f32 %r1, 0f7F800000;", 0x7FFFFFFF),
        ("cvt.rzi.s32.f64 %r1, 0d7FF8000000000000;", 0x80000000),
        ("cvt.rz.f32.s32 %f1, 16777219; mov.b32 %r1, %f1;", 0x4B800001),
        ("add.rz.f32 %f1, 0f3F800000, 0f33FFFFFF; mov.b32 %r1, %f1;", 0x3F800000),
        ("add.rp.f32 %f1, 0f3F800000, 0f00000001; mov.b32 %r1, %f1;", 0x3F800001),
        ("fma.rm.f32 %f1, 0f3F800000, 0f3F800000, 0f80000001; mov.b32 %r1, %f1;", 0x3F7FFFFF),
        ("mul.ftz.f32 %f1, 0f00400000, 0f40000000; mov.b32 %r1, %f1;", 0),
        ("mul.f32 %f1, 0f00400000, 0f40000000; mov.b32 %r1, %f1;", 0x00800000),
        ("min.f32 %f1, 0f7FC00000, 0f40000000; mov.b32 %r1, %f1;", 0x40000000),
        ("min.NaN.f32 %f1, 0f7FC00000, 0f40000000; mov.b32 %r1, %f1;", 0x7FFFFFFF),
        ("min.f32 %f1, 0f00000000, 0f80000000; mov.b32 %r1, %f1;", 0x80000000),
        ("max.f32 %f1, 0f80000000, 0f00000000; mov.b32 %r1, %f1;", 0),
        ("copysign.f32 %f1, 0f80000000, 0f3F800000; mov.b32 %r1, %f1;", 0xBF800000),
        ("testp.notanumber.f32 %p1, 0f7FC00000; selp.u32 %r1, 1, 2, %p1;", 1),
        ("setp.ltu.f32 %p1, 0f7FC00000, 0f3F800000; selp.u32 %r1, 1, 2, %p1;", 1),
        ("setp.ne.f32 %p1, 0f7FC00000, 0f3F800000; selp.u32 %r1, 1, 2, %p1;", 2),
        ("setp.lt.s32 %p2, 1, 2; setp.lt.and.s32 %p1|%p3, 5, 4, %p2; selp.u32 %r1, 1, 2, %p3;", 1),
        ("setp.lt.s32 %p2, 1, 2; setp.eq.or.u32 %p1, 5, 4, !%p2; selp.u32 %r1, 1, 2, %p1;", 2),
        ("setp.lt.u32 %p1, 1, -1; @!%p1 bra OUT; mov.u32 %r1, 9; OUT:", 9),
        ("set.lt.u32.f32 %r1, 0f3F800000, 0f40000000;", 0xFFFFFFFF),
        ("mov.b64 %rd5, 0x1122334455667788; mov.b64 {%r2,%r1}, %rd5;", 0x11223344),
        ("mov.b32 {%h1,%h2}, 0x12345678; mov.b32 %r1, {%h2,%h1};", 0x56781234),
        ("mov.b64 %rd5, {1, 2}; shr.u64 %rd5, %rd5, 31; cvt.u32.u64 %r1, %rd5;", 4),
        ("{ .reg .b32 %r1x; mov.b32 %r1x, 3; mov.b32 %r1, %r1x; }", 3),
        ("cvt.rna.tf32.f32 %r1, 0f3F801000;", 0x3F802000),
        ("cvt.rn.bf16x2.f32 %r1, 0f3F800000, 0f40000000;", 0x3F804000),
        ("cvt.rn.relu.f16x2.f32 %r1, 0fBF800000, 0f40000000;", 0x00004000),
        ("rcp.approx.ftz.f32 %f1, 0f40000000; mov.b32 %r1, %f1;", 0x3F000000),
        ("ex2.approx.f32 %f1, 0f40400000; mov.b32 %r1, %f1;", 0x41000000),
        ("lg2.approx.f32 %f1, 0f41000000; mov.b32 %r1, %f1;", 0x40400000),
        ("dp4a.s32.s32 %r1, 0x01FF0203, 0x01010101, 10;", 15),
        ("dp2a.lo.s32.u32 %r1, 0xFFFF0003, 0x0102FF05, 10;", (10 + 3 * 5 - 255) % 2**32),
        ("dp2a.hi.u32.s32 %r1, 0xFFFF0003, 0x01FF0405, 10;", 10 - 3 + 65535),
        ("mul.lo.u16 %h1, 300, 300; cvt.u32.u16 %r1, %h1;", 90000 % 65536),
        ("mov.u32 %r1, WARP_SZ;", 32),
        ("mov.u32 %r1, 017;", 15),
    ]
    body = "".join(f"\t{text}\n\tst.global.u32 [%rd0+{4 * n}], %r1;\n" for n, (text, _) in enumerate(cases))
    got = run(body, words=len(cases))
    for value, (text, want) in zip(got, cases, strict=True):
        assert f"{value:#010x}" == f"{want:#010x}", text


def test_variables_of_the_module() -> None:
    declarations = """
.const .align 4 .f32 half[2] = {0f3F000000, 0f40000000};
.global .align 8 .u64 wide = 5;
.global .align 2 .b8 bytes[4] = {1, 2, 255};
.global .s32 minus[2] = {-1, 7};
"""
    got = run(
        """
	ld.const.u32 %r1, [half+4]; st.global.u32 [%rd0], %r1;
	ld.global.u64 %rd4, [wide]; st.global.u32 [%rd0+4], %rd4;
	mov.u64 %rd5, bytes; ld.global.u8 %r1, [%rd5+2]; st.global.u32 [%rd0+8], %r1;
	ld.global.s8 %r1, [%rd5+2]; st.global.u32 [%rd0+12], %r1;
	ld.global.v2.s32 {%r1,%r2}, [minus]; add.s32 %r1, %r1, %r2; st.global.u32 [%rd0+16], %r1;
	ld.global.u8 %r1, [bytes+3]; st.global.u32 [%rd0+20], %r1;
""",
        declarations=declarations,
    )
    assert got[:6].tolist() == [0x40000000, 5, 255, 2**32 - 1, 6, 0]


def test_parsing() -> None:
    text = kernel("\tmov.u32 %r1, 1; // ; {\n/* } \n */ L1: bra.uni L1;", ".global .b8 s[3] = {1,2,3};")
    module = parse(text)
    assert module.target == "sm_80"
    (entry,) = module.entries
    assert (entry.name, entry.max_threads, [p.name for p in entry.parameters]) == ("k", 0, ["k_param_0"])
    newer = text.replace(".param .u64 k_param_0", ".param .u64 .ptr .global .align 1 k_param_0")
    assert parse(newer).entries[0].parameters == entry.parameters
    assert split_operands("{%f1, %f2}, [%rd1+4], %p1|%p2") == ("{%f1,%f2}", "[%rd1+4]", "%p1|%p2")


def refused(text: str) -> str:
    with pytest.raises(DeployccError) as caught:
        translate(text)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "DC880"
    return f"{diagnostic.message} | {diagnostic.got}"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("frobnicate.b32 %r1, %r2;", "the instruction frobnicate.b32"),
        ("add.sat.u32 %r1, %r2, %r3;", "add.sat.u32"),
        ("add.s32 %r1, %r2;", "add.s32"),
        ("add.s32 %r1, %r2, %r99;", "an operand that is not known: %r99"),
        ("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d0,%d1}, {%d2}, {%d3}, {%d0,%d1};", "m8n8k4"),
        (
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1}, {%r1}, {%r2}, {%f1};",
            "that many registers",
        ),
        ("cp.async.bulk.commit_group;", "cp.async.bulk"),
        ("cp.async.cg.shared.global [%rd1], [%rd2], 4;", "cp.async.cg of other than 16 bytes"),
        ("call.uni (%r1), vprintf, (%rd1, %rd2);", "a call of vprintf"),
        ("mov.f32 %r1, %f1, %f2;", "mov.f32"),
        ("mov.f64 %r1, %d1;", "a f64 into a register of type b32"),
        ("ld.shared.u32 %r1, [k_param_0];", "a variable of space param"),
        ("ld.shared.u32 %r1, %r2;", "not an address"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r1}, [%rd1], %r2;", "wmma.load"),
        ("tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [t, {%f1,%f2}];", "tex.2d"),
        (".reg .b128 %q<2>;", "registers of that form"),
        ("setp.lt.s32 %r1, %r2, %r3;", "pred into a register of type b32"),
        ("selp.u32 %r1, %r2, %r3, %r4;", "not a predicate"),
        ("mov.u32 %nothing, 1;", "a result that is no register"),
        ("mov.u32 %r1, %pm0;", "an operand that is not known"),
        ("= 5;", "a statement of that form"),
        (".local .texref x;", "a declaration of that form"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(statement: str, told: str) -> None:
    text = refused(kernel(f"\t{statement}"))
    assert told in text
    assert "line 17" in text


def test_text_that_ends_early_is_refused() -> None:
    text = kernel("\tmov.u32 %r1, 1;")
    assert "ends inside a function" in refused(text[: text.index("ret;")])
    assert "without its end" in refused(text[: text.index("ret;") + 3])


def test_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(DeployccError) as caught:
        build_module(kernel(""))
    assert caught.value.diagnostics[0].code == "DC883"


def test_a_module_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zig").symlink_to(cache_directory() / "zig")  # else the C library's stubs are made anew
    monkeypatch.setenv("DEPLOYCC_CACHE_DIR", str(tmp_path))
    first = build_module(kernel("\tmov.u32 %r1, 1;"))
    time = first.stat().st_mtime_ns
    assert build_module(kernel("\tmov.u32 %r1, 1;")).stat().st_mtime_ns == time
    assert build_module(kernel("\tmov.u32 %r1, 2;")) != first
    left = [path.name for path in first.parent.iterdir() if path.suffix != ".so"]
    assert all(name.startswith("runtime-") for name in left), left
