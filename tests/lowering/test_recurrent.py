"""LSTM, GRU and RNN as fused cells, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from deploycc.lowering import lower
from deploycc.onnx_graph import tensor_info
from deploycc.recurrent_cells import DEFAULTS, GATES, Cell, activations_of
from deploycc.reference import run
from deploycc.scheduling.written.recurrent_tiling import Product, Tiling
from deploycc.types import DeployccError, Model, Plan, Target
from tests.planning.harness import ARM64, X86_64, X86_64_V4, find_emulator, host_can_run, run_plan
from tests.sweep.worker import compile_model

Array = np.ndarray[Any, Any]

TOLERANCE = 5e-6
"""Of an output's largest magnitude, at least 1: float32 sums of up to a hundred terms, twenty steps."""

ACTIVATIONS = (
    *("Affine", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "ScaledTanh", "Sigmoid", "Softplus", "Softsign"),
    *("Tanh", "ThresholdedRelu"),
)
WITH_ALPHA = frozenset(("Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "ThresholdedRelu"))
WITH_BETA = frozenset(("Affine", "HardSigmoid", "ScaledTanh"))


@dataclass(frozen=True)
class Layer:
    """One node.  ``given`` has a letter for each optional input: b, n (lengths), h, c, p (peepholes)."""

    kind: str
    steps: int
    batch: int
    width: int
    hidden: int
    direction: str = "forward"
    given: str = "b"
    runtime: str = ""
    """The inputs that are the network's own instead of constants, w and r among them."""
    results: str = "yhc"
    dtype: str = "float32"
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def major(self) -> bool:
        return bool(self.attributes.get("layout", 0))


def state_shape(layer: Layer) -> list[int]:
    directions = 2 if layer.direction == "bidirectional" else 1
    if layer.major:
        return [layer.batch, directions, layer.hidden]
    return [directions, layer.batch, layer.hidden]


def values_of(layer: Layer, generator: np.random.Generator) -> dict[str, Array]:
    directions = 2 if layer.direction == "bidirectional" else 1
    gates = GATES[layer.kind] * layer.hidden

    def drawn(*shape: int) -> Array:
        scale = min(0.5, layer.hidden**-0.5)
        return (generator.standard_normal(shape) * scale).astype(layer.dtype)

    def in_order(value: Array) -> Array:
        return np.ascontiguousarray(value.swapaxes(0, 1)) if layer.major else value

    # What ONNX Runtime makes of an RNN's length of 0 is not defined: it reads in front of its buffer.
    least = 1 if layer.kind == "RNN" else 0
    return {
        "x": in_order(drawn(layer.steps, layer.batch, layer.width)),
        "w": drawn(directions, gates, layer.width),
        "r": drawn(directions, gates, layer.hidden),
        "b": drawn(directions, 2 * gates),
        "n": generator.integers(least, layer.steps, layer.batch, endpoint=True).astype(np.int32),
        "h": in_order(drawn(directions, layer.batch, layer.hidden)),
        "c": in_order(drawn(directions, layer.batch, layer.hidden)),
        "p": drawn(directions, 3 * layer.hidden),
    }


def network(
    layers: Sequence[Layer], generator: np.random.Generator | None = None
) -> tuple[ModelProto, dict[str, Array]]:
    """All layers side by side in one model, and its inputs."""
    generator = generator or np.random.default_rng()
    nodes, inputs, outputs, weights, feeds = [], [], [], [], {}
    for number, layer in enumerate(layers):
        values = values_of(layer, generator)
        slots = "xwrbnhcp" if layer.kind == "LSTM" else "xwrbnh"
        names = [f"{s}{number}" if s in "xwr" or s in layer.given else "" for s in slots]
        for slot, name in zip(slots, names, strict=True):
            if not name:
                continue
            if slot == "x" or slot in layer.runtime:
                dtype = helper.np_dtype_to_tensor_dtype(values[slot].dtype)
                inputs.append(helper.make_tensor_value_info(name, dtype, values[slot].shape))
                feeds[name] = values[slot]
            else:
                weights.append(numpy_helper.from_array(values[slot], name))
        kinds = "yhc" if layer.kind == "LSTM" else "yh"
        made = [f"y{kind}{number}" if kind in layer.results else "" for kind in kinds]
        while not made[-1]:
            made.pop()
        while not names[-1]:
            names.pop()
        nodes.append(
            helper.make_node(
                layer.kind,
                names,
                made,
                name=f"layer{number}",
                hidden_size=layer.hidden,
                direction=layer.direction,
                **layer.attributes,
            )
        )
        states = state_shape(layer)
        directions = states[1] if layer.major else states[0]
        sequence = (
            [layer.batch, layer.steps, directions] if layer.major else [layer.steps, directions, layer.batch]
        )
        kind = TensorProto.FLOAT if layer.dtype == "float32" else TensorProto.FLOAT16
        outputs += [
            helper.make_tensor_value_info(name, kind, [*sequence, layer.hidden] if name[1] == "y" else states)
            for name in made
            if name
        ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return proto, feeds


def model_of(proto: ModelProto) -> Model:
    inputs, outputs = (tuple(map(tensor_info, side)) for side in (proto.graph.input, proto.graph.output))
    return Model(proto, inputs, outputs, 18, "")


def expected(layers: Sequence[Layer], seed: int) -> list[Array]:
    """ONNX Runtime's results; it has no layers that are batch first, so those are turned around it."""
    plain = [
        replace(layer, attributes={k: v for k, v in layer.attributes.items() if k != "layout"})
        for layer in layers
    ]
    proto, feeds = network(plain, np.random.default_rng(seed))
    values, engine = run(proto, list(feeds.values()))
    assert engine.startswith("onnxruntime")
    for place, info in enumerate(proto.graph.output):
        if layers[number_of(info.name)].major:
            axes = (2, 0, 1, 3) if values[place].ndim == 4 else (1, 0, 2)
            values[place] = values[place].transpose(axes)
    return values


def number_of(name: str) -> int:
    return int("".join(filter(str.isdigit, name)))


def check(layers: Sequence[Layer], target: Target = X86_64, seed: int | None = None) -> Plan:
    seed = seed if seed is not None else int(np.random.default_rng().integers(1 << 30))
    proto, feeds = network(layers, np.random.default_rng(seed))
    plan = compile_model(model_of(proto), [""], target)
    got = run_plan(plan, feeds, target)
    for info, have, want in zip(plan.outputs, got, expected(layers, seed), strict=True):
        slack = 1 if info.dtype == "float32" else 500
        scale = max(1.0, float(np.abs(want).max()))
        error = float(np.abs(have.astype(np.float32) - want.astype(np.float32)).max())
        layer = layers[number_of(info.name)]
        assert error <= TOLERANCE * slack * scale, f"{info.name}: {error} of {scale}: {layer}, seed {seed}"
    return plan


PLAIN = (
    Layer("LSTM", 5, 3, 7, 13, "bidirectional"),
    Layer("GRU", 4, 5, 3, 17, "reverse", attributes={"linear_before_reset": 1}),
    Layer("GRU", 3, 2, 1, 37, "bidirectional"),
    Layer("RNN", 7, 1, 5, 1, "bidirectional"),
    Layer("LSTM", 1, 1, 1, 1, given=""),
    Layer("LSTM", 3, 9, 5, 16, "reverse", given="bhc", runtime="hc", results="hc"),
    Layer("GRU", 300, 1, 3, 8, results="h"),
)
"""Primes and 1, every direction, states from outside, results left out, more steps than are ever unrolled."""

FORMS = (
    Layer("LSTM", 5, 3, 2, 11, "bidirectional", "bnhcp", attributes={"clip": 0.4}),
    Layer("LSTM", 4, 2, 3, 6, "reverse", "np", runtime="n", attributes={"input_forget": 1}),
    Layer("GRU", 6, 4, 3, 5, "bidirectional", "bnh", runtime="nh", attributes={"clip": 0.3}),
    Layer("GRU", 4, 3, 2, 4, "bidirectional", "bn", attributes={"linear_before_reset": 1}),
    Layer("RNN", 5, 3, 2, 9, "bidirectional", "bnh", runtime="n", results="h"),
    Layer("GRU", 3, 5, 4, 3, "reverse", "bh", "wrbh", attributes={"linear_before_reset": 1}),
    Layer("LSTM", 3, 2, 4, 5, "bidirectional", "bp", "wrbp"),
    Layer("LSTM", 3, 4, 2, 5, given="bhc", attributes={"layout": 1}),
    Layer("GRU", 2, 3, 2, 7, "bidirectional", "n", attributes={"layout": 1}, results="yh"),
    Layer("LSTM", 4, 2, 3, 8, given="bhc", runtime="h", dtype="float16"),
)
"""Lengths, peepholes, clipping, coupled and late gates, run-time weights, batch first, half precision."""


def with_activations(kind: str, names: Sequence[str], direction: str, seed: int = 0) -> Layer:
    generator = np.random.default_rng(seed)
    attributes: dict[str, Any] = {"activations": list(names)}
    for key, having in (("activation_alpha", WITH_ALPHA), ("activation_beta", WITH_BETA)):
        drawn = [float(generator.uniform(0.1, 0.9)) for name in names if name in having]
        if drawn:
            attributes[key] = drawn
    return Layer(kind, 2, 2, 3, 6, direction, attributes=attributes)


def every_activation() -> list[Layer]:
    """Each of them in an RNN, and mixtures that differ by direction."""
    pairs = zip(ACTIVATIONS, (*ACTIVATIONS[1:], ACTIVATIONS[0]), strict=True)
    layers = [with_activations("RNN", pair, "bidirectional") for pair in list(pairs)[::2]]
    layers.append(with_activations("LSTM", ["HardSigmoid", "Softsign", "Affine"], "forward"))
    layers.append(with_activations("GRU", ["Sigmoid", "Relu", "HardSigmoid", "ScaledTanh"], "bidirectional"))
    return layers


def test_layers_as_networks_have_them() -> None:
    plan = check(PLAIN)
    kernels = [call for call in plan.calls if {"lstm", "gru", "rnn"} & set(call.operators)]
    assert len(kernels) == len(PLAIN), "one kernel for all steps of a layer"
    assert {call.schedule for call in kernels} == {"recurrent"}
    assert all(call.knobs["rows"] >= 1 for call in kernels)
    named = {result.tensor for call in kernels for result in call.origin.results if result is not None}
    assert named == {info.name for info in plan.outputs}, "results of a layer are known by their names"


def test_every_form() -> None:
    check(FORMS)


def test_every_activation() -> None:
    check(every_activation())


@pytest.mark.parametrize("target", [X86_64_V4, ARM64], ids=["x86-64-v4", "arm64"])
def test_other_vectors(target: Target) -> None:
    if target.emulator and find_emulator(target) is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    if not host_can_run(target):
        pytest.skip("this processor has no AVX-512")
    check([PLAIN[0], PLAIN[2], FORMS[0]], target)


def test_threads_have_rows_and_directions_of_their_own() -> None:
    layers = [Layer("LSTM", 5, 7, 3, 131), Layer("GRU", 12, 5, 3, 64, "bidirectional", "bn")]
    for layer in layers:
        cell = cell_of(layer)
        assert Tiling.of(cell, X86_64).parallel
    plan = check(layers)
    assert plan.thread_workspace_bytes > 0


def cell_of(layer: Layer) -> Cell:
    directions = 2 if layer.direction == "bidirectional" else 1
    return Cell(
        layer.kind,
        layer.steps,
        layer.batch,
        layer.hidden,
        (False, True)[:directions],
        activations_of(layer.kind, directions, None, None, None),
        (),
        ("sequence",),
    )


def test_lengths_that_lie_are_bounded() -> None:
    layer = Layer("LSTM", 4, 3, 2, 5, "bidirectional", "bn", runtime="n")
    proto, feeds = network([layer])
    plan = compile_model(model_of(proto), [""], X86_64)
    wrong, right = (np.array(lengths, np.int32) for lengths in ([-7, 2**31 - 1, 2], [0, 4, 2]))
    for got, want in zip(
        run_plan(plan, {**feeds, "n0": wrong}), run_plan(plan, {**feeds, "n0": right}), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_a_cell_survives_its_text() -> None:
    cell = cell_of(PLAIN[0])
    assert Cell.from_text(cell.to_text()) == cell


@pytest.mark.parametrize(("hidden", "lanes", "vectors"), [(37, 8, 2), (16, 16, 1), (5, 4, 1), (1, 1, 1)])
def test_packed_weights(hidden: int, lanes: int, vectors: int) -> None:
    weights = np.random.default_rng().standard_normal((2, 3 * hidden, hidden)).astype(np.float32)
    product = Product(1, 2, hidden, lanes, vectors, 1)
    packed = product.pack(weights)
    assert packed.shape == product.shape(2)
    for tile in range(product.tiles):
        start = min(tile * product.width, hidden - product.width)
        for gate in range(2):
            rows = (gate + 1) * hidden + start + np.arange(product.width)
            np.testing.assert_array_equal(packed[:, tile, :, gate], weights[:, rows].transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("names", "alpha", "beta", "says"),
    [
        (["Tanh", "Tanh"], None, None, "2 activations where 1 are needed"),
        (["Swish"], None, None, "the activation swish is none"),
        (["ScaledTanh"], [1.0], None, "scaledtanh without beta"),
        (["Affine"], None, [1.0], "affine without alpha"),
    ],
)
def test_activations_that_are_refused(
    names: list[str], alpha: list[float] | None, beta: list[float] | None, says: str
) -> None:
    kind = "RNN" if len(names) == 1 else "GRU"
    if kind == "GRU":
        says, names = "1 activations where 2 are needed", names[:1]
    with pytest.raises(ValueError, match=says):
        activations_of(kind, 1, names, alpha, beta)


def test_what_cannot_be_lowered_is_a_diagnostic() -> None:
    proto, _ = network([Layer("RNN", 2, 1, 2, 3, attributes={"activations": ["Swish"]})])
    with pytest.raises(DeployccError) as refused:
        lower(model_of(proto), X86_64)
    (found,) = refused.value.diagnostics
    assert (found.code, found.node, found.op) == ("DC450", "layer0", "RNN")
    assert "swish" in found.got


def drawn_layer(generator: np.random.Generator) -> Layer:
    kind = str(generator.choice(list(GATES)))
    direction = str(generator.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    attributes: dict[str, Any] = {}
    if generator.random() < 0.25:
        attributes["clip"] = float(generator.uniform(0.2, 2))
    if kind == "GRU":
        attributes["linear_before_reset"] = int(generator.integers(0, 2))
    if kind == "LSTM" and generator.random() < 0.3:
        attributes["input_forget"] = 1
    if generator.random() < 0.4:
        # Of those that grow without bounds a layer of many steps gives infinities.
        bounded = [
            name for name in ACTIVATIONS if name not in ("Affine", "Elu", "Softplus", "ThresholdedRelu")
        ]
        names = [str(name) for name in generator.choice(bounded, len(DEFAULTS[kind]) * directions)]
        attributes |= with_activations(kind, names, direction, int(generator.integers(1 << 30))).attributes
    return Layer(
        kind,
        int(generator.choice([1, 2, 3, 7, 13, 20])),
        int(generator.choice([1, 2, 3, 5, 8, 13, 17])),
        int(generator.choice([1, 3, 8, 17])),
        int(generator.choice([1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 32, 33, 40, 64, 67])),
        direction,
        "".join(letter for letter in "bnhcp" if generator.random() < 0.5),
        str(generator.choice(["", "", "wrb", "nhc", "wrbnhcp"])),
        str(generator.choice(["yhc", "y", "h", "yh"])),
        attributes=attributes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_drawn_layers(seed: int) -> None:
    generator = np.random.default_rng(seed)
    target = X86_64_V4 if seed % 2 and host_can_run(X86_64_V4) else X86_64
    check([drawn_layer(generator) for _ in range(8)], target, seed)
