"""Weights that no node reads.

They are in the file and nothing computes with them: left over from a head that was cut off, from training,
or from a fusion that made new ones.

Instead: in PyTorch, delete the submodule before exporting (`del model.head`); in ONNX, remove the
initialisers.  No result depends on them, so the rewrite is safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.costs import nbytes
from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import bytes_text, names_text
from deploycc.types import Diagnostic

CODE = "DC174"
applies = external_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for all initialisers of the original graph that neither a node nor an output uses."""
    view = subject.original
    unused = sorted(name for name in view.initializers if not view.used(name))
    if not unused:
        return
    yield Diagnostic(
        CODE,
        "weights that no node reads",
        tensor=unused[0],
        got=f"{names_text(unused)}, {bytes_text(sum(nbytes(name, view) for name in unused))} together",
        need="only weights that are read",
        help="remove them from the file",
        severity="info",
        verdict="info",
        source="the graph itself",
        fix="drop-unused-initializers",
    )
