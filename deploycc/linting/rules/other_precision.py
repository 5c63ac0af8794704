"""An operator that a build computes in another type than the model's.

The build puts casts around operators whose converter mixes float32 constants into float16 data (`Elu`,
`Selu`, `LRN`, `ThresholdedRelu`, `GroupNormalization` before opset 21), and computes powers of integers in
float64.  Results are at least as accurate as the model's own type; bit-for-bit equality with a float16
reference is not to be expected, and each pair of casts is a pass over memory.

Instead, if that matters: write it in operators that stay in the type: `F.relu(x) + a *
(torch.exp(-F.relu(-x)) - 1)` for `F.elu(x, a)`; in ONNX `Relu`, `Exp`, `Mul`, `Add`; `Mul(x, x)` for a
square of integers.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, compiled_only
from deploycc.types import Diagnostic

CODE = "DC318"
applies = compiled_only

_SINGLE = ("Elu", "LRN", "Selu", "ThresholdedRelu")
_INTEGERS = frozenset("int8 int16 int32 uint8 uint16 uint32".split())


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every such node of the original graph."""
    view = subject.original
    single = (*_SINGLE, "GroupNormalization") if view.opset < 21 else _SINGLE
    for node in view.model.graph.node:
        kind = view.types.get(node.input[0]) if node.input and not node.domain else None
        if kind is None:
            continue
        half = kind.dtype == "float16" and node.op_type in single
        if half or (node.op_type == "Pow" and kind.dtype in _INTEGERS):
            yield Diagnostic(
                CODE,
                f"{node.op_type} is computed in {'float32' if half else 'float64'}",
                node=node.name,
                op=node.op_type,
                got=f"{node.op_type} of {kind.dtype}",
                need="nothing: the result is at least as accurate",
                help="write it in other operators if the model's own type matters",
                severity="info",
                verdict="info",
                source="deploycc/simplifying/passes: in_single_precision, power_in_one_type",
            )
