"""Resizes by whole factors in the forms that runtimes take.

Which pixel a nearest resize reads is computed for every output pixel as ONNX Runtime does
(``graph_rewrites.resizing.coordinates``), so a change of attributes is made only where it reads the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, version_converter

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.graph_rewrites.interpolation import coordinates, nearest
from deploycc.lifting import mend
from deploycc.onnx_editor import Editor, Rewrite, attribute, drop_attribute, set_attribute

_LIFTED = 13
"""The opset in which old models get today's ``Resize``: every target of deploycc's tables reads it."""

MAX_FACTOR = 8
"""Kernels and channels grow with the square of the factor."""


@dataclass(frozen=True)
class _Resized:
    """A resize of static shapes: ``before`` and ``after`` the extents, ``scales`` what places the samples."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    scales: tuple[float, ...]

    def factors(self) -> tuple[int, int] | None:
        """The whole factors of height and width of a 4-D image, ``None`` where there are none."""
        if len(self.before) != 4 or self.before[:2] != self.after[:2]:
            return None
        pairs = [(self.after[i] // self.before[i], self.after[i] % self.before[i]) for i in (2, 3)]
        whole = all(rest == 0 and self.scales[i] == k for i, (k, rest) in zip((2, 3), pairs, strict=True))
        return (pairs[0][0], pairs[1][0]) if whole else None


def _resized(editor: Editor, node: NodeProto) -> _Resized | None:
    before, after = editor.shape(node.input[0]), editor.shape(node.output[0])
    if node.op_type != "Resize" or editor.opset < 11 or before is None or after is None:
        return None
    if attribute(node, "axes") is not None or attribute(node, "antialias", 0):
        return None
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return None
    given = editor.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if given is not None and given.size == len(before):
        scales = tuple(float(value) for value in given.reshape(-1))
    elif len(node.input) > 3 and node.input[3]:
        scales = tuple(m / n for n, m in zip(before, after, strict=True))
    else:
        return None
    return _Resized(before, after, scales)


def _picked(found: _Resized, placing: str, rounding: str) -> list[list[int]]:
    """Which index every output pixel reads, for each axis."""
    return [
        nearest(coordinates(n, m, scale, placing), rounding, n).tolist()
        for n, m, scale in zip(found.before, found.after, found.scales, strict=True)
    ]


def _own_picks(node: NodeProto, found: _Resized) -> list[list[int]]:
    placing = attribute(node, "coordinate_transformation_mode", "half_pixel")
    return _picked(found, placing, attribute(node, "nearest_mode", "round_prefer_floor"))


def asymmetric_floor(editor: Editor, node: NodeProto) -> bool:
    """Refuses interpolation, unknown shapes, and where any output pixel would be another one.

    Whole factors with ``half_pixel`` and ``round_prefer_floor`` are the same; above 2 those with
    ``asymmetric`` and ``round_prefer_floor`` are not.
    """
    found = _resized(editor, node)
    if found is None or attribute(node, "mode", "nearest") != "nearest":
        return False
    placed = (
        attribute(node, "coordinate_transformation_mode", "half_pixel"),
        attribute(node, "nearest_mode", "round_prefer_floor"),
    )
    if placed == ("asymmetric", "floor"):
        return False
    if _own_picks(node, found) != _picked(found, "asymmetric", "floor"):
        return False
    set_attribute(node, "coordinate_transformation_mode", "asymmetric")
    set_attribute(node, "nearest_mode", "floor")
    return True


def half_pixel(editor: Editor, node: NodeProto) -> bool:
    """Refuses interpolation, unknown shapes, and where any output pixel would be another one."""
    found = _resized(editor, node)
    if found is None or attribute(node, "mode", "nearest") != "nearest":
        return False
    placed = (
        attribute(node, "coordinate_transformation_mode", "half_pixel"),
        attribute(node, "nearest_mode", "round_prefer_floor"),
    )
    if placed == ("half_pixel", "round_prefer_floor"):
        return False
    if _own_picks(node, found) != _picked(found, "half_pixel", "round_prefer_floor"):
        return False
    drop_attribute(node, "coordinate_transformation_mode")
    drop_attribute(node, "nearest_mode")
    return True


def _copies(editor: Editor, node: NodeProto) -> tuple[_Resized, tuple[int, int]] | None:
    """A nearest resize that copies each pixel into a whole block, and the block."""
    found = _resized(editor, node)
    factors = found.factors() if found is not None else None
    if found is None or factors is None or attribute(node, "mode", "nearest") != "nearest":
        return None
    if max(factors) < 2 or max(factors) > MAX_FACTOR:
        return None
    blocks = [[j // k for j in range(m)] for k, m in zip((1, 1, *factors), found.after, strict=True)]
    return (found, factors) if _own_picks(node, found) == blocks else None


def nearest_to_depth_to_space(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but one whole factor, from 2 to 8, for height and width of a 4-D image of static shape."""
    copied = _copies(editor, node)
    if copied is None or copied[1][0] != copied[1][1]:
        return False
    factor = copied[1][0]
    new = Rewrite(editor, node)
    deep = new.add("Concat", *[node.input[0]] * (factor * factor), axis=1)
    new.add("DepthToSpace", deep, output=node.output[0], blocksize=factor, mode="DCR")
    new.done()
    return True


def nearest_to_deconv(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but whole factors, from 2 to 8, of a 4-D image of floats of static shape."""
    copied = _copies(editor, node)
    if copied is None or not editor.dtype(node.input[0]).startswith("float"):
        return False
    found, (tall, wide) = copied
    channels = found.before[1]
    new = Rewrite(editor, node)
    ones = new.constant(np.ones((channels, 1, tall, wide), editor.dtype(node.input[0])))
    new.add(
        "ConvTranspose",
        *(node.input[0], ones),
        output=node.output[0],
        kernel_shape=[tall, wide],
        strides=[tall, wide],
        group=channels,
    )
    new.done()
    return True


def _taps(factor: int) -> tuple[np.ndarray, int]:
    """The kernel and the padding in front of a linear resize by ``factor`` with half-pixel centres.

    Output ``j`` lies at ``(j + 0.5) / f - 0.5``; the image has one more pixel at either edge.
    """
    front = math.ceil(0.5 + 1.5 * factor) - 1
    length = math.ceil(front - 0.5 + 0.5 * factor)
    away = (np.arange(length) - front + 0.5 + 0.5 * factor) / factor
    return np.maximum(0.0, 1.0 - np.abs(away)), front


def linear_to_deconv(editor: Editor, node: NodeProto) -> bool:
    """Refuses all but half-pixel centres and whole factors, up to 8, of a 4-D image of floats."""
    found = _resized(editor, node)
    factors = found.factors() if found is not None else None
    if found is None or factors is None or attribute(node, "mode", "nearest") != "linear":
        return False
    placing = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if placing not in ("half_pixel", "pytorch_half_pixel") or not 2 <= max(factors) <= MAX_FACTOR:
        return False
    if placing == "pytorch_half_pixel" and 1 in found.after[2:]:
        return False
    if editor.dtype(node.input[0]) not in ("float16", "float32"):
        return False
    channels = found.before[1]
    rows, front = zip(*(_taps(k) if k > 1 else (np.ones(1), 0) for k in factors), strict=True)
    edge = [1 if k > 1 else 0 for k in factors]
    behind = [
        k * (n + 2 * e - 1) + len(taps) - f - k * n
        for k, n, e, taps, f in zip(factors, found.before[2:], edge, rows, front, strict=True)
    ]
    kernel = np.broadcast_to(np.outer(*rows), (channels, 1, len(rows[0]), len(rows[1])))
    new = Rewrite(editor, node)
    padded = new.pad(node.input[0], [0, 0, *edge, 0, 0, *edge], mode="edge")
    new.add(
        "ConvTranspose",
        *(padded, new.constant(np.ascontiguousarray(kernel, editor.dtype(node.input[0])))),
        output=node.output[0],
        kernel_shape=[len(row) for row in rows],
        strides=list(factors),
        pads=[*front, *behind],
        group=channels,
    )
    new.done()
    return True


def lift(editor: Editor, node: NodeProto) -> bool:
    """The whole model goes to opset 13.  Refuses models of opset 11 and newer, and what onnx cannot lift."""
    if editor.opset >= 11:
        return False
    before = editor.write_back()
    try:
        lifted = version_converter.convert_version(before, _LIFTED)
        mend(before, lifted)
    except Exception:  # the converter raises RuntimeError and worse for what it lacks
        return False
    named = {made.output[0]: made for made in before.graph.node if made.output}
    for made in lifted.graph.node:
        if made.output and made.output[0] in named:
            made.name = named[made.output[0]].name
            del made.metadata_props[:]
            made.metadata_props.extend(named[made.output[0]].metadata_props)
    editor.adopt(lifted)
    return True


FIXES = (
    Fix(
        name="resize-nearest-asymmetric-floor",
        headline="A nearest resize that reads the same pixels with asymmetric coordinates rounded down",
        operators=("Resize",),
        onnx="Resize(coordinate_transformation_mode=asymmetric, nearest_mode=floor)",
        pytorch="F.interpolate(x, scale_factor=2, mode='nearest') with a whole factor",
        apply=asymmetric_floor,
        effect="The same pixels: every index is compared before the attributes are changed.",
    ),
    Fix(
        name="resize-nearest-half-pixel",
        headline="A nearest resize that reads the same pixels with half-pixel coordinates",
        operators=("Resize",),
        onnx="Resize with the default coordinates and rounding",
        pytorch="F.interpolate(x, scale_factor=2, mode='nearest-exact') with a whole factor",
        apply=half_pixel,
        effect="The same pixels: every index is compared before the attributes are changed.",
    ),
    Fix(
        name="resize-nearest-to-depth-to-space",
        headline="A nearest resize by a whole factor as copies on channels and DepthToSpace",
        operators=("Resize",),
        onnx="Concat of f * f copies, DepthToSpace(mode=DCR)",
        pytorch="F.pixel_shuffle(x.repeat_interleave(f * f, 1), f)",
        apply=nearest_to_depth_to_space,
    ),
    Fix(
        name="resize-nearest-to-deconv",
        headline="A nearest resize by whole factors as a depthwise transposed convolution with ones",
        operators=("Resize",),
        onnx="ConvTranspose(kernel=f, strides=f, group=C) of ones",
        pytorch="F.conv_transpose2d(x, torch.ones(c, 1, f, f), stride=f, groups=c)",
        apply=nearest_to_deconv,
    ),
    Fix(
        name="resize-linear-to-deconv",
        headline="A linear resize by whole factors as a depthwise transposed convolution",
        operators=("Resize",),
        onnx="Pad(edge, 1), ConvTranspose(strides=f, group=C) with bilinear weights",
        pytorch="F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), 'replicate'), taps, stride=f, groups=c)",
        apply=linear_to_deconv,
        effect=ROUNDING,
        bound=2e-6,
    ),
    Fix(
        name="upsample-to-resize",
        headline="Upsample as Resize, with the model lifted to opset 13",
        operators=("Upsample",),
        onnx="Resize(coordinate_transformation_mode=asymmetric, nearest_mode=floor)",
        pytorch="torch.onnx.export(..., opset_version=18)",
        apply=lift,
        effect=ROUNDING,
        bound=1e-6,
    ),
    Fix(
        name="resize-opset10",
        headline="Resize of opset 10 with today's attributes, the model lifted to opset 13",
        operators=("Resize",),
        onnx="Resize(coordinate_transformation_mode=asymmetric, nearest_mode=floor)",
        pytorch="torch.onnx.export(..., opset_version=18)",
        apply=lift,
        effect=ROUNDING,
        bound=1e-6,
    ),
)
