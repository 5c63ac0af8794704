"""What memory a package takes while it runs, from its manifest alone: live ranges, occupancy, the peak.

A step writes values to places in the arena or in the caller's outputs, and later steps read them.  A value
is live from the step that writes it to the last one that reads it, both included; one that is a part of an
output when the run ends lives until then.  Everything here follows from ``manifest["calls"]`` and
``manifest["memory"]``: no model, no library, no TVM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

ALIGNMENT = 64
"""``DCC_ALIGNMENT`` of the runtime (``deploycc_rt.h``): what blocks of a handle are rounded up to."""
_SLACK = 64 * ALIGNMENT
"""``DCC_WORKSPACE_SLACK``."""
_NOTE = 4
"""Bytes that ``DCC_WORKSPACE_NOTES`` keeps for each ``ALIGNMENT`` bytes of a workspace."""


Arena = Literal["fast", "smallest"]
"""Whether memory is planned at no cost in speed, or as small as it gets at some (``planning.smallest``)."""


@dataclass(frozen=True)
class MemoryPlan:
    """How the arena came about.  ``lower_bound_bytes`` is what no placement of these calls can do without.

    For ``smallest``: ``fast_bytes`` is the arena that ``fast`` would have, ``shared`` how many calls write
    over one of their operands, ``serial`` how many of them use one thread therefore, ``recomputed`` how many
    are done once more, which adds ``extra`` (a share) to the estimated cycles of a run.
    """

    arena: Arena = "fast"
    lower_bound_bytes: int = 0
    fast_bytes: int = 0
    shared: int = 0
    serial: int = 0
    recomputed: int = 0
    extra: float = 0.0


@dataclass(frozen=True)
class Value:
    """A tensor at one place for a while: bytes ``offset`` to ``offset + nbytes`` of the arena or an output.

    ``index`` is the output's number (0 for the arena), ``first`` the step that writes it and ``last`` the
    last one that reads it (the last step of all for what an output finally holds).  ``tensor`` is its name
    in the simplified model, empty where the model has none such; ``shape`` as it lies in memory, ``layout``
    as in the manifest, ``nodes`` are those that the writing step computes.
    """

    kind: Literal["arena", "output"]
    index: int
    offset: int
    nbytes: int
    first: int
    last: int
    tensor: str = ""
    shape: tuple[int, ...] = ()
    layout: str = ""
    nodes: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The tensor's name, or what makes it where the model has no name for it."""
        return self.tensor or f"result of {'+'.join(self.operators) or f'step {self.first}'}"


@dataclass(frozen=True)
class MemoryUse:
    """A package's memory.  All sizes in bytes.

    ``values`` are all that ever lie in the arena or an output, by the step that writes them.
    ``occupancy`` has for each step the bytes of the arena that hold a live value.  ``peak_step`` is the
    first step where that is most, ``None`` without steps or arena.  ``lower_bound_bytes`` is what no
    placement in this order of steps can do without; 0 where the package was built before it was written.
    ``arena_mode`` is ``fast`` or ``smallest``.
    """

    arena_bytes: int
    lower_bound_bytes: int
    arena_mode: str
    workspace_bytes: int
    thread_workspace_bytes: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    values: tuple[Value, ...]
    occupancy: tuple[int, ...]
    peak_step: int | None

    @property
    def peak_bytes(self) -> int:
        """The most bytes of the arena that hold live values at one step."""
        return max(self.occupancy, default=0)

    def live_at(self, step: int) -> tuple[Value, ...]:
        """What is live at a step, in the arena first, the largest first."""
        live = [value for value in self.values if value.first <= step <= value.last]
        return tuple(sorted(live, key=lambda value: (value.kind, -value.nbytes, value.offset)))

    def at_peak(self) -> tuple[Value, ...]:
        """What the arena holds at the peak, the largest first."""
        if self.peak_step is None:
            return ()
        return tuple(value for value in self.live_at(self.peak_step) if value.kind == "arena")

    def handle_bytes(self, threads: int) -> int:
        """What a handle of so many threads allocates when it is created: ``NAME_memory_bytes``."""
        return handle_bytes(self.arena_bytes, self.workspace_bytes, self.thread_workspace_bytes, threads)


def handle_bytes(arena: int, workspace: int, thread_workspace: int, threads: int) -> int:
    """Bytes that ``create`` allocates for a handle of ``threads``: arena and workspaces with their notes.

    The same sum as ``lay_out`` in ``deploycc/runtime/handle.c``; a test compares the two.
    """
    total = _up(arena) + _space(workspace) + threads * _space(thread_workspace)
    return total or ALIGNMENT


