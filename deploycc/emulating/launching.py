"""Kernels of a translated module called from Python, for tests of kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.types import DeployccError, Diagnostic

_Extents = ctypes.c_uint32 * 3
_RUN = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_char_p,
)


class _Kernel(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("parameter_count", ctypes.c_uint32),
        ("parameter_offsets", ctypes.POINTER(ctypes.c_uint32)),
        ("parameter_sizes", ctypes.POINTER(ctypes.c_uint32)),
        ("parameter_bytes", ctypes.c_uint32),
        ("static_shared_bytes", ctypes.c_uint32),
        ("max_threads", ctypes.c_uint32),
        ("run", _RUN),
    )


class _Table(ctypes.Structure):
    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("kernel_count", ctypes.c_uint32),
        ("kernels", ctypes.POINTER(_Kernel)),
    )


class EmulatedModule:
    """A library that ``build_module`` made; ``names`` are its kernels."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        table = _Table.in_dll(self._library, "dcc_emulated_module_table")
        self._kernels = {
            kernel.name.decode(): kernel for kernel in (table.kernels[n] for n in range(table.kernel_count))
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the kernels, in the order of the PTX."""
        return tuple(self._kernels)

    def static_shared_bytes(self, name: str) -> int:
        """Static shared memory of a block of a kernel."""
        return int(self._kernel(name).static_shared_bytes)

    def launch(
        self,
        name: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        shared_bytes: int,
        arguments: Sequence[np.ndarray[Any, Any] | np.generic],
        *,
        seed: int | None = None,
        bounds: bool = True,
    ) -> None:
        """Run a kernel: arrays are passed as pointers and written in place, numpy scalars as themselves.

        ``grid`` and ``block`` have one to three extents, x first.  With a ``seed`` other than 0 (by default
        ``DEPLOYCC_EMULATED_SEED``) the threads between two barriers, and the blocks, run in a random order.
        With ``bounds`` an access of global memory outside ``arguments`` ends the launch (in modules built
        with checks).

        Raises ``DeployccError``: DC881 with what went wrong in the kernel, DC882 for a launch that does not
        fit it.
        """
        kernel = self._kernel(name)
        if len(arguments) != kernel.parameter_count:
            raise _misfit(name, f"{len(arguments)} arguments", f"{kernel.parameter_count} parameters")
        block_of_parameters = bytearray(max(kernel.parameter_bytes, 1))
        ranges = []
        for number, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray):
                if not argument.flags.c_contiguous or not argument.flags.writeable:
                    raise _misfit(name, f"argument {number}, strided or read-only", "arrays in one piece")
                data = argument.ctypes.data.to_bytes(8, "little")
                ranges.append((argument.ctypes.data, argument.ctypes.data + argument.nbytes))
            else:
                data = argument.tobytes()
            if len(data) != kernel.parameter_sizes[number]:
                need = f"{kernel.parameter_sizes[number]} bytes"
                raise _misfit(name, f"argument {number} of {len(data)} bytes", need)
            start = kernel.parameter_offsets[number]
            block_of_parameters[start : start + len(data)] = data
        parameters = ctypes.create_string_buffer(bytes(block_of_parameters), len(block_of_parameters))
        self._run(kernel, name, grid, block, shared_bytes, parameters, seed, ranges if bounds else None)

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            raise _misfit(name, "no such kernel", f"one of {', '.join(self._kernels) or 'none'}")
        return self._kernels[name]

    def _run(
        self,
        kernel: Any,
        name: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        shared_bytes: int,
        parameters: ctypes.Array[ctypes.c_char],
        seed: int | None,
        ranges: list[tuple[int, int]] | None,
    ) -> None:
        error = ctypes.create_string_buffer(256)
        own_seed = ctypes.c_uint64.in_dll(self._library, "dcc_emulated_seed")
        before, own_seed.value = own_seed.value, own_seed.value if seed is None else seed
        check = ctypes.c_void_p.in_dll(self._library, "dcc_emulated_check")
        known = (ctypes.c_uint64 * (2 * len(ranges or ())))(*(end for pair in ranges or () for end in pair))
        if ranges is not None:
            count = ctypes.c_uint32.in_dll(self._library, "dcc_emulated_range_count")
            count.value = len(ranges)
            ctypes.c_void_p.in_dll(self._library, "dcc_emulated_ranges").value = ctypes.addressof(known)
            in_ranges = self._library.dcc_emulated_in_ranges
            check.value = ctypes.cast(in_ranges, ctypes.c_void_p).value
        try:
            extents = (_Extents(*grid, *[1] * (3 - len(grid))), _Extents(*block, *[1] * (3 - len(block))))
            status = kernel.run(*extents, shared_bytes, parameters, error)
        finally:
            check.value, own_seed.value = None, before
        if status:
            text = error.value.decode(errors="replace")
            raise DeployccError(Diagnostic("DC881", f"a kernel failed: {text}", got=f"{name} {grid} {block}"))


def _misfit(name: str, got: str, need: str) -> DeployccError:
    return DeployccError(Diagnostic("DC882", f"a launch that does not fit kernel {name}", got=got, need=need))
