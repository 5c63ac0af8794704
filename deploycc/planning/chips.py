"""Plans of one network for several GPU chips, for one library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deploycc.device_types import ON_DEVICE
from deploycc.planning.arena import Arranged, arrange
from deploycc.planning.codegen import compile_kernels
from deploycc.planning.constants import lay_out
from deploycc.planning.cuda.aligning import with_aligned_views, with_scratch
from deploycc.planning.cuda.kernels import DeviceKernels, compile_device_kernels
from deploycc.planning.cuda.staging import with_transfers
from deploycc.planning.listing import list_device_kernels, list_kernels
from deploycc.planning.network import COPY, read_network
from deploycc.planning.planner import LaidOut, calls_of, check_interface, routines_of, without_joins
from deploycc.types import Call, Gpu, Listing, Plan, Program, Target


@dataclass(frozen=True)
class _Chip:
    """A program for one chip, laid out; ``device`` are the names of what the GPU runs."""

    gpu: Gpu
    laid_out: LaidOut
    device: frozenset[str]

    def functions(self, on_device: bool) -> list[tuple[str, Any]]:
        """What runs on the GPU, or else what does not."""
        return [pair for pair in self.laid_out.arranged.functions if (pair[0] in self.device) == on_device]


def plan_chips(
    programs: Sequence[Program], target: Target, *, prefix: str = "deploycc", listings: bool = False
) -> tuple[Plan, ...]:
    """Compile ``programs``, one for each of the target's chips, into a plan each.

    All have the same ``kernels`` (what the processor runs), ``weights`` and ``routines``; images, calls and
    memory are each plan's own.  A call with launches runs on the GPU, every other one that is no copy on the
    processor, with copies around it.  ``listings``, kernels as text, are those of the first chip.

    Raises ``DeployccError`` as ``plan`` does, and DC524 where there is no compiler for the GPU.
    """
    chips = [_arranged(one, target, gpu) for one, gpu in zip(programs, target.gpus, strict=True)]
    weights = lay_out([array for one in chips for array in one.laid_out.arranged.network.constants])
    devices = [compile_device_kernels(one.functions(on_device=True), one.gpu, prefix) for one in chips]
    on_host = [
        (f"{name}@{number}", function)
        for number, one in enumerate(chips)
        for name, function in one.functions(on_device=False)
    ]
    count = max(len(set(device.symbols.values())) for device in devices)
    kernels = compile_kernels(on_host, target.host, prefix, first=count)
    space = max((w.call for w in kernels.workspace.values()), default=0)
    thread_space = max((w.worker for w in kernels.workspace.values()), default=0)
    routines = routines_of(one.laid_out.program.module[name] for one in chips for name in one.laid_out.names)
    plans = []
    first_constant = 0
    for number, (one, device) in enumerate(zip(chips, devices, strict=True)):
        arranged = one.laid_out.arranged
        symbols = {
            name: device.symbols[name] if name in one.device else kernels.symbols[f"{name}@{number}"]
            for name, _ in arranged.functions
        }
        count = len(arranged.network.constants)
        offsets = weights.offsets[first_constant : first_constant + count]
        first_constant += count
        calls = _launched(calls_of(one.laid_out, symbols, offsets), device)
        staged, host_bytes = with_transfers(calls, arranged.layout.arena_bytes)
        plans.append(
            Plan(
                kernels=kernels.code,
                calls=staged,
                weights=weights.blob,
                arena_bytes=arranged.layout.arena_bytes,
                workspace_bytes=space,
                thread_workspace_bytes=thread_space,
                inputs=one.laid_out.program.inputs,
                outputs=one.laid_out.program.outputs,
                routines=routines,
                parameters=weights.elements,
                listings=_listed(one, symbols, target) if listings and number == 0 else (),
                memory=arranged.memory,
                gpu=one.gpu,
                images=device.images,
                host_bytes=host_bytes,
                kernel_facts=device.facts,
            )
        )
    return tuple(plans)


def _arranged(program: Program, target: Target, gpu: Gpu) -> _Chip:
    operators = {task.symbol: task.operators for task in program.tasks}
    operators |= {choice.task: choice.operators for choice in program.choices if choice.operators}
    network = read_network(program.module, operators)
    check_interface(network, program)
    network = with_aligned_views(without_joins(network, program.module))
    names = list(dict.fromkeys(step.function for step in network.steps if step.function != COPY))
    device = {name for name in names if ON_DEVICE in (program.module[name].attrs or ())}
    network = with_scratch(network, {name: _scratch(program.module[name]) for name in device})
    arranged: Arranged = arrange(network, program, target.host, "fast")
    return _Chip(gpu, LaidOut(program, arranged, operators, tuple(names)), frozenset(device))


def _listed(one: _Chip, symbols: Mapping[str, str], target: Target) -> tuple[Listing, ...]:
    program, arranged = one.laid_out.program, one.laid_out.arranged
    device = {name: symbol for name, symbol in symbols.items() if name in one.device}
    host = {name: symbol for name, symbol in symbols.items() if name not in one.device}
    return (
        *list_device_kernels(program, arranged, device, one.gpu),
        *list_kernels(program, arranged, host, target.host),
    )


def _scratch(function: Any) -> tuple[int, ...]:
    count = int(function.attrs[ON_DEVICE])
    buffers = list(function.params)[len(function.params) - count :]
    return tuple(
        math.prod(int(size) for size in buffer.ty.shape) * np.dtype(str(buffer.ty.dtype)).itemsize
        for buffer in buffers
    )


def _launched(calls: Sequence[Call], device: DeviceKernels) -> tuple[Call, ...]:
    launches: Mapping[str, Any] = device.launches
    return tuple(replace(call, launches=launches.get(call.symbol, ())) for call in calls)
