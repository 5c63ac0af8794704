"""Recurrent layers of fixed length as their steps."""

from __future__ import annotations

from onnx import NodeProto

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.graph_rewrites.recurrent import unroll
from deploycc.onnx_editor import Editor


def unrolled(editor: Editor, node: NodeProto) -> bool:
    """Refuses more than 128 steps, unknown shapes, weights computed at run time, types other than float32.

    Also lengths other than the full one, peepholes, clipping, coupled gates, batch-major layout, other
    activations than the default ones, and opsets before 13.
    """
    return unroll(editor, node)


FIXES = (
    Fix(
        name="lstm-unroll",
        headline="LSTM, GRU or RNN of a fixed length as its steps",
        operators=("LSTM", "GRU", "RNN"),
        onnx="MatMul of all inputs at once; Gather, MatMul, Add, Split, activations, Mul, Add a step; Concat",
        pytorch="nn.LSTMCell, nn.GRUCell or nn.RNNCell in a loop over the steps",
        apply=unrolled,
        effect=ROUNDING,
        bound=2e-6,
    ),
)
