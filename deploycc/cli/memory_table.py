"""A package's memory as a person reads it: what a handle takes, the peak, and what lies in the arena then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploycc.memory_use import MemoryUse, Value, memory_use

_THREADS = (1, 2, 4)
_SHOWN = 8
"""How many of the tensors at the peak are listed."""


def memory_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """The lines of ``inspect`` about memory; none for a manifest without what steps read and write."""
    calls = manifest["calls"]
    use = memory_use(manifest)
    device = manifest.get("device")
    if device is None:
        yield f"memory of a handle: {_handles(use)}"
    else:
        yield (
            f"memory of the GPU: arena {size(device['arena_bytes'])} a handle, weights "
            f"{size(device['weights_bytes'])} for all handles; of the processor for its steps "
            f"{size(device['host_bytes'])} a handle, beside inputs and outputs in both"
        )
    bound = f", lower bound {size(use.lower_bound_bytes)}" if use.lower_bound_bytes else ""
    yield f"  arena {size(use.arena_bytes)} ({use.arena_mode}){bound}"
    if use.arena_mode == "smallest":
        yield f"  {trade(manifest['memory'])}"
    yield (
        f"  workspace {size(use.workspace_bytes)}, and {size(use.thread_workspace_bytes)} for each thread; "
        f"beside the handle: weights {size(use.weight_bytes)} mapped from the file, the caller's inputs "
        f"{size(use.input_bytes)} and outputs {size(use.output_bytes)}"
    )
    if use.peak_step is None:
        return
    nodes = ", ".join(calls[use.peak_step].get("nodes", ()))
    yield (
        f"  most in the arena at step {use.peak_step} of {len(calls)}: {size(use.peak_bytes)}"
        + (f", while {nodes} {'is' if ', ' not in nodes else 'are'} computed" if nodes else "")
    )
    held = use.at_peak()
    for value in held[:_SHOWN]:
        yield f"    {_line(value)}"
    if len(held) > _SHOWN:
        yield f"    and {len(held) - _SHOWN} smaller ones, {size(sum(v.nbytes for v in held[_SHOWN:]))}"


def trade(memory: Mapping[str, Any]) -> str:
    """What the smallest arena gives and costs, from ``manifest["memory"]``."""
    fast = memory["fast_arena_bytes"]
    share = f", {100 * memory['arena_bytes'] / fast:.0f} % of it" if fast else ""
    return (
        f"smallest arena: {size(memory['arena_bytes'])} instead of {size(fast)}{share}; "
        f"{memory['steps_over_operands']} steps write over operands ({memory['steps_on_one_thread']} of them "
        f"on one thread), {memory['steps_recomputed']} are done twice: {100 * memory['extra_cycles']:.1f} % "
        "more cycles"
    )


def size(count: int) -> str:
    """A number of bytes: ``512 bytes``, ``1.5 KiB``, ``37.5 MiB``."""
    if count < 1024:
        return f"{count} bytes"
    return f"{count / (1 << 20):.2f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"


def _handles(use: MemoryUse) -> str:
    return ", ".join(
        f"{size(use.handle_bytes(threads))} with {threads} thread{'' if threads == 1 else 's'}"
        for threads in _THREADS
    )


def _line(value: Value) -> str:
    shape = "x".join(map(str, value.shape))
    layout = " channels last" if value.layout == "channels last" else ""
    made = f", made by {', '.join(value.nodes)}" if value.nodes else ""
    steps = f"steps {value.first} to {value.last}"
    return f"{size(value.nbytes)}  {value.label} {shape}{layout} ({steps}{made})".replace("  (", " (")
