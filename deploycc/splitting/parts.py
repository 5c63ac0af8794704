"""What a network is cut into: parts, the tensors that cross between them, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from onnx import ModelProto

Place = Literal["accelerator", "cpu", "host"]

PLACES: tuple[Place, ...] = ("accelerator", "cpu", "host")
"""From the most wanted on: the accelerator, a package compiled for the CPU, code of the app's own."""


@dataclass(frozen=True)
class Row:
    """``factor`` more elements along an axis for each one more, up to ``most``, of ``tensor`` on ``axis``."""

    tensor: str
    axis: int
    factor: int
    most: int


@dataclass(frozen=True)
class CutTensor:
    """An input, output or intermediate of the pipeline.

    ``shape`` has -1 where only a run can tell the extent.  ``open_axes`` are the axes whose extent
    depends on the data: of a tensor that is ``bounded`` ``shape`` has the most there, and ``rows`` says
    (for each open axis) what the true extent follows from, where that is known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    open_axes: tuple[int, ...] = ()
    rows: Mapping[int, tuple[Row, ...]] | None = None
    ranked: bool = True
    """Whether the number of axes is known; ``shape`` says nothing where it is not."""

    @property
    def kind(self) -> Literal["static", "bounded", "open"]:
        """``static`` always has its shape, ``bounded`` at most that, ``open`` any."""
        if not self.open_axes:
            return "static"
        return "open" if -1 in self.shape else "bounded"


@dataclass(frozen=True)
class Part:
    """One part: ``proto`` is a model of its own, ``inputs`` and ``outputs`` its tensors in that order.

    ``nodes`` are the names of its nodes in the network, ``macs`` their multiply-adds.  Parts on the
    accelerator and the CPU have static shapes: they get bounded tensors padded with zeros to the most.
    """

    number: int
    place: Place
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int
    proto: ModelProto

    @property
    def stem(self) -> str:
        """``00-accelerator``: what its files are called."""
        return f"{self.number:02d}-{self.place}"


@dataclass(frozen=True)
class Cut:
    """A network as parts in the order they run.  ``inputs`` and ``outputs`` are the network's own.

    ``waiting`` are tensors of open shape, with that shape, whose most the app could promise: work is
    left to the host for no other reason.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, CutTensor]
    parts: tuple[Part, ...]
    waiting: tuple[tuple[str, tuple[int | None, ...]], ...] = ()
