"""Quantised convolutions and products beside ONNX Runtime's and our own in float32.

``python -m benchmarks.quantised`` builds a chain of three convolutions of each shape (and of three matrix
products) as QDQ and in float32, runs packages and ONNX Runtime in turns on one core and prints ratios: above
1 the quantised package is faster.  Networks given as arguments (``mtcnn_onet``) are quantised with random
calibration data and measured likewise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.library import PackageLibrary
from benchmarks.measuring import interleave, pin
from benchmarks.networks import fetch, networks
from benchmarks.reference import Array, OnnxRuntime
from deploycc.build import build
from deploycc.importing import load
from deploycc.targets import load_target
from deploycc.types import BuildRequest


@dataclass(frozen=True)
class Chain:
    """Three convolutions, or products with ``rows`` instead of an image, one behind the other."""

    name: str
    channels: int
    extent: int
    kernel: int = 3
    groups: int = 1
    rows: int = 0


CHAINS = (
    Chain("3x3, 64 channels, 56x56", 64, 56),
    Chain("3x3, 128 channels, 28x28", 128, 28),
    Chain("3x3, 256 channels, 14x14", 256, 14),
    Chain("1x1, 256 channels, 28x28", 256, 28, kernel=1),
    Chain("1x1, 40 channels, 56x56", 40, 56, kernel=1),
    Chain("3x3, 128 channels, 32 groups, 28x28", 128, 28, groups=32),
    Chain("depthwise 3x3, 192 channels, 28x28", 192, 28, groups=192),
    Chain("product, 128 x 512 x 512", 512, 0, rows=128),
)


def float_model(chain: Chain) -> onnx.ModelProto:
    """The chain in float32, a Relu behind each."""
    rng = np.random.default_rng(0)
    nodes, weights, name = [], [], "x"
    image = [1, chain.channels, chain.extent, chain.extent]
    shape = [chain.rows, chain.channels] if chain.rows else image
    for number in range(3):
        inner = chain.channels // chain.groups
        filters = (
            [inner, chain.channels] if chain.rows else [chain.channels, inner, chain.kernel, chain.kernel]
        )
        fan_in = inner if chain.rows else inner * chain.kernel**2
        value = rng.standard_normal(filters).astype(np.float32) / np.float32(np.sqrt(fan_in / 2))
        weights.append(numpy_helper.from_array(value, f"w{number}"))
        inputs = [name, f"w{number}"]
        if chain.rows:
            nodes.append(helper.make_node("MatMul", inputs, [f"p{number}"], f"product{number}"))
        else:
            bias = rng.standard_normal(chain.channels).astype(np.float32)
            weights.append(numpy_helper.from_array(bias, f"b{number}"))
            pads = [chain.kernel // 2] * 4
            made = helper.make_node(
                "Conv",
                [*inputs, f"b{number}"],
                [f"p{number}"],
                f"conv{number}",
                pads=pads,
                group=chain.groups,
            )
            nodes.append(made)
        name = f"y{number}"
        nodes.append(helper.make_node("Relu", [f"p{number}"], [name], f"relu{number}"))
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", name)]
    graph = helper.make_graph(nodes, "chain", infos[:1], infos[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


class _Drawn(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shapes: Mapping[str, Sequence[int]], count: int = 4) -> None:
        rng = np.random.default_rng(0)
        self._left = [
            {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
            for _ in range(count)
        ]

    def get_next(self) -> dict[str, Array] | None:
        """The next of the drawn inputs."""
        return self._left.pop() if self._left else None


def quantise(
    model: Path, result: Path, shapes: Mapping[str, Sequence[int]], *, per_channel: bool = True
) -> None:
    """Write ``model`` in QDQ form, uint8 activations and int8 weights, calibrated on random inputs."""
    quantize_static(
        model,
        result,
        _Drawn(shapes),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def compared(
    plain: Path, quantised: Path, shapes: Mapping[str, Sequence[int]], target: str, folder: Path
) -> str:
    """How much faster the quantised package is than ONNX Runtime's, and than ours in float32."""
    packages = [build(path, target, folder / path.stem).path for path in (quantised, plain)]
    libraries = [PackageLibrary(path) for path in packages]
    engines = [OnnxRuntime(path) for path in (quantised, plain)]
    rng = np.random.default_rng(1)
    feeds = [rng.standard_normal(shape).astype(np.float32) for shape in shapes.values()]
    errors = []
    for library, engine in zip(libraries, engines, strict=True):
        got, want = library.bind(feeds), engine.bind(feeds)
        errors.append(max(float(np.max(np.abs(g - w))) for g, w in zip(got, want, strict=True)))
    times = interleave([*(one.run for one in libraries), *(one.run for one in engines)], 21, 0.01)
    ours, floats, theirs, their_floats = (statistics.median(seconds) for seconds in times)
    for library in libraries:
        library.close()
    return (
        f"{theirs / ours:5.2f} x ONNX Runtime int8, {floats / ours:5.2f} x ours float32, "
        f"{their_floats / ours:5.2f} x ONNX Runtime float32; {ours * 1e3:.3f} ms, off by {errors[0]:.2g}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help="networks of benchmarks/networks.toml to quantise")
    parser.add_argument("--target", default="host")
    parser.add_argument("--filter", default="", help="only chains whose name contains this")
    options = parser.parse_args()
    pin(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, chain in enumerate(CHAINS if not options.networks else ()):
            if options.filter not in chain.name:
                continue
            shapes = {
                "x": (chain.rows, chain.channels) if chain.rows else (1, chain.channels, *[chain.extent] * 2)
            }
            plain, quantised = folder / f"plain{number}.onnx", folder / f"quantised{number}.onnx"
            onnx.save(float_model(chain), plain)
            quantise(plain, quantised, shapes)
            print(
                f"{chain.name:38}",
                compared(plain, quantised, shapes, options.target, folder / "out"),
                flush=True,
            )
        for network in options.networks:
            print(f"{network:38}", _network(network, options.target, folder), flush=True)


def network_files(name: str, folder: Path) -> tuple[Path, Path]:
    """A network in the newest opset with its shapes bound, in float32 and in QDQ form.

    The quantiser writes scales a channel into files whose opset does not have them.
    """
    shapes = networks()[name].inputs
    request = BuildRequest(fetch(name), load_target("x86-64"), folder, "net", dict(shapes))
    plain, quantised = folder / f"{name}.onnx", folder / f"{name}_int8.onnx"
    onnx.save(load(request).proto, plain)
    quantise(plain, quantised, shapes)
    return plain, quantised


def _network(name: str, target: str, folder: Path) -> str:
    plain, quantised = network_files(name, folder)
    return compared(plain, quantised, networks()[name].inputs, target, folder / "out")


if __name__ == "__main__":
    main()
