"""Run a ``Plan`` for a GPU without a GPU and without the C runtime of deploycc, in tests.

Its PTX is translated to C and runs on the processor, launch by launch in the order of the call list, on
memory that starts out poisoned; what runs on the processor anyway is compiled as the other harness does.
Guard bytes behind the arena and each output must survive, and so must inputs and weights.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.emulating import EmulatedModule, build_module
from deploycc.types import TO_DEVICE, TO_HOST, Buffer, Call, Plan, Target
from tests.planning.harness import GUARD, _link, _poisoned

Array = np.ndarray[Any, Any]


def run_device_plan(plan: Plan, inputs: Sequence[Array], target: Target, seed: int = 1) -> list[Array]:
    """Outputs of a plan with a ``gpu``; the threads between two barriers run in an order of ``seed``."""
    (ptx,) = (image.code for image in plan.images if image.kind == "ptx") if plan.images else (b"",)
    module = EmulatedModule(build_module(ptx.rstrip(b"\0").decode())) if ptx else None
    device = _Memory.of(plan, inputs)
    host = np.ascontiguousarray(_poisoned(plan.host_bytes, 0))
    with tempfile.TemporaryDirectory() as folder:
        functions = _host_functions(plan, target.host, Path(folder))
        for call in plan.calls:
            places = [
                host[one.offset : one.offset + one.nbytes] if one.kind == "host" else device.at(one)
                for one in call.arguments
            ]
            if call.launches:
                assert module is not None
                for launch in call.launches:
                    given = [places[number] for number in launch.arguments]
                    module.launch(
                        launch.function, launch.grid, launch.block, launch.shared_bytes, given, seed=seed
                    )
            elif call.copies:
                kinds = tuple(one.kind == "host" for one in call.arguments)
                assert kinds == {TO_HOST: (True, False), TO_DEVICE: (False, True)}.get(
                    call.symbol, (False, False)
                )
                places[0][:] = places[1]
            else:
                code = functions[call.symbol](*[ctypes.c_void_p(place.ctypes.data) for place in places])
                assert code == 0, f"{call.symbol} returned {code}"
    return device.results(plan, inputs)


class _Memory:
    """Arena, weights, inputs and outputs, each with a guard behind it."""

    def __init__(self, blocks: dict[tuple[str, int], Array]) -> None:
        self.blocks = blocks

    @classmethod
    def of(cls, plan: Plan, inputs: Sequence[Array]) -> _Memory:
        blocks = {
            ("arena", 0): _poisoned(plan.arena_bytes, 0),
            ("constant", 0): _poisoned(len(plan.weights), 0),
        }
        blocks["constant", 0][: len(plan.weights)] = np.frombuffer(plan.weights, np.uint8)
        for index, array in enumerate(inputs):
            blocks["input", index] = _poisoned(array.nbytes, 0)
            blocks["input", index][: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
        for index, info in enumerate(plan.outputs):
            blocks["output", index] = _poisoned(_nbytes(info), 0)
        return cls(blocks)

    def at(self, buffer: Buffer) -> Array:
        """The bytes of a buffer."""
        index = 0 if buffer.kind in ("arena", "constant") else buffer.index
        return self.blocks[buffer.kind, index][buffer.offset : buffer.offset + buffer.nbytes]

    def results(self, plan: Plan, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, once nothing else is found changed."""
        sizes = {("arena", 0): plan.arena_bytes, ("constant", 0): len(plan.weights)}
        sizes |= {("input", index): array.nbytes for index, array in enumerate(inputs)}
        sizes |= {("output", index): _nbytes(info) for index, info in enumerate(plan.outputs)}
        for key, size in sizes.items():
            guard = self.blocks[key][size : size + GUARD]
            assert (guard == 0xFF).all(), f"a kernel wrote behind the end of {key}"
        assert bytes(self.blocks["constant", 0][: len(plan.weights)]) == plan.weights
        for index, array in enumerate(inputs):
            assert bytes(self.blocks["input", index][: array.nbytes]) == array.tobytes()
        return [
            np.frombuffer(bytes(self.blocks["output", index][: _nbytes(info)]), info.dtype).reshape(
                info.shape
            )
            for index, info in enumerate(plan.outputs)
        ]


def _nbytes(info: Any) -> int:
    return int(np.prod(info.shape, dtype=np.int64)) * np.dtype(info.dtype).itemsize


def _host_functions(plan: Plan, target: Target, folder: Path) -> dict[str, Any]:
    """What the processor runs, by symbol."""
    called = {call.symbol: call for call in plan.calls if not (call.launches or call.copies)}
    if not called:
        return {}
    calls = tuple(
        Call(symbol, (Buffer("arena", 0, 0, 0),) * len(c.arguments)) for symbol, c in called.items()
    )
    library = folder / "host.so"
    _link(replace(plan, calls=calls), target, folder, library, "-shared", "-Wl,-z,defs")
    loaded = ctypes.CDLL(str(library))
    return {symbol: getattr(loaded, symbol) for symbol in called}
