"""Concatenations without a kernel: what makes a part writes it at its place in the whole.

Nothing is ever overwritten in a network's straight line, so a part may lie in the whole from the start,
whoever else reads it and when.  The two have one live range then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deploycc.planning.network import COPY, Step, Storage, View


def place_parts(
    steps: Sequence[Step], outputs: Sequence[View], joined: Collection[str]
) -> tuple[tuple[Step, ...], tuple[View, ...]]:
    """``steps`` and ``outputs`` with the parts of every join as views of its result.

    ``joined`` are the functions whose result is their operands' bytes one behind the other; no step calls
    them any more.  An operand that is no whole result of a kernel, is a graph output itself, or has its
    place in another join already (or in this one) is copied, by a step of ``COPY``.  Joins may be nested.
    """
    shown = {view.storage for view in outputs if view == whole(view.storage)}
    places: dict[Storage, View] = {}
    copies: dict[int, list[tuple[View, View]]] = {}
    for number, step in enumerate(steps):
        if step.function not in joined:
            continue
        result, offset = step.writes[0].storage, 0
        copies[number] = []
        for part in step.reads:
            place = View(result, offset, part.nbytes)
            offset += part.nbytes
            own = part.storage.kind == "temporary" and part == whole(part.storage)
            if own and part.nbytes and part.storage not in places and part.storage not in shown:
                places[part.storage] = place
            elif part.nbytes:
                copies[number].append((part, place))
        if offset != result.nbytes:
            raise ValueError(f"{step.function} joins {offset} bytes to {result.nbytes}")

    def resolve(view: View) -> View:
        while view.storage in places:
            place = places[view.storage]
            view = View(place.storage, place.offset + view.offset, view.nbytes)
        return view

    placed: list[Step] = []
    for number, step in enumerate(steps):
        if number in copies:
            placed += [
                Step(COPY, (resolve(source),), (resolve(to),), step.variable) for source, to in copies[number]
            ]
        else:
            reads, writes = (tuple(map(resolve, views)) for views in (step.reads, step.writes))
            placed.append(Step(step.function, reads, writes, step.variable))
    return tuple(placed), tuple(map(resolve, outputs))


def whole(storage: Storage) -> View:
    """All of a storage."""
    return View(storage, 0, storage.nbytes)
