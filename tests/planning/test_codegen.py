"""Symbols, bytes and machine code of kernels: registers, rounding, workspace, float16."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploycc.planning import plan
from deploycc.planning.calling_convention import STACK_BUFFER, Workspace, to_c_functions, workspace
from deploycc.planning.codegen import name_kernels, source_of
from deploycc.planning.elf import without_half_conversions
from deploycc.tvm_api import llvm_target, relax, s_tir, te
from deploycc.types import Program, TensorInfo
from tests.planning.graphs import GRAPHS, F, lower_plainly, model, node, random_inputs, reference
from tests.planning.harness import ARM64, RISCV64, X86_64, X86_64_V4, host_can_run, load_kernels, run_plan

ROOT = Path(__file__).resolve().parents[2]


# ---- symbols and bytes ---------------------------------------------------------------------------


def test_symbols_carry_the_prefix_and_are_c_identifiers() -> None:
    result = plan(lower_plainly(GRAPHS["pooling"]()), X86_64, prefix="my_net")
    symbols = [c.symbol for c in result.calls]
    assert all(re.fullmatch(r"my_net_k\d{3}_[A-Za-z0-9_]+", s) for s in symbols)
    assert len(max(symbols, key=len)) < 80
    assert all(s.encode() + b"\0" in result.kernels for s in symbols)


def test_equal_functions_are_one_and_others_are_not() -> None:
    def scaled(factor: float, count: int = 8) -> Any:
        a = te.placeholder((count,), F, name=f"a{factor}")
        return te.create_prim_func([a, te.compute((count,), lambda i: a[i] * 2.0, name="b")])

    functions = [("first", scaled(1.0)), ("second", scaled(3.0)), ("longer", scaled(1.0, 9))]
    symbols, distinct = name_kernels(functions, "p")
    assert symbols == {"first": "p_k000_first", "second": "p_k000_first", "longer": "p_k001_longer"}
    assert [symbol for symbol, _ in distinct] == ["p_k000_first", "p_k001_longer"]


PRINT_HASHES = """
import hashlib
from deploycc.planning import plan
from tests.planning.graphs import GRAPHS, lower_plainly
from tests.planning.harness import ARM64, X86_64
for name, target in (("residual", X86_64), ("transcendental", ARM64)):
    result = plan(lower_plainly(GRAPHS[name]()), target)
    rest = repr((result.calls, result.arena_bytes)).encode()
    print(*(hashlib.sha256(data).hexdigest() for data in (result.kernels, result.weights, rest)))
