"""Random windows: strides, dilations, pads, groups and sizes in combinations nobody wrote down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from deploycc.fixing import fixes
from deploycc.onnx_editor import Editor
from tests.fixing.cases import Case, drawn, whole
from tests.fixing.test_rewrites import apply, error, feed, run

GRAPHS = 50
Draw = Callable[[int, int], int]


def convolution(draw: Draw, operator: str = "Conv") -> Case:
    group = draw(1, 3)
    c, m, kernel = group * draw(1, 3), group * draw(1, 3), (draw(1, 4), draw(1, 4))
    transposed = operator == "ConvTranspose"
    strides, dilations = (draw(1, 4), draw(1, 4)), (draw(1, 2), draw(1, 3))
    if transposed and draw(0, 2) == 0:
        strides = kernel
    attrs = [f"group={group}", f"strides={[*strides]}", f"dilations={[*dilations]}"]
    kind = draw(0, 4)
    if kind < 2:
        attrs.append(f"pads={[draw(0, 2) for _ in range(4)]}")
    elif kind < 4 and not transposed:
        attrs.append(f'auto_pad="SAME_{("UPPER", "LOWER")[kind - 2]}"')
    if transposed and draw(0, 1):
        attrs.append(f"output_padding={[draw(0, stride - 1) for stride in strides]}")
    weights = {"w": drawn(*((c, m // group) if transposed else (m, c // group)), *kernel), "b": drawn(m)}
    n, h, w = draw(1, 2), draw(1, 12), draw(1, 12)
    call = f"{operator}<{', '.join(attrs)}>(x, w{', b' if draw(0, 1) else ''})"
    return Case(f"g (float[{n},{c},{h},{w}] x) => (float y) {{ y = {call} }}", weights)


def deconvolution(draw: Draw) -> Case:
    return convolution(draw, "ConvTranspose")


def pool(draw: Draw) -> Case:
    kernel, dilations = (draw(1, 4), draw(1, 4)), [draw(1, 2), draw(1, 2)]
    attrs = [
        f"kernel_shape={[*kernel]}",
        f"strides={[draw(1, 3), draw(1, 3)]}",
        f"dilations={dilations}",
        f"ceil_mode={draw(0, 1)}",
        f"pads={[draw(0, extent - 1) for extent in kernel * 2]}",
    ]
    shape = f"{draw(1, 2)},{draw(1, 3)},{draw(7, 12)},{draw(7, 12)}"
    return Case(f"g (float[{shape}] x) => (float y) {{ y = MaxPool<{', '.join(attrs)}>(x) }}")


def resize(draw: Draw) -> Case:
    places = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    rounding = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    attrs = (
        f'mode="{("nearest", "linear")[draw(0, 1)]}", nearest_mode="{rounding[draw(0, 3)]}",'
        f' coordinate_transformation_mode="{places[draw(0, 3)]}"'
    )
    n, c, h, w, tall, wide = (draw(*bounds) for bounds in ((1, 2), (1, 3), (1, 6), (1, 6), (1, 4), (1, 4)))
    by_size = draw(0, 1)
    stored = whole(n, c, h * tall, w * wide) if by_size else np.array([1, 1, tall, wide], np.float32)
    call = f"Resize<{attrs}>(x, {', , ' if by_size else ', '}s)"
    return Case(f"g (float[{n},{c},{h},{w}] x) => (float y) {{ y = {call} }}", {"s": stored})


@pytest.mark.parametrize("make", [convolution, deconvolution, pool, resize], ids=lambda make: make.__name__)
def test_random_windows(make: Callable[[Draw], Case]) -> None:
    seed = int(np.random.default_rng().integers(1 << 30))
    generator = np.random.default_rng(seed)

    def draw(low: int, high: int) -> int:
        return int(generator.integers(low, high, endpoint=True))

    applied = 0
    for _ in range(GRAPHS):
        case = make(draw)
        before = case.build()
        inputs = feed(before, case)
        try:
            expected = run(before, inputs)
        except Exception:  # drawn so that nothing is left of the image, which ONNX Runtime refuses
            continue
        for fix in fixes().values():
            if fix.graph or not fix.takes(before.graph.node[0]):
                continue
            editor = Editor(before)
            if apply(fix, editor):
                applied += 1
                share = error(expected, run(editor.write_back(), inputs))
                assert share <= fix.bound, f"seed {seed}: {fix.name} on {case.graph}"
    assert applied > GRAPHS / 4, f"seed {seed}: hardly a rewrite applied"
