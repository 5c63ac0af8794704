"""A chip's kernels: distinct PrimFuncs, stable symbols, one program for NVRTC."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploycc.nvrtc import find_compiler
from deploycc.planning.codegen import name_kernels
from deploycc.planning.cuda.lowering import PRELUDE, to_cuda
from deploycc.types import Gpu, Image, KernelFacts, Launch


@dataclass(frozen=True)
class DeviceKernels:
    """Compiled kernels of one chip.

    ``symbols`` has the symbol of each PrimFunc by its name in the module (equal PrimFuncs share one),
    ``launches`` what a call of it launches, by symbol; their arguments are numbers of its parameters.
    """

    images: tuple[Image, ...]
    symbols: Mapping[str, str]
    launches: Mapping[str, tuple[Launch, ...]]
    facts: tuple[KernelFacts, ...]


def compile_device_kernels(functions: Sequence[tuple[str, Any]], gpu: Gpu, prefix: str) -> DeviceKernels:
    """Compile ``functions`` (name, PrimFunc with bound loops) for ``gpu``.

    Symbols begin with ``<prefix>_<chip>_k<number>_``, and so do the names of the kernels in the images.
    Raises ``DeployccError`` (DC524) where there is no compiler.
    """
    compiler = find_compiler()
    symbols, distinct = name_kernels(functions, f"{prefix}_{re.sub(r'[^A-Za-z0-9_]', '_', gpu.name)}")
    if not distinct:
        return DeviceKernels((), {}, {}, ())
    source = to_cuda(distinct, gpu)
    compiled = compiler.compile(_prelude() + source.text, gpu.arch)
    images = (Image("cubin", gpu.arch, compiled.cubin), Image("ptx", gpu.arch, compiled.ptx))
    return DeviceKernels(images, symbols, source.launches, compiled.facts)


def cuda_source(functions: Sequence[tuple[str, Any]], gpu: Gpu) -> str:
    """The CUDA C of PrimFuncs (symbol, PrimFunc), complete, as NVRTC gets it."""
    return _prelude() + to_cuda(functions, gpu).text


def texts_of(symbol: str, function: Any, gpu: Gpu) -> tuple[str, str]:
    """CUDA C of one PrimFunc, without what stands before every program, and its PTX."""
    text = to_cuda([(symbol, function)], gpu).text
    ptx = find_compiler().compile(_prelude() + text, gpu.arch).ptx
    return text, ptx.rstrip(b"\0").decode()


def _prelude() -> str:
    return "".join(path.read_text(encoding="ascii") for path in PRELUDE)
