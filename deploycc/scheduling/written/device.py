"""Kernels for a GPU written by hand: TensorIR with blocks and threads, the fused epilogue spliced in.

What is written is what runs: barriers (``sync``) are where the writer puts them, and no pass moves, merges
or adds anything.  Loops of kind ``unrolled`` are told to the compiler as such, and a ``local`` buffer whose
indices are constants then lives in registers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from deploycc.device_types import BOUND_BY_HAND, ON_DEVICE
from deploycc.scheduling.written.writing import FusedKernel, Index, Writer, sequence
from deploycc.tvm_api import ir, s_tir, tirx

_BLOCK, _THREAD = "blockIdx", "threadIdx"


class DeviceWriter(Writer):
    """Writes one PrimFunc of one or more launches.

    Each launch is a ``with launch(grid, block)`` at the top; inside are ``loop`` (serial, unrolled,
    vectorized), ``when``, ``load``, ``store``, ``result`` and what is here.  Buffers belong to the launch in
    which they are asked for: ``local`` to each thread, ``shared`` to each block.
    """

    def __init__(self, kernel: FusedKernel) -> None:
        super().__init__(kernel)
        self._launched: list[Any] = []
        self._scratch: list[Any] = []

    @contextlib.contextmanager
    def launch(
        self, grid: Sequence[int], block: Sequence[int]
    ) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """``grid`` blocks of ``block`` threads (up to three extents each, x first); gives their indices.

        The index along an extent of 1 is the number 0.
        """
        bound = [(_BLOCK, number, size) for number, size in enumerate(grid)]
        bound += [(_THREAD, number, size) for number, size in enumerate(block)]
        variables = [
            tirx.Var(f"{kind}_{'xyz'[number]}", "int64") if size > 1 else tirx.IntImm("int64", 0)
            for kind, number, size in bound
        ]
        outside, self._buffers = self._buffers, []
        self._bodies.append([])
        yield tuple(variables[: len(grid)]), tuple(variables[len(grid) :])
        body = sequence([*(tirx.AllocBuffer(flat.buffer) for flat in self._buffers), *self._bodies.pop()])
        self._buffers = outside
        if all(size == 1 for _, _, size in bound):
            bound, variables = [(_THREAD, 0, 1)], [tirx.Var("threadIdx_x", "int64")]
        for (kind, number, size), variable in reversed(list(zip(bound, variables, strict=True))):
            if isinstance(variable, tirx.Var):
                body = _bound(variable, size, f"{kind}.{'xyz'[number]}", body)
        self._bodies[-1].append(body)

    def local(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
        """A buffer of each thread, in registers where all indices are constants after unrolling."""
        return self._allocate(name, shape, dtype, "local")

    def shared(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
        """A buffer of each block, of at most 48 KiB together; what is in it at first is not defined."""
        return self._allocate(name, shape, dtype, "shared")

    def dynamic_shared(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
        """The one buffer of a launch that may be as large as the chip has shared memory for a block."""
        return self._allocate(name, shape, dtype, "shared.dyn")

    def scratch(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
        """A buffer in the device's memory that later launches of this kernel read; not defined at first."""
        buffer = tirx.decl_buffer([tirx.IntImm("int64", extent) for extent in shape], dtype, name)
        self._scratch.append(buffer)
        return buffer

    def pass_on(self, buffer: Any) -> None:
        """The same for a buffer of the kernel that one of its steps leaves for another."""
        self._scratch.append(buffer)

    def sync(self) -> None:
        """No thread of the block goes on before all are here, and all see what was written before."""
        self.call("__syncthreads")

    def call(self, function: str, *arguments: Any, dtype: str = "void") -> Any:
        """Call a device function (of ``device/prelude.cuh`` or CUDA's own) for its effect."""
        self._evaluate(tirx.call_extern(dtype, function, *arguments))

    def value_of(self, function: str, *arguments: Any, dtype: str = "float32") -> Any:
        """What a device function gives, as an expression."""
        return tirx.call_extern(dtype, function, *arguments)

    def address(self, buffer: Any, *indices: Index) -> Any:
        """The address of ``buffer[indices]``, to hand to a function."""
        return tirx.address_of(self.load(buffer, *indices))

    def vector(self, buffer: Any, lanes: int, *indices: Index) -> Any:
        """``lanes`` elements from ``buffer[indices]`` on, aligned to all of them, in one load."""
        if lanes == 1:
            return self.load(buffer, *indices)
        first = tirx.IntImm("int64", indices[-1]) if isinstance(indices[-1], int) else indices[-1]
        return self.load(buffer, *indices[:-1], tirx.Ramp(first, tirx.IntImm("int64", 1), lanes))

    def store_vector(self, buffer: Any, lanes: int, value: Any, *indices: Index) -> None:
        """The same for a store."""
        if lanes == 1:
            self.store(buffer, value, *indices)
            return
        first = tirx.IntImm("int64", indices[-1]) if isinstance(indices[-1], int) else indices[-1]
        self.store(buffer, value, *indices[:-1], tirx.Ramp(first, tirx.IntImm("int64", 1), lanes))

    def _evaluate(self, call: Any) -> None:
        self._bodies[-1].append(tirx.Evaluate(call))

    def finish(self) -> Any:
        """The PrimFunc: the parameters of the kernel it stands for in their order, then scratch buffers."""
        (body,) = self._bodies
        function = self.kernel.function
        parameters = [self.flat(parameter) for parameter in (*function.params, *self._scratch)]
        root = s_tir.SBlock([], [], [], "root", sequence(body))
        realize = s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root)
        made = tirx.PrimFunc(parameters, realize, function.ret_type, function.attrs)
        return made.with_attrs({ON_DEVICE: len(self._scratch), BOUND_BY_HAND: 1})


def _bound(variable: Any, extent: int, tag: str, body: Any) -> Any:
    size, zero = tirx.IntImm("int64", extent), tirx.IntImm("int64", 0)
    thread = tirx.IterVar(ir.Range(zero, size), tirx.Var(tag, "int64"), tirx.IterVar.ThreadIndex, tag)
    return tirx.For(variable, zero, size, tirx.ForKind.THREAD_BINDING, body, thread)