"""


def test_two_processes_give_the_same_bytes(tmp_path: Path) -> None:
    def hashes(seed: str, folder: Path) -> str:
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-c", PRINT_HASHES],
            cwd=folder,
            env=environment,
            text=True,
            capture_output=True,
            check=True,
        ).stdout

    first = hashes("1", tmp_path / "a")
    assert len(first.splitlines()) == 2
    assert first == hashes("2", tmp_path / "b")


# ---- code generation -----------------------------------------------------------------------------


def elementwise(function: Any, *dtypes: str, count: int = 1024) -> Any:
    sources = [te.placeholder((count,), dtype, name=f"x{i}") for i, dtype in enumerate(dtypes)]
    return te.create_prim_func([*sources, te.compute((count,), lambda i: function(*[s[i] for s in sources]))])


def test_plain_loops_use_512_bit_registers_on_avx512_only() -> None:
    func = elementwise(lambda a, b, c: a * b + c, F, F, F)
    assert re.search(r"vfmadd\w+\s.*zmm", source_of(func, X86_64_V4, "asm"))
    narrow = source_of(func, X86_64, "asm")
    assert re.search(r"vfmadd\w+\s.*ymm", narrow)
    assert "zmm" not in narrow


def test_products_and_sums_are_fused_and_nothing_else_is_relaxed() -> None:
    assert re.search(
        r"fmla\s+v\d+\.4s", source_of(elementwise(lambda a, b, c: a * b + c, F, F, F), ARM64, "asm")
    )
    text = source_of(elementwise(lambda a, b, c: (a + b) + c - (a / b), F, F, F), X86_64, "ll")
    flags = re.compile(
        r"\b(?:fadd|fsub|fmul|fdiv|fcmp|select|call)\s+(?:fast|reassoc|nnan|ninf|nsz|arcp|afn)\b"
    )
    assert "fdiv" in text
    assert not flags.search(text)


@pytest.mark.parametrize("target", [X86_64, X86_64_V4], ids=lambda t: t.name)
def test_rounding_is_ieee(target: Any) -> None:
    if not host_can_run(target):
        pytest.skip("this processor has no AVX-512")
    generator = np.random.default_rng(0)
    a, b, c = (generator.standard_normal(1024).astype(F) * np.float32(10.0) ** k for k in (0, 3, -3))
    kernels = load_kernels(
        {
            "sum": elementwise(lambda a, b, c: (a + b) + c, F, F, F),
            "quotient": elementwise(lambda a, b, c: (a / b) / c, F, F, F),
            "nan": elementwise(lambda a, b, c: (a - b) * c, F, F, F),
        },
        target,
    )
    out = np.empty(1024, F)
    kernels["sum"](a, b, c, out)
    np.testing.assert_array_equal(out, (a + b) + c)
    kernels["quotient"](a, b, c, out)
    np.testing.assert_array_equal(out, (a / b) / c)
    infinite = np.full(1024, np.inf, F)
    kernels["nan"](infinite, infinite, c, out)
    assert np.isnan(out).all()


def scratch_kernel(count: int) -> Any:
    """b[i] = reversed(2 a[i]), through a buffer on the calling thread and one in a parallel loop."""
    a = te.placeholder((8, count), F, name="a")
    twice = te.compute((8, count), lambda i, j: a[i, j] * 2, name="twice")
    third = te.compute((8, count), lambda i, j: twice[i, count - 1 - j] + 1, name="third")
    result = te.compute((8, count), lambda i, j: third[7 - i, count - 1 - j] - 1, name="result")
    schedule = s_tir.Schedule(te.create_prim_func([a, result]))
    outer = schedule.get_loops(schedule.get_sblock("third"))[0]
    schedule.compute_at(schedule.get_sblock("twice"), outer)
    schedule.parallel(outer)
    return schedule.mod["main"]


@pytest.mark.parametrize("count", [64, 1024, 1025])
def test_workspace_is_exact(count: int) -> None:
    func = scratch_kernel(count)
    module = to_c_functions([("k", func)], llvm_target(X86_64))
    row = -(-count * 4 // 64) * 64
    on_stack = count * 4 <= STACK_BUFFER
    whole = 0 if 8 * count * 4 <= STACK_BUFFER else -(-8 * count * 4 // 64) * 64
    assert workspace(module["k"]) == Workspace(whole, 0 if on_stack else row)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((8, count), F))
    with builder.function("main", [x]):
        called = relax.call_tir(
            builder.add_func(func, "k"), relax.Tuple([x]), relax.TensorType((8, count), F)
        )
        builder.emit_func_output(builder.emit(called))
    info = TensorInfo("x", F, (8, count))
    result = plan(Program(builder.get(), (), (info,), (info,)), X86_64)
    data = np.random.default_rng(0).standard_normal((8, count)).astype(F)
    np.testing.assert_allclose(run_plan(result, [data])[0], data[::-1] * 2, rtol=1e-5, atol=1e-5)
    if not whole:
        return
    # the harness refuses more workspace than planned: one byte less must fail
    with pytest.raises(AssertionError, match="more workspace than the plan says"):
        run_plan(dataclasses.replace(result, workspace_bytes=result.workspace_bytes - 1), [data])


def test_accumulators_of_a_tile_stay_in_registers() -> None:
    rows, depth = 28, 64
    a = te.placeholder((rows, depth), F, name="a")
    b = te.placeholder((depth, 16), F, name="b")
    k = te.reduce_axis((0, depth), "k")
    product = te.compute((rows, 16), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="product")
    schedule = s_tir.Schedule(te.create_prim_func([a, b, product]))
    block = schedule.get_sblock("product")
    copy = schedule.cache_write(block, 0, "global")
    row, column, reduction = schedule.get_loops(block)
    schedule.reorder(reduction, row, column)
    for inner in (column, schedule.get_loops(copy)[1]):
        schedule.vectorize(inner)
    for unrolled in (row, schedule.get_loops(copy)[0]):
        schedule.unroll(unrolled)
    schedule.decompose_reduction(block, reduction)
    text = source_of(schedule.mod["main"], X86_64_V4, "asm")
    assert "AllocWorkspace" not in text
    # one multiply-add and one store of the result a row: nothing goes through memory in between
    assert len(re.findall(r"vfmadd\w+\s.*zmm", text)) == rows
    assert len(re.findall(r"vmov\w+\s+%zmm\d+, [^%]*\(", text)) == rows


def test_float16_conversions_come_from_the_toolchain(tmp_path: Path) -> None:
    proto = GRAPHS["half_precision"]()
    called = plan(lower_plainly(proto), RISCV64).kernels
    unused = plan(lower_plainly(GRAPHS["residual"]()), RISCV64).kernels

    def symbols(code: bytes) -> str:
        path = tmp_path / "kernels.o"
        path.write_bytes(code)
        return subprocess.run(
            ["readelf", "-sW", str(path)], capture_output=True, text=True, check=True
        ).stdout

    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    assert re.search(r"GLOBAL\s+DEFAULT\s+UND\s+__truncsfhf2", symbols(called))
    assert re.search(r"WEAK\s+DEFAULT\s+UND\s+__truncsfhf2", symbols(unused))
    assert without_half_conversions(called) == called
    with pytest.raises(ValueError, match="not a little-endian ELF object"):
        without_half_conversions(b"MZ" + bytes(100))


def test_half_precision_is_what_was_asked_for() -> None:
    """A float16 matrix product is added up in float16: off by 1e-3 and more of ONNX Runtime's float32."""
    weight = np.random.default_rng(1).standard_normal((256, 8)).astype(np.float16)
    proto = model(
        [node("MatMul", "x w", "y")], {"x": ("float16", (4, 256))}, {"y": ("float16", (4, 8))}, {"w": weight}
    )
    (x,) = random_inputs(proto)
    total = np.zeros((4, 8), np.float16)
    for k in range(256):
        total = total + x[:, k : k + 1] * weight[k]
    np.testing.assert_array_equal(run_plan(plan(lower_plainly(proto), X86_64), [x])[0], total)
    scale = np.abs(total).max()
    assert 1e-4 < np.abs(total.astype(F) - reference(proto, [x])[0]).max() / scale < 1e-2
