"""Recurrent layers of a fixed, short length, unrolled into matrix products and activations.

Equations, gate orders and defaults: the ONNX specification of LSTM, GRU and RNN.  The
products of the inputs with ``W`` do not depend on the state and are one product for all steps;
what remains a step is the product of the state with ``R``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from deploycc.onnx_editor import Editor, Rewrite, attribute

MAX_STEPS = 128
"""Longer sequences are refused: every step is nodes, kernels' calls and compile time."""

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@dataclass(frozen=True)
class _Layer:
    """One recurrent node: ``w`` is [D, G*H, I], ``r`` [D, G*H, H], ``b`` [D, 2*G*H] for G gates."""

    steps: int
    batch: int
    hidden: int
    directions: tuple[str, ...]
    w: np.ndarray
    r: np.ndarray
    b: np.ndarray


State = tuple[str, ...]
Step = Callable[[Rewrite, str, State], State]


def unroll(editor: Editor, node: NodeProto) -> bool:
    """One ``LSTM``, ``GRU`` or ``RNN`` becomes its steps, for targets that have no such layers.

    Refuses more than ``MAX_STEPS`` steps, unknown shapes, weights computed at run time, types
    other than float32, sequence lengths other than the full one, peepholes, clipping, coupled
    gates, batch-major layout, other activations than the default ones, and opsets before 13.
    """
    if node.op_type not in _GATES or node.domain or editor.opset < 13:
        return False
    layer = _layer(editor, node)
    if layer is not None:
        _unroll(editor, node, layer)
    return layer is not None


def _layer(editor: Editor, node: NodeProto) -> _Layer | None:
    shape = editor.shape(node.input[0])
    if shape is None or editor.dtype(node.input[0]) != "float32" or not _plain(editor, node, shape):
        return None
    w, r = editor.constant(node.input[1]), editor.constant(node.input[2])
    has_bias = len(node.input) > 3 and bool(node.input[3])
    b = editor.constant(node.input[3]) if has_bias else None
    if w is None or r is None or (has_bias and b is None):
        return None
    if b is None:
        b = np.zeros((w.shape[0], 2 * w.shape[1]), np.float32)
    direction = attribute(node, "direction", "forward")
    directions = ("forward", "reverse") if direction == "bidirectional" else (direction,)
    return _Layer(shape[0], shape[1], r.shape[2], directions, w, r, b)


def _plain(editor: Editor, node: NodeProto, shape: tuple[int, ...]) -> bool:
    refused = ("activation_alpha", "activation_beta", "clip")
    if any(attribute(node, name) is not None for name in refused):
        return False
    if attribute(node, "layout", 0) or attribute(node, "input_forget", 0) or not 0 < shape[0] <= MAX_STEPS:
        return False
    given = attribute(node, "activations")
    names = [name.decode() if isinstance(name, bytes) else name for name in given or []]
    default = _ACTIVATIONS[node.op_type]
    if names and names not in (default, default * 2):
        return False
    if len(node.input) > 7 and node.input[7]:
        return False
    if len(node.input) > 4 and node.input[4]:
        lengths = editor.constant(node.input[4])
        return lengths is not None and bool((lengths.astype(np.int64) == shape[0]).all())
    return True


def _unroll(editor: Editor, node: NodeProto, layer: _Layer) -> None:
    new = Rewrite(editor, node)
    sequences: list[str] = []
    finals: list[State] = []
    for index, direction in enumerate(layer.directions):
        rows, final = _one_direction(new, node, layer, index, direction)
        sequences.append(rows)
        finals.append(final)
    outputs = [*node.output, "", "", ""]
    # [T, B, H] a direction becomes [T, D, B, H].
    if editor.used(outputs[0]):
        axis = new.constant(np.array([1], np.int64))
        parts = [new.add("Unsqueeze", rows, axis) for rows in sequences]
        new.add("Concat", *parts, output=outputs[0], axis=1)
    for place, name in enumerate(outputs[1:3]):
        if editor.used(name):
            new.add("Concat", *(final[place] for final in finals), output=name, axis=0)
    new.done()


