"""The operators that do not reach the flat graph, and the model without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import ModelProto

from deploycc.importing.comparing import difference
from deploycc.importing.flattening import sequences
from deploycc.importing.flattening.branches import branch
from deploycc.importing.flattening.loops import loop, over_sequence, scan
from deploycc.importing.flattening.values import Unknown, not_static
from deploycc.importing.flattening.walker import RANDOM, Handler, Operator, Walker
from deploycc.onnx_graph import infer_shapes
from deploycc.types import DeployccError, Diagnostic

HANDLERS: dict[Operator, Handler] = {
    ("", "ConcatFromSequence"): sequences.concatenate,
    ("", "If"): branch,
    ("", "Loop"): loop,
    ("", "Optional"): sequences.optional,
    ("", "OptionalGetElement"): sequences.get_element,
    ("", "OptionalHasElement"): sequences.has_element,
    ("", "Scan"): scan,
    ("", "SequenceAt"): sequences.at,
    ("", "SequenceConstruct"): sequences.construct,
    ("", "SequenceEmpty"): sequences.empty,
    ("", "SequenceErase"): sequences.erase,
    ("", "SequenceInsert"): sequences.insert,
    ("", "SequenceLength"): sequences.length,
    ("", "SequenceMap"): over_sequence,
    ("", "SplitToSequence"): sequences.split,
}
"""What is taken out: control flow, sequences and optionals."""


def straightened(
    model: ModelProto,
    handlers: Mapping[Operator, Handler],
    notes: list[Diagnostic],
    *,
    compared: bool,
    judged_by: ModelProto | None = None,
    checked: Callable[[ModelProto], None] | None = None,
) -> ModelProto:
    """The model without the operators that ``handlers`` take out; itself where it has none of them.

    With ``compared``, which needs static inputs, it is run beside what it was (or ``judged_by``, another
    form of that) on the same inputs.  ``checked`` looks at the
    straight model first: what does not fit together may end ONNX Runtime, and us with it.  ``notes`` gets
    what is worth telling: DC463 a branch left out.

    Raises ``DeployccError`` as ``flatten`` does, and DC461 where the results differ.
    """
    if not any((node.domain, node.op_type) in handlers for node in model.graph.node):
        return model
    flat = flatten(model, handlers, notes)
    if checked is not None:
        checked(flat)
    if compared and not any(node.op_type in RANDOM for node in flat.graph.node):
        reason = difference(judged_by or model, flat, by_runtime=True)
        if reason:
            raise DeployccError(
                Diagnostic(
                    "DC461",
                    "the model without its loops, branches and fused operators would compute something else",
                    got=reason[:500],
                    need="the same results",
                    help="a fault of deploycc: report it, and export with standard operators, unrolled",
                )
            )
    return flat


def flatten(model: ModelProto, handlers: Mapping[Operator, Handler], notes: list[Diagnostic]) -> ModelProto:
    """The model as one straight graph of tensors: loops unrolled, branches chosen, sequences resolved.

    Nodes of bodies are named after the node that they were in, the trip and themselves:
    ``loop/3/body_node``.  Function operators without a converter are replaced by their bodies on the
    way, because bodies branch and loop over shapes.

    Raises ``DeployccError`` with all findings: DC461 control flow that only a run decides, DC462
    too many nodes or bodies nested too deep, DC464 a sequence or optional that only a run makes up.
    """
    walker = Walker(model, handlers)
    outputs = walker.walk_main(model.graph)
    for info, value in outputs:
        if not isinstance(value, str | Unknown):
            owner = next(node for node in model.graph.node if info.name in node.output)
            refusal = not_static(
                owner, f"output '{info.name}' is not a dense tensor", type(value).__name__.lower(), "a tensor"
            )
            walker.refused.append(refusal.diagnostic)
    if walker.refused:
        # What does not fit has no type, and what reads it is refused for want of one.
        raise DeployccError(*walker.misfits[:1], *walker.refused)
    notes.extend(walker.notes)
    flat = ModelProto()
    flat.CopyFrom(model)
    flat.graph.CopyFrom(walker.result(model.graph, outputs))
    del flat.graph.value_info[:]
    return infer_shapes(flat)
