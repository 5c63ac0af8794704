"""ncnn: a single convolution is written as its own layer, a network is converted by pnnx."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploycc.timing.peers import Array, EngineFailed

if TYPE_CHECKING:  # a process that measures has no use for it
    import onnx

_MAGIC = 7767517
_OFF = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage",
    "use_vulkan_compute",
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """A network in ncnn's own form, its inputs and outputs in the order of the ONNX file."""

    param: Path
    weights: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Ncnn:
    """A net; each run is an extractor of its own, as ncnn has it.  Arrays have no batch axis there."""

    def __init__(self, files: Files, threads: int) -> None:
        import ncnn

        self._ncnn: Any = ncnn
        self._files = files
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        # As ncnn's own benchmark has it: memory of one run serves the next.
        self._allocators = (ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator())
        self._net.opt.blob_allocator, self._net.opt.workspace_allocator = self._allocators
        for name in _OFF:
            setattr(self._net.opt, name, False)
        if self._net.load_param(str(files.param)) or self._net.load_model(str(files.weights)):
            raise EngineFailed("it does not load the converted network")
        self._mats: list[tuple[str, Any]] = []
        self._results: list[Any] = []

    def close(self) -> None:
        """Give back the memory, in the order that the allocators need."""
        self._results = []
        self._mats = []
        self._net.clear()

    def bind(self, inputs: Sequence[Array]) -> list[Array]:
        """Fix the inputs for ``run`` and return the outputs they give, each with a batch of one."""
        self._mats = []
        for name, given in zip(self._files.inputs, inputs, strict=True):
            if given.dtype != np.float32 or (given.ndim and given.shape[0] != 1):
                raise EngineFailed(f"takes no {given.dtype}{given.shape}")
            # The clone has ncnn's own alignment and distance between channels.
            self._mats.append((name, self._ncnn.Mat(np.ascontiguousarray(given[0])).clone()))
        self.run()
        return [np.array(result)[None] for result in self._results]

    def run(self) -> None:
        """One run on the bound inputs."""
        extractor = self._net.create_extractor()
        for name, mat in self._mats:
            extractor.input(name, mat)
        results = []
        for name in self._files.outputs:
            status, result = extractor.extract(name)
            if status != 0:
                raise EngineFailed(f"extract {name}: status {status}")
            results.append(result)
        self._results = results


def load(model: Path, threads: int) -> Ncnn:
    """``model`` loaded, converted before unless that was done.  Raises EngineFailed."""
    return Ncnn(convert(model), threads)


def convert(model: Path) -> Files:
    """The files beside ``model``, written unless they are there and newer.  Raises EngineFailed."""
    names = model.with_suffix(".ncnn.json")
    if names.is_file() and names.stat().st_mtime_ns >= model.stat().st_mtime_ns:
        known = json.loads(names.read_text(encoding="utf-8"))
        return Files(
            Path(known["param"]), Path(known["weights"]), tuple(known["inputs"]), tuple(known["outputs"])
        )
    import onnx

    graph = onnx.load(str(model)).graph
    files = written(graph, model) if _is_convolution(graph) else converted(graph, model)
    names.write_text(json.dumps(asdict(files), default=str), encoding="utf-8")
    return files


def _is_convolution(graph: onnx.GraphProto) -> bool:
    """Whether it is one convolution of images with a bias, and no more than an activation behind it."""
    if [node.op_type for node in graph.node] not in (["Conv"], ["Conv", "Relu"]):
        return False
    sizes = [len(tensor.dims) for tensor in graph.initializer]
    named = {item.name for item in graph.node[0].attribute}
    return sizes == [4, 1] and {"pads", "strides", "dilations", "group"} <= named and "auto_pad" not in named


def written(graph: onnx.GraphProto, model: Path) -> Files:
    """One convolution, its bias and its activation as one ncnn layer, in files beside ``model``.

    The parameters' numbers are those of ncnn's documentation (operators.md, Convolution and
    ConvolutionDepthWise); weights are tagged 0 for plain float32, the bias has no tag.
    """
    from onnx import helper, numpy_helper

    node = graph.node[0]
    attribute = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    weight, bias = (numpy_helper.to_array(tensor) for tensor in graph.initializer)
    top, left, bottom, right = attribute["pads"]
    numbers = {
        0: weight.shape[0], 1: weight.shape[3], 11: weight.shape[2],
        2: attribute["dilations"][1], 12: attribute["dilations"][0],
        3: attribute["strides"][1], 13: attribute["strides"][0],
        4: left, 15: right, 14: top, 16: bottom,
        5: 1, 6: weight.size,
    }  # fmt: skip
    if len(graph.node) == 2:
        numbers[9] = 1
    kind = "Convolution"
    if attribute["group"] != 1:
        kind, numbers[7] = "ConvolutionDepthWise", attribute["group"]
    words = " ".join(f"{key}={value}" for key, value in numbers.items())
    lines = [str(_MAGIC), "2 2", "Input x 0 1 x", f"{kind} conv 1 1 x y {words}", ""]
    files = Files(model.with_suffix(".ncnn.param"), model.with_suffix(".ncnn.bin"), ("x",), ("y",))
    files.param.write_text("\n".join(lines), encoding="ascii")
    files.weights.write_bytes(bytes(4) + weight.astype("<f4").tobytes() + bias.astype("<f4").tobytes())
    return files


def converted(graph: onnx.GraphProto, model: Path) -> Files:
    """The network converted by ``pnnx``, files beside ``model``.  Raises EngineFailed."""
    program = pnnx()
    if program is None:
        raise EngineFailed("pnnx, which converts networks, is not installed")
    given = {tensor.name for tensor in graph.initializer}
    values = [value for value in graph.input if value.name not in given]
    files = Files(
        model.with_suffix(".ncnn.param"), model.with_suffix(".ncnn.bin"),
        tuple(f"in{index}" for index in range(len(values))),
        tuple(f"out{index}" for index in range(len(graph.output))),
    )  # fmt: skip
    if files.param.is_file() and files.param.stat().st_mtime_ns >= model.stat().st_mtime_ns:
        return files
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values]
    words = ",".join(f"[{','.join(map(str, shape))}]" for shape in shapes)
    with tempfile.TemporaryDirectory(prefix="pnnx-") as folder:
        copy = Path(folder) / "network.onnx"
        shutil.copyfile(model, copy)
        done = subprocess.run(
            [program, copy.name, f"inputshape={words}", "fp16=0"], check=False, capture_output=True,
            text=True, errors="replace", timeout=600, cwd=folder,
        )  # fmt: skip
        made = [copy.with_suffix(".ncnn.param"), copy.with_suffix(".ncnn.bin")]
        if done.returncode != 0 or not all(file.is_file() for file in made):
            raise EngineFailed(f"pnnx: exit status {done.returncode}")
        shutil.copyfile(made[1], files.weights)
        shutil.copyfile(made[0], files.param)
    return files


def pnnx() -> Path | None:
    """The converter's program in the package ``pnnx``; its Python part needs PyTorch and is not used."""
    import importlib.util

    spec = importlib.util.find_spec("pnnx")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "pnnx"
        if program.is_file():
            return program
    return None
