"""A tensor that does not fit an image of the GPU.

The GPU keeps a tensor as an image with four channels to a pixel, so its width is the tensor's width times a
quarter of its channels.  Older Adreno GPUs have 8192 or 16384 pixels to a row; of newer ones no public
source tells.

Instead: split along channels or width before the layer and concatenate behind it (`torch.chunk`,
`torch.cat`; in ONNX `Split` and `Concat`), or shrink the image first.  Splitting changes no value.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.costs import extents
from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC217"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that makes a tensor N x C x H x W with ceil(C / 4) x W above `image_extent`."""
    limit = subject.limit("image_extent")
    if limit is None:
        return
    view = subject.view
    for node in view.model.graph.node:
        for name in node.output:
            dims = extents(name, view)
            if dims is None or len(dims) != 4 or view.is_constant(name):
                continue
            width = -(-dims[1] // 4) * dims[3]
            if width >= limit.value:
                yield Diagnostic(
                    CODE,
                    "a tensor may not fit an image of the GPU",
                    node=node.name,
                    op=node.op_type,
                    tensor=name,
                    got=f"{-(-dims[1] // 4)} x {dims[3]} = {width} pixels a row ({shape_text(dims)})",
                    need=f"less than {limit.value}",
                    help="split along channels or width, or look the limit of your GPU up",
                    severity="warning",
                    verdict="info",
                    source=limit.source,
                )
                break
