"""What sliding-window operators have in common: strides, dilations, pads and groups with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from deploycc.onnx_editor import Editor, attribute
from deploycc.onnx_graph import Array


@dataclass(frozen=True)
class Window:
    """A convolution or pool over static shapes.

    ``data`` is the shape of the input, ``kernel`` the extents of the window, ``begin`` and ``end`` the
    padding in front and behind, each a value for every spatial axis; ``weights`` is ``None`` for a pool.
    """

    data: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    group: int
    weights: Array | None
    bias: str

    @property
    def rank(self) -> int:
        """How many spatial axes there are."""
        return len(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """How far the window reaches on each axis, dilation counted in."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def window(editor: Editor, node: NodeProto) -> Window | None:
    """The window of a ``Conv``, ``ConvTranspose``, ``MaxPool`` or ``AveragePool``.

    ``None`` for unknown shapes, weights computed at run time, ``auto_pad`` of ``ConvTranspose``, and of a
    pool with dilation or a size rounded up, and where ``auto_pad`` would have to crop.
    """
    data = editor.shape(node.input[0])
    if data is None or len(data) < 3:
        return None
    rank = len(data) - 2
    weights = None
    if node.op_type in ("Conv", "ConvTranspose"):
        weights = editor.constant(node.input[1])
        if weights is None:
            return None
        kernel = tuple(weights.shape[2:])
    else:
        kernel = tuple(attribute(node, "kernel_shape"))
    strides = tuple(attribute(node, "strides", [1] * rank))
    dilations = tuple(attribute(node, "dilations", [1] * rank))
    padding = attribute(node, "auto_pad", "NOTSET")
    pads = list(attribute(node, "pads", [0] * (2 * rank)))
    if padding == "VALID":
        pads = [0] * (2 * rank)
    elif padding in ("SAME_UPPER", "SAME_LOWER"):
        if node.op_type == "ConvTranspose":
            return None
        if weights is None and (any(d != 1 for d in dilations) or attribute(node, "ceil_mode", 0)):
            return None  # ONNX Runtime and the specification do not agree there
        same = _same(data[2:], kernel, strides, dilations, padding == "SAME_UPPER")
        if same is None:
            return None
        pads = same
    bias = node.input[2] if len(node.input) > 2 and weights is not None else ""
    return Window(
        data=data,
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        begin=tuple(pads[:rank]),
        end=tuple(pads[rank:]),
        group=attribute(node, "group", 1),
        weights=weights,
        bias=bias,
    )


def pooled_extents(found: Window, rounded_up: bool) -> tuple[int, ...]:
    """The extents behind a pool.  ONNX Runtime drops a last window that begins behind the image."""
    extents = []
    for axis in range(found.rank):
        extent, stride = found.data[axis + 2], found.strides[axis]
        begin, end = found.begin[axis], found.end[axis]
        room = extent + begin + end - found.reach[axis]
        count = (-(-room // stride) if rounded_up else room // stride) + 1
        if rounded_up and (count - 1) * stride >= extent + begin:
            count -= 1
        extents.append(count)
    return tuple(extents)


def _same(
    extents: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    upper: bool,
) -> list[int] | None:
    """Pads that make the output ``ceil(extent / stride)``; ``upper`` puts the odd one behind.

    ``None`` where that takes less than no padding: ONNX Runtime then crops, others do not.
    """
    begin, end = [], []
    for extent, k, s, d in zip(extents, kernel, strides, dilations, strict=True):
        total = (-(-extent // s) - 1) * s + (k - 1) * d + 1 - extent
        if total < 0:
            return None
        small, large = total // 2, total - total // 2
        begin.append(small if upper else large)
        end.append(large if upper else small)
    return begin + end


def attributes_of(found: Window, **changed: Any) -> dict[str, Any]:
    """Attributes of the window, some of them changed; without ``auto_pad`` and without those of no effect."""
    attrs: dict[str, Any] = {
        "kernel_shape": list(found.kernel),
        "strides": list(found.strides),
        "dilations": list(found.dilations),
        "pads": [*found.begin, *found.end],
        "group": found.group,
    }
    attrs.update(changed)
    usual = {"strides": 1, "dilations": 1, "pads": 0, "output_padding": 0}
    idle = [name for name, value in usual.items() if all(item == value for item in attrs.get(name, ()))]
    if attrs["group"] == 1:
        idle.append("group")
    return {name: value for name, value in attrs.items() if name not in idle}


def with_bias(*inputs: str) -> list[str]:
    """The inputs without an absent bias at the end."""
    return [name for name in inputs if name]
