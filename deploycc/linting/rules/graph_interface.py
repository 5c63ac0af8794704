"""How many inputs and outputs the network has.

Each is a buffer that the app registers and, on an accelerator, a transfer.  No public document says how
many this target takes, so this is a count and no verdict.

Instead: outputs of the same height and width can be concatenated along the channels and taken apart in the
app: `torch.cat([boxes, scores], 1)`, in ONNX `Concat(axis=1)`.  Quantised, they then share one range, which
costs accuracy if their ranges differ; in float nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, external_only
from deploycc.linting.wording import counted, shape_text
from deploycc.types import Diagnostic

CODE = "DC215"
applies = external_only

_USUAL = 2
"""One input and one output need no telling."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for a graph with more than one input or output."""
    view = subject.view
    graph = view.model.graph
    inputs = [info.name for info in graph.input if info.name not in view.initializers]
    outputs = [info.name for info in graph.output]
    if len(inputs) + len(outputs) <= _USUAL:
        return

    def listed(names: list[str]) -> str:
        shown = [f"'{n}' {shape_text(k.shape if (k := view.types.get(n)) else None)}" for n in names[:4]]
        return ", ".join(shown) + (" ..." if len(names) > 4 else "")

    yield Diagnostic(
        CODE,
        f"the network has {counted(len(inputs), 'input')} and {counted(len(outputs), 'output')}",
        tensor=(inputs + outputs)[0],
        got=f"in: {listed(inputs)}; out: {listed(outputs)}",
        need="no limit is known",
        help="concatenate outputs of equal height and width if the target's SDK has a limit",
        severity="info",
        verdict="info",
        source="no public source gives a limit",
    )
