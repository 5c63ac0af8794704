"""The kernel of a recurrent layer: all its steps, the state in memory that stays in the cache.

::

    for direction, part of the batch (parallel):
        for step:
            for tile of units: for tile of rows:
                acc[row, gate, unit] = projected[step, row, gate, unit]
                for k: acc[row, gate, unit] += state[row, k] * packed[tile, k, gate, unit]
                state'[row, unit] = activations(acc[row, :, unit])

The state has two places that take turns: tiles may overlap, and all of a step's products read the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from deploycc.recurrent_cells import Activation, Cell
from deploycc.scheduling.written.recurrent_tiling import Product, Tiling
from deploycc.scheduling.written.writing import FusedKernel, Index, Writer, row_vectors
from deploycc.tvm_api import s_tir, tirx

Vector = Callable[[Any], Any]
"""One element of a vector by its lane."""


def write_cell(cell: Cell, tiling: Tiling, dtypes: dict[str, str], attributes: dict[str, Any]) -> Any:
    """A PrimFunc of the layer's operands (``dtypes`` by name, weights packed) and its used results."""
    sizes = parameter_sizes(cell, tiling)
    parameters = {
        name: tirx.decl_buffer([tirx.IntImm("int64", sizes[name])], dtypes.get(name, "float32"), name)
        for name in sizes
    }
    function = tirx.PrimFunc(list(parameters.values()), tirx.Evaluate(tirx.IntImm("int32", 0)))
    writer = Writer(FusedKernel(function.with_attrs(attributes), None, None, None, None, (), None))
    directions = cell.directions
    kind = "parallel" if tiling.parallel else "serial"
    with writer.loop(directions * tiling.parts, "task", kind) as task:
        if tiling.parts == 1:
            direction, first, rows = task, 0, cell.batch
        else:
            direction, part = task // tiling.parts, task % tiling.parts
            first = part * cell.batch // tiling.parts
            rows = (part + 1) * cell.batch // tiling.parts - first
        if len(set(cell.activations)) == 1:
            Run(writer, cell, tiling, parameters, direction, first, rows).write()
        else:
            for number in range(directions):
                one = replace(cell, activations=(cell.activations[number],) * directions)
                with writer.when(direction == number):
                    Run(writer, one, tiling, parameters, direction, first, rows).write()
    return _opaque(writer.finish(), cell.kind.lower())


def parameter_sizes(cell: Cell, tiling: Tiling) -> dict[str, int]:
    """Elements of each parameter, in order; results have an underscore behind their names."""
    directions, batch, hidden = cell.directions, cell.batch, cell.hidden
    sizes = {"projected": cell.steps * batch * directions * cell.gates * hidden}
    for number, product in enumerate(tiling.products):
        sizes[f"packed{number}"] = directions * product.tiles * hidden * product.gates * product.width
    known = {
        "bias": directions * hidden,
        "peepholes": directions * 3 * hidden,
        "hidden": directions * batch * hidden,
        "cell": directions * batch * hidden,
        "lengths": batch,
    }
    sizes |= {name: known[name] for name in cell.operands}
    results = {"sequence": cell.steps * directions * batch * hidden}
    results |= dict.fromkeys(("hidden", "cell"), directions * batch * hidden)
    return sizes | {f"{name}_": results[name] for name in cell.results}


def _opaque(function: Any, name: str) -> Any:
    """``function`` with its block called ``name``: one that hides its accesses, so nothing transforms it."""
    block = function.body.block
    own = s_tir.SBlock([], [], [], name, block.body)
    realize = s_tir.SBlockRealize([], tirx.IntImm("bool", 1), own)
    return tirx.PrimFunc(function.params, realize, function.ret_type, function.attrs)


