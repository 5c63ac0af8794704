"""A package's steps as the manifest tells them: what each writes, and whose results it reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deploycc.onnx_graph import Array
from deploycc.running import Dump


@dataclass(frozen=True)
class Write:
    """What step ``step`` leaves in memory; ``tensor`` is its name in the model, empty if that has none such.

    ``shape`` and ``dtype`` are the memory's; with ``channels_last`` it is NHWC of the model's NCHW.  What
    lies in the processor's memory beside a GPU's (``host``) is shown ``mirror`` bytes behind the arena's
    start.
    """

    step: int
    position: int
    kind: str
    index: int
    offset: int
    nbytes: int
    tensor: str = ""
    shape: tuple[int, ...] = ()
    channels_last: bool = False
    dtype: str = ""
    mirror: int = 0

    def dump(self, after: int | None = None) -> Dump:
        """The order to copy it once ``after`` has run, its own step unless given."""
        kind = "arena" if self.kind == "host" else self.kind
        step = self.step if after is None else after
        return Dump(step, kind, self.index, self.mirror + self.offset, self.nbytes)

    def overlaps(self, kind: str, index: int, start: int, stop: int) -> bool:
        """Whether it touches these bytes."""
        same = self.kind == kind and self.index == index
        return same and self.offset < stop and start < self.offset + self.nbytes


@dataclass(frozen=True)
class Sources:
    """Where a step's values come from: ``writes`` with a name, ``inputs`` of the package by number.

    ``joined`` are steps before it whose results have no name in the model: it is judged together with them.
    """

    writes: tuple[Write, ...]
    inputs: frozenset[int]
    joined: tuple[int, ...]


@dataclass
class _Gathered:
    writes: dict[Write, None] = field(default_factory=dict)
    inputs: set[int] = field(default_factory=set)
    joined: set[int] = field(default_factory=set)


class Steps:
    """All steps of a package."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.calls: Sequence[Mapping[str, Any]] = manifest["calls"]
        outputs = manifest["outputs"]
        mirror = _aligned(int(manifest.get("device", {}).get("arena_bytes", 0)))
        self.writes: list[list[Write]] = [
            [_write(step, position, entry, outputs, mirror) for position, entry in enumerate(call["writes"])]
            for step, call in enumerate(self.calls)
        ]

    def forget(self, writes: Collection[Write]) -> None:
        """Treat these as results that the model has no name for."""
        for step in self.writes:
            step[:] = [replace(write, tensor="") if write in writes else write for write in step]

    def named(self) -> list[Write]:
        """Every result that the model has a name for, in the order in which they are written."""
        return [write for writes in self.writes for write in writes if write.tensor]

    def sources(self, step: int) -> Sources:
        """Whose results a step reads, through steps whose own results have no name."""
        gathered = _Gathered()
        self._gather(step, gathered)
        return Sources(tuple(gathered.writes), frozenset(gathered.inputs), tuple(sorted(gathered.joined)))

    def reads(self, step: int) -> list[Write]:
        """The results that lie where the step reads."""
        return [write for read in self.calls[step]["reads"] for write in self._writers(step, read)]

    def _gather(self, step: int, gathered: _Gathered) -> None:
        for read in self.calls[step]["reads"]:
            if read["kind"] == "input":
                gathered.inputs.add(int(read["index"]))
            for write in self._writers(step, read):
                if write.tensor:
                    gathered.writes[write] = None
                elif write.step not in gathered.joined:
                    gathered.joined.add(write.step)
                    self._gather(write.step, gathered)

    def _writers(self, step: int, read: Mapping[str, Any]) -> list[Write]:
        """The newest writes before ``step`` that the bytes read come from."""
        if read["kind"] not in ("arena", "output", "host"):
            return []
        found = []
        wanted = [(int(read["offset"]), int(read["offset"]) + int(read["bytes"]))]
        for earlier in range(step - 1, -1, -1):
            for write in self.writes[earlier]:
                index = int(read.get("index", 0))
                if any(write.overlaps(read["kind"], index, *part) for part in wanted):
                    found.append(write)
                    wanted = [rest for part in wanted for rest in _without(part, write)]
            if not wanted:
                break
        return found


def _without(part: tuple[int, int], write: Write) -> list[tuple[int, int]]:
    start, stop = part
    rest = [(start, min(stop, write.offset)), (max(start, write.offset + write.nbytes), stop)]
    return [(low, high) for low, high in rest if low < high]


def _aligned(nbytes: int) -> int:
    """Where the processor's memory follows the arena in what an observer sees."""
    return -(-nbytes // MIRROR_ALIGNMENT) * MIRROR_ALIGNMENT


MIRROR_ALIGNMENT = 256
"""``DCC_UP`` of the CUDA runtime."""


def _write(
    step: int,
    position: int,
    entry: Mapping[str, Any],
    outputs: Sequence[Mapping[str, Any]],
    mirror: int = 0,
) -> Write:
    place = Write(
        step,
        position,
        str(entry["kind"]),
        int(entry.get("index", 0)),
        int(entry["offset"]),
        int(entry["bytes"]),
    )
    tensor, shape = str(entry.get("tensor", "")), tuple(int(n) for n in entry.get("shape", ()))
    if not tensor and place.kind == "output":
        output = outputs[place.index]
        if place.offset == 0 and place.nbytes == output["bytes"]:
            tensor, shape = str(output["name"]), tuple(output["shape"])
    values = {**vars(place), "tensor": tensor, "shape": shape, "dtype": str(entry.get("dtype", ""))}
    values["mirror"] = mirror if place.kind == "host" else 0
    return Write(**{**values, "channels_last": entry.get("layout") == "channels last"})


def in_model_order(
    write: Write, data: bytes | memoryview, dtype: np.dtype[Any], shape: Sequence[int]
) -> Array:
    """The tensor as the model has it: ``shape`` and its order of elements.

    Raises ``ValueError`` where memory holds another number of bytes.
    """
    memory = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(write.shape)
    if write.channels_last:
        memory = np.moveaxis(memory, -1, 1)
    return np.ascontiguousarray(memory).reshape(tuple(shape))
