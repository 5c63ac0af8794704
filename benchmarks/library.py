"""A package's library called from Python through its C interface, for measuring without a process between."""

from __future__ import annotations

import _ctypes
import ctypes
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ABI_VERSION = 2
_DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
    9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip
"""ONNX's TensorProto.DataType numbers, which the C interface uses."""


class _TensorInfo(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("elements", ctypes.c_size_t),
        ("bytes", ctypes.c_size_t),
        ("alignment", ctypes.c_size_t),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("threads", ctypes.c_int32),
        ("spin_us", ctypes.c_int32),
        ("cpus", ctypes.c_void_p),
        ("cpu_count", ctypes.c_size_t),
        ("memory", ctypes.c_void_p),
        ("memory_bytes", ctypes.c_size_t),
    )


class RunFailed(Exception):
    """The library returned a status other than OK; the text is its own."""


def package_name(package: Path) -> str:
    """The name of the one library in ``package``."""
    (manifest,) = (package / "share").glob("*/manifest.json")
    return manifest.parent.name


def manifest_of(package: Path) -> dict[str, Any]:
    """The parsed ``share/NAME/manifest.json``."""
    loaded: dict[str, Any] = json.loads(
        (package / "share" / package_name(package) / "manifest.json").read_text(encoding="utf-8")
    )
    return loaded


class PackageLibrary:
    """A loaded library with one handle of ``threads`` threads and its own aligned buffers.

    Worker i is pinned to ``cpus[i]``, without ``cpus`` nothing is; idle workers spin for ``spin_us``
    microseconds, -1 for the runtime's default.
    """

    def __init__(self, package: Path, threads: int = 1, cpus: Sequence[int] = (), spin_us: int = -1) -> None:
        self.name = package_name(package)
        self._c = ctypes.CDLL(str(package / "lib" / f"lib{self.name}.so"))
        if self._function("abi_version")() != ABI_VERSION:
            raise RunFailed(f"{self.name}: unknown version of the C interface")
        self._function("last_error").restype = ctypes.c_char_p
        self._run = self._function("run")
        chosen = (ctypes.c_int32 * len(cpus))(*cpus) if cpus else None
        options = _Options(
            ctypes.sizeof(_Options),
            threads,
            spin_us,
            ctypes.cast(chosen, ctypes.c_void_p),
            len(cpus),
            None,
            0,
        )
        self._handle = ctypes.c_void_p()
        status = self._function("create")(ctypes.byref(options), ctypes.byref(self._handle))
        self._check(status, None)
        self.inputs = self._tensors("input")
        self.outputs = self._tensors("output")
        self._input_pointers = self._pointers(self.inputs)
        self._output_pointers = self._pointers(self.outputs)

    def bind(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Fix the inputs for ``run`` and return copies of the outputs they give."""
        for mine, given in zip(self.inputs, inputs, strict=True):
            if (mine.shape, mine.dtype) != (given.shape, given.dtype):
                raise ValueError(
                    f"{self.name} takes {mine.dtype}{mine.shape}, not {given.dtype}{given.shape}"
                )
            mine[...] = given
        for mine in self.outputs:
            mine.view(np.uint8).fill(0xAB) if mine.ndim else mine.fill(0)
        self.run()
        return [output.copy() for output in self.outputs]

    def run(self) -> None:
        """One run on the bound inputs.  Raises RunFailed."""
        status = self._run(self._handle, self._input_pointers, self._output_pointers)
        if status != 0:
            self._check(status, self._handle)

    def close(self) -> None:
        """Free the handle and unload the library: its thread-local words take a small room of glibc's."""
        self._function("destroy")(self._handle)
        self._handle = ctypes.c_void_p()
        _ctypes.dlclose(self._c._handle)

    def _function(self, name: str) -> Any:
        return getattr(self._c, f"{self.name}_{name}")

    def _check(self, status: int, handle: ctypes.c_void_p | None) -> None:
        if status != 0:
            raise RunFailed(f"{self.name}: status {status}: {self._function('last_error')(handle).decode()}")

    def _tensors(self, role: str) -> list[NDArray[Any]]:
        info = self._function(f"{role}_info")
        info.restype = ctypes.POINTER(_TensorInfo)
        found = []
        for index in range(self._function(f"{role}_count")()):
            tensor = info(index).contents
            shape = tuple(tensor.shape[i] for i in range(tensor.rank))
            found.append(_aligned(shape, np.dtype(_DTYPES[tensor.dtype])))
        return found

    @staticmethod
    def _pointers(arrays: Sequence[NDArray[Any]]) -> Any:
        return (ctypes.c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array in arrays))


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros at a 64-byte boundary, as a careful app would have them."""
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    block = np.zeros(nbytes + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + nbytes].view(dtype).reshape(shape)
