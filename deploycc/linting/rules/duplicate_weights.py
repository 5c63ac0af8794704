"""Weights that are stored more than once.

Two initialisers have the same type, shape and bytes.  The file, and on targets whose converter keeps every
initialiser apart also the memory, hold them twice.  Exporters do so for shared modules and for constants
that each node gets a copy of.

Instead: in PyTorch, share the `Parameter` (`a.weight = b.weight`) and export with
`keep_initializers_as_inputs=False`; in ONNX, let all nodes read one initialiser.  Values stay the same bit
by bit, so the rewrite is safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from onnx import TensorProto

from deploycc.linting.costs import nbytes
from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import bytes_text, counted
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC173"
applies = external_only

_WORTH_TELLING = 4096
"""Bytes: shapes and scalars that are stored again cost nothing anywhere."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for the original graph if its copies add up to 4 KiB, with the largest as the example."""
    view = subject.original
    copies = _copies(view)
    wasted = sum(nbytes(group[0], view) * (len(group) - 1) for group in copies)
    if wasted < _WORTH_TELLING:
        return
    largest = max(copies, key=lambda group: nbytes(group[0], view) * (len(group) - 1))
    yield Diagnostic(
        CODE,
        "weights are stored more than once",
        tensor=largest[0],
        got=f"{counted(sum(len(g) - 1 for g in copies), 'copy').replace('copys', 'copies')}, "
        f"{bytes_text(wasted)} together; '{largest[1]}' is '{largest[0]}' again",
        need="each weight once",
        help="let the nodes read one initialiser",
        severity="info",
        verdict="info",
        source="the graph itself",
        fix="merge-initializers",
    )


def _copies(view: GraphView) -> list[list[str]]:
    alike: dict[tuple[int, tuple[int, ...]], list[TensorProto]] = {}
    for tensor in view.initializers.values():
        if tensor.data_type != TensorProto.STRING and nbytes(tensor.name, view) >= 64:
            alike.setdefault((tensor.data_type, tuple(tensor.dims)), []).append(tensor)
    groups: dict[bytes, list[str]] = {}
    for kind, tensors in alike.items():
        if len(tensors) < 2:
            continue
        for tensor in tensors:
            value = view.constant(tensor.name)
            if value is not None:
                key = hashlib.sha256(repr(kind).encode() + value.tobytes()).digest()
                groups.setdefault(key, []).append(tensor.name)
    return [group for group in groups.values() if len(group) > 1]
