"""An input with more channels than the accelerator reads.

The accelerator's input stage takes images: a few channels, innermost.  A network that begins on a feature
map does not start there.

Instead: put the first layers on another unit (`deploycc split`), or begin with a layer that reads an
image.  In PyTorch and in ONNX alike this is where the network is cut; values stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC220"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every graph input N x C x H x W with more channels than the target's `input_channels`."""
    limit = subject.limit("input_channels")
    if limit is None:
        return
    view = subject.view
    for info in view.model.graph.input:
        kind = view.types.get(info.name)
        if kind is None or kind.shape is None or len(kind.shape) != 4:
            continue
        turned = any(reader.op_type == "Transpose" for reader in view.consumers.get(info.name, ()))
        channels = kind.shape[-1 if turned else 1]
        if channels is not None and channels > limit.value:
            yield Diagnostic(
                CODE,
                f"input '{info.name}' has {channels} channels",
                tensor=info.name,
                got=shape_text(kind.shape),
                need=f"at most {limit.value} channels",
                help="run the first layers on another unit: deploycc split",
                severity="warning",
                verdict="fallback",
                source=limit.source,
            )
