"""Put the parts of a plan together: kernels, weights, arena, call list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deploycc.planning.calling_convention import packed_callees
from deploycc.planning.codegen import compile_kernels
from deploycc.planning.constants import lay_out
from deploycc.planning.joins import place_parts, whole
from deploycc.planning.listing import list_kernels
from deploycc.planning.memory import Layout, Tensor, assign
from deploycc.planning.network import COPY, Network, Storage, View, no_kernel, read_network
from deploycc.types import JOINED, Buffer, Call, DeployccError, Origin, Plan, Program, Result, Target


def plan(program: Program, target: Target, *, prefix: str = "deploycc", listings: bool = False) -> Plan:
    """Compile ``program`` for ``target`` into kernels, a straight-line call list and static memory.

    ``prefix`` begins every kernel symbol (a C identifier; the package's name).  Inputs are read
    from the caller's buffers and results written to them; both need the alignment of their element
    only, and an output must not overlap an input or another output.  The arena is 64-byte aligned.
    With ``listings`` the plan also has its kernels as text, which takes as long again.

    Raises ``DeployccError`` with all findings: DC520 (an operator that needs TVM's runtime), DC521
    (a shape that depends on data), DC522 (control flow).
    """
    operators = {task.symbol: task.operators for task in program.tasks}
    operators |= {choice.task: choice.operators for choice in program.choices if choice.operators}
    network = read_network(program.module, operators)
    _check_interface(network, program)
    network = without_joins(network, program.module)
    names = list(dict.fromkeys(step.function for step in network.steps if step.function != COPY))
    functions = [(name, program.module[name]) for name in names]
    findings = [
        no_kernel(", ".join(operators.get(name, (name,))), name, callee)
        for name, func in functions
        for callee in packed_callees(func)
    ]
    if findings:
        raise DeployccError(*findings)

    memory, layout = plan_memory(network)
    weights = lay_out(network.constants)
    kernels = compile_kernels(functions, target, prefix)
    choices = {choice.task: choice for choice in program.choices}

    def buffer(view: View) -> Buffer:
        storage = view.storage
        if storage.kind == "input":
            return Buffer("input", storage.index, view.offset, view.nbytes)
        if storage.kind == "constant":
            return Buffer("constant", 0, weights.offsets[storage.index] + view.offset, view.nbytes)
        place = memory[storage]
        return replace(place, offset=place.offset + view.offset, nbytes=view.nbytes)

    calls = []
    for step in network.steps:
        if step.function == COPY:
            copied = (buffer(step.writes[0]), buffer(step.reads[0]))
            joined = replace(program.origins.get(step.variable, Origin()), results=(None,))
            calls.append(Call(COPY, copied, ("Concat",), origin=joined))
            continue
        choice = choices.get(step.function)
        calls.append(
            Call(
                symbol=kernels.symbols[step.function],
                arguments=tuple(buffer(view) for view in (*step.reads, *step.writes)),
                operators=operators.get(step.function, (step.function,)),
                written=len(step.writes),
                origin=program.origins.get(step.variable, Origin()),
                schedule=choice.schedule if choice else "",
                knobs=choice.knobs if choice else {},
                operator=choice.operator if choice else "",
                cycles=choice.cycles if choice else 0.0,
                measured_seconds=choice.measured_seconds if choice else None,
            )
        )
    for index, view in enumerate(network.outputs):
        source = buffer(view)
        if (source.kind, source.index) != ("output", index):
            destination = Buffer("output", index, 0, view.nbytes)
            info = program.outputs[index]
            shown = Origin(results=(Result(info.name, info.shape, dtype=info.dtype),))
            calls.append(Call(COPY, (destination, source), ("Identity",), origin=shown))
    return Plan(
        kernels=kernels.code,
        calls=tuple(calls),
        weights=weights.blob,
        arena_bytes=layout.arena_bytes,
        workspace_bytes=max((w.call for w in kernels.workspace.values()), default=0),
        thread_workspace_bytes=max((w.worker for w in kernels.workspace.values()), default=0),
        inputs=program.inputs,
        outputs=program.outputs,
        parameters=weights.elements,
        listings=list_kernels(program, kernels.symbols, target) if listings else (),
    )


def _check_interface(network: Network, program: Program) -> None:
    """Raise ``ValueError`` unless ``main`` has the inputs and outputs that ``program`` promises."""
    inputs = [storage.nbytes for storage in network.inputs]
    outputs = [view.nbytes for view in network.outputs]
    for found, infos in ((inputs, program.inputs), (outputs, program.outputs)):
        promised = [math.prod(info.shape) * np.dtype(info.dtype).itemsize for info in infos]
        if found != promised:
            names = [info.name for info in infos]
            raise ValueError(f"main has tensors of {found} bytes where {names} have {promised}")


def without_joins(network: Network, module: Any) -> Network:
    """``network`` with no call of a function of ``module`` that only joins its operands (``JOINED``)."""
    joined = {step.function for step in network.steps if JOINED in (module[step.function].attrs or ())}
    steps, outputs = place_parts(network.steps, network.outputs, joined)
    return replace(network, steps=steps, outputs=outputs)


def plan_memory(network: Network) -> tuple[dict[Storage, Buffer], Layout]:
    """Where every result of a kernel lies: in a caller's output buffer, or at an arena offset.

    A result that is a graph output as a whole is written straight into the caller's buffer, at the
    first output that shows it; every other result gets a place in the arena.
    """
    places: dict[Storage, Buffer] = {}
    for index, view in enumerate(network.outputs):
        storage = view.storage
        if storage.kind == "temporary" and storage not in places and view == whole(storage):
            places[storage] = Buffer("output", index, 0, storage.nbytes)
    written = dict.fromkeys(view.storage for step in network.steps for view in step.writes)
    arena = [storage for storage in written if storage not in places]
    layout = assign(_live_ranges(network, arena))
    for storage, offset in zip(arena, layout.offsets, strict=True):
        places[storage] = Buffer("arena", 0, offset, storage.nbytes)
    return places, layout


def _live_ranges(network: Network, storages: Sequence[Storage]) -> list[Tensor]:
    first: dict[Storage, int] = {}
    last: dict[Storage, int] = {}
    for call, step in enumerate(network.steps):
        for view in step.writes:
            first.setdefault(view.storage, call)
            last[view.storage] = call
        for view in step.reads:
            last[view.storage] = call
    for view in network.outputs:
        last[view.storage] = len(network.steps)
    return [Tensor(s.nbytes, first[s], last[s]) for s in storages]
