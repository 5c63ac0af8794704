"""For every rewrite the graphs it is tested on: three shapes at least, odd, prime and 1 among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, numpy_helper, parser

from deploycc.onnx_graph import Array, infer_shapes

_RNG = np.random.default_rng()
SHAPES = ((1, 3, 5, 7), (2, 1, 11, 13), (1, 7, 1, 3))
"""Extents of images: batch, channels, height, width."""

EVEN = ((1, 3, 4, 6), (2, 1, 10, 14), (1, 5, 2, 2))
"""The same for what needs whole blocks of 2."""


@dataclass(frozen=True)
class Case:
    """A graph as text, its stored tensors and what its inputs may be: ``low`` and ``high`` for integers."""

    graph: str
    weights: dict[str, Array] = field(default_factory=dict)
    opset: int = 18
    range: tuple[int, int] = (0, 3)

    def build(self) -> ModelProto:
        proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {self.opset}]>\n{self.graph}')
        for name, value in self.weights.items():
            proto.graph.initializer.append(numpy_helper.from_array(value, name))
        for index, node in enumerate(proto.graph.node):
            node.name = node.name or f"{node.op_type}_{index}"
        for info in proto.graph.output:
            info.type.tensor_type.ClearField("shape")
        return infer_shapes(proto)


def drawn(*shape: int) -> Array:
    return np.asarray(_RNG.standard_normal(shape)).astype(np.float32)


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


def number(value: float) -> Array:
    return np.array(value, np.float32)


def pointwise(call: str, opset: int = 20, **weights: Array) -> list[Case]:
    """An elementwise operator on three images."""
    return [
        Case(f"g (float[{n},{c},{h},{w}] x) => (float[{n},{c},{h},{w}] y) {{ y = {call} }}", weights, opset)
        for n, c, h, w in SHAPES
    ]


def images(
    graph: Callable[[int, int, int, int], str],
    weights: Callable[[int, int, int, int], dict[str, Array]] = lambda n, c, h, w: {},
    shapes: tuple[tuple[int, int, int, int], ...] = SHAPES,
    opset: int = 18,
) -> list[Case]:
    """Graphs over images; ``y`` is a float of unknown extents unless the graph has a header of its own."""
    return [
        Case(
            text
            if (text := graph(n, c, h, w)).startswith("g ")
            else f"g (float[{n},{c},{h},{w}] x) => (float y) {{ {text} }}",
            weights(n, c, h, w),
            opset,
        )
        for n, c, h, w in shapes
    ]


def one(graph: str, opset: int = 18, range: tuple[int, int] = (0, 3), **weights: Array) -> Case:  # noqa: A002
    return Case(graph, weights, opset, range)


def convolutions(call: str, kernel: tuple[int, int], group: int = 1, bias: bool = True) -> list[Case]:
    """``Conv`` of 2, 3 and 5 groups' worth of channels."""
    cases = []
    for (n, _, h, w), (c, m) in zip(
        ((1, 0, 9, 7), (2, 0, 11, 13), (1, 0, 8, 17)), ((2, 4), (6, 2), (4, 6)), strict=True
    ):
        stored = {"w": drawn(m, c // group, *kernel)} | ({"b": drawn(m)} if bias else {})
        cases.append(Case(f"g (float[{n},{c},{h},{w}] x) => (float y) {{ y = {call} }}", stored))
    return cases


def deconvolutions(call: str, kernel: tuple[int, int], group: int = 1, bias: bool = True) -> list[Case]:
    cases = []
    for (n, h, w), (c, m) in zip(((1, 5, 7), (2, 3, 1), (1, 6, 11)), ((2, 4), (6, 2), (4, 6)), strict=True):
        stored = {"w": drawn(c, m // group, *kernel)} | ({"b": drawn(m)} if bias else {})
        cases.append(Case(f"g (float[{n},{c},{h},{w}] x) => (float y) {{ y = {call} }}", stored))
    return cases


def resizes(attrs: str, factor: int, sizes: bool = False) -> list[Case]:
    def stored(n: int, c: int, h: int, w: int) -> dict[str, Array]:
        return {
            "s": whole(n, c, h * factor, w * factor)
            if sizes
            else np.array([1, 1, factor, factor], np.float32)
        }

    slot = ", , , s" if sizes else ", , s"
    return images(lambda n, c, h, w: f"y = Resize<{attrs}>(x{slot})", stored)


def _norm(c: int) -> dict[str, Array]:
    return {"s": drawn(c), "b": drawn(c), "m": drawn(c), "v": np.abs(drawn(c)) + np.float32(0.1)}


def _recurrent(operator: str, gates: int, extra: str = "") -> list[Case]:
    cases = []
    for (steps, batch, size, hidden), direction in zip(
        ((5, 1, 3, 2), (3, 2, 7, 5), (1, 3, 1, 4)), ("forward", "reverse", "bidirectional"), strict=True
    ):
        d = 2 if direction == "bidirectional" else 1
        stored = {
            "w": drawn(d, gates * hidden, size),
            "r": drawn(d, gates * hidden, hidden),
            "b": drawn(d, 2 * gates * hidden),
        }
        call = f'{operator}<hidden_size={hidden}, direction="{direction}"{extra}>(x, w, r, b)'
        graph = f"g (float[{steps},{batch},{size}] x) => (float y, float z) {{ y, z = {call} }}"
        cases.append(Case(graph, stored))
    return cases


def _quantised_convolutions() -> list[Case]:
    cases = []
    for (n, c, h, w), m in zip(SHAPES, (2, 3, 5), strict=True):
        scales = np.linspace(0.01, 0.02, m).astype(np.float32)
        stored = {
            "xs": number(0.02),
            "xz": np.array(128, np.uint8),
            "w": _RNG.integers(-127, 127, (m, c, 1, 3)).astype(np.int8),
            "ws": scales,
            "wz": np.zeros(m, np.int8),
            "ys": number(0.05),
            "yz": np.array(120, np.uint8),
            "b": _RNG.integers(-500, 500, m).astype(np.int32),
        }
        call = "QLinearConv<pads=[0,1,0,1]>(x, xs, xz, w, ws, wz, ys, yz, b)"
        cases.append(
            Case(f"g (uint8[{n},{c},{h},{w}] x) => (uint8 y) {{ y = {call} }}", stored, range=(0, 255))
        )
    return cases


def _quantised_products() -> list[Case]:
    cases = []
    for rows, inner, columns in ((3, 5, 7), (1, 11, 1), (13, 1, 3)):
        zeros = {name: np.array(value, np.uint8) for name, value in (("az", 128), ("bz", 120), ("yz", 100))}
        scales = {name: number(value) for name, value in (("p", 0.02), ("q", 0.01), ("r", 0.05))}
        stored = {"b": _RNG.integers(0, 255, (inner, columns)).astype(np.uint8)} | zeros | scales
        call = "QLinearMatMul(x, p, az, b, q, bz, r, yz)"
        cases.append(
            Case(f"g (uint8[{rows},{inner}] x) => (uint8 y) {{ y = {call} }}", stored, range=(0, 255))
        )
        call = "MatMulInteger(x, b, az, bz)"
        cases.append(
            Case(f"g (uint8[{rows},{inner}] x) => (int32 y) {{ y = {call} }}", stored, range=(0, 255))
        )
    stored = {"w": _RNG.integers(0, 255, (4, 3, 3, 1)).astype(np.uint8), "z": np.array(128, np.uint8)}
    call = "ConvInteger<pads=[1,0,1,0]>(x, w, z, z)"
    graph = f"g (uint8[1,3,5,7] x) => (int32 y) {{ y = {call} }}"
    return [*cases, Case(graph, stored, range=(0, 255))]


def _shuffled(groups: int, shape: tuple[int, int, int, int]) -> Case:
    n, c, h, w = shape
    return Case(
        f"g (float[{n},{c},{h},{w}] x) => (float y) {{ "
        f"a = Reshape(x, i) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, o) }}",
        {"i": whole(n, groups, c // groups, h, w), "o": whole(n, c, h, w)},
    )


def _pixels(perm: str, inside: Callable[..., Array], shape: tuple[int, int, int, int], block: int) -> Case:
    n, c, h, w = shape
    out = whole(n, c // block**2, h * block, w * block)
    return Case(
        f"g (float[{n},{c},{h},{w}] x) => (float y) {{ "
        f"a = Reshape(x, i) b = Transpose<perm={perm}>(a) y = Reshape(b, o) }}",
        {"i": inside(n, c, h, w, block), "o": out},
    )


def _crd(n: int, c: int, h: int, w: int, b: int) -> Array:
    return whole(n, c // (b * b), b, b, h, w)


def _dcr(n: int, c: int, h: int, w: int, b: int) -> Array:
    return whole(n, b, b, c // (b * b), h, w)


_FOCUS = """a = Slice(x, s00, big, hw, two) b = Slice(x, s10, big, hw, two)
    c = Slice(x, s01, big, hw, two) d = Slice(x, s11, big, hw, two) y = Concat<axis=1>(a, b, c, d)"""
_FOCUS_WEIGHTS = {
    "s00": whole(0, 0),
    "s10": whole(1, 0),
    "s01": whole(0, 1),
    "s11": whole(1, 1),
    "big": whole(2**31 - 1, 2**31 - 1),
    "hw": whole(2, 3),
    "two": whole(2, 2),
}

_EINSUMS = (
    ("bhij,bhjk->bhik", (2, 3, 5, 7), (2, 3, 7, 1)),
    ("bqc,bkc->bqk", (1, 5, 7), (1, 11, 7)),
    ("nchw,mc->nmhw", (2, 3, 5, 7), (11, 3)),
    ("abc,cd->dab", (1, 3, 5), (5, 2)),
    ("i,j->ij", (3,), (5,)),
    ("ij,ij->i", (3, 5), (3, 5)),
    ("bhwij,bijd->bdhw", (1, 3, 5, 2, 3), (1, 2, 3, 7)),
)


def _roi(shape: tuple[int, int, int, int], count: int, attrs: str) -> Case:
    n, c, h, w = shape
    call = f"RoiAlign<{attrs}>(x, r, i)"
    graph = f"g (float[{n},{c},{h},{w}] x, float[{count},4] d) => (float y) {{ r = Mul(d, far) y = {call} }}"
    return Case(graph, {"i": np.zeros(count, np.int64), "far": number(5.0)})


def _pow(exponent: float, dtype: str, shape: str) -> Case:
    stored = np.array(exponent, dtype)
    return one(f"g (float[{shape}] x) => (float y) {{ y = Pow(x, e) }}", e=stored)


def _top(attrs: str, shape: str, outputs: str = "y, z", header: str = "float y, int64 z") -> Case:
    return one(f"g (float[{shape}] x) => ({header}) {{ {outputs} = TopK<{attrs}>(x, k) }}", k=whole(1))


def _scatter(shape: tuple[int, ...], updates: tuple[int, ...], indices: Array) -> Case:
    given = ",".join(map(str, shape)), ",".join(map(str, updates))
    graph = f"g (float[{given[0]}] x, float[{given[1]}] u) => (float y) {{ y = ScatterND(x, i, u) }}"
    return one(graph, i=indices)


def grid(*ranges: range) -> Array:
    return np.stack(np.meshgrid(*map(np.array, ranges), indexing="ij"), axis=-1).astype(np.int64)


WIDE_ROI = 'coordinate_transformation_mode="output_half_pixel", sampling_ratio=2'

CASES: dict[str, list[Case]] = {
    "clip-to-min-max": [
        *pointwise("Clip(x, l, h)", l=number(-0.5), h=number(0.75)),
        *pointwise("Clip(x, l)", l=number(0)),
        *pointwise("Clip<min=-0.5, max=0.5>(x)", 10),
    ],
    "hardswish-to-clip": pointwise("HardSwish(x)"),
    "hard-sigmoid-to-clip": [
        *pointwise("HardSigmoid(x)"),
        *pointwise("HardSigmoid<alpha=0.3, beta=0.4>(x)", 13),
    ],
    "prelu-to-relu": [
        *images(lambda n, c, h, w: "y = PRelu(x, s)", lambda n, c, h, w: {"s": drawn(c, 1, 1)}),
        one("g (float[2,3,5] x, float[3,1] s) => (float[2,3,5] y) { y = PRelu(x, s) }"),
    ],
    "softplus-to-log": pointwise("Softplus(x)"),
    "mish-to-tanh": pointwise("Mish(x)"),
    "celu-to-relu": [*pointwise("Celu(x)"), *pointwise("Celu<alpha=0.7>(x)", 12)],
    "elu-to-exp": [*pointwise("Elu(x)"), *pointwise("Elu<alpha=0.3>(x)", 9)],
    "selu-to-elu": [*pointwise("Selu(x)"), *pointwise("Selu<alpha=1.1, gamma=0.9>(x)")],
    "softsign-to-div": pointwise("Softsign(x)"),
    "swish-to-sigmoid": [*pointwise("Swish(x)", 24), *pointwise("Swish<alpha=1.7>(x)", 24)],
    "gelu-to-erf": [*pointwise("Gelu(x)"), *pointwise('Gelu<approximate="tanh">(x)')],
    "shrink-to-mul": [*pointwise("Shrink<lambd=0.5, bias=0.5>(x)"), *pointwise("Shrink<lambd=0.3>(x)")],
    "thresholded-relu-to-mul": [
        *pointwise("ThresholdedRelu<alpha=0.4>(x)"),
        *pointwise("ThresholdedRelu<alpha=-0.4>(x)"),
    ],
    "lp-normalization-to-reduce": [
        *pointwise("LpNormalization<axis=1, p=2>(x)"),
        *pointwise("LpNormalization<axis=3, p=1>(x)", 13),
    ],
    "batchnorm-to-mul-add": images(
        lambda n, c, h, w: "y = BatchNormalization(x, s, b, m, v)", lambda n, c, h, w: _norm(c)
    ),
    "layernorm-to-reduce": [
        *images(
            lambda n, c, h, w: "y = LayerNormalization(x, s, b)",
            lambda n, c, h, w: {"s": drawn(w), "b": drawn(w)},
        ),
        *images(
            lambda n, c, h, w: "y = LayerNormalization<axis=1>(x, s)",
            lambda n, c, h, w: {"s": drawn(c, h, w)},
            opset=17,
        ),
    ],
    "group-norm-to-instance-norm": [
        one(
            f"g (float[{n},{c},{h},{w}] x) => (float y) {{ "
            f"y = GroupNormalization<num_groups={g}>(x, s, b) }}",
            opset,
            s=drawn(c if opset == 21 else g),
            b=drawn(c if opset == 21 else g),
        )
        for (n, c, h, w), g in zip(((1, 6, 5, 7), (2, 4, 1, 13), (1, 9, 3, 1)), (3, 2, 1), strict=True)
        for opset in (18, 21)
    ],
    "instance-norm-to-reduce": images(
        lambda n, c, h, w: "y = InstanceNormalization(x, s, b)",
        lambda n, c, h, w: {"s": drawn(c), "b": drawn(c)},
        opset=13,
    ),
    "softmax-last-axis": [*pointwise("Softmax<axis=1>(x)"), *pointwise("LogSoftmax<axis=-2>(x)", 13)],
    "reduce-l2-to-sqrt": [
        *images(lambda n, c, h, w: "y = ReduceL2(x, a)", lambda n, c, h, w: {"a": whole(1)}),
        *images(lambda n, c, h, w: "y = ReduceL2<axes=[2,3], keepdims=0>(x)", opset=13),
        *images(lambda n, c, h, w: "y = ReduceL2(x)"),
    ],
    "conv-split-groups": [
        *convolutions("Conv<group=2, pads=[1,1,1,1]>(x, w, b)", (3, 3), 2),
        *convolutions("Conv<group=2, strides=[2,1]>(x, w)", (1, 3), 2, False),
    ],
    "conv-zero-stuff-dilation": [
        *convolutions("Conv<dilations=[2,3], pads=[2,3,2,3]>(x, w, b)", (3, 3)),
        *convolutions("Conv<dilations=[1,2], group=2>(x, w)", (3, 2), 2, False),
    ],
    "conv-pads-to-pad": [
        *convolutions('Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w, b)', (3, 3)),
        *convolutions('Conv<auto_pad="SAME_LOWER">(x, w)', (2, 3), 1, False),
        *convolutions('Conv<auto_pad="VALID">(x, w)', (2, 3), 1, False),
        *convolutions("Conv<pads=[0,1,2,0]>(x, w, b)", (3, 3)),
    ],
    "focus-to-conv": images(lambda n, c, h, w: _FOCUS, lambda n, c, h, w: _FOCUS_WEIGHTS, EVEN),
    "deconv-output-shape-to-pads": [
        one(
            f"g (float[1,2,{h},{w}] x) => (float y) {{ "
            f"y = ConvTranspose<strides=[2,2], output_shape=[{p},{q}]>(x, w) }}",
            w=drawn(2, 3, 3, 3),
        )
        for h, w, p, q in ((5, 7, 10, 14), (1, 3, 2, 6), (6, 11, 12, 21))
    ],
    "deconv-zero-stuff-dilation": [
        *deconvolutions("ConvTranspose<dilations=[2,2], strides=[2,1], pads=[1,2,1,2]>(x, w, b)", (3, 3)),
        *deconvolutions(
            "ConvTranspose<dilations=[1,3], group=2, strides=[2,2], output_padding=[1,1]>(x, w)",
            (2, 3),
            2,
            False,
        ),
    ],
    "deconv-split-groups": [
        *deconvolutions(
            "ConvTranspose<group=2, strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, w, b)", (3, 3), 2
        ),
        *deconvolutions("ConvTranspose<group=2>(x, w)", (1, 3), 2, False),
    ],
    "deconv-to-depth-to-space": [
        *deconvolutions("ConvTranspose<strides=[2,2]>(x, w, b)", (2, 2)),
        *deconvolutions("ConvTranspose<strides=[3,3]>(x, w)", (3, 3), 1, False),
    ],
    "deconv-stride1-to-conv": [
        *deconvolutions("ConvTranspose<pads=[1,0,1,1]>(x, w, b)", (3, 3)),
        *deconvolutions("ConvTranspose<group=2, dilations=[1,2]>(x, w)", (2, 3), 2, False),
    ],
    "deconv-zero-insert": [
        *deconvolutions(
            "ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, w, b)", (3, 3)
        ),
        *deconvolutions("ConvTranspose<strides=[3,1], group=2, pads=[1,0,1,1]>(x, w)", (4, 3), 2, False),
        *deconvolutions("ConvTranspose<strides=[2,4]>(x, w)", (2, 2), 1, False),
    ],
    "maxpool-dilation-to-slices": [
        *images(
            lambda n, c, h, w: (
                "y = MaxPool<kernel_shape=[2,2], dilations=[2,3], strides=[1,2], pads=[1,1,1,1]>(x)"
            ),
            shapes=((1, 3, 5, 7), (2, 1, 11, 13), (1, 7, 3, 5)),
        ),
        *images(
            lambda n, c, h, w: (
                "y = MaxPool<kernel_shape=[3,1], dilations=[2,1], ceil_mode=1, strides=[2,3]>(x)"
            ),
            shapes=((1, 3, 9, 7), (2, 1, 11, 13), (1, 7, 8, 1)),
        ),
    ],
    "maxpool-ceil-to-pad": [
        *images(
            lambda n, c, h, w: "y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
            shapes=((1, 3, 6, 8), (2, 1, 11, 12), (1, 7, 3, 5)),
        ),
        *images(
            lambda n, c, h, w: (
                "a = Relu(x) y = MaxPool<kernel_shape=[2,3], strides=[2,2], ceil_mode=1, pads=[0,1,0,1]>(a)"
            )
        ),
        *images(
            lambda n, c, h, w: "y = MaxPool<kernel_shape=[1,2], strides=[3,3], ceil_mode=1>(x)", opset=10
        ),
    ],
    "global-pool-to-reduce-mean": [
        *images(lambda n, c, h, w: "y = GlobalAveragePool(x)"),
        *images(lambda n, c, h, w: "y = GlobalMaxPool(x)", opset=11),
    ],
    "lp-pool-to-average-pool": images(
        lambda n, c, h, w: "y = LpPool<kernel_shape=[1,3], strides=[1,2], pads=[0,1,0,1]>(x)"
    ),
    "resize-nearest-asymmetric-floor": [
        *resizes('mode="nearest"', 3),
        *resizes('mode="nearest"', 2, sizes=True),
        *resizes('mode="nearest", coordinate_transformation_mode="asymmetric"', 2),
    ],
    "resize-nearest-half-pixel": resizes(
        'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"', 3
    ),
    "resize-nearest-to-depth-to-space": [
        *resizes('mode="nearest"', 2),
        *resizes('mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"', 3),
    ],
    "resize-nearest-to-deconv": [*resizes('mode="nearest"', 2), *resizes('mode="nearest"', 5, sizes=True)],
    "resize-linear-to-deconv": [
        *resizes('mode="linear"', 2),
        *resizes('mode="linear"', 3),
        *resizes('mode="linear"', 4, sizes=True),
    ],
    "upsample-to-resize": [
        *images(
            lambda n, c, h, w: "y = Upsample(x, s)",
            lambda n, c, h, w: {"s": np.array([1, 1, 2, 3], np.float32)},
            opset=9,
        )
    ],
    "resize-opset10": images(
        lambda n, c, h, w: "y = Resize(x, s)",
        lambda n, c, h, w: {"s": np.array([1, 1, 3, 2], np.float32)},
        opset=10,
    ),
    "gemm-to-fully-connected": [
        one(
            f"g (float[{a}] x) => (float y) {{ y = Gemm<{attrs}>(x, b{', c' if bias is not None else ''}) }}",
            **({"b": b} | ({"c": bias} if bias is not None else {})),
        )
        for a, attrs, b, bias in (
            ("3,5", "alpha=0.5, beta=2.0", drawn(5, 7), drawn(7)),
            ("5,1", "transA=1, transB=1", drawn(3, 5), None),
            ("1,11", "alpha=0.3", drawn(11, 13), drawn(1, 13)),
            ("2,3", "transB=0, beta=0.0", drawn(3, 1), drawn(1)),
        )
    ],
    "flatten-gemm-to-conv": [
        *images(
            lambda n, c, h, w: "a = Flatten(x) y = Gemm<transB=1>(a, b, d)",
            lambda n, c, h, w: {"b": drawn(5, c * h * w), "d": drawn(5)},
        ),
        *images(
            lambda n, c, h, w: "a = Reshape(x, f) y = Gemm(a, b)",
            lambda n, c, h, w: {"b": drawn(c * h * w, 3), "f": whole(n, c * h * w)},
        ),
    ],
    "einsum-to-matmul": [
        one(
            f"g (float[{','.join(map(str, a))}] x, float[{','.join(map(str, b))}] z) => (float y)"
            f' {{ y = Einsum<equation="{equation}">(x, z) }}'
        )
        for equation, a, b in _EINSUMS
    ],
    "lstm-unroll": [
        *_recurrent("LSTM", 4),
        *_recurrent("GRU", 3),
        *_recurrent("GRU", 3, ", linear_before_reset=1"),
        *_recurrent("RNN", 1),
    ],
    "batch-to-one-matmul": [
        one("g (float[2,3,5] x) => (float y) { y = MatMul(x, w) }", w=drawn(5, 7)),
        one("g (float[1,2,3,1,11] x) => (float y) { y = MatMul(x, w) }", w=drawn(11, 1)),
        one("g (float[1,1,13] x) => (float y) { y = MatMul(x, w) }", w=drawn(13, 3)),
    ],
    "pixel-shuffle-to-depth-to-space": [
        *(
            _pixels("[0,1,4,2,5,3]", _crd, shape, b)
            for shape, b in (((1, 12, 5, 7), 2), ((2, 9, 1, 3), 3), ((1, 4, 1, 1), 2))
        ),
        *(
            _pixels("[0,3,4,1,5,2]", _dcr, shape, b)
            for shape, b in (((1, 12, 5, 7), 2), ((2, 9, 1, 3), 3), ((1, 8, 1, 1), 2))
        ),
        *(
            one(
                f"g (float[{n},{c},{2 * h},{2 * w}] x) => (float y) {{ "
                "a = Reshape(x, i) b = Transpose<perm=[0,3,5,1,2,4]>(a)"
                " y = Reshape(b, o) }",
                i=whole(n, c, h, 2, w, 2),
                o=whole(n, 4 * c, h, w),
            )
            for n, c, h, w in SHAPES
        ),
    ],
    "channel-shuffle-to-gather": [
        _shuffled(2, (1, 6, 5, 7)),
        _shuffled(3, (2, 9, 1, 3)),
        _shuffled(5, (1, 5, 2, 1)),
    ],
    "depth-to-space-crd-to-dcr": images(
        lambda n, c, h, w: 'a = Conv(x, w, b) y = DepthToSpace<blocksize=2, mode="CRD">(a)',
        lambda n, c, h, w: {"w": drawn(12, c, 1, 1), "b": drawn(12)},
    ),
    "scatternd-to-concat": [
        _scatter((1, 3, 5, 7), (1, 3, 5, 2), grid(range(1), range(3), range(5), range(2))),
        _scatter((3, 1, 7), (3, 1, 3), grid(range(3), range(1), range(2, 5))),
        _scatter((11, 2), (3, 2), grid(range(8, 11))),
        _scatter((5, 3), (5, 3), grid(range(-5, 0))),
    ],
    "onehot-to-equal": [
        one(
            f"g (int64[{shape}] x) => (float y) {{ y = OneHot<axis={axis}>(x, d, v) }}",
            opset,
            (-5, 6),
            d=whole(5),
            v=np.array([0.5, 2.0], np.float32),
        )
        for shape, axis, opset in (("3,5", -1, 11), ("7", 0, 18), ("1,2,3", 1, 18))
    ],
    "topk1-to-argmax": [
        _top("axis=1", "3,5"),
        _top("axis=-1, largest=0", "1,7,11"),
        _top("axis=0", "13,1"),
        _top("axis=1", "3,5", "y, a", "float y"),
        _top("axis=1", "2,3", "a, z", "int64 z"),
    ],
    "where-to-mul": [
        *images(
            lambda n, c, h, w: (
                f"g (bool[{n},1,{h},{w}] m, float[{n},{c},{h},{w}] x, float[{c},1,1] z) => (float y)"
                " { y = Where(m, x, z) }"
            )
        ),
        one(
            "g (float[3,1] x, float[3,5] z) => (float y) { y = Where(m, x, z) }",
            m=np.array([[True, False, True, True, False]]),
        ),
    ],
    "flip-to-gather": [
        one(
            f"g (float[{shape}] x) => (float y) {{ y = Slice(x, s, e, a, t) }}",
            s=whole(*s),
            e=whole(*e),
            a=whole(*a),
            t=whole(*t),
        )
        for shape, s, e, a, t in (
            ("3,5", [-1], [-(2**40)], [1], [-1]),
            ("1,7,11", [6, 1], [0, 9], [1, 2], [-2, 3]),
            ("13,1", [100, 0], [-100, -2], [0, 1], [-1, -1]),
            ("3,2", [-9, 7], [-9, -9], [0, 1], [-2, -1]),
        )
    ],
    "pow-to-mul": [
        _pow(2, "int64", "3,5"),
        _pow(3, "float32", "1,7"),
        _pow(1, "float32", "11"),
        _pow(7, "float32", "2,3"),
        _pow(8, "int32", "13"),
        _pow(6, "float32", "1,1"),
        _pow(5, "int64", "3"),
    ],
    "sum-to-add": [
        one("g (float[3,5] x, float[5] z, float[3,1] q) => (float y) { y = Sum(x, z, q) }"),
        one("g (float[1] x, float[7] z) => (float y) { y = Sum(x, z) }"),
        one("g (float[2,11] x) => (float y) { y = Sum(x) }"),
    ],
    "mean-to-add": [
        one("g (float[3,5] x, float[5] z, float[3,1] q) => (float y) { y = Mean(x, z, q) }"),
        one("g (float[1] x, float[7] z) => (float y) { y = Mean(x, z) }"),
        one("g (float[2,11] x) => (float y) { y = Mean(x) }"),
    ],
    "max-min-pairs": [
        one("g (float[3,5] x, float[5] z, float[3,1] q) => (float y) { y = Max(x, z, q) }"),
        one("g (float[1] x, float[7] z, float[7] p, float[1] q) => (float y) { y = Min(x, z, p, q) }"),
        one("g (float[2,11] x) => (float y) { y = Max(x) }"),
    ],
    "isinf-to-compare": [
        one(
            f"g (float[{shape}] x) => (bool y) {{ a = Div(x, z) y = IsInf<detect_{side}=0>(a) }}",
            z=number(0.0),
        )
        for shape, side in (("3,5", "negative"), ("1,7", "positive"), ("11", "negative"))
    ],
    "roialign-to-gridsample": [
        _roi((1, 3, 5, 7), 3, WIDE_ROI + ", output_height=3, output_width=2"),
        _roi((1, 1, 11, 13), 5, "sampling_ratio=1, output_height=2, output_width=5, spatial_scale=0.5"),
        _roi((1, 2, 1, 3), 1, "sampling_ratio=3, output_height=1, output_width=1"),
        _roi((1, 7, 8, 4), 7, WIDE_ROI + ", output_height=2, output_width=2"),
    ],
    "qlinear-to-qdq": [*_quantised_convolutions(), *_quantised_products()],
    "batchnorm-fold": [
        *images(
            lambda n, c, h, w: "a = Conv(x, w) y = BatchNormalization(a, s, b, m, v)",
            lambda n, c, h, w: {"w": drawn(5, c, 1, 3)} | _norm(5),
        ),
        *images(
            lambda n, c, h, w: "a = BatchNormalization(x, s, b, m, v) y = Conv(a, w)",
            lambda n, c, h, w: {"w": drawn(5, c, 1, 3)} | _norm(c),
        ),
    ],
    "cancel-transposes": [
        *images(
            lambda n, c, h, w: "a = Transpose<perm=[0,2,3,1]>(x) b = Transpose<perm=[0,3,1,2]>(a) y = Relu(b)"
        ),
        *images(lambda n, c, h, w: "a = Transpose<perm=[0,2,3,1]>(x) y = Transpose<perm=[0,3,2,1]>(a)"),
        *images(lambda n, c, h, w: "r = Relu(x) a = Transpose(r) y = Transpose(a)"),
    ],
    "drop-cast-pairs": [
        one(f"g (float[{shape}] x) => (float y) {{ a = Cast<to=11>(x) b = Cast<to=1>(a) y = Relu(b) }}")
        for shape in ("3,5", "1", "7,2,11")
    ],
    "drop-dead-nodes": images(lambda n, c, h, w: "a = Relu(x) y = Neg(x)"),
    "merge-initializers": [
        one(f"g (float[{k},3] x) => (float y) {{ a = Add(x, p) y = Mul(a, q) }}", p=v, q=v)
        for k, v in ((1, drawn(3)), (5, drawn(3)), (7, drawn(1)))
    ],
    "drop-unused-initializers": [
        one(f"g (float[{k},3] x) => (float y) {{ y = Add(x, p) }}", p=drawn(3), q=drawn(k)) for k in (1, 5, 7)
    ],
    "drop-identities": images(lambda n, c, h, w: "a = Identity(x) b = Relu(a) d = Dropout(b) y = Neg(d)"),
    "constant-attributes": [
        one(f"g (float[{k},2] x) => (float y) {{ a = Constant<{value}>() y = Add(x, a) }}")
        for k, value in ((1, "value_float=1.5"), (5, "value_floats=[1.0, 2.0]"), (7, "value_floats=[3.0]"))
    ],
}
"""Cases of every rewrite by its name; on each of them it applies."""
