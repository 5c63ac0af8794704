"""Weights that do not fit, or nearly not, into the target's memory.

The number is the bytes of all stored tensors as they are typed in the model.  A package maps them from its
file: what does not fit is read from the disk again in every run.  Other runtimes copy them and fail, and so
does a package on a GPU, which copies them into its memory.

Instead: `model.half()` halves them, quantisation to 8 bits divides them by four (in ONNX QDQ form around
the weights); low-rank factors for large `nn.Linear`; share embeddings with the last layer.  Half precision
rounds to 3 digits; eight bits need calibration and a comparison on real inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting import costs
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text, percent_text
from deploycc.types import Diagnostic

CODE = "DC531"

_TIGHT = 0.5
"""Above half of the memory nothing else of size runs beside the network."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding where the weights need more than half of the target's memory.

    Above all of it an error, for our own targets a warning: a package maps its weights, so they come from
    the disk again and again, and boards of one name are sold with more memory.
    """
    memory = subject.target.memory_bytes
    if not memory:
        return
    view = subject.view
    sizes = {name: costs.nbytes(name, view) for name in view.initializers}
    total = sum(sizes.values())
    if total < _TIGHT * memory:
        return
    largest = max(sizes, key=lambda name: sizes[name])
    fits = total <= memory
    yield Diagnostic(
        CODE,
        f"the weights take {percent_text(total / memory)} of the target's memory",
        tensor=largest,
        got=f"{bytes_text(total)}, the largest '{largest}' with {bytes_text(sizes[largest])}",
        need=f"less than half of {bytes_text(memory)}" if fits else f"less than {bytes_text(memory)}",
        help="store them in float16 or 8 bits, or use a smaller network",
        severity="warning" if fits or subject.compiled else "error",
        verdict="info" if fits else "slow" if subject.compiled else "unsupported",
        source=subject.memory_source,
    )
