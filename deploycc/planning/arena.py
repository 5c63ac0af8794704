"""Where every result of a kernel lies: in a caller's output buffer, or at an offset of the arena."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deploycc.memory_use import Arena, MemoryPlan
from deploycc.planning.calling_convention import to_loops
from deploycc.planning.memory import SEARCH_PLACEMENTS, Layout, assign_blocks
from deploycc.planning.network import COPY, Network, Step, Storage
from deploycc.planning.sharing import Sharing, find_sharing, shared
from deploycc.planning.smallest import Arrangement, arena_blocks, arrange_smallest, direct_outputs
from deploycc.tvm_api import llvm_target
from deploycc.types import Buffer, Program, Target

_LONGER = 10
"""How much longer than usual the search for places may take for the smallest arena."""
_BYTES_PER_CYCLE = 8
"""What a step without an estimate is taken to read and write: it is one that only moves data."""


@dataclass(frozen=True)
class Arranged:
    """A network with a place for everything.

    ``functions`` are the kernels by name, ``originals`` the names in the program of those that were rewritten
    to share memory.
    """

    network: Network
    places: Mapping[Storage, Buffer]
    layout: Layout
    functions: tuple[tuple[str, Any], ...]
    originals: Mapping[str, str]
    memory: MemoryPlan


def arrange(network: Network, program: Program, target: Target, arena: Arena) -> Arranged:
    """Plan the memory of ``network``, whose functions are those of ``program``.

    With ``smallest`` its steps may come in another order, more than once, and write over their operands.
    """
    places, layout = place(network)
    if arena == "fast":
        memory = MemoryPlan("fast", layout.lower_bound, layout.arena_bytes)
        return Arranged(network, places, layout, _functions(network, program.module), {}, memory)
    found = arrange_smallest(network, _Prover(program, target).prove, _cycles(program))
    renamed, module, originals = _rewritten(found, program.module)
    smaller, tried = place(renamed, _LONGER * SEARCH_PLACEMENTS)
    if tried.arena_bytes >= layout.arena_bytes:
        memory = MemoryPlan("smallest", layout.lower_bound, layout.arena_bytes)
        return Arranged(network, places, layout, _functions(network, program.module), {}, memory)
    memory = MemoryPlan(
        arena="smallest",
        lower_bound_bytes=tried.lower_bound,
        fast_bytes=layout.arena_bytes,
        shared=len(found.shared),
        serial=found.serial,
        recomputed=len(found.recomputed),
        extra=found.extra,
    )
    return Arranged(renamed, smaller, tried, _functions(renamed, module), originals, memory)


def place(network: Network, placements: int = SEARCH_PLACEMENTS) -> tuple[dict[Storage, Buffer], Layout]:
    """Where every storage that a kernel writes lies.

    A result that is a graph output as a whole is written straight into the caller's buffer, at the
    first output that shows it; every other result gets a place in the arena.
    """
    places = {
        storage: Buffer("output", index, 0, storage.nbytes)
        for storage, index in direct_outputs(network).items()
    }
    blocks = arena_blocks(network)
    layout = assign_blocks(list(blocks.values()), placements=placements)
    for storage, offset in zip(blocks, layout.offsets, strict=True):
        places[storage] = Buffer("arena", 0, offset, storage.nbytes)
    return places, layout


def _functions(network: Network, module: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    names = dict.fromkeys(step.function for step in network.steps if step.function != COPY)
    return tuple((name, module[name]) for name in names)


def _rewritten(found: Arrangement, module: Any) -> tuple[Network, Mapping[str, Any], Mapping[str, str]]:
    """The network and its functions, those in it that share memory under names of their own."""
    functions = {
        step.function: module[step.function] for step in found.network.steps if step.function != COPY
    }
    originals: dict[str, str] = {}
    steps = list(found.network.steps)
    for number, how in found.shared.items():
        step = steps[number]
        width = step.writes[how.result - len(step.reads)].storage.width
        name = f"{step.function}_over{how.operand}_{how.sharing.distance}"
        functions[name] = shared(module[step.function], how.operand, how.result, how.sharing, width)
        originals[name] = step.function
        steps[number] = replace(step, function=name)
    return replace(found.network, steps=tuple(steps)), functions, originals


def _cycles(program: Program) -> Any:
    estimates = {choice.task: choice.cycles for choice in program.choices}

    def cycles(step: Step) -> float:
        moved = sum(view.nbytes for view in (*step.reads, *step.writes))
        return estimates.get(step.function, 0.0) or moved / _BYTES_PER_CYCLE

    return cycles


class _Prover:
    """Answers what kernels may share, each looked at once.

    A convolution or a product is never put on one thread for it: that would cost more than it saves.
    """

    def __init__(self, program: Program, target: Target) -> None:
        self.module = program.module
        self.machine = llvm_target(target)
        self.products = {choice.task for choice in program.choices if choice.operator}
        self.loops: dict[str, Any] = {}
        self.known: dict[tuple[str, int, int], Sharing | None] = {}

    def prove(self, function: str, operand: int, result: int, width: int) -> Sharing | None:
        """As ``find_sharing``."""
        key = (function, operand, result)
        if key not in self.known:
            if function not in self.loops:
                lowered = to_loops([(function, self.module[function])], self.machine)
                self.loops[function] = lowered[function]
            found = find_sharing(self.loops[function], operand, result, width)
            serial = found is not None and found.serial and function in self.products
            self.known[key] = None if serial else found
        return self.known[key]
