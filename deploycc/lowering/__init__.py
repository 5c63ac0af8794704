"""Stage "lower": from a checked ONNX model to a Relax module in channels-last layout.

``lower`` ends while convolutions and matrix products are still whole operators: each of them
is a task, and which tensor program computes it is the next stage's choice.
"""

from __future__ import annotations

from deploycc.lowering.canonical import canonicalize
from deploycc.lowering.frontend import import_onnx
from deploycc.lowering.interface import check_interface
from deploycc.lowering.layout import channels_last
from deploycc.lowering.rewrites import rewrite_onnx
from deploycc.lowering.tasks import find_tasks
from deploycc.types import Model, Program, Target

__all__ = ["lower"]


def lower(model: Model, target: Target) -> Program:
    """Lower ``model`` to Relax, NHWC where it pays, and list its tasks.

    ``target`` is unused so far: one layout serves every CPU target.  It stays in the signature
    because the layout choice will come to depend on it.

    Raises ``DeployccError``: DC450 where TVM's importer refuses the model, DC452 where an input or
    result then is not as the model declares it.
    """
    del target
    module = import_onnx(rewrite_onnx(model.proto))
    check_interface(module, model)
    module = channels_last(canonicalize(module))
    return Program(
        module=module,
        tasks=find_tasks(module),
        inputs=model.inputs,
        outputs=model.outputs,
    )
