"""Object code of a network's kernels: distinct PrimFuncs, stable symbols, one LLVM module."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deploycc.planning.calling_convention import Workspace, to_c_functions, workspace
from deploycc.planning.elf import without_half_conversions
from deploycc.tvm_api import llvm_target, structural_equal, structural_hash, tvm
from deploycc.types import Target

_SYMBOL_LENGTH = 56
"""Longest descriptive part of a kernel's symbol; fused kernels can have names of hundreds of characters."""


@dataclass(frozen=True)
class Kernels:
    """Compiled kernels.

    ``code`` is an ELF object, ``symbols`` the symbol of each PrimFunc by its name in the module
    (equal PrimFuncs share one), ``workspace`` what each symbol may take.
    """

    code: bytes
    symbols: Mapping[str, str]
    workspace: Mapping[str, Workspace]


def compile_kernels(
    functions: Sequence[tuple[str, Any]], target: Target, prefix: str, first: int = 0
) -> Kernels:
    """Compile ``functions`` (name, PrimFunc) for ``target``; symbols are ``<prefix>_k<number>_<name>``.

    The bytes depend on the functions, their order, the target, the prefix and the ``first`` number alone.
    """
    symbols, distinct = name_kernels(functions, prefix, first)
    machine = llvm_target(target)
    module = to_c_functions(distinct, machine)
    spaces = {symbol: workspace(module[symbol]) for symbol, _ in distinct}
    compiled = _to_llvm(module, machine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        compiled.write_to_file(str(path), "o")
        code = path.read_bytes()
    return Kernels(without_half_conversions(code), symbols, spaces)


def source_of(func: Any, target: Target, form: Literal["ll", "asm"], symbol: str = "kernel") -> str:
    """LLVM IR (``ll``) or assembly (``asm``) of one PrimFunc as it is compiled for ``target``."""
    return sources_of(func, target, (form,), symbol)[0]


def sources_of(
    func: Any, target: Target, forms: Sequence[Literal["ll", "asm"]], symbol: str = "kernel"
) -> tuple[str, ...]:
    """The same in several forms, compiled once."""
    machine = llvm_target(target)
    compiled = _to_llvm(to_c_functions([(symbol, func)], machine), machine)
    return tuple(str(compiled.inspect_source(form)) for form in forms)


def name_kernels(
    functions: Sequence[tuple[str, Any]], prefix: str, first: int = 0
) -> tuple[dict[str, str], list[tuple[str, Any]]]:
    """Symbols by PrimFunc name, numbered from ``first`` on, and the distinct PrimFuncs with their symbols."""
    buckets: dict[int, list[tuple[str, Any]]] = {}
    symbols: dict[str, str] = {}
    distinct: list[tuple[str, Any]] = []
    for name, func in functions:
        bare = func.without_attr("global_symbol") if "global_symbol" in func.attrs else func
        bucket = buckets.setdefault(structural_hash(bare), [])
        same = next((symbol for symbol, other in bucket if structural_equal(bare, other)), None)
        if same is None:
            readable = re.sub(r"[^A-Za-z0-9_]", "_", name)[:_SYMBOL_LENGTH].rstrip("_")
            same = f"{prefix}_k{first + len(distinct):03d}_{readable}"
            bucket.append((same, bare))
            distinct.append((same, bare))
        symbols[name] = same
    return symbols, distinct


def _to_llvm(module: Any, machine: Any) -> Any:
    return tvm.get_global_func("target.build.llvm")(module, machine)
