"""Which bytes of each storage hold something, and from which step to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deploycc.planning.memory import Tensor
from deploycc.planning.network import Step, Storage, View


def live_parts(steps: Sequence[Step], outputs: Sequence[View]) -> Mapping[Storage, tuple[Tensor, ...]]:
    """For each storage that steps write, in the order of writing: its parts with their live ranges.

    A part is what one step writes there, live until the last step that reads any of it before it is written
    over; what belongs to an output is live until ``len(steps)``, where outputs that lie elsewhere are copied.
    """
    last: dict[Storage, list[list[int]]] = {}
    current: dict[Storage, list[int]] = {}
    for number, step in enumerate(steps):
        for view in step.reads:
            _read(view, number, last, current)
        for view in step.writes:
            parts = last.setdefault(view.storage, [])
            stop = view.offset + view.nbytes
            held = current.get(view.storage, [])
            kept = [i for i in held if parts[i][2] < view.offset or parts[i][2] + parts[i][3] > stop]
            current[view.storage] = [*kept, len(parts)]
            parts.append([number, number, view.offset, view.nbytes])
    for view in outputs:
        _read(view, len(steps), last, current)
    return {
        storage: tuple(Tensor(nbytes, first, end, offset) for first, end, offset, nbytes in parts)
        for storage, parts in last.items()
    }


def _read(
    view: View, number: int, last: Mapping[Storage, list[list[int]]], current: Mapping[Storage, list[int]]
) -> None:
    """Of two parts that hold the same bytes the one written later is read."""
    left = [(view.offset, view.offset + view.nbytes)]
    for index in reversed(current.get(view.storage, [])):
        _, _, start, nbytes = part = last[view.storage][index]
        stop = start + nbytes
        if not any(begin < stop and start < end for begin, end in left):
            continue
        part[1] = number
        left = [
            piece
            for begin, end in left
            for piece in ((begin, min(end, start)), (max(begin, stop), end))
            if piece[0] < piece[1]
        ]
