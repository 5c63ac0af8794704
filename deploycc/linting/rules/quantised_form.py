"""A quantised network in a form that this target does not read.

There are two ways to write a quantised network.  Operator form has operators of its own for integer data
(`QLinearConv`, `QLinearMatMul`, `ConvInteger`).  QDQ form keeps the float operators and puts
`QuantizeLinear` and `DequantizeLinear` around them, as notes on scale and zero point.  Compilers for
accelerators read QDQ, and refuse operators of the other form or do not know them.

Instead: `onnxruntime.quantization.quantize_static(..., quant_format=QuantFormat.QDQ)`, or from PyTorch
`torch.ao.quantization` with `convert_pt2e` before export.  In ONNX, `DequantizeLinear` on data and weights,
the float operator, `QuantizeLinear` behind it.  Both forms compute the same up to one step of rounding at
ties; it has to be compared on real inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from deploycc.linting.subject import Subject, external_only
from deploycc.types import Diagnostic

CODE = "DC310"
applies = external_only

_OPERATOR_FORM = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding, where the graph has integer operators that the target's table does not list."""
    operators = subject.table.operators
    nodes = [n for n in subject.view.model.graph.node if n.op_type in _OPERATOR_FORM and not n.domain]
    foreign = [node for node in nodes if node.op_type not in operators]
    if not foreign:
        return
    counts = Counter(node.op_type for node in foreign)
    yield Diagnostic(
        CODE,
        "the network is quantised in operator form, which the target does not list",
        node=foreign[0].name,
        op=foreign[0].op_type,
        got=", ".join(f"{count} {op}" for op, count in sorted(counts.items())),
        need="QuantizeLinear and DequantizeLinear around float operators",
        help="quantise again in QDQ form",
        severity="warning",
        verdict="info",
        source=f"{subject.table.title}, {subject.table.version}: not in its list of operators",
        fix="qlinear-to-qdq" if "DynamicQuantizeLinear" not in counts else "",
    )
