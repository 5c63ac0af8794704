"""A quantised network in the form with QuantizeLinear and DequantizeLinear, seen as its compiler sees it.

The pairs around a node are taken into it: what is float in the file is computed on integers.
"""

from __future__ import annotations

from deploycc.onnx_graph import GraphView


def stored(name: str, view: GraphView) -> bool:
    """Whether a tensor is constant, or what DequantizeLinear makes of a constant."""
    producer = view.producers.get(name)
    if producer is not None and producer.op_type == "DequantizeLinear":
        name = producer.input[0]
    return bool(name) and view.is_constant(name)


def quantised_dtype(name: str, view: GraphView) -> str:
    """A tensor's element type where the pairs around a node are taken into it.

    That of what DequantizeLinear makes the tensor of, else of what QuantizeLinear makes of it, else its
    own; empty where it is not known.
    """
    producer = view.producers.get(name)
    if producer is not None and producer.op_type == "DequantizeLinear":
        name = producer.input[0]
    else:
        readers = view.consumers.get(name, [])
        if readers and name not in view.outputs and all(r.op_type == "QuantizeLinear" for r in readers):
            name = readers[0].output[0]
    kind = view.types.get(name)
    return kind.dtype if kind else ""
