"""Transposing in registers: rows of a tile become its columns by shuffles of pairs of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploycc.scheduling.written.writing import Index, Writer
from deploycc.tvm_api import tirx


def vector(writer: Writer, buffer: Any, *indices: Index, lanes: int) -> Any:
    """``lanes`` elements of the last axis of ``buffer`` from ``indices`` on, as one value."""
    if lanes == 1:
        return writer.load(buffer, *indices)
    first = indices[-1] if not isinstance(indices[-1], int) else tirx.IntImm("int64", indices[-1])
    return writer.load(buffer, *indices[:-1], tirx.Ramp(first, tirx.IntImm("int64", 1), lanes))


def transposed(writer: Writer, rows: Sequence[Any], lanes: int, dtype: str = "float32") -> Any:
    """A local buffer of [lanes, rows] with the elements of ``rows``, vectors of ``lanes`` each.

    Both counts must be powers of two.  It takes log2 steps, each of which exchanges blocks of twice the size
    between pairs of vectors; LLVM has an instruction or two for every such exchange on every machine.
    """
    count = len(rows)
    assert count & (count - 1) == 0
    assert lanes & (lanes - 1) == 0
    square = min(count, lanes)
    vectors = list(rows)
    size = 1
    while size < square:
        vectors = _held(writer, _exchanged(vectors, size, lanes), lanes, dtype)
        size *= 2
    columns = writer.local("columns", (lanes, count), dtype)
    for lane in range(lanes):
        block, row = divmod(lane, square)
        parts = vectors[row::square]
        if lanes > square:  # a vector holds what stands in several columns
            value = _shuffled(parts, range(block * square, (block + 1) * square))
        else:
            value = _shuffled(parts, range(count)) if len(parts) > 1 else parts[0]
        _store(writer, columns, value, lane, count)
    return columns


def _exchanged(vectors: list[Any], size: int, lanes: int) -> list[Any]:
    """In every pair of vectors ``size`` apart: the right block of the one for the left block of the other."""
    result = list(vectors)
    for number, one in enumerate(vectors):
        if number & size:
            continue
        other = vectors[number | size]
        result[number] = _shuffled(
            [one, other], [lane if not lane & size else lanes + lane - size for lane in range(lanes)]
        )
        result[number | size] = _shuffled(
            [one, other], [lane + size if not lane & size else lanes + lane for lane in range(lanes)]
        )
    return result


def _shuffled(vectors: Sequence[Any], places: Sequence[int]) -> Any:
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", place) for place in places])


def _held(writer: Writer, values: Sequence[Any], lanes: int, dtype: str) -> list[Any]:
    """``values`` in a local buffer: an expression used twice would be computed twice."""
    buffer = writer.local("step", (len(values), lanes), dtype)
    for number, value in enumerate(values):
        _store(writer, buffer, value, number, lanes)
    return [vector(writer, buffer, number, 0, lanes=lanes) for number in range(len(values))]


def _store(writer: Writer, buffer: Any, value: Any, row: int, lanes: int) -> None:
    if lanes == 1:
        writer.store(buffer, value, row, 0)
    else:
        writer.store(buffer, value, row, tirx.Ramp(tirx.IntImm("int64", 0), tirx.IntImm("int64", 1), lanes))
