"""The other engines: each one opens an ONNX file, takes inputs in the network's own layout and runs.

All compute in float32 with the settings a user gets who asks for speed and the right result, on as many
threads as they are told.  ONNX Runtime comes with deploycc, the others are imported where they are installed.
An engine's module is loaded in processes that measure only.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

Array = npt.NDArray[Any]


class EngineFailed(Exception):
    """An engine refused the network, or a call of it failed; the text says what it said."""


class Engine(Protocol):
    """A loaded network with inputs and outputs of its own."""

    def bind(self, inputs: Sequence[Array]) -> list[Array]:
        """Fix the inputs for ``run`` and return the outputs they give, both in the model's order."""

    def run(self) -> None:
        """One run on the bound inputs."""


@dataclass(frozen=True)
class Peer:
    """An engine by the name that tables and options use; ``settings`` is what it was told, for the tables.

    ``distribution`` is what pip calls it, ``module`` what Python does.
    """

    name: str
    title: str
    distribution: str
    module: str
    settings: str

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """Of the installed package."""
        return importlib.metadata.version(self.distribution)

    def open(self, model: Path, threads: int) -> Engine:
        """Load ``model``, an ONNX file with static shapes.  Raises EngineFailed."""
        engine: Engine = importlib.import_module(f"{__name__}.{self.module.lower()}").load(model, threads)
        return engine

    def convert(self, model: Path) -> None:
        """Write the engine's own form beside ``model`` where it has one; ``open`` then finds it.

        Raises EngineFailed.
        """
        module = importlib.import_module(f"{__name__}.{self.module.lower()}")
        if hasattr(module, "convert"):
            module.convert(model)


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "onnxruntime", "ONNX Runtime", "onnxruntime", "onnxruntime",
            "CPU provider, all graph optimisations, one inter-op thread, inputs and outputs bound",
        ),
        Peer(
            "openvino", "OpenVINO", "openvino", "openvino",
            "C interface, PERFORMANCE_HINT LATENCY, INFERENCE_PRECISION_HINT f32",
        ),
        Peer(
            "ncnn", "ncnn", "ncnn", "ncnn",
            "Winograd, SGEMM, packing and pool allocators on; fp16, bf16 and Vulkan off; "
            "single convolutions written as its own layers, networks converted by pnnx",
        ),
        Peer(
            "mnn", "MNN", "MNN", "MNN",
            "session interface, precision high, power high, memory high",
        ),
    )
}  # fmt: skip
"""By name, in the tables' order."""