def _one_direction(
    new: Rewrite, node: NodeProto, layer: _Layer, index: int, direction: str
) -> tuple[str, State]:
    """The hidden states [T, B, H] in the order of the input, and the last state, [1, B, H] each."""
    gates = layer.w.shape[1]
    w_bias, r_bias = layer.b[index, :gates], layer.b[index, gates:]
    apart = node.op_type == "GRU" and bool(attribute(node, "linear_before_reset", 0))
    # The GRU's candidate gate, reset after the product, needs R's bias inside that product.
    late = np.where(np.arange(gates) >= 2 * layer.hidden, apart, False)
    offset = w_bias + np.where(late, 0.0, r_bias).astype(np.float32)
    inputs = new.add("MatMul", node.input[0], new.constant(np.ascontiguousarray(layer.w[index].T)))
    projected = new.add("Add", inputs, new.constant(offset.astype(np.float32)))
    step = _STEPS[node.op_type](new, layer, index, r_bias, apart)
    state = tuple(
        _initial(new, node, layer, index, slot) for slot in ((5, 6) if node.op_type == "LSTM" else (5,))
    )
    times = range(layer.steps) if direction == "forward" else range(layer.steps - 1, -1, -1)
    rows: dict[int, str] = {}
    for time in times:
        at = new.add("Gather", projected, new.constant(np.array([time], np.int64)), axis=0)
        state = step(new, at, state)
        rows[time] = state[0]
    return new.add("Concat", *(rows[time] for time in range(layer.steps)), axis=0), state


def _initial(new: Rewrite, node: NodeProto, layer: _Layer, index: int, slot: int) -> str:
    if len(node.input) > slot and node.input[slot]:
        return new.add("Gather", node.input[slot], new.constant(np.array([index], np.int64)), axis=0)
    return new.constant(np.zeros((1, layer.batch, layer.hidden), np.float32))


def _lstm(new: Rewrite, layer: _Layer, index: int, r_bias: np.ndarray, apart: bool) -> Step:
    """Gates i, o, f, c: ``C' = f*C + i*tanh(c)``, ``H' = o*tanh(C')``."""
    recurrent = new.constant(np.ascontiguousarray(layer.r[index].T))
    hidden = layer.hidden
    halves = new.constant(np.array([3 * hidden, hidden], np.int64))
    thirds = new.constant(np.array([hidden] * 3, np.int64))

    def step(new: Rewrite, at: str, state: State) -> State:
        before, cell = state
        gates = new.add("Add", new.add("MatMul", before, recurrent), at)
        open_gates, candidate = new.split(gates, halves, 2)
        i, o, f = new.split(new.add("Sigmoid", open_gates), thirds, 3)
        kept = new.add("Mul", f, cell)
        cell = new.add("Add", kept, new.add("Mul", i, new.add("Tanh", candidate)))
        return new.add("Mul", o, new.add("Tanh", cell)), cell

    return step


def _gru(new: Rewrite, layer: _Layer, index: int, r_bias: np.ndarray, apart: bool) -> Step:
    """Gates z, r, h: ``H' = (1 - z) * tanh(h) + z * H``; the reset gate before or after the product."""
    hidden = layer.hidden
    weights = layer.r[index]
    gate_weights = new.constant(np.ascontiguousarray(weights[: 2 * hidden].T))
    candidate_weights = new.constant(np.ascontiguousarray(weights[2 * hidden :].T))
    candidate_bias = new.constant(r_bias[2 * hidden :].astype(np.float32))
    halves = new.constant(np.array([2 * hidden, hidden], np.int64))
    pair = new.constant(np.array([hidden] * 2, np.int64))
    one = new.constant(np.array(1.0, np.float32))

    def step(new: Rewrite, at: str, state: State) -> State:
        (before,) = state
        at_gates, at_candidate = new.split(at, halves, 2)
        gates = new.add("Sigmoid", new.add("Add", new.add("MatMul", before, gate_weights), at_gates))
        z, r = new.split(gates, pair, 2)
        if apart:
            product = new.add("Add", new.add("MatMul", before, candidate_weights), candidate_bias)
            reset = new.add("Mul", r, product)
        else:
            reset = new.add("MatMul", new.add("Mul", r, before), candidate_weights)
        candidate = new.add("Tanh", new.add("Add", reset, at_candidate))
        fresh = new.add("Mul", new.add("Sub", one, z), candidate)
        return (new.add("Add", fresh, new.add("Mul", z, before)),)

    return step


def _rnn(new: Rewrite, layer: _Layer, index: int, r_bias: np.ndarray, apart: bool) -> Step:
    """``H' = tanh(x + H*R)``."""
    recurrent = new.constant(np.ascontiguousarray(layer.r[index].T))

    def step(new: Rewrite, at: str, state: State) -> State:
        return (new.add("Tanh", new.add("Add", new.add("MatMul", state[0], recurrent), at)),)

    return step


_STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
