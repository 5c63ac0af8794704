"""Element types that the target does not compute in.

The target's documents list the types of its tensors.  Others are refused, or cast to one of the list, which
may round or wrap.  Whole numbers of 32 and 64 bits and booleans are left out here: they are indices and
conditions, which converters turn into their own form.

Instead: in PyTorch `model.float()` (or `.half()`) before export; quantise to the integer type that the list
has (`activation_type=QuantType.QUInt8`); in ONNX, `Cast` at the edge and the listed type inside. Going to a
narrower type rounds, so compare the results.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import counted
from deploycc.types import Diagnostic

CODE = "DC313"

_NOT_DATA = frozenset({"int32", "int64", "uint32", "uint64", "bool", "undefined"})


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for each type outside the target's `dtypes`, at the first node that makes such a tensor."""
    limit = subject.limit("dtypes")
    if limit is None:
        return
    view = subject.view
    makers: dict[str, list[tuple[str, str, str]]] = {}
    for node in view.model.graph.node:
        for name in node.output:
            kind = view.types.get(name)
            if kind is not None and refused(kind.dtype, subject) and not view.is_constant(name):
                makers.setdefault(kind.dtype, []).append((node.name, node.op_type, name))
    for dtype, found in sorted(makers.items()):
        node_name, op, tensor = found[0]
        yield Diagnostic(
            CODE,
            f"the target does not compute in {dtype}",
            node=node_name,
            op=op,
            tensor=tensor,
            got=f"{dtype} in {counted(len(found), 'tensor')}, the first '{tensor}'",
            need=", ".join(limit.value),
            help="cast at the network's edge and export in a listed type",
            verdict="unsupported",
            source=limit.source,
        )


def refused(dtype: str, subject: Subject) -> bool:
    """Whether the target's `dtypes` leave the type out."""
    limit, quantised = subject.limit("dtypes"), subject.limit("quantised")
    # A float network for a unit of integers is quantised by the converter (calibration-needed).
    calibrated = dtype == "float32" and quantised is not None and quantised.value != "never"
    return limit is not None and dtype not in limit.value and dtype not in _NOT_DATA and not calibrated
