"""A recurrent layer on a GPU: a launch a step, a warp for each unit.

::

    launch: state = first state; count of each block = 0
    steps times, launch:
      block (direction, rows, units), warp (unit), lane:
        step = count; count = step + 1
        acc[row, gate] = sum over lanes' k of state[row, k] * packed[unit, k, gate]
        lane 0: state'[row, unit] = activations(projected[step, row, :, unit] + acc[row, :])

The weights of a step are read by all processors at once: from one processor's side alone they would take the
time of several launches.  Which step it is, a block counts itself, so that all launches are of one kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploycc.recurrent_cells import Cell
from deploycc.scheduling.written.device_threads import WARP, TypedWriter, combine_in_warp
from deploycc.scheduling.written.recurrent_kernel import Run, parameter_sizes
from deploycc.scheduling.written.recurrent_tiling import Product, Tiling
from deploycc.scheduling.written.writing import FusedKernel
from deploycc.tvm_api import tirx

_WARPS = 8
_ROWS = 4


def device_tiling(cell: Cell) -> Tiling:
    """The layer's products, a unit a tile: weights lie as [direction, unit, unit that is read, gate]."""
    groups: tuple[tuple[int, int], ...] = ((0, cell.gates),)
    if cell.kind == "GRU" and not cell.late_reset:
        groups = ((0, 2), (2, 1))  # the candidate's product has to wait for the reset gate
    rows = min(cell.batch, _ROWS)
    products = tuple(Product(first, gates, cell.hidden, 1, 1, rows) for first, gates in groups)
    return Tiling(products, 1, False)


def write_device_cell(function: Any, cell: Cell) -> Any:
    """The kernel for the GPU in the place of ``function``, the one for the processor by ``device_tiling``."""
    tiling = device_tiling(cell)
    names = list(parameter_sizes(cell, tiling))
    parameters = dict(zip(names, function.params, strict=True))
    writer = TypedWriter(FusedKernel(function, None, None, None, None, (), None))
    _DeviceRun(writer, cell, tiling, parameters).write()
    return writer.finish()


