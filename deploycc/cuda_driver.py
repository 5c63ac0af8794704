"""NVIDIA's driver called from Python, for what tuning and ceilings need: load, launch, copy, time by events.

It is ``libcuda.so.1`` through ``ctypes``; nothing else is needed.  Functions, structures and constants are
those of the CUDA Driver API (``cuda.h`` of CUDA 12).  All of it is of one GPU and one stream, in one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LIBRARY = "libcuda.so.1"

_PROCESSORS, _MAJOR, _MINOR = 16, 75, 76
_MAX_DYNAMIC_SHARED = 8
_NON_BLOCKING = 1
_DEVICE_MEMORY = 2
_LARGEST_STATIC_SHARED = 48 << 10
"""A kernel has to ask for more shared memory than that (CUDA C++ Programming Guide, Shared Memory)."""

Array = npt.NDArray[Any]
Pointer = ctypes.c_uint64


class DriverError(Exception):
    """A call of the driver failed; the message has its name and the error's."""


@dataclass(frozen=True)
class Device:
    """A GPU as the driver tells of it: ``arch`` as ``sm_90``, ``processors`` as streaming multiprocessors."""

    number: int
    name: str
    arch: str
    processors: int


@contextlib.contextmanager
def open_driver(device: int = 0) -> Iterator[Driver]:
    """The GPU of this number, until the end of the block.

    Raises ``DriverError``, and ``OSError`` where there is no driver.
    """
    driver = Driver(device)
    try:
        yield driver
    finally:
        driver.close()


def devices() -> tuple[Device, ...]:
    """The GPUs of this machine; none where there is no driver.  Afterwards a fork cannot use them."""
    try:
        library = _load()
        count = ctypes.c_int()
        _check(library, "cuDeviceGetCount", ctypes.byref(count))
        return tuple(_device(library, number) for number in range(count.value))
    except (OSError, DriverError):
        return ()


