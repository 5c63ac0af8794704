"""A result that is not what the model declares is refused."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.lowering import lower
from deploycc.types import DeployccError, Model, TensorInfo
from tests.planning.harness import X86_64
from tests.sweep.graphs import Graph


def test_declared_shape_that_is_not_computed() -> None:
    g = Graph()
    proto = g.finish(g.Relu(g.input(2, 3)))
    x = TensorInfo(proto.graph.input[0].name, "float32", (2, 3))
    wrong = TensorInfo(proto.graph.output[0].name, "float32", (3, 2))
    with pytest.raises(DeployccError) as caught:
        lower(Model(proto, (x,), (wrong,), 18, ""), X86_64)
    (finding,) = caught.value.diagnostics
    assert finding.code == "DC452"
    assert (
        finding.message
        == f"output '{wrong.name}' is lowered to another shape or type than the model declares"
    )
    assert (finding.got, finding.need) == ("float32 2x3", "float32 3x2")


def test_what_is_declared_right_passes() -> None:
    g = Graph()
    proto = g.finish([g.Relu(g.input(2, 3)), g.Identity(g.c(np.float32(1)))])
    x = TensorInfo(proto.graph.input[0].name, "float32", (2, 3))
    results = tuple(
        TensorInfo(info.name, "float32", shape)
        for info, shape in zip(proto.graph.output, ((2, 3), ()), strict=True)
    )
    assert lower(Model(proto, (x,), results, 18, ""), X86_64).outputs == results
