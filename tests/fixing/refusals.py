"""For every rewrite that refuses something, graphs that hold its operator and that it leaves alone."""

from __future__ import annotations

import numpy as np

from tests.fixing.cases import Case, drawn, grid, number, one, whole


def _image(call: str, opset: int = 18, **weights: np.ndarray) -> Case:
    return one(f"g (float[1,4,6,8] x) => (float y) {{ y = {call} }}", opset, **weights)


def _deconvolution(attrs: str, weights: np.ndarray | None = None) -> Case:
    return _image(f"ConvTranspose<{attrs}>(x, w)", w=drawn(4, 2, 3, 3) if weights is None else weights)


_RUNTIME_CONV = "g (float[1,4,6,8] x, float[4,2,3,3] w) => (float y) {{ y = {} }}"


def _runtime(call: str) -> Case:
    return one(_RUNTIME_CONV.format(call))


def _resize(attrs: str, *scales: float) -> Case:
    return _image(f"Resize<{attrs}>(x, , s)", s=np.array(scales, np.float32))


REFUSALS: dict[str, list[Case]] = {
    "clip-to-min-max": [
        one("g (float[3] x, float low) => (float y) { y = Clip(x, low) }"),
        one("g (float[3] x) => (float y) { y = Clip(x, low) }", low=number(np.nan)),
    ],
    "prelu-to-relu": [one("g (int32[3] x) => (int32 y) { y = PRelu(x, s) }", s=np.array([2], np.int32))],
    "celu-to-relu": [_image("Celu<alpha=-1.0>(x)")],
    "shrink-to-mul": [_image("Shrink<lambd=-0.5>(x)")],
    "hard-sigmoid-to-clip": [_image("HardSigmoid(x)", 10)],
    "lp-normalization-to-reduce": [one("g (double[3,5] x) => (double y) { y = LpNormalization(x) }")],
    "batchnorm-to-mul-add": [
        _image("BatchNormalization(x, s, s, x1, s)", s=np.abs(drawn(4)), x1=np.zeros(4, np.float64)),
        one(
            "g (float[1,4,6,8] x, float[4] m) => (float y) { y = BatchNormalization(x, s, s, m, s) }",
            s=np.abs(drawn(4)),
        ),
    ],
    "layernorm-to-reduce": [
        one("g (float16[3,5] x) => (float16 y) { y = LayerNormalization(x, s) }", s=np.ones(5, np.float16))
    ],
    "group-norm-to-instance-norm": [
        one(
            "g (float16[1,4,5] x) => (float16 y) { y = GroupNormalization<num_groups=2>(x, s, s) }",
            s=np.ones(2, np.float16),
        )
    ],
    "instance-norm-to-reduce": [
        one(
            "g (float16[1,4,5] x) => (float16 y) { y = InstanceNormalization(x, s, s) }",
            s=np.ones(4, np.float16),
        )
    ],
    "softmax-last-axis": [
        _image("Softmax(x)"),
        _image("Softmax<axis=3>(x)"),
        _image("Softmax<axis=1>(x)", 11),
    ],
    "reduce-l2-to-sqrt": [
        one("g (float[3,5] x, int64[1] a) => (float y) { y = ReduceL2(x, a) }"),
        _image("ReduceL2<noop_with_empty_axes=1>(x)"),
        one("g (int32[3,5] x) => (int32 y) { y = ReduceL2(x) }"),
    ],
    "conv-split-groups": [
        _image("Conv(x, w)", w=drawn(2, 4, 3, 3)),
        one("g (float[1,33,3,3] x) => (float y) { y = Conv<group=33>(x, w) }", w=drawn(33, 1, 1, 1)),
        _runtime("Conv<group=2>(x, w)"),
    ],
    "conv-zero-stuff-dilation": [
        _image("Conv(x, w)", w=drawn(2, 4, 3, 3)),
        _image("Conv<dilations=[40,40], pads=[80,80,80,80]>(x, w)", w=drawn(2, 4, 3, 3)),
        _runtime("Conv<group=2, dilations=[2,2]>(x, w)"),
    ],
    "conv-pads-to-pad": [
        _image('Conv<auto_pad="SAME_UPPER", strides=[1,4]>(x, w)', w=drawn(2, 4, 1, 1)),
        _image("Conv<pads=[1,2,1,2]>(x, w)", w=drawn(2, 4, 3, 3)),
        _runtime("Conv<group=2, pads=[1,0,0,0]>(x, w)"),
    ],
    "focus-to-conv": [
        one(
            "g (float[1,4,6,8] x) => (float y) { a = Slice(x, z, b, h, t) c = Slice(x, z, b, h, t)"
            " y = Concat<axis=1>(a, c) }",
            z=whole(0, 0),
            b=whole(99, 99),
            h=whole(2, 3),
            t=whole(2, 2),
        ),
        one("g (float[1,4,6,8] x) => (float y) { y = Concat<axis=1>(x, x) }"),
    ],
    "deconv-output-shape-to-pads": [_deconvolution("strides=[2,2]"), _deconvolution("output_shape=[90,90]")],
    "deconv-zero-stuff-dilation": [
        _deconvolution("strides=[2,2]"),
        _deconvolution('dilations=[2,2], auto_pad="SAME_UPPER"'),
        _runtime("ConvTranspose<dilations=[2,2]>(x, w)"),
    ],
    "deconv-split-groups": [_deconvolution("strides=[2,2]"), _runtime("ConvTranspose<group=2>(x, w)")],
    "deconv-to-depth-to-space": [
        _deconvolution("strides=[2,2]"),
        _deconvolution("strides=[3,3], pads=[1,1,1,1]"),
        _deconvolution("strides=[3,3], group=2"),
        _deconvolution("strides=[3,3], output_padding=[1,1]"),
        _deconvolution("strides=[1,1]", drawn(4, 2, 1, 1)),
    ],
    "deconv-stride1-to-conv": [_deconvolution("strides=[2,2]"), _deconvolution("pads=[3,3,3,3]")],
    "deconv-zero-insert": [
        _deconvolution("strides=[1,1]"),
        _deconvolution("strides=[2,2], pads=[3,3,3,3]"),
        _deconvolution("strides=[2,2], output_shape=[12,16]"),
    ],
    "maxpool-dilation-to-slices": [
        _image('MaxPool<kernel_shape=[2,2], dilations=[2,2], auto_pad="SAME_UPPER">(x)'),
        _image("MaxPool<kernel_shape=[2,2]>(x)"),
        one(
            "g (float[1,4,6,8] x) => (float y, int64 i) {"
            " y, i = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(x) }"
        ),
        one("g (float[1,1,19,19] x) => (float y) { y = MaxPool<kernel_shape=[10,10], dilations=[2,2]>(x) }"),
    ],
    "maxpool-ceil-to-pad": [
        _image('MaxPool<kernel_shape=[3,3], ceil_mode=1, auto_pad="SAME_UPPER">(x)'),
        _image("MaxPool<kernel_shape=[2,2]>(x)"),
        one(
            "g (float[1,4,6,8] x) => (float y, int64 i) {"
            " y, i = MaxPool<kernel_shape=[2,2], ceil_mode=1>(x) }"
        ),
    ],
    "global-pool-to-reduce-mean": [one("g (float[3,5] x) => (float y) { y = GlobalAveragePool(x) }")],
    "lp-pool-to-average-pool": [
        _image("LpPool<kernel_shape=[2,2], p=1>(x)"),
        _image("LpPool<kernel_shape=[2,2], dilations=[2,2]>(x)"),
    ],
    "resize-nearest-asymmetric-floor": [
        _resize('mode="linear"', 1, 1, 2, 2),
        # Measured: above 2 the same attributes read other pixels.
        *(
            _resize('coordinate_transformation_mode="asymmetric"', 1, 1, factor, factor)
            for factor in (3.0, 4.0, 5.0, 8.0)
        ),
        _resize('nearest_mode="floor"', 1, 1, 2, 2),
        _resize('coordinate_transformation_mode="align_corners"', 1, 1, 3, 3),
        _resize('nearest_mode="ceil"', 1, 1, 0.5, 0.5),
        _resize('coordinate_transformation_mode="asymmetric", nearest_mode="floor"', 1, 1, 2, 2),
    ],
    "resize-nearest-half-pixel": [
        _resize('coordinate_transformation_mode="align_corners"', 1, 1, 3, 3),
        _resize('mode="nearest"', 1, 1, 2, 2),
    ],
    "resize-nearest-to-depth-to-space": [
        _resize('mode="nearest"', 1, 1, 2, 3),
        _resize('mode="nearest"', 1, 1, 1.5, 1.5),
        _resize('mode="nearest"', 1, 2, 2, 2),
        _resize('nearest_mode="ceil"', 1, 1, 2, 2),
        _resize('mode="nearest"', 1, 1, 9, 9),
    ],
    "resize-nearest-to-deconv": [
        _resize('nearest_mode="ceil"', 1, 1, 2, 2),
        one("g (uint8[1,1,2,3] x) => (uint8 y) { y = Resize(x, , s) }", s=np.array([1, 1, 2, 2], np.float32)),
    ],
    "resize-linear-to-deconv": [
        _resize('mode="linear", coordinate_transformation_mode="align_corners"', 1, 1, 2, 2),
        _resize('mode="linear"', 1, 1, 1.5, 2),
        _resize('mode="nearest"', 1, 1, 2, 2),
    ],
    "resize-opset10": [_resize('mode="nearest"', 1, 1, 2, 2)],
    "gemm-to-fully-connected": [
        one("g (float[3,5] x) => (float y) { y = Gemm<transB=1>(x, w) }", w=drawn(7, 5)),
        one("g (float[3,5] x, float[5,7] w) => (float y) { y = Gemm<alpha=0.5>(x, w) }"),
    ],
    "flatten-gemm-to-conv": [
        one("g (float[3,5] x) => (float y) { y = Gemm<transB=1>(x, w) }", w=drawn(7, 5)),
        one("g (float[1,2,3,4] x) => (float y) { a = Flatten<axis=2>(x) y = Gemm(a, w) }", w=drawn(12, 5)),
        one("g (float[1,2,3,4] x) => (float y) { a = Flatten(x) y = Gemm<alpha=2.0>(a, w) }", w=drawn(24, 5)),
    ],
    "batch-to-one-matmul": [
        one("g (float[3,5] x) => (float y) { y = MatMul(x, w) }", w=drawn(5, 7)),
        one("g (float[2,3,5] x) => (float y) { y = MatMul(x, w) }", w=drawn(2, 5, 7)),
    ],
    "einsum-to-matmul": [
        one(f'g (float[3,3] x, float[3,3] z) => (float y) {{ y = Einsum<equation="{equation}">(x, z) }}')
        for equation in ("ii,ij->j", "ij,jk", "ij,kl->ik", "...j,jk->...k")
    ],
    "lstm-unroll": [
        one(
            "g (float[3,1,2] x, float[1,4,2] w) => (float y) { y = LSTM<hidden_size=1>(x, w, r) }",
            r=drawn(1, 4, 1),
        ),
        one(
            "g (float[3,1,2] x) => (float y) { y = LSTM<hidden_size=1, clip=1.0>(x, w, r) }",
            w=drawn(1, 4, 2),
            r=drawn(1, 4, 1),
        ),
    ],
    "pixel-shuffle-to-depth-to-space": [
        one(
            "g (float[1,8,2,2] x) => (float y) { a = Reshape(x, i) b = Transpose<perm=[0,1,4,3,5,2]>(a)"
            " y = Reshape(b, o) }",
            i=whole(1, 2, 2, 2, 2, 2),
            o=whole(1, 2, 4, 4),
        ),
    ],
    "channel-shuffle-to-gather": [
        one(
            "g (float[1,6,2,2] x) => (float y, float b) { a = Reshape(x, i)"
            " b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, o) }",
            i=whole(1, 2, 3, 2, 2),
            o=whole(1, 6, 2, 2),
        ),
    ],
    "depth-to-space-crd-to-dcr": [
        one('g (float[1,8,2,2] x) => (float y) { y = DepthToSpace<blocksize=2, mode="CRD">(x) }'),
        one(
            "g (float[1,3,2,2] x) => (float y) { a = Conv(x, w) y = DepthToSpace<blocksize=2>(a) }",
            w=drawn(8, 3, 1, 1),
        ),
        one(
            "g (float[1,3,2,2] x) => (float y, float a) { a = Conv(x, w)"
            ' y = DepthToSpace<blocksize=2, mode="CRD">(a) }',
            w=drawn(8, 3, 1, 1),
        ),
    ],
    "scatternd-to-concat": [
        one(
            "g (float[5,3] x, float[2,3] u) => (float y) { y = ScatterND(x, i, u) }",
            i=whole(3, 1).reshape(2, 1),
        ),
        one(
            "g (float[5,3] x, float[2,2] u) => (float y) { y = ScatterND(x, i, u) }",
            i=grid(range(2), range(2)),
        ),
        one(
            'g (float[5,3] x, float[2,3] u) => (float y) { y = ScatterND<reduction="add">(x, i, u) }',
            i=grid(range(2)),
        ),
        one("g (float[5,3] x, float[2,3] u, int64[2,1] i) => (float y) { y = ScatterND(x, i, u) }"),
    ],
    "onehot-to-equal": [
        one("g (int64[3] x, int64 d) => (float y) { y = OneHot(x, d, v) }", v=np.array([0, 1], np.float32))
    ],
    "topk1-to-argmax": [
        one("g (float[3,5] x) => (float y, int64 z) { y, z = TopK(x, k) }", k=whole(2)),
        one("g (float[3,5] x, int64[1] k) => (float y, int64 z) { y, z = TopK(x, k) }"),
    ],
    "where-to-mul": [one("g (bool[3] m, int64[3] x, int64[3] z) => (int64 y) { y = Where(m, x, z) }")],
    "flip-to-gather": [
        one(
            "g (float[5] x) => (float y) { y = Slice(x, s, e, a, t) }",
            s=whole(0),
            e=whole(4),
            a=whole(0),
            t=whole(2),
        ),
        one(
            "g (float[5] x, int64[1] s) => (float y) { y = Slice(x, s, e, a, t) }",
            e=whole(-9),
            a=whole(0),
            t=whole(-1),
        ),
    ],
    "pow-to-mul": [
        _image("Pow(x, e)", e=number(0.5)),
        _image("Pow(x, e)", e=number(9)),
        _image("Pow(x, e)", e=np.array([2, 3, 2, 2, 2, 2, 2, 2], np.float32)),
        one("g (float[3] x) => (float y) { y = Pow(x, e) }", e=np.full((1, 1), 2, np.float32)),
    ],
    "max-min-pairs": [_image("Max(x, x)")],
    "isinf-to-compare": [_image("IsInf(x)")],
    "roialign-to-gridsample": [
        one(
            f"g (float[{n},3,5,7] x, float[2,4] r) => (float y) {{ y = RoiAlign<{attrs}>(x, r, i) }}",
            i=whole(0, 0),
        )
        for n, attrs in (
            (1, 'mode="max", sampling_ratio=2'),
            (1, "sampling_ratio=0"),
            (2, "sampling_ratio=2"),
        )
    ],
    "qlinear-to-qdq": [
        one(
            "g (uint8[2000,40000] x) => (int32 y) { y = MatMulInteger(x, w) }",
            w=np.zeros((40000, 1), np.uint8),
        )
    ],
    "batchnorm-fold": [
        _image("BatchNormalization(x, s, s, s, s)", s=np.abs(drawn(4))),
        one(
            "g (float[1,4,6,8] x) => (float y, float a) { "
            " a = Conv(x, w) y = BatchNormalization(a, s, s, s, s) }",
            w=drawn(4, 4, 1, 1),
            s=np.abs(drawn(4)),
        ),
    ],
    "cancel-transposes": [_image("Transpose(x)")],
    "drop-cast-pairs": [
        one("g (float[3] x) => (float y) { a = Cast<to=10>(x) y = Cast<to=1>(a) }"),
        one("g (float[3] x) => (int32 y) { a = Cast<to=11>(x) y = Cast<to=6>(a) }"),
    ],
    "drop-identities": [one("g (float[3] x) => (float y) { y = Identity(x) }")],
    "merge-initializers": [
        one("g (float[3] x) => (float y) { a = Add(x, p) y = Mul(a, q) }", p=drawn(3), q=drawn(3))
    ],
    "constant-attributes": [one("g () => (float y) { y = Constant<value_float=1.5>() }")],
}
"""Cases by the rewrite's name."""

REFUSES_BY_TYPE_ALONE = {
    "hardswish-to-clip", "softplus-to-log", "mish-to-tanh", "elu-to-exp", "selu-to-elu", "softsign-to-div",
    "swish-to-sigmoid", "gelu-to-erf", "thresholded-relu-to-mul",
}  # fmt: skip
"""Refuse what is no float, which ONNX does not allow for them anyway."""

REFUSES_NEXT_TO_NOTHING = {
    "drop-dead-nodes",
    "drop-unused-initializers",
    "sum-to-add",
    "mean-to-add",
    "upsample-to-resize",
}
"""Opsets before 8, or what onnx's converter cannot lift."""
