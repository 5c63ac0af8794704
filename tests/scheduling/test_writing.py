"""What a ``Writer`` makes of loops and buffers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from deploycc.scheduling.written.writing import Writer
from deploycc.tvm_api import structural_walk, tirx
from tests.planning.harness import load_kernels


def line(extent: int, name: str) -> Any:
    return tirx.decl_buffer([tirx.IntImm("int64", extent)], "float32", name)


def writer_of(*parameters: Any) -> Writer:
    function = tirx.PrimFunc(list(parameters), tirx.Evaluate(0))
    return Writer(SimpleNamespace(function=function))  # type: ignore[arg-type]


def loops(node: Any, kind: Any) -> list[Any]:
    found: list[Any] = []
    structural_walk(node, (tirx.For, found.append), order="pre")
    return [loop for loop in found if loop.kind == kind]


def allocated(node: Any) -> list[str]:
    found: list[str] = []
    structural_walk(node, (tirx.AllocBuffer, lambda one: found.append(one.buffer.name)), order="pre")
    return found


def test_neighbouring_vector_loops_become_one_and_keep_the_order_of_their_statements() -> None:
    source, result = line(8, "source"), line(8, "result")
    writer = writer_of(source, result)
    twice = writer.local("twice", (8,))
    with writer.loop(8, "lane", "vectorized") as lane:
        writer.store(twice, writer.load(source, lane) * 2.0, lane)
    with writer.loop(8, "lane", "vectorized") as lane:  # reads what other lanes have written
        writer.store(result, writer.load(twice, 7 - lane), lane)
    kernel = writer.finish()
    assert len(loops(kernel.body, tirx.ForKind.VECTORIZED)) == 1
    given, found = np.arange(8, dtype=np.float32), np.full(8, np.nan, np.float32)
    load_kernels({"reversed": kernel})["reversed"](given, found)
    np.testing.assert_array_equal(found, 2 * given[::-1])


def test_vector_loops_of_other_extents_or_with_something_between_stay_apart() -> None:
    source, result = line(14, "source"), line(14, "result")
    writer = writer_of(source, result)
    with writer.loop(4, "lane", "vectorized") as lane:
        writer.store(result, writer.load(source, lane), lane)
    writer.store(result, writer.load(source, 4), 4)
    with writer.loop(4, "lane", "vectorized") as lane:
        writer.store(result, writer.load(source, 5 + lane), 5 + lane)
    with writer.loop(2, "lane", "vectorized") as lane:
        writer.store(result, writer.load(source, 9 + lane), 9 + lane)
    with writer.loop(3, "element") as element:
        writer.store(result, writer.load(source, 11 + element), 11 + element)
    kernel = writer.finish()
    assert [int(loop.extent) for loop in loops(kernel.body, tirx.ForKind.VECTORIZED)] == [4, 4, 2]
    given, found = np.arange(14, dtype=np.float32), np.full(14, np.nan, np.float32)
    load_kernels({"copied": kernel})["copied"](given, found)
    np.testing.assert_array_equal(found, given)


def test_buffers_of_one_parallel_loop_lie_in_it_and_others_in_front() -> None:
    source, result = line(4, "source"), line(4, "result")
    writer = writer_of(source, result)
    shared, own = writer.scratch("shared", (4,)), writer.scratch("own", (1,))
    writer.scratch("unused", (4,))
    with writer.loop(4, "i", "parallel") as i:
        writer.store(own, writer.load(source, i), 0)
        writer.store(shared, writer.load(own, 0), i)
    with writer.loop(4, "i", "parallel") as i:
        writer.store(result, writer.load(shared, i), i)
    kernel = writer.finish()
    first, second = loops(kernel.body, tirx.ForKind.PARALLEL)
    assert (allocated(first), allocated(second)) == (["own"], [])
    assert sorted(allocated(kernel.body)) == ["own", "shared"]
