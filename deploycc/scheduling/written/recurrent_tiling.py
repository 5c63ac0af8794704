"""How the recurrent products of a layer are cut into register tiles, and its weights packed for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deploycc.recurrent_cells import Cell
from deploycc.relax_graph import Array
from deploycc.scheduling.primitives import PARALLEL_OPERATIONS
from deploycc.tvm_api import te, tirx
from deploycc.types import Target

_MOST_ROWS = 8
_MOST_VECTORS = 8


@dataclass(frozen=True)
class Product:
    """The state times the weights of gates ``first`` to ``first + gates``, for ``hidden`` units each.

    A register tile has ``rows`` rows of the batch, and of each gate ``vectors`` vectors of ``lanes`` units.
    Where the units are no multiple of such a tile the last one overlaps its neighbour.
    """

    first: int
    gates: int
    hidden: int
    lanes: int
    vectors: int
    rows: int

    @property
    def width(self) -> int:
        """Units of one tile."""
        return self.lanes * self.vectors

    @property
    def tiles(self) -> int:
        """Tiles of all units."""
        return -(-self.hidden // self.width)

    def shape(self, directions: int) -> tuple[int, ...]:
        """Extents of the packed weights: [direction, tile, unit that is read, gate, unit of the tile]."""
        return (directions, self.tiles, self.hidden, self.gates, self.width)

    def pack(self, weights: Array) -> Array:
        """``weights`` [D, G*H, H] in the order in which the kernel reads them."""
        starts = np.minimum(np.arange(self.tiles) * self.width, self.hidden - self.width)
        gates = (self.first + np.arange(self.gates)) * self.hidden
        places = starts[:, None, None] + gates[:, None] + np.arange(self.width)  # [tile, gate, unit]
        return np.ascontiguousarray(weights[:, places, :].transpose(0, 1, 4, 2, 3))

    def packing(self, weights: Any) -> Any:
        """The same as a tensor expression, for weights that are known at run time only."""

        def element(direction: Any, tile: Any, read: Any, gate: Any, unit: Any) -> Any:
            start = tirx.min(tile * self.width, self.hidden - self.width)
            return weights[direction, (self.first + gate) * self.hidden + start + unit, read]

        return te.compute(self.shape(int(weights.shape[0])), element, name="packed")


@dataclass(frozen=True)
class Tiling:
    """A layer's products, and into how many parts of the batch its rows are cut for threads."""

    products: tuple[Product, ...]
    parts: int
    parallel: bool

    @classmethod
    def of(cls, cell: Cell, target: Target) -> Tiling:
        """Rows of the batch and directions do not depend on each other, so each thread has its own."""
        operations = cell.steps * cell.batch * cell.directions * cell.gates * cell.hidden * cell.hidden
        parallel = operations // target.simd.lanes() >= PARALLEL_OPERATIONS and target.cores > 1
        parts = min(cell.batch, max(1, target.cores // cell.directions)) if parallel else 1
        parallel = parallel and parts * cell.directions > 1
        groups: tuple[tuple[int, int], ...] = ((0, cell.gates),)
        if cell.kind == "GRU" and not cell.late_reset:
            groups = ((0, 2), (2, 1))  # the candidate's product has to wait for the reset gate
        least = cell.batch // parts
        products = tuple(_product(first, gates, cell.hidden, least, target) for first, gates in groups)
        return cls(products, parts, parallel)

    def knobs(self) -> dict[str, int]:
        """What was chosen, for reports; of the first product where there are two."""
        product = self.products[0]
        return {
            "lanes": product.lanes,
            "parts": self.parts,
            "rows": product.rows,
            "vectors": product.vectors,
        }


def _product(first: int, gates: int, hidden: int, rows: int, target: Target) -> Product:
    """The tile that takes the fewest cycles: multiply-adds, loads, or the wait for one's result."""
    lanes = max(4, target.simd.lanes())
    while lanes > hidden:
        lanes //= 2
    candidates = []
    for vectors in range(1, min(_MOST_VECTORS, hidden // lanes) + 1):
        for count in range(1, min(_MOST_ROWS, rows) + 1):
            sums = gates * vectors * count
            if sums + min(count, gates * vectors) + 1 > target.simd.registers and sums > gates:
                continue
            cycles = max(sums / 2, (gates * vectors + count) / 2, 4.0)
            tiles = -(-hidden // (vectors * lanes)) * -(-rows // count)
            candidates.append((cycles * tiles, sums, vectors, count))
    _, _, vectors, count = min(candidates)
    return Product(first, gates, hidden, lanes, vectors, count)
