"""A tensor without elements.

An extent of 0 computed inside the network (a slice past the end, a resize by a scale of 0) is nearly always
a mistake in the export, and the compiler has no loops over nothing.

Instead: look at the bounds that lead to it: `x[:, n:]` with `n` beyond the end, `F.interpolate` with a size
of 0; in ONNX the `starts` and `ends` of `Slice`.  Leave the branch out, or give the input the size that it
needs.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, compiled_only
from deploycc.types import Diagnostic

CODE = "DC208"
applies = compiled_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that makes a tensor without elements, which something reads, of tensors that have some."""
    view = subject.view
    made = {name for node in view.model.graph.node if node.op_type != "Constant" for name in node.output}
    empty = {name for name in made if (kind := view.types.get(name)) and kind.shape and 0 in kind.shape}
    for node in view.model.graph.node:
        if empty.intersection(node.input):
            continue
        for name in node.output:
            kind = view.types.get(name)
            if name in empty and kind is not None and view.used(name):
                yield Diagnostic(
                    CODE,
                    f"'{name}' has no elements",
                    node=node.name,
                    op=node.op_type,
                    got="x".join("?" if extent is None else str(extent) for extent in kind.shape or ()),
                    need="extents of at least 1",
                    help="look at the slice bounds, sizes or scales that lead to it, or leave the branch out",
                    verdict="unsupported",
                )
                break
