"""The kernels of a plan as text, for people who want to see what was made of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploycc.planning.arena import Arranged
from deploycc.planning.codegen import sources_of
from deploycc.planning.cuda.kernels import texts_of
from deploycc.types import Gpu, Listing, Program, Target


def list_kernels(
    program: Program, arranged: Arranged, symbols: Mapping[str, str], target: Target
) -> tuple[Listing, ...]:
    """One listing for each distinct kernel, in the order of ``symbols`` (by PrimFunc name).

    Each kernel is compiled once more, alone: about as long as compiling them took the first time.
    """
    first: dict[str, str] = {}
    for name, symbol in symbols.items():
        first.setdefault(symbol, name)
    functions = dict(arranged.functions)
    return tuple(
        _list(program, arranged.originals.get(name, name), functions[name], symbol, target)
        for symbol, name in first.items()
    )


def list_device_kernels(
    program: Program, arranged: Arranged, symbols: Mapping[str, str], gpu: Gpu
) -> tuple[Listing, ...]:
    """The same of what ``gpu`` runs, with CUDA C and PTX."""
    first: dict[str, str] = {}
    for name, symbol in symbols.items():
        first.setdefault(symbol, name)
    functions = dict(arranged.functions)
    made = []
    for symbol, name in first.items():
        source, ptx = texts_of(symbol, functions[name], gpu)
        before = program.unscheduled.get(name, functions[name])
        after = _script(functions[name], name)
        made.append(Listing(symbol, _script(before, name), after, source, ptx, device=True))
    return tuple(made)


def _list(program: Program, name: str, scheduled: Any, symbol: str, target: Target) -> Listing:
    ir, assembly = sources_of(scheduled, target, ("ll", "asm"), symbol)
    before = program.unscheduled.get(name, scheduled)
    return Listing(symbol, _script(before, name), _script(scheduled, name), ir, assembly)


def _script(function: Any, name: str) -> str:
    return str(function.with_attr("global_symbol", name).script()) + "\n"
