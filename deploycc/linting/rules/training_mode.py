"""An operator that is left in training mode.

`Dropout` in training mode throws away random elements, `BatchNormalization` in training mode scales by the
mean and variance of the batch at hand instead of the ones that training stored.  Converters for inference
read neither switch: they take `Dropout` for nothing and `BatchNormalization` for a fixed scale, so what
runs on the target is another function than the model in the file.  It is nearly always an export without
`model.eval()`.

Instead: call `model.eval()` before `torch.onnx.export(..., training=TrainingMode.EVAL)`.  In ONNX, set the
third input of `Dropout` to false or take the node out, and give `BatchNormalization` `training_mode=0` with
one output.  The results then are those of the trained network; they differ from what the file computes now,
so no rewrite is safe to apply unseen.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.refusals import refused
from deploycc.linting.subject import Subject, external_only
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC170"
applies = external_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `Dropout` and `BatchNormalization` of the original graph that is or may be in training mode.

    Silent where the target's table refuses the node already.
    """
    view = subject.original
    training = {n.name: n for n in view.model.graph.node if not n.domain and _training(n, view)}
    told = refused(subject, view, list(training.values()))
    for name, node in training.items():
        if name not in told:
            yield Diagnostic(
                CODE,
                f"{node.op_type} is in training mode, which converters for inference do not read",
                node=node.name,
                op=node.op_type,
                got=_training(node, view),
                need="inference mode",
                help="export again after model.eval()",
                verdict="silently-wrong",
                source=f"ONNX operator specification, {node.op_type}",
            )


def _training(node: NodeProto, view: GraphView) -> str:
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        switch = view.constant(node.input[2])
        if switch is None:
            return f"training mode decided while it runs ('{node.input[2]}')"
        return "training_mode true" if bool(switch.any()) else ""
    if node.op_type == "BatchNormalization":
        if NodeFacts(node, view).attr("training_mode"):
            return "training_mode 1"
        statistics = [name for name in node.output[1:] if view.used(name)]
        return f"new statistics are read ('{statistics[0]}')" if statistics else ""
    return ""
