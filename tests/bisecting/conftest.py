"""A small network, and a compiler in this process that a test can break."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploycc.build import build_in_child, resolve_request
from deploycc.request import request_to_json
from deploycc.staging import staging


def write_net(path: Path) -> Path:
    """Conv, Relu, Conv, HardSwish, AveragePool, Transpose, Reshape, Gemm."""
    random = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> TensorProto:
        scale = 1.0 / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array((random.standard_normal(shape) * scale).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="rectified"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["c1"], ["h1"], name="swished"),
        helper.make_node("AveragePool", ["h1"], ["p1"], name="pooled", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Transpose", ["p1"], ["t1"], name="turned", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t1", "flat"], ["f1"], name="flattened"),
        helper.make_node("Gemm", ["f1", "w2", "b2"], ["y"], name="dense"),
    ]
    initializers = [
        weights("w0", 16, 3, 3, 3),
        weights("b0", 16),
        weights("w1", 16, 16, 3, 3),
        weights("b1", 16),
        numpy_helper.from_array(np.array([1, -1]), "flat"),
        weights("w2", 16 * 6 * 6, 10),
        weights("b2", 10),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def build_here(model: Path, package: Path) -> None:
    """A build without its child process: what a test patches counts in it, and TVM is loaded once."""
    request = resolve_request(model, "host", package, name="net")
    message = json.loads(json.dumps({"request": request_to_json(request)}))
    with staging(request.output) as place:
        build_in_child({**message, "staging": str(place.folder)}, lambda event: None)
        place.commit()


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's file."""
    return write_net(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="session")
def sound(net: Path) -> Path:
    """Its package, built by the compiler as it is."""
    package = net.parent / "sound"
    build_here(net, package)
    return package


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search without its child process, for the time that takes; JSON goes in and out all the same."""
    from deploycc import bisect

    def run_child(entry: str, message: Any, *others: Any) -> Any:
        function: Callable[..., Any] = getattr(bisect, entry.partition(":")[2])
        return json.loads(json.dumps(function(json.loads(json.dumps(message)), lambda event: None)))

    monkeypatch.setattr(bisect, "run_child", run_child)
