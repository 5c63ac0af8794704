"""An input with an open dimension, for a target that needs every extent.

The converter lays out memory and picks kernels when it converts, so it takes no symbolic extents; a network
for two sizes is two networks.  Lint can say little about shapes behind an open dimension, so this comes
first.

Instead: give the extents (`--shape NAME=1x3x224x224`, also to `deploycc split` and `build`), or export
without `dynamic_axes` and `dynamic_shapes`.  In ONNX, replace `dim_param` by `dim_value` and infer shapes
again.  For inputs of that shape nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC210"
applies = external_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every graph input that is not static, where the target's `static_shapes` says so."""
    limit = subject.limit("static_shapes")
    if limit is None or not limit.value:
        return
    view = subject.view
    for info in view.model.graph.input:
        kind = view.types.get(info.name)
        if kind is None or kind.static or info.name in view.initializers:
            continue
        yield Diagnostic(
            CODE,
            f"input '{info.name}' has no fixed shape",
            tensor=info.name,
            got=shape_text(kind.shape),
            need="a number for every extent",
            help=f"--shape {info.name}={_suggestion(kind.shape)} with the extents that you use",
            verdict="unsupported",
            source=limit.source,
        )


def _suggestion(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "1x3x224x224"
    # The first open extent is nearly always the batch, the others a side of the image or a length.
    dims = [dim if dim is not None else (1 if axis == 0 else 224) for axis, dim in enumerate(shape)]
    return shape_text(dims)
