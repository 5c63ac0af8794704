"""One model of the sweep, with the inputs it is run on, as files that a worker reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A model and its inputs by name.

    ``expected`` are outputs known from elsewhere (onnx's own node tests); a result that agrees with
    them or with the reference engine passes.
    """

    name: str
    proto: onnx.ModelProto
    inputs: dict[str, Array]
    expected: list[Array] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``model.onnx`` and ``inputs.npz`` (and ``expected.npz``) into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.proto.SerializeToString())
        np.savez(folder / "inputs.npz", **{f"i_{name}": value for name, value in self.inputs.items()})
        np.savez(folder / "expected.npz", **{f"o_{i}": value for i, value in enumerate(self.expected)})


def load_arrays(path: Path) -> dict[str, Array]:
    """What ``save`` wrote, by name."""
    with np.load(path, allow_pickle=False) as stored:
        return {key[2:]: stored[key] for key in stored.files}


def random_inputs(proto: onnx.ModelProto, seed: int, shapes: dict[str, Sequence[int]]) -> dict[str, Array]:
    """Standard normal floats, bytes over their whole range, small indices, coin flips."""
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in proto.graph.initializer}
    made: dict[str, Array] = {}
    for info in proto.graph.input:
        if info.name in weights:
            continue
        kind = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = tuple(shapes.get(info.name) or [dim.dim_value for dim in kind.shape.dim])
        if dtype.kind == "f":
            made[info.name] = np.asarray(rng.standard_normal(shape)).astype(dtype)
        elif dtype.kind == "b":
            made[info.name] = np.asarray(rng.integers(0, 2, shape)).astype(bool)
        else:
            made[info.name] = np.asarray(rng.integers(0, 256 if dtype == np.uint8 else 4, shape)).astype(
                dtype
            )
    return made
