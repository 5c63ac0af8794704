"""Transposing in registers: any rows x lanes, and by shuffles alone."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deploycc.planning.codegen import sources_of
from deploycc.scheduling.written.transposing import transposed, vector
from deploycc.scheduling.written.writing import Writer
from deploycc.tvm_api import tirx
from deploycc.types import Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, load_kernels

SIZES = (1, 2, 4, 8, 16)


def matrix(rows: int, columns: int, name: str) -> Any:
    return tirx.decl_buffer([tirx.IntImm("int64", rows), tirx.IntImm("int64", columns)], "float32", name)


def kernel(rows: int, lanes: int) -> Any:
    source, result = matrix(rows, lanes, "source"), matrix(lanes, rows, "result")
    function = tirx.PrimFunc([source, result], tirx.Evaluate(0))
    writer = Writer(SimpleNamespace(function=function))  # type: ignore[arg-type]
    columns = transposed(writer, [vector(writer, source, row, 0, lanes=lanes) for row in range(rows)], lanes)
    for number in range(lanes):
        with writer.loop(rows, "lane", "vectorized") as lane:
            writer.store(result, writer.load(columns, number, lane), number, lane)
    return writer.finish()


def test_rows_become_columns() -> None:
    sizes = list(itertools.product(SIZES, SIZES))
    kernels = load_kernels({f"of_{rows}_by_{lanes}": kernel(rows, lanes) for rows, lanes in sizes})
    for rows, lanes in sizes:
        source = np.arange(rows * lanes, dtype=np.float32).reshape(rows, lanes)
        result = np.full((lanes, rows), np.nan, np.float32)
        kernels[f"of_{rows}_by_{lanes}"](source, result)
        np.testing.assert_array_equal(result, source.T)


@pytest.mark.parametrize("target", [X86_64, X86_64_V4, ARM64], ids=lambda target: target.name)
def test_no_element_is_moved_alone(target: Target) -> None:
    lanes = target.simd.lanes()
    (assembly,) = sources_of(kernel(lanes, lanes), target, ("asm",))
    body = assembly.split(".Lfunc_end0")[0]
    assert not re.search(r"\b(vmovss|vinsertps|vextractps|vpinsrd)\b|mov\s+v\d+\.s\[|ld1\s", body)
    memory = len(re.findall(r"\bvmovu\w+|\bld[rp]\b|\bst[rp]\b", body))
    assert memory <= 2 * lanes, "a vector was spilled"
