"""Brings old models to one opset, so that no operator is read with another version's meaning.

The converter picks the largest implementation that is not newer than the model's opset and,
where there is none, silently takes the oldest.  Old models are therefore lifted, by onnx's
own version converter, and the lifted model is run against the original.
"""

from __future__ import annotations

from onnx import ModelProto, version_converter

from deploycc.importing.comparing import difference
from deploycc.lifting import mend
from deploycc.onnx_graph import NEWEST_IR, checker_complaint, infer_shapes, opset_of
from deploycc.types import Diagnostic

COMMON_OPSET = 18
"""Old models are lifted to this one: from here on reductions take their axes as an input."""


def normalise_opset(proto: ModelProto, notes: list[Diagnostic], *, compared: bool = True) -> ModelProto:
    """The model at opset 18 or newer; the model itself, with a warning, where lifting fails.

    With ``compared`` both are run on the same inputs, which have to be static.

    ``notes`` gets DC150 where the version converter gives up or its result computes something
    else.  What would then be read with another meaning is refused by lint, node by node.
    """
    opset = opset_of(proto)
    if opset >= COMMON_OPSET:
        return proto
    try:
        lifted = version_converter.convert_version(proto, COMMON_OPSET)
        mend(proto, lifted)
        lifted.ir_version = min(max(lifted.ir_version, 8), NEWEST_IR)
        lifted = infer_shapes(lifted)
        complaint = checker_complaint(lifted)
        if complaint:
            raise ValueError(complaint)
    except Exception as error:  # the converter raises RuntimeError and worse for what it lacks
        notes.append(
            _not_lifted(
                opset,
                str(error).strip().splitlines()[0] if str(error).strip() else repr(error),
            )
        )
        return proto
    reason = difference(proto, lifted) if compared else ""
    if reason:
        notes.append(_not_lifted(opset, f"the lifted model computes something else: {reason}"))
        return proto
    return lifted


def _not_lifted(opset: int, reason: str) -> Diagnostic:
    return Diagnostic(
        "DC150",
        f"the model could not be lifted from opset {opset} to {COMMON_OPSET} and is used as it is",
        got=reason[:500],
        need=f"a model the version converter lifts to opset {COMMON_OPSET}",
        help="export it again with opset 18 or newer",
        severity="warning",
        verdict="fallback",
    )
