"""Unrolled recurrent layers against ONNX Runtime's own kernels."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.graph_rewrites.recurrent import unroll
from deploycc.onnx_editor import Editor
from deploycc.onnx_graph import Array
from tests.simplifying.graphs import apply, assert_same, build, operators

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, INPUT, HIDDEN = 5, 3, 7, 4


def unroll_all(editor: Editor) -> int:
    return sum(unroll(editor, node) for node in list(editor.nodes))


def weights(op: str, directions: int, seed: int = 0) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    gates = GATES[op] * HIDDEN

    def values(*shape: int) -> Array:
        return (generator.standard_normal(shape) * 0.5).astype(np.float32)

    return {
        "w": values(directions, gates, INPUT),
        "r": values(directions, gates, HIDDEN),
        "b": values(directions, 2 * gates),
        "h": values(directions, BATCH, HIDDEN),
        "c": values(directions, BATCH, HIDDEN),
        "n": np.full(BATCH, STEPS, np.int32),
        "short": np.array([5, 3, 5], np.int32),
        "p": values(directions, 3 * HIDDEN),
    }


def graph(op: str, inputs: str, outputs: str, attrs: str, steps: int = STEPS) -> str:
    return (
        f"g (float[{steps},{BATCH},{INPUT}] x) => (float[p0,p1,p2,p3] y)"
        f" {{ {outputs} = {op}<hidden_size={HIDDEN}{attrs}>({inputs}) y = Relu(s) }}"
    )


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("inputs", ["x, w, r", "x, w, r, b", "x, w, r, b, n", "x, w, r, b, , h"])
def test_computes_the_same(op: str, direction: str, inputs: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    text = graph(op, inputs, "s", f', direction="{direction}"')
    proto = build(text, weights=weights(op, count))
    changed, after = apply(unroll_all, proto)
    assert changed == 1
    assert op not in operators(after)
    assert_same(proto, after)


@pytest.mark.parametrize("inputs", ["x, w, r, b", "x, w, r"])
def test_gru_with_the_reset_after_the_product(inputs: str) -> None:
    text = graph("GRU", inputs, "s", ', linear_before_reset=1, direction="bidirectional"')
    proto = build(text, weights=weights("GRU", 2))
    changed, after = apply(unroll_all, proto)
    assert changed == 1
    assert_same(proto, after)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_last_states(direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    text = (
        f"g (float[{STEPS},{BATCH},{INPUT}] x)"
        f" => (float[{count},{BATCH},{HIDDEN}] yh, float[{count},{BATCH},{HIDDEN}] yc)"
        f' {{ , yh, yc = LSTM<hidden_size={HIDDEN}, direction="{direction}">(x, w, r, b, , h, c) }}'
    )
    proto = build(text, weights=weights("LSTM", count))
    changed, after = apply(unroll_all, proto)
    assert changed == 1
    assert_same(proto, after)


def test_one_step_of_one() -> None:
    text = (
        f"g (float[1,1,{INPUT}] x) => (float[1,1,1,{HIDDEN}] s) {{ s = LSTM<hidden_size={HIDDEN}>(x, w, r) }}"
    )
    proto = build(text, weights=weights("LSTM", 1))
    changed, after = apply(unroll_all, proto)
    assert changed == 1
    assert_same(proto, after)


def test_the_state_as_an_input() -> None:
    text = (
        f"g (float[2,{BATCH},{INPUT}] x, float[1,{BATCH},{HIDDEN}] h, float[1,{BATCH},{HIDDEN}] c)"
        f" => (float[2,1,{BATCH},{HIDDEN}] s, float[1,{BATCH},{HIDDEN}] hn, float[1,{BATCH},{HIDDEN}] cn)"
        f" {{ s, hn, cn = LSTM<hidden_size={HIDDEN}>(x, w, r, b, , h, c) }}"
    )
    stored = weights("LSTM", 1)
    proto = build(text, weights={name: stored[name] for name in ("w", "r", "b")})
    changed, after = apply(unroll_all, proto)
    assert changed == 1
    assert_same(proto, after)


@pytest.mark.parametrize(
    ("inputs", "attrs", "steps"),
    [
        ("x, w, r, b, short", "", STEPS),
        ("x, w, r, b, , h, c, p", "", STEPS),
        ("x, w, r", ", clip=1.0", STEPS),
        ("x, w, r", ", input_forget=1", STEPS),
        ("x, w, r", ', activations=["Relu", "Tanh", "Tanh"]', STEPS),
        ("x, w, r", "", 129),
    ],
)
def test_refuses(inputs: str, attrs: str, steps: int) -> None:
    stored = weights("LSTM", 1)
    proto = build(graph("LSTM", inputs, "s", attrs, steps), weights=stored)
    assert apply(unroll_all, proto)[0] == 0


def test_default_activations_by_name_are_fine() -> None:
    attrs = ', activations=["Sigmoid", "Tanh", "Tanh"]'
    proto = build(graph("LSTM", "x, w, r", "s", attrs), weights=weights("LSTM", 1))
    changed, after = apply(unroll_all, proto)
    assert changed == 1
    assert_same(proto, after)
