"""That a step of a plan leaves in memory what it says: the tensor of the model under that name.

``verify --bisect``, ``profile`` and ``diff`` stand on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.networks import networks as pinned
from deploycc.lint import judged, lint_request
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.planning import plan
from deploycc.reference import random_inputs
from deploycc.targets import load_target
from deploycc.trace import Trace
from deploycc.types import DeployccError, Limits, Model, Plan
from tests.planning.harness import X86_64
from tests.planning.watching import differences, watched, without_step
from tests.scheduling.graphs import SEED, Case, Graph, build, compile_cases, schedule
from tests.scheduling.test_properties import COMPILING, networks, transposed
from tests.sweep.graphs import graph_cases

ROUNDING = 1e-4
"""Of a chain of some convolutions, Winograd's among them; another tensor is off by about 1."""

REPEATED = frozenset({"Tile"})
"""Beside ``watching.VIEWS``: operators that repeat their operand, which readers may do themselves."""


def simplified(path: Path, **shapes: tuple[int, ...]) -> Model:
    """What a build lowers."""
    return judged(lint_request(path, shapes, Limits()), Trace(None, lambda _: None), compiled=True)


def faults(planned: Plan, model: Model, feeds: dict[str, Any], tolerance: float = ROUNDING) -> list[str]:
    """Tensors that are not the model's, and nodes that no step is part of."""
    missing = [line for line in without_step(planned, model.proto) if line.split()[0] not in REPEATED]
    return differences(planned, model.proto, feeds, tolerance) + missing


def checked(cases: list[Case], layouts: str | None = None, seed: int = SEED) -> tuple[Plan, Model]:
    built = build(cases, seed)
    planned = compile_cases(built, layouts=layouts)
    assert faults(planned, built.model, built.feeds) == [], f"seed {seed}"
    return planned, built.model


def named(planned: Plan) -> set[str]:
    return {result.tensor for _, result, _ in watched(planned)[1]}


def joined(graph: Graph) -> str:
    x = graph.input(1, 6, 9, 11)
    parts = [graph.conv(x, 6, width, (3, 3), pads=[1, 1, 1, 1]) for width in (5, 8, 3)]
    whole = graph.add("Concat", graph.add("Relu", parts[0]), *parts[1:], axis=1)
    return str(graph.add("Sigmoid", graph.conv(whole, 16, 4, (1, 1))))


def divided(graph: Graph) -> list[str]:
    x = graph.conv(graph.input(1, 4, 8, 8), 4, 12, (3, 3), pads=[1, 1, 1, 1])
    parts = graph.add("Split", x, graph.constant([4, 8]), results=2, axis=1)
    return [graph.add("Relu", parts[0]), graph.conv(parts[1], 8, 5, (3, 3)), parts[1]]


def flat(graph: Graph) -> str:
    x = graph.conv(graph.input(1, 3, 40), 3, 8, (5,), pads=[2, 2])
    x = graph.add("MaxPool", graph.add("Relu", x), kernel_shape=[2], strides=[2])
    return str(graph.add("Tanh", graph.conv(x, 8, 6, (3,), strides=[2])))


def upwards(graph: Graph) -> str:
    x = graph.conv(graph.input(1, 3, 6, 7), 3, 8, (3, 3))
    weights = graph.weight(8, 5, 2, 2)
    x = graph.add("ConvTranspose", x, weights, kernel_shape=[2, 2], strides=[2, 2])
    return str(graph.add("Softmax", graph.add("Relu", x), axis=1))


def shown_twice(graph: Graph) -> list[str]:
    x = graph.conv(graph.input(1, 3, 6, 7), 3, 8, (3, 3))
    pooled = graph.add("GlobalAveragePool", graph.add("Relu", x))
    return [x, pooled, graph.add("Flatten", pooled)]


def gated(graph: Graph) -> str:
    """A squeeze-and-excitation block with a residual."""
    x = graph.conv(graph.input(1, 3, 10, 10), 3, 16, (3, 3), pads=[1, 1, 1, 1])
    gate = graph.conv(graph.add("GlobalAveragePool", x), 16, 16, (1, 1))
    scaled = graph.add("Mul", x, graph.add("HardSigmoid", gate))
    return str(graph.add("Add", graph.conv(scaled, 16, 16, (1, 1)), x))