class _DeviceRun(Run):
    """Writes all directions' steps; a launch sets which direction, rows and unit a thread has."""

    writer: TypedWriter

    def __init__(
        self, writer: TypedWriter, cell: Cell, tiling: Tiling, parameters: Mapping[str, Any]
    ) -> None:
        self.writer, self.cell, self.tiling, self.parameters = writer, cell, tiling, dict(parameters)
        self.direction, self.first, self.rows = 0, 0, cell.batch
        self.plane = cell.directions * cell.batch * cell.hidden
        self.state = writer.scratch("state", (2 * self.plane,))
        self.memory = writer.scratch("memory", (2 * self.plane,)) if cell.kind == "LSTM" else None
        two = len(tiling.products) > 1
        self.update = writer.scratch("update", (self.plane,)) if two else None
        self.reset = writer.scratch("reset", (self.plane,)) if two else None
        self.unit_blocks = -(-cell.hidden // _WARPS)
        self.row_blocks = -(-cell.batch // tiling.products[0].rows)
        self.blocks = cell.directions * self.row_blocks * self.unit_blocks
        self.counts = [writer.scratch("count", (self.blocks,), "int32") for _ in tiling.products]

    def _own(self, row: Any) -> Any:
        return (self.direction * self.cell.batch + row) * self.cell.hidden

    def write(self) -> None:
        """All launches."""
        self._start()
        with self.writer.loop(self.cell.steps, "again"):
            for number in range(len(self.tiling.products)):
                self._launch(number)

    def _start(self) -> None:
        writer, cell = self.writer, self.cell
        total = max(self.plane, self.blocks)
        with writer.launch((-(-total // 256),), (256,)) as ((block,), (thread,)):
            place = block * 256 + thread
            with writer.when(place < self.blocks):
                for count in self.counts:
                    writer.store(count, tirx.const(0, "int32"), place)
            with writer.when(place < self.plane):
                row = place // cell.hidden
                self.direction = row // cell.batch
                self._begin(row % cell.batch, place % cell.hidden, 0)

    def _launch(self, number: int) -> None:
        """One of a step's products with what follows it."""
        writer, cell = self.writer, self.cell
        with writer.launch((self.blocks,), (_WARPS * WARP,)) as ((block,), (thread,)):
            counted = writer.local("counted", (1,), "int32")
            writer.store(counted, writer.load(self.counts[number], block), 0)
            writer.sync()
            with writer.when(thread == 0):
                writer.store(self.counts[number], writer.load(counted, 0) + 1, block)
            step = tirx.Cast("int64", writer.load(counted, 0))
            lane, unit = thread % WARP, block % self.unit_blocks * _WARPS + thread // WARP
            rest = block // self.unit_blocks
            first = rest % self.row_blocks * self.tiling.products[0].rows
            self.direction = rest // self.row_blocks
            if len(set(cell.activations)) == 1:
                self._step(number, step, unit, first, lane)
                return
            for direction in range(cell.directions):
                self.cell = replace(cell, activations=(cell.activations[direction],) * cell.directions)
                with writer.when(self.direction == direction):
                    self._step(number, step, unit, first, lane)
            self.cell = cell

    def _step(self, number: int, step: Any, unit: Any, first: Any, lane: Any) -> None:
        writer, cell, product = self.writer, self.cell, self.tiling.products[number]
        ragged = cell.hidden % _WARPS != 0
        inside = unit < cell.hidden
        # Lanes that exchange sums have to be there all.
        known = tirx.min(unit, tirx.IntImm("int64", cell.hidden - 1)) if ragged else unit
        rows = [first + r for r in range(product.rows)]
        if cell.batch % product.rows:
            rows = [tirx.min(row, tirx.IntImm("int64", cell.batch - 1)) for row in rows]
        now = step % 2 * self.plane
        sums = self._summed(number, now, known, rows, lane)
        for r, row in enumerate(rows):
            conditions = [lane == 0]
            if ragged:
                conditions.append(inside)
            if cell.batch % product.rows:
                conditions.append(first + r < cell.batch)
            with writer.when(tirx.all(*conditions)):
                self._open(sums, number, step, known, row, r)
                self._finish(number, step, now, known, row, sums, r)
                if number == len(self.tiling.products) - 1:
                    self._last(step, now, known, row)

    def _summed(self, number: int, now: Any, unit: Any, rows: Sequence[Any], lane: Any) -> Any:
        """A local buffer [row, gate] of the unit's products, in all lanes."""
        writer, cell, product = self.writer, self.cell, self.tiling.products[number]
        gates = product.gates
        parts = [writer.local("part", (1,)) for _ in range(len(rows) * gates)]
        for part in parts:
            writer.store(part, 0.0, 0)
        source, before = (self.state, now) if number == 0 else (self.reset, 0)
        weights = self.parameters[f"packed{number}"]
        loads = -(-cell.hidden // WARP)
        with writer.loop(loads, "k", "unrolled" if loads <= 8 else "serial") as number_of_load:
            k = number_of_load * WARP + lane
            with writer.when(k < cell.hidden) if cell.hidden % WARP else contextlib.nullcontext():
                held = writer.local("weights", (gates,))
                start = ((self.direction * cell.hidden + unit) * cell.hidden + k) * gates
                if gates in (2, 4):
                    vector = writer.vector(weights, gates, start)
                    writer.store_vector(held, gates, vector, 0)
                else:
                    for gate in range(gates):
                        writer.store(held, writer.load(weights, start + gate), gate)
                for r, row in enumerate(rows):
                    factor = writer.local("factor", (1,))
                    writer.store(factor, writer.load(source, before + self._own(row) + k), 0)
                    for gate in range(gates):
                        part = parts[r * gates + gate]
                        value = writer.load(factor, 0) * writer.load(held, gate)
                        writer.store(part, writer.load(part, 0) + value, 0)
        combine_in_warp(
            writer, parts, WARP, lambda own, other: [a + b for a, b in zip(own, other, strict=True)]
        )
        sums = writer.local("sums", (len(parts),))
        for place, part in enumerate(parts):
            writer.store(sums, writer.load(part, 0), place)
        return sums

    def _open(self, sums: Any, number: int, step: Any, unit: Any, row: Any, r: int) -> None:
        """Add to a row's products what came from its inputs."""
        writer, cell, product = self.writer, self.cell, self.tiling.products[number]
        columns = cell.directions * cell.gates * cell.hidden
        for gate in range(product.gates):
            place = r * product.gates + gate
            if number == 0 and cell.late_reset and gate == 2:
                if "bias" not in cell.operands:
                    continue
                value = writer.load(self.parameters["bias"], self.direction * cell.hidden + unit)
            else:
                column = (self.direction * cell.gates + product.first + gate) * cell.hidden
                value = writer.load(
                    self.parameters["projected"], self._element(row, step) * columns + column + unit
                )
            writer.store(sums, writer.load(sums, place) + value, place)

    def _last(self, step: Any, now: Any, unit: Any, row: Any) -> None:
        """The last states, behind the last step."""
        wanted = [
            (name, place)
            for name, place in (("hidden", self.state), ("cell", self.memory))
            if name in self.cell.results
        ]
        if not wanted:
            return
        with self.writer.when(step == self.cell.steps - 1):
            for name, place in wanted:
                value = self.writer.load(place, self.plane - now + self._own(row) + unit)
                self.writer.store(self.parameters[f"{name}_"], value, self._place(row) + unit)
