"""Writing a ``RowKernel``: along contiguous rows, or down columns a vector wide."""

from __future__ import annotations

from typing import Any, cast

from deploycc.scheduling.primitives import bits_of
from deploycc.scheduling.written.along_rows import AlongRows
from deploycc.scheduling.written.down_columns import DownColumns
from deploycc.scheduling.written.rows import RowKernel
from deploycc.scheduling.written.writing import Writer
from deploycc.types import Target


def write_rows(kernel: RowKernel, target: Target, vectors: int, items: int) -> Any:
    """The kernel as written code, ``items`` rows (or vectors of columns) side by side, ``vectors`` a step.

    A step that is needed again along a row is kept in the result's own memory where the last one allows it.
    """
    bits = max(bits_of(str(step.buffer.ty.dtype)) for step in kernel.steps)
    lanes = target.simd.lanes(bits)
    while lanes > kernel.extents[-1]:
        lanes //= 2
    writer = Writer(cast(Any, kernel))  # which asks it for its function, no more
    write = AlongRows if kernel.along else DownColumns
    write(writer, kernel, lanes, vectors, items).write()
    return writer.finish()