FORMS = [Case(make.__name__, make) for make in (joined, divided, flat, upwards, shown_twice, gated)]


@pytest.mark.parametrize("layouts", ["NCHW->NCHW", "NHWC->NHWC"])
def test_memory_holds_the_tensor_that_a_step_names(layouts: str) -> None:
    planned, model = checked(FORMS, layouts)
    last = [result for _, result, _ in watched(planned)[1] if result.channels_last]
    assert bool(last) == (layouts == "NHWC->NHWC")
    assert all(len(result.shape) == 4 for result in last)
    # Of what exists between kernels most has a name: there is something to look at.
    assert len(named(planned)) >= 0.5 * len(planned.calls)
    # Outputs have their names even where they are views of others, and parts of a join have their own.
    assert {info.name for info in model.outputs} <= named(planned)
    (concat,) = (node for node in model.proto.graph.node if node.op_type == "Concat")
    assert set(concat.input) <= named(planned)


def test_another_tensor_is_noticed() -> None:
    """The check itself can fail: names swapped, and nodes that no step has."""
    built = build([Case("gated", gated)])
    planned = compile_cases(built)
    steps = [i for i, call in enumerate(planned.calls) if any(call.origin.results)]
    swapped = list(planned.calls)
    i, j = steps[0], steps[-1]
    swapped[i] = replace(planned.calls[i], origin=planned.calls[j].origin)
    assert differences(replace(planned, calls=tuple(swapped)), built.model.proto, built.feeds, ROUNDING)
    nameless = tuple(replace(call, origin=replace(call.origin, nodes=())) for call in planned.calls)
    assert without_step(replace(planned, calls=nameless), built.model.proto)


@given(drawn=st.lists(networks(), min_size=3, max_size=3), seed=st.integers(0, 1 << 30))
@settings(max_examples=2, **COMPILING)
def test_steps_of_any_chain_hold_the_models_tensors(drawn: list[tuple[Case, int]], seed: int) -> None:
    checked([case for case, _ in drawn], None, seed)


@pytest.mark.slow
@given(drawn=st.lists(st.one_of(networks().map(lambda d: d[0]), transposed()), min_size=4, max_size=4),
       layouts=st.sampled_from([None, "NHWC->NHWC", "NCHW->NCHW"]), seed=st.integers(0, 1 << 30))  # fmt: skip
@settings(max_examples=25, **COMPILING)
def test_steps_of_many_chains_hold_the_models_tensors(
    drawn: list[Case], layouts: str | None, seed: int
) -> None:
    checked(drawn, layouts, seed)


@pytest.mark.parametrize("name", ["mtcnn_onet", "mtcnn_pnet", "silero_vad_openvino_16k"])
def test_steps_of_a_network_hold_its_tensors(name: str, network: Callable[[str], Path]) -> None:
    _check_network(name, network(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(pinned()))
def test_steps_of_every_network_hold_its_tensors(name: str, network: Callable[[str], Path]) -> None:
    _check_network(name, network(name))


def _check_network(name: str, path: Path) -> None:
    model = simplified(path, **pinned()[name].inputs)
    arrays = random_inputs(model.inputs, SEED)
    feeds = {info.name: array for info, array in zip(model.inputs, arrays, strict=True)}
    # Rounding adds up over a hundred layers; an error of the trace is another tensor.
    assert faults(plan(schedule(model), X86_64), model, feeds, 1e-2) == [], f"seed {SEED}"


@pytest.mark.slow
@pytest.mark.parametrize("case", graph_cases(), ids=lambda case: case.name)
def test_steps_of_exported_forms_hold_the_models_tensors(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(case.proto.SerializeToString())
    try:
        model = simplified(path)
        lint(model, compiled_lint_target(load_target("x86-64"))).raise_if_errors()
        planned = plan(schedule(model), X86_64)
    except DeployccError as error:
        pytest.skip(f"refused: {error}")
    feeds = {info.name: case.inputs[info.name] for info in model.inputs}
    assert faults(planned, model, feeds, 1e-2 if _half(feeds) else 1e-3) == []


def _half(feeds: dict[str, Any]) -> bool:
    return any(array.dtype == np.float16 for array in feeds.values())
