"""Every operand of a GPU kernel aligned for whole vectors.

A part of a concatenation, or a slice, may begin anywhere; a GPU that loads 16 bytes from an address that is
no multiple of 16 stops the program.  Such operands are copied to and from a place of their own.
"""

from __future__ import annotations

from dataclasses import replace

from deploycc.planning.joins import whole
from deploycc.planning.network import COPY, Network, Step, Storage

VECTOR_BYTES = 16
"""The widest load of a thread (PTX ISA: ld.v4.f32)."""


def with_aligned_views(network: Network) -> Network:
    """``network`` with no step but copies that reads or writes a view at an odd place."""
    count = max((view.storage.index for step in network.steps for view in step.writes), default=-1)
    steps: list[Step] = []
    for step in network.steps:
        if step.function == COPY:
            steps.append(step)
            continue
        after: list[Step] = []
        reads, writes = list(step.reads), list(step.writes)
        for views, writing in ((reads, False), (writes, True)):
            for place, view in enumerate(views):
                if view.offset % VECTOR_BYTES == 0:
                    continue
                count += 1
                own = whole(Storage("temporary", count, view.nbytes, view.storage.width))
                views[place] = own
                if writing:
                    after.append(Step(COPY, (own,), (view,), step.variable))
                else:
                    steps.append(Step(COPY, (view,), (own,), step.variable))
        steps += [replace(step, reads=tuple(reads), writes=tuple(writes)), *after]
    return replace(network, steps=tuple(steps))


def with_scratch(network: Network, sizes: dict[str, tuple[int, ...]]) -> Network:
    """``network`` whose steps also write what launches of their kernels leave for one another.

    It comes behind their results; ``sizes`` are its bytes by function.
    """
    count = max((view.storage.index for step in network.steps for view in step.writes), default=-1)
    steps = []
    for step in network.steps:
        extra = []
        for nbytes in sizes.get(step.function, ()):
            count += 1
            extra.append(whole(Storage("temporary", count, nbytes)))
        steps.append(replace(step, writes=(*step.writes, *extra)) if extra else step)
    return replace(network, steps=tuple(steps))
