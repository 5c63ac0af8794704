"""How much of the time memory takes, not arithmetic.

By the roofline (Williams, Waterman and Patterson, 2009) a layer takes the larger of multiply-adds over the
processor's peak and bytes over its memory's.  Where bytes are the larger, faster arithmetic gains nothing;
more cores gain little.

Instead, to be faster there: half the bytes (`model.half()`, quantisation to 8 bits in ONNX QDQ form),
smaller maps, fewer passes (activations that fuse, no transposes between layers).  Float16 rounds to 3
digits.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text, counted, percent_text
from deploycc.types import Diagnostic

CODE = "DC533"

_SHARE = 0.3
_LEAST_SECONDS = 1e-3
"""Of the estimated time, which is at least 1 ms; below, arithmetic decides, or the start of a kernel."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding, at the slowest such layer, where 30 % of at least 1 ms is bound by memory; peaks known."""
    peak = subject.target.peak
    if peak is None:
        return
    view = subject.view
    total, bound = 0.0, []
    for node in view.model.graph.node:
        macs, moved = subject.costs[node.name]
        arithmetic, memory = 2 * macs / peak.flops, moved / peak.bytes_per_second
        total += max(arithmetic, memory)
        if memory > arithmetic:
            bound.append((memory, moved, node))
    waiting = sum(memory for memory, *_ in bound)
    if total < _LEAST_SECONDS or waiting < _SHARE * total:
        return
    slowest = max(bound, key=lambda entry: entry[0])
    yield Diagnostic(
        CODE,
        "memory decides much of the time",
        node=slowest[2].name,
        op=slowest[2].op_type,
        got=f"{counted(len(bound), 'node')}, {1e3 * waiting:.2g} ms of {1e3 * total:.2g} ms "
        f"({percent_text(waiting / total)}), most the one here: {1e3 * slowest[0]:.2g} ms for "
        f"{bytes_text(slowest[1])}",
        need="layers that arithmetic bounds",
        help="smaller maps, fewer passes, or half the bytes (float16)",
        severity="info",
        verdict="info",
        source="roofline model (Williams, Waterman and Patterson, CACM 2009) over the target's peak",
    )