class Driver:
    """One GPU: its primary context, a stream, and what was allocated and loaded, freed by ``close``."""

    def __init__(self, number: int = 0) -> None:
        self._library = _load()
        self.device = _device(self._library, number)
        self._handle = _handle_of(self._library, number)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)
        self._call("cuCtxPushCurrent_v2", self._context)
        self._stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(self._stream), _NON_BLOCKING)
        self._memory: set[int] = set()
        self._modules: list[ctypes.c_void_p] = []
        self._events: list[ctypes.c_void_p] = []

    def close(self) -> None:
        """Free everything."""
        for address in list(self._memory):
            self.free(address)
        self.unload()
        for event in self._events:
            self._library.cuEventDestroy_v2(event)
        self._library.cuStreamDestroy_v2(self._stream)
        self._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        self._library.cuDevicePrimaryCtxRelease_v2(self._handle)

    # ---- code ----

    def load(self, image: bytes) -> ctypes.c_void_p:
        """A module of a cubin, or of PTX with a 0 byte at its end."""
        module = ctypes.c_void_p()
        self._call("cuModuleLoadDataEx", ctypes.byref(module), image, 0, None, None)
        self._modules.append(module)
        return module

    def unload(self) -> None:
        """Unload all modules."""
        while self._modules:
            self._library.cuModuleUnload(self._modules.pop())

    def function(self, module: ctypes.c_void_p, name: str, shared_bytes: int = 0) -> ctypes.c_void_p:
        """A kernel that may be launched with so much dynamic shared memory."""
        found = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(found), module, name.encode())
        if shared_bytes > _LARGEST_STATIC_SHARED:
            self._call("cuFuncSetAttribute", found, _MAX_DYNAMIC_SHARED, shared_bytes)
        return found

    def launch(
        self,
        function: ctypes.c_void_p,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        addresses: Sequence[int],
    ) -> None:
        """Put a kernel whose parameters are all pointers into the stream."""
        pointers, _kept = _pointers(addresses)
        self._call("cuLaunchKernel", function, *grid, *block, shared_bytes, self._stream, pointers, None)

    def graph(self) -> Graph:
        """A new graph, which the caller closes."""
        return Graph(self._library, self._context, self._stream)

    # ---- memory ----

    def allocate(self, nbytes: int) -> int:
        """The address of so many bytes, 256-byte aligned."""
        address = Pointer()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(1, nbytes)))
        self._memory.add(address.value)
        return int(address.value)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._memory.discard(address)
        self._library.cuMemFree_v2(Pointer(address))

    def to_device(self, address: int, array: Array) -> None:
        """Copy an array there; it returns when that is done."""
        data = np.ascontiguousarray(array)
        if data.nbytes:
            pointer = data.ctypes.data_as(ctypes.c_void_p)
            size = ctypes.c_size_t(data.nbytes)
            self._call("cuMemcpyHtoDAsync_v2", Pointer(address), pointer, size, self._stream)
            self.synchronize()

    def to_host(self, address: int, nbytes: int) -> Array:
        """So many bytes from there, behind all that is in the stream."""
        data = np.empty(nbytes, np.uint8)
        if not nbytes:
            return data
        self._call(
            "cuMemcpyDtoHAsync_v2",
            data.ctypes.data_as(ctypes.c_void_p),
            Pointer(address),
            ctypes.c_size_t(nbytes),
            self._stream,
        )
        self.synchronize()
        return data

    def copy_on_device(self, destination: int, source: int, nbytes: int) -> None:
        """Put a copy within the GPU's memory into the stream."""
        self._call(
            "cuMemcpyDtoDAsync_v2",
            Pointer(destination),
            Pointer(source),
            ctypes.c_size_t(nbytes),
            self._stream,
        )

    # ---- time ----

    def lost(self) -> bool:
        """Whether nothing works any more: a kernel that failed takes the context with it."""
        return bool(self._library.cuStreamSynchronize(self._stream) != 0)

    def synchronize(self) -> None:
        """Wait for all that is in the stream; what failed in it is told here."""
        self._call("cuStreamSynchronize", self._stream)

    def event(self) -> ctypes.c_void_p:
        """An event that takes times."""
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), 0)
        self._events.append(event)
        return event

    def record(self, event: ctypes.c_void_p) -> None:
        """Put the event into the stream."""
        self._call("cuEventRecord", event, self._stream)

    def seconds_between(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        """The time between two recorded events, once the second has passed (to half a microsecond)."""
        milliseconds = ctypes.c_float()
        self._call("cuEventSynchronize", end)
        self._call("cuEventElapsedTime", ctypes.byref(milliseconds), start, end)
        return milliseconds.value / 1e3

    def _call(self, name: str, *arguments: Any) -> None:
        _check(self._library, name, *arguments)


class _KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v1."""

    _fields_ = (
        ("function", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("parameters", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
    )


class _CopyEnd(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("x", "y", "z", "lod")),
        ("memory", ctypes.c_uint),
        ("host", ctypes.c_void_p),
        ("device", Pointer),
        ("array", ctypes.c_void_p),
        ("reserved", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


class _CopyNode(ctypes.Structure):
    """CUDA_MEMCPY3D_v2."""

    _fields_ = (
        ("source", _CopyEnd),
        ("destination", _CopyEnd),
        *((name, ctypes.c_size_t) for name in ("width", "height", "depth")),
    )


class Graph:
    """Launches and copies one after the other, which the GPU does without a word from the processor."""

    def __init__(self, library: Any, context: ctypes.c_void_p, stream: ctypes.c_void_p) -> None:
        self._library, self._context, self._stream = library, context, stream
        self._graph, self._exec = ctypes.c_void_p(), ctypes.c_void_p()
        self._last: ctypes.c_void_p | None = None
        _check(library, "cuGraphCreate", ctypes.byref(self._graph), 0)

    def launch(
        self,
        function: ctypes.c_void_p,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        addresses: Sequence[int],
    ) -> None:
        """Add a kernel whose parameters are all pointers."""
        pointers, kept = _pointers(addresses)
        node = _KernelNode(
            function,
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            shared_bytes,
            ctypes.cast(pointers, ctypes.c_void_p),
            None,
        )
        self._add("cuGraphAddKernelNode", node)
        del kept  # the driver has copied the values

    def copy(self, destination: int, source: int, nbytes: int) -> None:
        """Add a copy within the GPU's memory."""
        ends = [_CopyEnd(memory=_DEVICE_MEMORY, device=address) for address in (source, destination)]
        self._add("cuGraphAddMemcpyNode", _CopyNode(*ends, nbytes, 1, 1), self._context)

    def run(self) -> None:
        """Put all of it into the stream."""
        if not self._exec:
            _check(
                self._library,
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self._exec),
                self._graph,
                ctypes.c_ulonglong(0),
            )
        _check(self._library, "cuGraphLaunch", self._exec, self._stream)

    def close(self) -> None:
        """Give back what the driver holds."""
        if self._exec:
            self._library.cuGraphExecDestroy(self._exec)
        self._library.cuGraphDestroy(self._graph)

    def _add(self, name: str, parameters: ctypes.Structure, *more: Any) -> None:
        node = ctypes.c_void_p()
        after = None if self._last is None else ctypes.byref(self._last)
        count = ctypes.c_size_t(self._last is not None)
        _check(
            self._library,
            name,
            ctypes.byref(node),
            self._graph,
            after,
            count,
            ctypes.byref(parameters),
            *more,
        )
        self._last = node


def _pointers(addresses: Sequence[int]) -> tuple[Any, list[Pointer]]:
    """What a launch takes as its parameters, and the values that these point to."""
    values = [Pointer(address) for address in addresses]
    pointers = (ctypes.c_void_p * max(1, len(values)))(
        *(ctypes.cast(ctypes.byref(value), ctypes.c_void_p) for value in values)
    )
    return pointers, values


def _load() -> Any:
    library = ctypes.CDLL(LIBRARY)
    _check(library, "cuInit", 0)
    return library


def _check(library: Any, name: str, *arguments: Any) -> None:
    status = getattr(library, name)(*arguments)
    if status != 0:
        text = ctypes.c_char_p()
        library.cuGetErrorName(status, ctypes.byref(text))
        raise DriverError(f"{name}: {(text.value or b'unknown error').decode()} ({status})")


def _handle_of(library: Any, number: int) -> ctypes.c_int:
    device = ctypes.c_int()
    _check(library, "cuDeviceGet", ctypes.byref(device), number)
    return device


def _device(library: Any, number: int) -> Device:
    handle = _handle_of(library, number)
    name = ctypes.create_string_buffer(256)
    _check(library, "cuDeviceGetName", name, len(name), handle)

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        _check(library, "cuDeviceGetAttribute", ctypes.byref(value), which, handle)
        return int(value.value)

    arch = f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}"
    return Device(number, name.value.decode(errors="replace"), arch, attribute(_PROCESSORS))
