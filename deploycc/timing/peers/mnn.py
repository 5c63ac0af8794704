"""MNN: the ONNX file is converted by the converter in its wheel, a session runs it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.timing.peers import Array, EngineFailed

# The converter's extension module itself: its wrapper (MNN.tools.mnnconvert) installs packages and reports
# each use to its makers.
_CONVERT = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


class Mnn:
    """A session whose input and output tensors are MNN's own, in the order of the ONNX file."""

    def __init__(self, model: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> None:
        with _silent():
            import MNN

            self._mnn: Any = MNN
            self._interpreter = MNN.Interpreter(str(model.with_suffix(".mnn")))
            self._session = self._interpreter.createSession(
                {
                    "backend": "CPU", "numThread": threads,
                    "precision": "high", "power": "high", "memory": "high",
                }
            )  # fmt: skip
        if self._session is None:
            raise EngineFailed("createSession refused the model")
        self._inputs = [self._interpreter.getSessionInput(self._session, name) for name in inputs]
        self._outputs = [self._interpreter.getSessionOutput(self._session, name) for name in outputs]

    def bind(self, inputs: Sequence[Array]) -> list[Array]:
        """Fix the inputs for ``run`` and return copies of the outputs they give."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            if given.dtype not in (np.float32, np.int32):
                raise EngineFailed(f"takes no {given.dtype}")
            if tuple(mine.getShape()) != given.shape:
                raise EngineFailed(f"takes {tuple(mine.getShape())}, not {given.shape}")
            mine.copyFrom(self._host_tensor(given))
        self.run()
        found = []
        for theirs in self._outputs:
            shape = tuple(theirs.getShape())
            mine = self._host_tensor(np.zeros(shape, np.float32))
            theirs.copyToHostTensor(mine)
            found.append(np.array(mine.getNumpyData(), np.float32).reshape(shape))
        return found

    def run(self) -> None:
        """One run on the bound inputs."""
        status = self._interpreter.runSession(self._session)
        if status != 0:
            raise EngineFailed(f"runSession: status {status}")

    def _host_tensor(self, array: Array) -> Any:
        kind = self._mnn.Halide_Type_Float if array.dtype == np.float32 else self._mnn.Halide_Type_Int
        return self._mnn.Tensor(array.shape, kind, array, self._mnn.Tensor_DimensionType_Caffe)


def load(model: Path, threads: int) -> Mnn:
    """``model`` loaded, converted before unless that was done.  Raises EngineFailed."""
    inputs, outputs = convert(model)
    return Mnn(model, inputs, outputs, threads)


def convert(model: Path) -> tuple[list[str], list[str]]:
    """Write the MNN file beside ``model`` unless it is there and newer; names of inputs and outputs.

    Raises EngineFailed.
    """
    file, names = model.with_suffix(".mnn"), model.with_suffix(".mnn.json")
    if names.is_file() and names.stat().st_mtime_ns >= model.stat().st_mtime_ns:
        inputs, outputs = json.loads(names.read_text(encoding="utf-8"))
        return inputs, outputs
    words = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(file), "--bizCode", "benchmark"]
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, *words], check=False, capture_output=True, text=True, timeout=600
    )
    if done.returncode != 0 or not file.is_file():
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise EngineFailed(f"mnnconvert: exit status {done.returncode}: {' '.join(last)}")
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    found = [v.name for v in graph.input if v.name not in weights], [v.name for v in graph.output]
    names.write_text(json.dumps(found), encoding="utf-8")
    return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """MNN greets on the process's standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