def memory_use(manifest: Mapping[str, Any]) -> MemoryUse:
    """The memory of the package that ``manifest`` describes.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` where the manifest is not one that a build wrote.
    """
    calls, memory = manifest["calls"], manifest["memory"]
    values = tuple(_values(calls))
    occupancy = covered_bytes(
        ((v.first, v.last, v.offset, v.offset + v.nbytes) for v in values if v.kind == "arena"), len(calls)
    )
    most = max(occupancy, default=0)
    return MemoryUse(
        arena_bytes=memory["arena_bytes"],
        lower_bound_bytes=memory.get("lower_bound_bytes", 0),
        arena_mode=memory.get("arena", "fast"),
        workspace_bytes=memory["workspace_bytes"],
        thread_workspace_bytes=memory["thread_workspace_bytes"],
        weight_bytes=memory["weight_bytes"],
        input_bytes=sum(tensor["bytes"] for tensor in manifest["inputs"]),
        output_bytes=sum(tensor["bytes"] for tensor in manifest["outputs"]),
        values=values,
        occupancy=occupancy,
        peak_step=occupancy.index(most) if most else None,
    )


def _up(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def _space(count: int) -> int:
    space = _up(count + _SLACK) if count else 0
    return space + _up(space // ALIGNMENT * _NOTE)


@dataclass
class _Written:
    """A value while the steps are followed: ``last`` moves on with every read."""

    value: dict[str, Any]
    start: int
    stop: int
    last: int


def _values(calls: Sequence[Mapping[str, Any]]) -> Iterable[Value]:
    """Every value in the order of writing.  A read concerns what was last written to each of its bytes."""
    current: dict[tuple[str, int], list[_Written]] = {}
    every: list[_Written] = []
    for step, call in enumerate(calls):
        for place in call.get("reads", ()):
            for written in _holding(current, place):
                written.last = step
        for place in call.get("writes", ()):
            if place["kind"] not in ("arena", "output") or not place["bytes"]:
                continue
            start, stop = place["offset"], place["offset"] + place["bytes"]
            key = (place["kind"], place.get("index", 0))
            kept = [w for w in current.get(key, ()) if w.start < start or w.stop > stop]
            value = {
                "kind": place["kind"],
                "index": place.get("index", 0),
                "offset": start,
                "nbytes": place["bytes"],
                "first": step,
                "tensor": place.get("tensor", ""),
                "shape": tuple(place.get("shape", ())),
                "layout": place.get("layout", ""),
                "nodes": tuple(call.get("nodes", ())),
                "operators": tuple(call.get("operators", ())),
            }
            written = _Written(value, start, stop, step)
            current[key] = [*kept, written]
            every.append(written)
    for kind, index in current:
        if kind == "output":
            # What is left of earlier values is none of the result: all of that was written at last.
            stop = max(written.stop for written in current[kind, index])
            for written in _holding(current, {"kind": kind, "index": index, "offset": 0, "bytes": stop}):
                written.last = len(calls) - 1
    return [Value(**written.value, last=written.last) for written in every]


def _holding(
    current: Mapping[tuple[str, int], list[_Written]], place: Mapping[str, Any]
) -> Iterable[_Written]:
    """The values that bytes of ``place`` belong to: of two that overlap the one written later."""
    left = [(place["offset"], place["offset"] + place["bytes"])]
    for written in reversed(current.get((place["kind"], place.get("index", 0)), [])):
        parts = [part for part in left if part[0] < written.stop and written.start < part[1]]
        if not parts:
            continue
        yield written
        left = [
            piece
            for start, stop in left
            for piece in ((start, min(stop, written.start)), (max(start, written.stop), stop))
            if piece[0] < piece[1]
        ]


def covered_bytes(spans: Iterable[tuple[int, int, int, int]], steps: int) -> tuple[int, ...]:
    """Bytes under at least one live span, by step: in-place work has two tensors in the same ones.

    A span is the first and the last step it is live at, where it starts, and where it stops, in bytes.
    """
    starting: dict[int, list[tuple[int, int, int]]] = {}
    for first, last, start, stop in spans:
        starting.setdefault(first, []).append((start, stop, last))
    live: list[tuple[int, int, int]] = []
    occupancy = []
    for step in range(steps):
        live = [span for span in live if span[2] >= step] + starting.get(step, [])
        total = end = 0
        for start, stop, _ in sorted(live):
            total += max(0, stop - max(start, end))
            end = max(end, stop)
        occupancy.append(total)
    return tuple(occupancy)
