"""A package watched at work: what its steps write, brought to the model's order and kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from deploycc.bisecting.graph import Graph
from deploycc.bisecting.steps import Steps, Write, in_model_order
from deploycc.onnx_graph import Array
from deploycc.running import Dump, Measured, Orders, Package, Place, run
from deploycc.tolerances import RELATIVE_TOLERANCE

PRECISION_TOLERANCE = {
    "tf32": 5e-3,
    "fp16": RELATIVE_TOLERANCE["float16"],
    "bf16": RELATIVE_TOLERANCE["bfloat16"],
}
"""tf32 has as many bits of mantissa as float16, and its sums are of single precision."""

PIECE_BYTES = 256 << 20
"""So much is copied in one run; a network's tensors together can be far larger than its memory."""


class Observed:
    """Results by the write that left them, as arrays in the model's order.

    Files of ``folder`` hold them, and are mapped when they are asked for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[Write] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, write: Write) -> bool:
        return write in self._known

    def __getitem__(self, write: Write) -> Array:
        array: Array = np.load(self._path(write), mmap_mode="r", allow_pickle=False)
        return array

    def __setitem__(self, write: Write, value: Array) -> None:
        np.save(self._path(write), value)
        self._known.add(write)

    def _path(self, write: Write) -> Path:
        return self._folder / f"{write.step}-{write.position}.npy"


class Watched:
    """A package, its place and inputs: what is run again and again."""

    def __init__(self, package: Package, place: Place, inputs: Sequence[Array], graph: Graph) -> None:
        self.package, self.place, self.inputs, self.graph = package, place, inputs, graph
        self.steps = Steps(package.manifest)
        self.steps.forget([write for write in self.steps.named() if not self._fits(write)])
        self.names = [str(tensor["name"]) for tensor in package.manifest["inputs"]]

    @property
    def precision_tolerance(self) -> float:
        """What a step may be off by where a GPU computes in less than single precision."""
        return PRECISION_TOLERANCE.get(str(self.package.manifest["target"].get("precision", "")), 0.0)

    def run(self, dumps: Sequence[Dump] = (), threads: int = 1) -> Measured:
        """One run that is watched."""
        return run(
            self.package, self.place, self.inputs, Orders(threads=threads, dumps=tuple(sorted(set(dumps))))
        )

    def observe(
        self, writes: Sequence[Write], folder: Path, threads: int = 1
    ) -> tuple[Observed, list[Array]]:
        """Copies of ``writes``, and the package's outputs."""
        observed = Observed(folder)
        outputs: list[Array] = []
        for piece in _pieces(writes):
            measured = self.run([write.dump() for write in piece], threads)
            outputs = measured.outputs
            for write in piece:
                observed[write] = self.value(write, measured.dumps[write.dump()])
        return observed, outputs or self.run(threads=threads).outputs

    def differing(
        self, known: Observed, writes: Sequence[Write], folder: Path, threads: int
    ) -> tuple[Observed, list[Write]]:
        """Another run: what it wrote that is not in every bit what ``known`` has."""
        found = Observed(folder)
        changed = []
        for piece in _pieces(writes):
            measured = self.run([write.dump() for write in piece], threads)
            for write in piece:
                value = self.value(write, measured.dumps[write.dump()])
                if value.tobytes() != known[write].tobytes():
                    found[write] = value
                    changed.append(write)
        return found, changed

    def value(self, write: Write, data: bytes) -> Array:
        """What was copied, as the model has it."""
        kind = self.graph.type_of(write.tensor)
        assert kind is not None
        assert kind.shape is not None
        shape = [int(n or 0) for n in kind.shape]
        stored = np.dtype(write.dtype or kind.dtype)
        return in_model_order(write, data, stored, shape).astype(kind.dtype, copy=False)

    def _fits(self, write: Write) -> bool:
        kind = self.graph.type_of(write.tensor)
        if kind is None or kind.shape is None:
            return False
        try:
            itemsize = np.dtype(write.dtype or kind.dtype).itemsize
        except TypeError:
            return False
        elements = int(np.prod([int(n or 0) for n in kind.shape], dtype=np.int64))
        return elements == int(np.prod(write.shape, dtype=np.int64)) and elements * itemsize == write.nbytes


def _pieces(writes: Sequence[Write]) -> Iterator[list[Write]]:
    piece: list[Write] = []
    total = 0
    for write in sorted(writes, key=lambda one: (one.step, one.position)):
        if piece and total + write.nbytes > PIECE_BYTES:
            yield piece
            piece, total = [], 0
        piece.append(write)
        total += write.nbytes
    if piece:
        yield piece
