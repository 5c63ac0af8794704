"""Activations that do not fit, or nearly not, into the target's memory beside the weights.

The number is the most bytes of activations alive at once when the nodes run in graph order, each tensor
from where it is made to its last reader.  A build plans its arena as well or better.  Long skip connections
from large maps are what raises it.

Instead: a smaller input; shrink early; send skip connections through a 1x1 convolution with fewer channels
(`nn.Conv2d(c, c // 4, 1)`) before they wait; process the image in tiles.  In ONNX the finding names the
largest tensor.  Tiles give the same values where they overlap by the receptive field; the rest is another
network.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting import costs
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text, percent_text, shape_text
from deploycc.types import Diagnostic

CODE = "DC532"

_TIGHT = 0.5


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding where weights and activations exceed half of the memory and the activations matter.

    Above all of it an error, for our own targets a warning, as boards of one name are sold with more.
    What the weights alone do is told by `weight-memory`.
    """
    memory = subject.target.memory_bytes
    if not memory:
        return
    view = subject.view
    weights = sum(costs.nbytes(name, view) for name in view.initializers)
    peak = subject.peak_bytes
    fits = weights + peak <= memory
    if weights + peak < _TIGHT * memory or (fits and weights >= _TIGHT * memory) or weights > memory:
        return
    node = max(view.model.graph.node, key=lambda n: max((costs.nbytes(o, view) for o in n.output), default=0))
    tensor = max(node.output, key=lambda name: costs.nbytes(name, view))
    yield Diagnostic(
        CODE,
        f"weights and activations take {percent_text((weights + peak) / memory)} of the target's memory",
        node=node.name if fits or subject.compiled else "",
        op=node.op_type if fits or subject.compiled else "",
        tensor=tensor,
        got=f"{bytes_text(peak)} of activations at once and {bytes_text(weights)} of weights; "
        f"the largest is '{tensor}', {shape_text(costs.extents(tensor, view))}",
        need=f"less than half of {bytes_text(memory)}" if fits else f"less than {bytes_text(memory)}",
        help="use a smaller input, shrink earlier, or narrow the skip connections",
        severity="warning" if fits or subject.compiled else "error",
        verdict="info" if fits else "slow" if subject.compiled else "unsupported",
        source=subject.memory_source,
    )
