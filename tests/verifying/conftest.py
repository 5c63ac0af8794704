"""A package of three C kernels and the ONNX model that computes the same."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploycc.packaging import package
from deploycc.types import Golden
from tests.packaging import plans


@dataclass(frozen=True)
class Pair:
    """A package's folder and its model's file."""

    package: Path
    model: Path


def write_model(path: Path, scale: float = 0.5, output: str = "y") -> Path:
    """y = tanh(x * w) + 1 and a copy of x, for x of any batch."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["t"], name="mul"),
        helper.make_node("Tanh", ["t"], ["u"], name="tanh"),
        helper.make_node("Add", ["u", "one"], [output], name="add"),
        helper.make_node("Identity", ["x"], ["copy"], name="copied"),
    ]
    shape: list[str | int | None] = ["batch", plans.COUNT]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (output, "copy")],
        [
            numpy_helper.from_array(plans.weights(scale), "w"),
            numpy_helper.from_array(np.asarray(1, np.float32), "one"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """``pair(weights)``: its package multiplies by weights of another scale, or by NaN, if told so."""

    @functools.cache
    def make(weights: float = 0.5) -> Pair:
        root = tmp_path_factory.mktemp("pair")
        model = write_model(root / "tiny.onnx")
        sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
        folder = root / "package"
        folder.mkdir()
        plan = plans.make_plan(plans.X86_64, scale=weights)
        right: Golden = plans.make_golden()
        package(
            replace(plan, calls=plan.calls[1:]),  # the first refuses what it was not made for
            plans.make_request(plans.X86_64),
            replace(plans.make_model(), sha256=sha256),
            right,
            folder,
        )
        return Pair(folder, model)

    return make
