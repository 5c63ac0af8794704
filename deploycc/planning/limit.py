"""``build --max-memory``: what a handle would take, compared with the limit before kernels are compiled."""

from __future__ import annotations

from dataclasses import dataclass

from deploycc.memory_use import handle_bytes
from deploycc.planning.arena import Arranged, arrange
from deploycc.planning.calling_convention import to_c_functions, workspace
from deploycc.planning.lifetimes import live_parts
from deploycc.planning.memory import Tensor, aligned, bytes_per_call
from deploycc.planning.network import COPY, Network, Step, Storage
from deploycc.planning.smallest import arena_blocks
from deploycc.tvm_api import llvm_target
from deploycc.types import DeployccError, Diagnostic, Program, Target

_SHOWN = 5
"""How many tensors at the peak are named."""


def check_memory(network: Network, arranged: Arranged, program: Program, target: Target, limit: int) -> None:
    """Raise ``DeployccError`` (DC870) if a handle for all cores of ``target`` takes more than ``limit``.

    That is what ``NAME_memory_bytes`` tells for so many threads: the arena, the workspace of the calling
    thread, and one for each thread.  ``network`` is the one that ``arranged`` was made of.
    """
    arena = arranged.layout.arena_bytes
    lowered = to_c_functions(arranged.functions, llvm_target(target))
    spaces = [workspace(lowered[name]) for name, _ in arranged.functions]
    call = max((space.call for space in spaces), default=0)
    worker = max((space.worker for space in spaces), default=0)
    total = handle_bytes(arena, call, worker, target.cores)
    if total <= limit:
        return
    peak = _peak(arranged, program)
    weights = sum(aligned(array.nbytes) for array in network.constants)
    inputs = sum(storage.nbytes for storage in network.inputs)
    outputs = sum(view.nbytes for view in network.outputs)
    raise DeployccError(
        Diagnostic(
            "DC870",
            f"a handle takes {size(total)}, more than --max-memory allows",
            node=peak.node,
            op=peak.operators,
            got=f"an arena of {size(arena)}, {size(call)} of workspace and {size(worker)} for each of "
            f"{target.cores} threads (not counted: weights {size(weights)}, the caller's inputs "
            f"{size(inputs)} and outputs {size(outputs)}); {peak.text}",
            need=f"at most {size(limit)}",
            help=_advice(network, arranged, program, target, limit, total, worker),
        )
    )


def check_together(arena: int, call: int, worker: int, target: Target, limit: int) -> None:
    """Raise ``DeployccError`` (DC870) if a handle takes more that has room for each of several variants.

    Each of them alone takes no more, or ``check_memory`` had said so.
    """
    total = handle_bytes(arena, call, worker, target.cores)
    if total > limit:
        raise DeployccError(
            Diagnostic(
                "DC870",
                f"a handle for all variants takes {size(total)}, more than --max-memory allows",
                got=f"an arena of {size(arena)}, {size(call)} of workspace and {size(worker)} for each of "
                f"{target.cores} threads: the largest of each that some variant needs",
                need=f"at most {size(limit)}",
                help="leave out the largest shapes of --shape, or build them as a package of their own",
            )
        )


def size(count: int) -> str:
    """Bytes as a person reads them, never less than they are by more than half a unit of the last digit."""
    if count < 1024:
        return f"{count} bytes"
    unit, name = (1 << 20, "MiB") if count >= 1 << 20 else (1 << 10, "KiB")
    return f"{count / unit:.2f} {name}"


@dataclass(frozen=True)
class _Peak:
    node: str
    operators: str
    text: str


def _peak(arranged: Arranged, program: Program) -> _Peak:
    """The step at which most is live, and what that is."""
    network = arranged.network
    live = bytes_per_call(list(arena_blocks(network).values()))
    if not live or not max(live.values()):
        return _Peak("", "", "nothing lies in the arena")
    call = min(live, key=lambda number: (-live[number], number))
    number = min(call, len(network.steps) - 1)
    step = network.steps[number]
    parts = live_parts(network.steps, network.outputs)
    held = [
        (storage, part)
        for storage, found in parts.items()
        for part in found
        if part.first <= call <= part.last and arranged.places[storage].kind == "arena"
    ]
    held.sort(key=lambda item: -item[1].nbytes)
    shown = [_described(storage, part, network, arranged, program) for storage, part in held[:_SHOWN]]
    more = f" and {len(held) - _SHOWN} smaller ones" if len(held) > _SHOWN else ""
    nodes = _nodes(step, program)
    made = f"which computes {_quoted(nodes)}" if nodes else f"{_operators(step, arranged, program)}"
    text = (
        f"the peak is {size(live[call])} at step {number} of {len(network.steps)}, {made}, with "
        f"{'; '.join(shown)}{more}"
    )
    return _Peak(nodes[-1] if nodes else "", _operators(step, arranged, program), text)


def _described(storage: Storage, part: Tensor, network: Network, arranged: Arranged, program: Program) -> str:
    step = network.steps[part.first]
    results = program.origins[step.variable].results if step.variable in program.origins else ()
    places = [(view.storage, view.offset, view.nbytes) for view in step.writes]
    index = places.index((storage, part.offset, part.nbytes))
    result = results[index] if index < len(results) and step.function != COPY else None
    nodes = _nodes(step, program)
    by = f" of {_quoted(nodes)}" if nodes else ""
    if result is None:
        return f"{size(part.nbytes)}, the result of {_operators(step, arranged, program)}{by}"
    shape = "x".join(map(str, result.shape)) + (" channels last" if result.channels_last else "")
    return f"{size(part.nbytes)} of '{result.tensor}' ({shape}){by}"


def _nodes(step: Step, program: Program) -> tuple[str, ...]:
    return program.origins[step.variable].nodes if step.variable in program.origins else ()


def _operators(step: Step, arranged: Arranged, program: Program) -> str:
    if step.function == COPY:
        return "Concat"
    task = arranged.originals.get(step.function, step.function)
    known = {choice.task: choice.operators for choice in program.choices}
    return "+".join(known.get(task, ()) or (task,))


def _quoted(nodes: tuple[str, ...]) -> str:
    return ", ".join(f"'{node}'" for node in nodes[:3]) + (
        f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    )


def _advice(
    network: Network,
    arranged: Arranged,
    program: Program,
    target: Target,
    limit: int,
    total: int,
    worker: int,
) -> str:
    """What could help: the smaller arena with what it gives, smaller shapes, parts."""
    advice = []
    if arranged.memory.arena == "fast":
        smaller = arrange(network, program, target, "smallest")
        saved = arranged.layout.arena_bytes - smaller.layout.arena_bytes
        enough = "enough" if total - saved <= limit else "not enough by itself"
        if saved > 0:
            advice.append(f"--arena smallest takes the arena to {size(smaller.layout.arena_bytes)}, {enough}")
    advice.append("give smaller inputs with --shape (an image in tiles)")
    advice.append("narrow or cut the tensors named here in the model, or build it in parts")
    if target.cores > 1 and worker:
        advice.append("every thread has a workspace of its own: a target with fewer cores counts fewer")
    return "; ".join(advice)
