"""Stage "lower": from a checked ONNX model to a Relax module in the model's own layout, NCHW.

``lower`` ends while convolutions and matrix products are still whole operators: each of them
is a task, and which tensor program computes it is the next stage's choice.
"""

from __future__ import annotations

from deploycc.counting import with_counts
from deploycc.lowering.canonical import canonicalize
from deploycc.lowering.frontend import import_onnx
from deploycc.lowering.interface import check_interface
from deploycc.lowering.rewrites import rewrite_onnx
from deploycc.relax_graph import find_tasks
from deploycc.types import Model, ModelTensor, Program, Target

__all__ = ["lower"]


def lower(model: Model, target: Target) -> Program:
    """Lower ``model`` to Relax and list its tasks.

    ``target`` is unused so far: one form serves every CPU target.

    Raises ``DeployccError``: DC450 where TVM's importer refuses the model, DC452 where an input or
    result then is not as the model declares it.
    """
    del target
    rewritten = rewrite_onnx(with_counts(model))
    module = import_onnx(rewritten.proto, rewritten.numbers)
    check_interface(module, model)
    module = canonicalize(module)
    return Program(
        module=module,
        tasks=find_tasks(module),
        inputs=model.inputs,
        outputs=model.outputs,
        tensors=_of_the_model(rewritten.tensors, model),
    )


def _of_the_model(tensors: tuple[ModelTensor, ...], model: Model) -> tuple[ModelTensor, ...]:
    """``tensors``, those without a name that only the lowered graph has, or has with other rows."""
    if model.counts is None:
        return tensors
    known = {name for node in model.proto.graph.node for name in node.output} - set(model.counts.rows)
    return tuple(ModelTensor(one.name if one.name in known else "", one.node) for one in tensors)