class Run:
    """Writes one direction's steps over ``rows`` rows of the batch from ``first`` on."""

    def __init__(
        self,
        writer: Writer,
        cell: Cell,
        tiling: Tiling,
        parameters: dict[str, Any],
        direction: Index,
        first: Index,
        rows: Index,
    ) -> None:
        self.writer, self.cell, self.tiling, self.parameters = writer, cell, tiling, parameters
        self.direction, self.first, self.rows = direction, first, rows
        most = -(-cell.batch // tiling.parts)
        self.plane = most * cell.hidden
        self.state = writer.scratch("state", (2 * self.plane,))
        self.memory = writer.scratch("memory", (2 * self.plane,)) if cell.kind == "LSTM" else None
        two = len(tiling.products) > 1
        self.update = writer.scratch("update", (self.plane,)) if two else None
        self.reset = writer.scratch("reset", (self.plane,)) if two else None

    def write(self) -> None:
        """All of it: first states, steps, last states."""
        self._states(self._begin)
        with self.writer.loop(self.cell.steps, "step") as step:
            now = step % 2 * self.plane
            for number in range(len(self.tiling.products)):
                self._product(number, step, now)
        self._states(self._end)

    def _states(self, each: Callable[[Any, Index, Any], None]) -> None:
        """Do ``each`` (row, first unit, lane) for every row and vector of units."""
        with self.writer.loop(self.rows, "row") as row:
            for start, lanes, count in row_vectors(self.cell.hidden, self.tiling.products[0].lanes):
                with (
                    self.writer.loop(count, "vector") as vector,
                    self.writer.loop(lanes, "lane", "vectorized") as lane,
                ):
                    each(row, start + vector * lanes, lane)

    def _begin(self, row: Any, unit: Index, lane: Any) -> None:
        for name, place in (("hidden", self.state), ("cell", self.memory)):
            if place is None:
                continue
            value = tirx.const(0, "float32")
            if name in self.cell.operands:
                value = self.writer.load(self.parameters[name], self._place(row) + unit + lane)
                if "lengths" in self.cell.operands and self.cell.kind != "RNN":
                    value = tirx.Select(self._length(row) > 0, value, tirx.const(0, "float32"))
            self.writer.store(place, value, self._own(row) + unit + lane)

    def _end(self, row: Any, unit: Index, lane: Any) -> None:
        last = self.cell.steps % 2 * self.plane + self._own(row)
        for name, place in (("hidden", self.state), ("cell", self.memory)):
            if name in self.cell.results:
                value = self.writer.load(place, last + unit + lane)
                self.writer.store(self.parameters[f"{name}_"], value, self._place(row) + unit + lane)

    def _own(self, row: Index) -> Any:
        """Where a row's state begins in the memory between two steps."""
        return row * self.cell.hidden

    def _place(self, row: Index) -> Any:
        """Where a row's state begins in the first and last states."""
        cell = self.cell
        if cell.batch_major:
            return ((self.first + row) * cell.directions + self.direction) * cell.hidden
        return (self.direction * cell.batch + self.first + row) * cell.hidden

    def _length(self, row: Index) -> Any:
        """The row's number of steps, never more than there are: what a caller passes is not to be trusted."""
        given = self.writer.load(self.parameters["lengths"], self.first + row)
        bounded = tirx.max(tirx.min(given, self.cell.steps), 0)
        return tirx.Cast("int64", bounded)

    def _time(self, row: Index, step: Index) -> Any:
        """Which of the sequence's elements a row is at; one behind its end keeps its place."""
        backward: Any = self.cell.steps - 1 - step
        if "lengths" in self.cell.operands:
            length = self._length(row)
            backward = tirx.Select(step < length, length - 1 - step, step + 0)
        if len(set(self.cell.reverse)) == 1:
            return backward if self.cell.reverse[0] else step
        return tirx.Select(self.direction == 0, step + 0, backward)

    def _element(self, row: Index, step: Index) -> Any:
        """The number of a row's element: of (step, row) or of (row, step)."""
        time = self._time(row, step)
        if self.cell.batch_major:
            return (self.first + row) * self.cell.steps + time
        return time * self.cell.batch + self.first + row

    def _product(self, number: int, step: Any, now: Any) -> None:
        """One of a step's products with what follows it."""
        writer, product = self.writer, self.tiling.products[number]
        with writer.loop(product.tiles, "tile") as tile:
            unit = tile * product.width
            if product.hidden % product.width:
                unit = tirx.min(unit, product.hidden - product.width)
            count = (self.rows + product.rows - 1) // product.rows
            with writer.loop(count, "row_tile") as row_tile:
                row = row_tile * product.rows
                if not isinstance(self.rows, int) or self.rows % product.rows:
                    row = tirx.min(row, self.rows - product.rows)
                sums = writer.scratch("sums", (product.rows * product.gates * product.width,))
                if "lengths" in self.cell.operands:
                    at_work = [step < self._length(row + r) for r in range(product.rows)]
                    with writer.when(tirx.any(*at_work)):
                        self._sums(sums, number, step, now, tile, unit, row)
                else:
                    self._sums(sums, number, step, now, tile, unit, row)
                with writer.loop(product.rows, "row") as inner:
                    self._finish(number, step, now, unit, row + inner, sums, inner)

    def _sums(self, sums: Any, number: int, step: Any, now: Any, tile: Any, unit: Index, row: Index) -> None:
        """Into ``sums`` [row, gate, unit] what goes into the activations."""
        writer, cell, product = self.writer, self.cell, self.tiling.products[number]
        gates, vectors, lanes = product.gates, product.vectors, product.lanes
        total = writer.local("total", (product.rows * gates * vectors, lanes))
        columns = cell.directions * cell.gates * cell.hidden
        late = number == 0 and cell.late_reset

        def each(body: Callable[[int, int, int, int], None]) -> None:
            for r in range(product.rows):
                for gate in range(gates):
                    for vector in range(vectors):
                        body(r, gate, vector, (r * gates + gate) * vectors + vector)

        def begin(r: int, gate: int, vector: int, place: int) -> None:
            with writer.loop(lanes, "lane", "vectorized") as lane:
                inside = unit + vector * lanes + lane
                if late and gate == 2:
                    value = tirx.const(0, "float32")
                    if "bias" in cell.operands:
                        value = writer.load(self.parameters["bias"], self.direction * cell.hidden + inside)
                else:
                    column = (self.direction * cell.gates + product.first + gate) * cell.hidden
                    start = self._element(row + r, step) * columns + column
                    value = writer.load(self.parameters["projected"], start + inside)
                writer.store(total, value, place, lane)

        each(begin)
        source, before = (self.state, now) if number == 0 else (self.reset, 0)
        weights = self.parameters[f"packed{number}"]
        with writer.loop(cell.hidden, "k") as k:
            start = ((self.direction * product.tiles + tile) * cell.hidden + k) * (gates * product.width)
            for column in range(gates * vectors):
                for r in range(product.rows):
                    factor = writer.load(source, before + (row + r) * cell.hidden + k)
                    with writer.loop(lanes, "lane", "vectorized") as lane:
                        weight = writer.load(weights, start + column * lanes + lane)
                        place = r * gates * vectors + column
                        value = writer.load(total, place, lane) + factor * weight
                        writer.store(total, value, place, lane)

        def end(r: int, gate: int, vector: int, place: int) -> None:
            with writer.loop(lanes, "lane", "vectorized") as lane:
                writer.store(sums, writer.load(total, place, lane), place * lanes + lane)

        each(end)

    def _finish(
        self, number: int, step: Any, now: Any, unit: Index, row: Index, gates: Any, inner: Index
    ) -> None:
        """A row's new state for the units of a tile, or what the second product needs for it."""
        writer, product = self.writer, self.tiling.products[number]
        element = self._element(row, step)
        with writer.loop(product.vectors, "vector") as vector:
            start = unit + vector * product.lanes
            own = self._own(row) + start
            unit_cell = _Unit(writer, self.cell, product, gates, inner, vector)
            old, new = now + own, self.plane - now + own

            def move(place: Any, value: Vector) -> None:
                unit_cell.store(place, new, value)

            def step_on() -> None:
                state: Vector | None
                if self.cell.kind == "LSTM":
                    state = self._lstm(unit_cell, old, new, start)
                elif self.cell.kind == "GRU":
                    state = self._gru(unit_cell, number, old, own, element, start)
                else:
                    state = unit_cell.activated(0, unit_cell.clipped(unit_cell.sum_of(0)))
                if state is not None:
                    move(self.state, state)
                    self._sequence(unit_cell, row, step, start, state)

            if "lengths" not in self.cell.operands:
                step_on()
            else:
                running = step < self._length(row)
                with writer.when(running):
                    step_on()
                if number == len(self.tiling.products) - 1:
                    with writer.when(tirx.Not(running)):
                        for place in (self.state, self.memory):
                            if place is not None:
                                move(place, unit_cell.loaded(place, old))
                        self._sequence(unit_cell, row, step, start, lambda lane: tirx.const(0, "float32"))

    def _sequence(self, unit: _Unit, row: Index, step: Any, start: Index, value: Vector) -> None:
        """The result for one element of the sequence."""
        if "sequence" not in self.cell.results:
            return
        cell, time = self.cell, self._time(row, step)
        if cell.batch_major:
            place = ((self.first + row) * cell.steps + time) * cell.directions + self.direction
        else:
            place = (time * cell.directions + self.direction) * cell.batch + self.first + row
        unit.store(self.parameters["sequence_"], place * cell.hidden + start, value)

    def _lstm(self, unit: _Unit, old: Any, new: Any, start: Index) -> Vector:
        """``C' = f*C + i*g(c)``, ``H' = o*h(C')``."""
        memory = unit.loaded(self.memory, old)

        def peeped(gate: int, seen: Vector) -> Vector:
            value = unit.sum_of(gate)
            if "peepholes" not in self.cell.operands:
                return unit.clipped(value)
            place = (self.direction * 3 + gate) * self.cell.hidden + start
            weight = unit.loaded(self.parameters["peepholes"], place)
            return unit.clipped(lambda lane: value(lane) + weight(lane) * seen(lane))

        opened = unit.activated(0, peeped(0, memory))
        if self.cell.coupled:
            kept: Vector = lambda lane: tirx.const(1, "float32") - opened(lane)  # noqa: E731
        else:
            kept = unit.activated(0, peeped(2, memory))
        candidate = unit.activated(1, unit.clipped(unit.sum_of(3)))
        fresh = unit.held(lambda lane: kept(lane) * memory(lane) + opened(lane) * candidate(lane))
        unit.store(self.memory, new, fresh)
        shown = unit.activated(0, peeped(1, fresh))
        outside = unit.activated(2, fresh)
        return unit.held(lambda lane: shown(lane) * outside(lane))

    def _gru(self, unit: _Unit, number: int, old: Any, own: Any, element: Any, start: Index) -> Vector | None:
        """``H' = (1 - z) * g(h) + z * H``, the reset gate before or after the candidate's product."""
        cell, before = self.cell, unit.loaded(self.state, old)
        if number == 1:
            update = unit.loaded(self.update, own)
            candidate = unit.activated(1, unit.clipped(unit.sum_of(0)))
        else:
            update = unit.activated(0, unit.clipped(unit.sum_of(0)))
            reset = unit.activated(0, unit.clipped(unit.sum_of(1)))
            if not cell.late_reset:
                unit.store(self.update, own, update)
                unit.store(self.reset, own, lambda lane: reset(lane) * before(lane))
                return None
            place = (element * cell.directions + self.direction) * (3 * cell.hidden) + 2 * cell.hidden + start
            given = unit.loaded(self.parameters["projected"], place)
            product = unit.sum_of(2)
            candidate = unit.activated(
                1, unit.clipped(lambda lane: given(lane) + reset(lane) * product(lane))
            )
        one = tirx.const(1, "float32")
        return unit.held(lambda lane: (one - update(lane)) * candidate(lane) + update(lane) * before(lane))


class _Unit:
    """One vector of units of one row: its sums, and arithmetic on them in registers."""

    def __init__(
        self, writer: Writer, cell: Cell, product: Product, sums: Any, row: Index, vector: Index
    ) -> None:
        self.writer, self.cell, self.lanes = writer, cell, product.lanes
        self._sums = sums
        self._first = row * (product.gates * product.width) + vector * product.lanes
        self._width = product.width

    def sum_of(self, gate: int) -> Vector:
        """What the product made for a gate."""
        return self.loaded(self._sums, self._first + gate * self._width)

    def loaded(self, buffer: Any, place: Index) -> Vector:
        """The vector at ``place``, kept in a register."""
        return self.held(lambda lane: self.writer.load(buffer, place + lane))

    def store(self, buffer: Any, place: Index, value: Vector) -> None:
        """Write a vector."""
        with self.writer.loop(self.lanes, "lane", "vectorized") as lane:
            self.writer.store(buffer, value(lane), place + lane)

    def held(self, value: Vector) -> Vector:
        """``value``, computed once."""
        register = self.writer.local("held", (self.lanes,))
        with self.writer.loop(self.lanes, "lane", "vectorized") as lane:
            self.writer.store(register, value(lane), lane)
        return lambda lane: self.writer.load(register, lane)

    def clipped(self, value: Vector) -> Vector:
        """``value`` within the cell's bounds."""
        bound = self.cell.clip
        if bound is None:
            return self.held(value)
        high, low = (tirx.const(limit, "float32") for limit in (bound, -bound))
        return self.held(lambda lane: tirx.max(tirx.min(value(lane), high), low))

    def activated(self, slot: int, value: Vector) -> Vector:
        """The activation f, g or h (0, 1, 2) of ``value``, which is in a register."""
        activation = self.cell.activations[0][slot]
        if activation.name == "softplus":  # in two steps: an expanded operand is not expanded again
            power = self.held(lambda lane: tirx.exp(-_magnitude(value(lane))))
            zero, one = tirx.const(0, "float32"), tirx.const(1, "float32")
            logarithm = self.held(lambda lane: tirx.log(one + power(lane)))
            return self.held(lambda lane: tirx.max(value(lane), zero) + logarithm(lane))
        return self.held(lambda lane: _activation(activation, value(lane)))


def _magnitude(x: Any) -> Any:
    return tirx.max(x, tirx.const(0, "float32") - x)


def _activation(activation: Activation, x: Any) -> Any:
    zero, one = tirx.const(0, "float32"), tirx.const(1, "float32")
    alpha, beta = (tirx.const(value, "float32") for value in (activation.alpha, activation.beta))
    formulas: dict[str, Callable[[], Any]] = {
        "affine": lambda: alpha * x + beta,
        "elu": lambda: tirx.Select(x >= zero, x, alpha * (tirx.exp(x) - one)),
        "hardsigmoid": lambda: tirx.max(zero, tirx.min(one, alpha * x + beta)),
        "leakyrelu": lambda: tirx.Select(x >= zero, x, alpha * x),
        "relu": lambda: tirx.max(x, zero),
        "scaledtanh": lambda: alpha * tirx.tanh(beta * x),
        "sigmoid": lambda: tirx.sigmoid(x),
        "softsign": lambda: x / (one + _magnitude(x)),
        "tanh": lambda: tirx.tanh(x),
        "thresholdedrelu": lambda: tirx.Select(x > alpha, x, zero),
    }
    return formulas[activation.name]()
