"""Put the parts of a plan together: kernels, weights, arena, call list."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deploycc.memory_use import Arena
from deploycc.planning.arena import Arranged, arrange
from deploycc.planning.calling_convention import packed_callees
from deploycc.planning.codegen import compile_kernels
from deploycc.planning.constants import lay_out
from deploycc.planning.joins import place_parts
from deploycc.planning.limit import check_memory, check_together
from deploycc.planning.listing import list_kernels
from deploycc.planning.network import COPY, Network, View, no_kernel, read_network
from deploycc.types import (
    JOINED,
    ROUTINE_FILE,
    ROUTINE_TEXT,
    Buffer,
    Call,
    DeployccError,
    Diagnostic,
    Origin,
    Plan,
    Program,
    Result,
    Target,
)


def plan(
    program: Program,
    target: Target,
    *,
    prefix: str = "deploycc",
    listings: bool = False,
    arena: Arena = "fast",
    max_memory: int | None = None,
) -> Plan:
    """Compile ``program`` for ``target`` into kernels, a straight-line call list and static memory.

    ``prefix`` begins every kernel symbol (a C identifier; the package's name).  Inputs are read
    from the caller's buffers and results written to them; both need the alignment of their element
    only, and an output must not overlap an input or another output.  The arena is 64-byte aligned.
    With ``listings`` the plan also has its kernels as text, which takes as long again.  ``max_memory`` is
    the most bytes a handle may take with as many threads as the target has cores.

    Raises ``DeployccError`` with all findings: DC520 (an operator that needs TVM's runtime), DC521
    (a shape that depends on data), DC522 (control flow), DC523 (two C
    files of one name); before anything is compiled DC870 (``max_memory``).
    """
    return plan_variants(
        (program,), target, prefix=prefix, listings=listings, arena=arena, max_memory=max_memory
    )[0]


def plan_variants(
    programs: Sequence[Program],
    target: Target,
    *,
    prefix: str = "deploycc",
    listings: bool = False,
    arena: Arena = "fast",
    max_memory: int | None = None,
) -> tuple[Plan, ...]:
    """As ``plan`` for one network at several shapes, for one library.

    All plans have the same ``kernels``, ``weights``, ``parameters``, ``routines`` and workspaces: equal
    kernels are compiled once and equal constants stored once.  ``listings`` of a plan are those of kernels
    that no plan before it has.  ``max_memory`` is what a handle may take that can run each of them.
    """
    laid_out = [_arranged(program, target, arena, max_memory) for program in programs]
    weights = lay_out([array for one in laid_out for array in one.arranged.network.constants])
    functions = [
        (_unique(name, number), function)
        for number, one in enumerate(laid_out)
        for name, function in one.arranged.functions
    ]
    kernels = compile_kernels(functions, target, prefix)
    space = max((w.call for w in kernels.workspace.values()), default=0)
    thread_space = max((w.worker for w in kernels.workspace.values()), default=0)
    if max_memory is not None and len(programs) > 1:
        largest = max(one.arranged.layout.arena_bytes for one in laid_out)
        check_together(largest, space, thread_space, target, max_memory)
    routines = routines_of(one.program.module[name] for one in laid_out for name in one.names)
    plans: list[Plan] = []
    told: set[str] = set()
    first_constant = 0
    for number, one in enumerate(laid_out):
        count = len(one.arranged.network.constants)
        offsets = weights.offsets[first_constant : first_constant + count]
        first_constant += count
        symbols = {name: kernels.symbols[_unique(name, number)] for name, _ in one.arranged.functions}
        new = {name: symbol for name, symbol in symbols.items() if symbol not in told}
        told |= set(new.values())
        plans.append(
            Plan(
                kernels=kernels.code,
                calls=calls_of(one, symbols, offsets),
                weights=weights.blob,
                arena_bytes=one.arranged.layout.arena_bytes,
                workspace_bytes=space,
                thread_workspace_bytes=thread_space,
                inputs=one.program.inputs,
                outputs=one.program.outputs,
                routines=routines,
                parameters=weights.elements,
                listings=list_kernels(one.program, one.arranged, new, target) if listings else (),
                memory=one.arranged.memory,
            )
        )
    return tuple(plans)


def _unique(name: str, number: int) -> str:
    """A function's name among those of all variants."""
    return f"{name}@{number}" if number else name


@dataclass(frozen=True)
class LaidOut:
    """A program whose memory is planned; ``names`` are its functions before any were rewritten."""

    program: Program
    arranged: Arranged
    operators: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...]


def _arranged(program: Program, target: Target, arena: Arena, max_memory: int | None) -> LaidOut:
    operators = {task.symbol: task.operators for task in program.tasks}
    operators |= {choice.task: choice.operators for choice in program.choices if choice.operators}
    network = read_network(program.module, operators)
    check_interface(network, program)
    network = without_joins(network, program.module)
    names = list(dict.fromkeys(step.function for step in network.steps if step.function != COPY))
    findings = [
        no_kernel(", ".join(operators.get(name, (name,))), name, callee)
        for name in names
        for callee in packed_callees(program.module[name])
    ]
    if findings:
        raise DeployccError(*findings)

    arranged = arrange(network, program, target, arena)
    if max_memory is not None:
        check_memory(network, arranged, program, target, max_memory)
    return LaidOut(program, arranged, operators, tuple(names))


def calls_of(one: LaidOut, symbols: Mapping[str, str], offsets: Sequence[int]) -> tuple[Call, ...]:
    """The call list, given the kernels' symbols by function and the places of the network's constants."""
    program, arranged, operators = one.program, one.arranged, one.operators
    network, memory = arranged.network, arranged.places
    choices = {choice.task: choice for choice in program.choices}

    def buffer(view: View) -> Buffer:
        storage = view.storage
        if storage.kind == "input":
            return Buffer("input", storage.index, view.offset, view.nbytes)
        if storage.kind == "constant":
            return Buffer("constant", 0, offsets[storage.index] + view.offset, view.nbytes)
        place = memory[storage]
        return replace(place, offset=place.offset + view.offset, nbytes=view.nbytes)

    calls = []
    for step in network.steps:
        if step.function == COPY:
            copied = (buffer(step.writes[0]), buffer(step.reads[0]))
            joined = replace(program.origins.get(step.variable, Origin()), results=(None,))
            calls.append(Call(COPY, copied, ("Concat",), origin=joined))
            continue
        task = arranged.originals.get(step.function, step.function)
        choice = choices.get(task)
        calls.append(
            Call(
                symbol=symbols[step.function],
                arguments=tuple(buffer(view) for view in (*step.reads, *step.writes)),
                operators=operators.get(task, (task,)),
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
    return tuple(calls)


def routines_of(functions: Iterable[Any]) -> dict[str, str]:
    """The C files that PrimFuncs name, in name order.

    Raises ``DeployccError`` DC523 where two of one name differ.
    """
    found: dict[str, str] = {}
    for function in functions:
        if ROUTINE_FILE not in (function.attrs or ()):
            continue
        file, text = str(function.attrs[ROUTINE_FILE]), str(function.attrs[ROUTINE_TEXT])
        if found.setdefault(file, text) != text:
            raise DeployccError(
                Diagnostic(
                    "DC523",
                    f"two different C files of operators are called {file}",
                    need="file names that differ",
                    help="rename the file in your --op-dir",
                )
            )
    return dict(sorted(found.items()))


def check_interface(network: Network, program: Program) -> None:
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
