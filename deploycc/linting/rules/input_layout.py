"""The app gives images in another order than the model says.

ONNX models read N x C x H x W; this target keeps activations with the channels innermost and wants its
inputs so.  An app that fills the buffer in the model's order gets wrong results and no error.

Instead: fill the input as N x H x W x C, which cameras and image libraries give anyway (`x.permute(0, 2, 3,
1)` of the tensor that PyTorch gets), or look for the converter's option to keep the model's order.  The
ONNX file need not change; values stay the same, only their places do not.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.types import Diagnostic

CODE = "DC428"

_COLOURS = 4
"""No image has more of them, none fewer rows."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every graph input of rank 4 with more than one channel, where the target's `layout` is NHWC."""
    limit = subject.limit("layout")
    if limit is None or limit.value != "NHWC":
        return
    view = subject.view
    for info in view.model.graph.input:
        kind = view.types.get(info.name)
        if kind is None or kind.shape is None or len(kind.shape) != 4 or kind.shape[1] == 1:
            continue
        last = kind.shape[3] is not None and kind.shape[3] <= _COLOURS < (kind.shape[1] or 0)
        if last or all(reader.op_type == "Transpose" for reader in view.consumers.get(info.name, ())):
            continue  # the model has its input channels last already
        batch, channels, height, width = kind.shape
        yield Diagnostic(
            CODE,
            f"the app gives input '{info.name}' channels last",
            tensor=info.name,
            got=f"{shape_text(kind.shape)} in the model",
            need=f"{shape_text((batch, height, width, channels))} at run time",
            help="fill the buffer pixel by pixel, all channels of one together",
            severity="info",
            verdict="info",
            source=limit.source,
        )
