"""Which tensors lie in the arena when, read off the places that a package's steps read and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.memory_use import covered_bytes


@dataclass(frozen=True)
class Life:
    """A tensor in the arena: written by the step ``start``, read last by ``end``.

    ``offset`` and ``nbytes`` are bytes of the arena.  ``tensor`` is its name in the model, empty where the
    model has no such.
    """

    tensor: str
    start: int
    end: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Flow:
    """``reads`` has for each step the numbers of the lives it reads, ``inputs`` the graph inputs by index.

    ``live`` are the bytes that hold something during each step, ``peak`` the step with the most of them.
    """

    lives: tuple[Life, ...]
    reads: tuple[tuple[int, ...], ...]
    inputs: tuple[tuple[int, ...], ...]
    live: tuple[int, ...]
    peak: int

    def at(self, step: int) -> tuple[Life, ...]:
        """What lies in the arena during a step, the largest first."""
        found = [life for life in self.lives if life.start <= step <= life.end]
        return tuple(sorted(found, key=lambda life: (-life.nbytes, life.offset)))


def flow_of(calls: Sequence[Mapping[str, Any]]) -> Flow:
    """The flow of a manifest's ``calls``.

    A tensor lives until the last step that reads any of its bytes before they are written again.
    """
    lives: list[Life] = []
    ends: list[int] = []
    holding: list[int] = []
    reads, inputs = [], []
    for step, call in enumerate(calls):
        read = []
        for buffer in _arena(call["reads"]):
            found = [number for number in holding if _overlap(lives[number], buffer)]
            read += found
            for number in found:
                ends[number] = step
        for buffer in _arena(call["writes"]):
            holding = [number for number in holding if not _overlap(lives[number], buffer)]
            life = Life(buffer.get("tensor", ""), step, step, buffer["offset"], buffer["bytes"])
            holding.append(len(lives))
            lives.append(life)
            ends.append(step)
        reads.append(tuple(dict.fromkeys(read)))
        inputs.append(tuple(dict.fromkeys(b["index"] for b in call["reads"] if b["kind"] == "input")))
    ended = tuple(
        Life(life.tensor, life.start, end, life.offset, life.nbytes)
        for life, end in zip(lives, ends, strict=True)
    )
    live = covered_bytes(((f.start, f.end, f.offset, f.offset + f.nbytes) for f in ended), len(calls))
    peak = max(range(len(live)), key=live.__getitem__, default=0)
    return Flow(ended, tuple(reads), tuple(inputs), live, peak)


def _arena(buffers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [buffer for buffer in buffers if buffer["kind"] == "arena" and buffer["bytes"]]


def _overlap(life: Life, buffer: Mapping[str, Any]) -> bool:
    return bool(
        life.offset < buffer["offset"] + buffer["bytes"] and buffer["offset"] < life.offset + life.nbytes
    )
