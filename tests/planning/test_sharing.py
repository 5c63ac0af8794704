"""Which kernels may write over an operand: proofs against kernels run with their memory overlapping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploycc.planning.calling_convention import to_loops
from deploycc.planning.sharing import Sharing, find_sharing, shared
from deploycc.tvm_api import llvm_target, s_tir, te, tirx, tvm
from tests.planning.harness import X86_64, load_kernels

F = "float32"


def lowered(func: Any) -> Any:
    return to_loops([("kernel", func)], llvm_target(X86_64))["kernel"]


def sharing(func: Any, operand: int = 0) -> Sharing | None:
    return find_sharing(lowered(func), operand, len(func.params) - 1, 4)


def kernel(tensors: list[Any], result: Any) -> Any:
    return te.create_prim_func([*tensors, result]).with_attr("tirx.noalias", True)


def elementwise(n: int = 1000) -> Any:
    a, b = te.placeholder((n,), F, "a"), te.placeholder((n,), F, "b")
    return kernel([a, b], te.compute((n,), lambda i: a[i] * te.const(2, F) + b[i]))


def pool(rows: int = 17) -> Any:
    """The largest of each two by two pixels, rows first, as one that goes through memory in order."""
    a = te.placeholder((2 * rows, 32), F, "a")
    best = te.compute(
        (rows, 16),
        lambda y, x: tirx.max(
            tirx.max(a[2 * y, 2 * x], a[2 * y, 2 * x + 1]),
            tirx.max(a[2 * y + 1, 2 * x], a[2 * y + 1, 2 * x + 1]),
        ),
    )
    return kernel([a], best)


def padded(n: int = 40) -> Any:
    """Each row of 24 becomes one of 32 with eight zeros before it: the result outgrows the operand."""
    a = te.placeholder((n, 24), F, "a")
    wide = te.compute((n, 32), lambda y, x: tirx.if_then_else(x < 8, te.const(0, F), a[y, x - 8]))
    return kernel([a], wide)


def transposed(n: int = 24) -> Any:
    a = te.placeholder((n, n), F, "a")
    return kernel([a], te.compute((n, n), lambda y, x: a[x, y] + te.const(1, F)))


def backwards(n: int = 512) -> Any:
    a = te.placeholder((n,), F, "a")
    return kernel([a], te.compute((n,), lambda i: a[n - 1 - i]))


def summed(n: int = 33) -> Any:
    """A reduction whose result is the accumulator: it is written before the operand is read again."""
    a, b = te.placeholder((n, n), F, "a"), te.placeholder((n,), F, "b")
    k = te.reduce_axis((0, n), "k")
    return kernel([a, b], te.compute((n,), lambda i: te.sum(a[i, k] * b[k], k)))


def parallel(func: Any) -> Any:
    schedule = s_tir.Schedule(tvm.IRModule({"main": func}))
    schedule.parallel(schedule.get_loops(schedule.get_sblock("compute"))[0])
    return schedule.mod["main"]


def test_an_elementwise_kernel_works_in_place() -> None:
    assert sharing(elementwise(), 0) == Sharing(0, serial=False)
    assert sharing(elementwise(), 1) == Sharing(0, serial=False)


def test_rounds_of_a_parallel_loop_must_not_meet() -> None:
    assert sharing(parallel(elementwise())) == Sharing(0, serial=False)
    assert sharing(pool()) == Sharing(0, serial=False)
    assert sharing(parallel(pool())) == Sharing(0, serial=True)


def test_a_result_that_outgrows_its_operand_starts_before_it() -> None:
    found = sharing(padded())
    assert found is not None
    assert 40 * 8 * 4 <= found.distance <= 40 * 8 * 4 + 128
    assert found.distance % 64 == 0


def test_what_is_read_in_another_order_shares_nothing_of_use() -> None:
    whole = {"transposed": 24 * 24 * 4, "backwards": 512 * 4, "summed": 33 * 4}
    for build in (transposed, backwards, summed):
        found = sharing(build(), 0 if build is not summed else 1)
        # At most the last few elements: what is left of the operand by then.
        assert found is None or found.distance >= whole[build.__name__] // 2, build.__name__


def test_other_dtypes_and_unknown_indices_are_refused() -> None:
    a = te.placeholder((64,), F, "a")
    assert sharing(kernel([a], te.compute((64,), lambda i: a[i].astype("int32")))) is None
    index = te.placeholder((64,), "int32", "index")
    assert sharing(kernel([a, index], te.compute((64,), lambda i: a[index[i]]))) is None


@pytest.mark.parametrize("build", [elementwise, pool, padded])
def test_the_kernel_computes_the_same_over_its_operand(build: Any) -> None:
    """With a sentinel in the operand's own pointer: nobody reads there."""
    plain = build()
    found = sharing(plain)
    assert found is not None
    operands = len(plain.params) - 1
    functions = {"plain": plain, "over": shared(plain, 0, operands, found, 4)}
    kernels = load_kernels(functions)
    shapes = [tuple(int(extent) for extent in buffer.ty.shape) for buffer in plain.params]
    generator = np.random.default_rng()
    inputs = [generator.standard_normal(shape, np.float32) for shape in shapes[:-1]]
    expected = np.empty(shapes[-1], np.float32)
    kernels["plain"](*inputs, expected)
    count, size = int(np.prod(shapes[0])), int(np.prod(shapes[-1]))
    memory = np.full(max(size, found.distance // 4 + count), np.nan, np.float32)
    memory[found.distance // 4 :][:count] = inputs[0].ravel()
    result = memory[:size]
    kernels["over"](np.full(shapes[0], np.nan, np.float32), *inputs[1:], result)
    assert result.tobytes() == expected.tobytes()


def test_one_element_nearer_would_be_wrong() -> None:
    """The distance is the least: a kernel made for one unit less computes something else."""
    plain = padded()
    found = sharing(plain)
    assert found is not None
    nearer = Sharing(found.distance - 64, serial=False)
    kernels = load_kernels({"plain": plain, "over": shared(plain, 0, 1, nearer, 4)})
    source = np.random.default_rng().standard_normal((40, 24), np.float32)
    expected = np.empty((40, 32), np.float32)
    kernels["plain"](source, expected)
    memory = np.full(2 * expected.size, np.nan, np.float32)
    memory[nearer.distance // 4 :][: source.size] = source.ravel()
    kernels["over"](source, memory[: expected.size])
    assert memory[: expected.size].tobytes() != expected.tobytes()
