"""ONNX Runtime: the engine that deploycc's own results are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from deploycc.timing.peers import Array, EngineFailed


class OnnxRuntime:
    """A session whose inputs and outputs stay bound between runs: no copies into Python."""

    def __init__(self, model: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._binding: Any = None

    def bind(self, inputs: Sequence[Array]) -> list[Array]:
        """Fix the inputs for ``run`` and return copies of the outputs they give."""
        feeds = dict(zip((value.name for value in self._session.get_inputs()), inputs, strict=True))
        outputs: list[Array] = self._session.run(None, feeds)
        self._binding = self._session.io_binding()
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, array)
        for value, array in zip(self._session.get_outputs(), outputs, strict=True):
            self._binding.bind_ortvalue_output(value.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return outputs

    def run(self) -> None:
        """One run on the bound inputs."""
        self._session.run_with_iobinding(self._binding)


def load(model: Path, threads: int) -> OnnxRuntime:
    """``model`` loaded and optimised.  Raises EngineFailed."""
    try:
        return OnnxRuntime(model, threads)
    except Exception as error:  # ONNX Runtime raises many bare classes of its own
        raise EngineFailed(str(error)) from None
