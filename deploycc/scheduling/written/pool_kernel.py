"""What kernels of pools have in common, whatever the layout (``schedules/pool.py`` has the loops)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deploycc.scheduling.primitives import PARALLEL_OPERATIONS
from deploycc.scheduling.written.pixels import Axis
from deploycc.scheduling.written.planes import cut_axis
from deploycc.scheduling.written.pooling import Pool
from deploycc.scheduling.written.writing import Index, Writer, row_vectors
from deploycc.tvm_api import tirx
from deploycc.types import Target


class PoolKernel:
    """What the kernels of both layouts have in common: divisors, gathering, and which taps are read."""

    def __init__(self, writer: Writer, pool: Pool, target: Target) -> None:
        self.writer, self.pool, self.target = writer, pool, target
        self.lanes = target.simd.lanes()
        self.tables = [self._table("rows", pool.rows), self._table("columns", pool.columns)]

    def _table(self, name: str, divisors: Sequence[float]) -> Any | None:
        """A buffer for the reciprocals of ``divisors``, ``None`` where all are one number."""
        return self.writer.scratch(f"{name}_scale", (len(divisors),)) if len(set(divisors)) > 1 else None

    def kind(self) -> str:
        """Whether the work is worth threads."""
        pool = self.pool
        operations = pool.batch * pool.channels * pool.across.out * pool.along.out
        operations *= pool.across.taps + pool.along.taps
        return "parallel" if operations // self.lanes >= PARALLEL_OPERATIONS else "serial"

    def fill(self, buffer: Any, begin: int, values: Sequence[float]) -> None:
        """Constants from ``begin`` on, runs of one number by loops over vectors."""
        writer, first = self.writer, 0
        while first < len(values):
            last = first
            while last < len(values) and values[last] == values[first]:
                last += 1
            for start, lanes, count in row_vectors(last - first, self.lanes):
                with writer.loop(count, "i") as i, writer.loop(lanes, "lane", "vectorized") as lane:
                    writer.store(buffer, values[first], begin + first + start + i * lanes + lane)
            first = last

    def fill_tables(self) -> None:
        """Reciprocals of how many elements are counted."""
        for table, divisors in zip(self.tables, (self.pool.rows, self.pool.columns), strict=True):
            if table is not None:
                self.fill(table, 0, [1 / divisor for divisor in divisors])

    def scaled(self, value: Any, y: Index, x: Index) -> Any:
        """The average of the window at (y, x) whose sum or maximum is ``value``."""
        pool, constant = self.pool, 1.0
        for table, divisors, place in zip(self.tables, (pool.rows, pool.columns), (y, x), strict=True):
            if table is not None:
                value = value * self.writer.load(table, place)
            elif divisors:
                constant /= divisors[0]
        return value if constant == 1.0 else value * tirx.const(constant, "float32")

    def gather(self, buffer: Any, value: Any, begun: bool, *indices: Index) -> None:
        """``value`` into an element of ``buffer``, which has one already if ``begun``."""
        if begun:
            value = self.pool.gather(self.writer.load(buffer, *indices), value)
        self.writer.store(buffer, value, *indices)

    def useful(self, axis: Axis, start: Index) -> tuple[Any, Any]:
        """The taps that read the image and not only padding, of the window at output ``start``."""
        first, apart = start * axis.stride - axis.before, axis.dilation

        def tap(position: Any) -> Any:
            return tirx.max(0, tirx.min(axis.taps, tirx.floordiv(position - first + (apart - 1), apart)))

        lowest = tap(tirx.IntImm("int64", 0))
        return lowest, tirx.max(lowest, tap(tirx.IntImm("int64", axis.extent)))

    def reads(self, axis: Axis, start: Index, first: int, size: int) -> dict[int, list[int]]:
        """{position after the first output's: [outputs]} of ``size`` outputs from ``start + first`` on.

        What lies in the padding is left out where ``start`` is a number; where it is not, nothing does.
        """
        found: dict[int, list[int]] = {}
        for output in range(size):
            for tap in range(axis.taps):
                place = (first + output) * axis.stride + tap * axis.dilation - axis.before
                if not isinstance(start, int) or 0 <= start * axis.stride + place < axis.extent:
                    found.setdefault(place, []).append(output)
        return dict(sorted(found.items()))

    def tiles(self, axis: Axis, size: int) -> list[tuple[int, Callable[[Any], Any]]]:
        """Loops over tiles of ``size`` outputs: (how many, start of each); numbers where padding is read."""

        def start_of(start: int, step: int, count: int) -> Callable[[Any], Any]:
            return lambda i: start + i * step if count > 1 else start

        return [(run[2], start_of(*run)) for run in cut_axis(axis, size, 0).runs]
