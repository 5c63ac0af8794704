"""A tensor inside the graph whose element type no kernel handles.

Strings, complex numbers, sub-byte integers and 8-bit and 4-bit floats have no kernels here; bfloat16 has
none that were checked.

Instead: export in float32 or float16 (`model.float()`, `model.half()`); in ONNX, `Cast` right behind the
stored tensor, or store it in a plain type.  Going from bfloat16 to float32 changes nothing, to float16 it
may leave the range.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, compiled_only
from deploycc.types import Diagnostic

CODE = "DC301"
applies = compiled_only

HANDLED = frozenset("float16 float32 float64 bool int8 int16 int32 int64 uint8 uint16 uint32 uint64".split())


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that makes a tensor of another type, and every such initializer a node reads."""
    view = subject.view
    for node in view.model.graph.node:
        names = [*node.output, *(name for name in node.input if name in view.initializers)]
        for name in names:
            kind = view.types.get(name)
            if kind is None or kind.dtype in HANDLED or kind.dtype == "undefined":
                continue
            yield Diagnostic(
                CODE,
                f"tensor '{name}' has an element type without kernels",
                node=node.name,
                op=node.op_type,
                got=kind.dtype,
                need=", ".join(sorted(HANDLED)),
                help="cast it to a plain type at export",
                verdict="unsupported",
            )
            break
