"""Image networks: blocks of classifiers, detectors, segmenters, super-resolution and OCR."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.sweep.graphs import Graph, graph


def _activations() -> dict[str, object]:
    return {
        "silu": lambda g, x: g.Mul(x, g.Sigmoid(x)),
        "hardswish": lambda g, x: g.HardSwish(x),
        "hardswish_parts": lambda g, x: g.Mul(x, g.HardSigmoid(x, alpha=1 / 6, beta=0.5)),
        "hardswish_clip": lambda g, x: g.Div(
            g.Mul(x, g.Clip(g.Add(x, g.c(3.0)), g.c(0.0), g.c(6.0))), g.c(6.0)
        ),
        "gelu_erf": lambda g, x: g.Mul(g.Mul(x, g.Add(g.Erf(g.Div(x, g.c(1.4142135))), g.c(1.0))), g.c(0.5)),
        "gelu_tanh": lambda g, x: g.Mul(
            g.Mul(x, g.c(0.5)),
            g.Add(
                g.c(1.0),
                g.Tanh(g.Mul(g.c(0.79788456), g.Add(x, g.Mul(g.c(0.044715), g.Pow(x, g.c(3.0)))))),
            ),
        ),
        "mish": lambda g, x: g.Mul(x, g.Tanh(g.Softplus(x))),
        "relu6": lambda g, x: g.Clip(x, g.c(0.0), g.c(6.0)),
        "clip_upper_only": lambda g, x: g.Clip(x, "", g.c(1.5)),
        "prelu": lambda g, x: g.PRelu(x, g.w(8, 1, 1)),
        "prelu_scalar": lambda g, x: g.PRelu(x, g.c(np.array([0.25], np.float32))),
        "prelu_elementwise": lambda g, x: g.PRelu(x, g.w(8, 9, 11)),
        "leaky": lambda g, x: g.LeakyRelu(x, alpha=0.1),
        "elu": lambda g, x: g.Elu(x, alpha=0.7),
        "selu": lambda g, x: g.Selu(x),
        "celu": lambda g, x: g.Celu(x, alpha=0.5),
        "softsign": lambda g, x: g.Softsign(x),
        "thresholded": lambda g, x: g.ThresholdedRelu(x, alpha=0.4),
        "shrink": lambda g, x: g.Shrink(x, bias=0.1, lambd=0.3),
        "hardsigmoid": lambda g, x: g.HardSigmoid(x, alpha=0.3, beta=0.4),
        "softmax_channels": lambda g, x: g.Softmax(x, axis=1),
        "logsoftmax_last": lambda g, x: g.LogSoftmax(x, axis=-1),
        "hardmax": lambda g, x: g.Hardmax(x, axis=1),
        "abs_sqrt": lambda g, x: g.Sqrt(g.Abs(x)),
        "log1p": lambda g, x: g.Log(g.Add(g.Abs(x), g.c(1.0))),
    }


for _name, _act in _activations().items():
    graph(
        lambda g, act=_act: g.conv(act(g, g.bn(g.conv(g.input(1, 3, 9, 11), 3, 8), 8)), 8, 5, 1),
        name=f"act_{_name}",
    )


@graph
def se_block(g: Graph) -> str:
    x = g.conv(g.input(2, 3, 12, 10), 3, 16)
    s = g.GlobalAveragePool(x)
    s = g.HardSigmoid(g.conv(g.Relu(g.conv(s, 16, 4, 1)), 4, 16, 1), alpha=0.2, beta=0.5)
    return str(g.Add(g.Mul(x, s), x))


@graph
def se_block_linear(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 12, 10), 3, 16)
    s = g.Reshape(g.ReduceMean(x, g.c([2, 3]), keepdims=0), g.c([0, -1]))
    s = g.Sigmoid(g.Gemm(g.Relu(g.Gemm(s, g.w(4, 16), g.w(4), transB=1)), g.w(16, 4), g.w(16), transB=1))
    return str(g.Mul(x, g.Expand(g.Reshape(s, g.c([1, 16, 1, 1])), g.c([1, 16, 12, 10]))))


@graph
def channel_shuffle(g: Graph) -> str:
    x = g.conv(g.input(1, 6, 7, 9), 6, 12, 1, group=3)
    x = g.Reshape(x, g.c([1, 3, 4, 7, 9]))
    x = g.Reshape(g.Transpose(x, perm=[0, 2, 1, 3, 4]), g.c([1, -1, 7, 9]))
    return g.conv(x, 12, 12, 3, group=12)


@graph
def shufflenet_unit(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 8, 8), 3, 12)
    a, b = g.Split(x, axis=1, num_outputs=2, results=2)
    b = g.Relu(g.conv(g.conv(g.Relu(g.conv(b, 6, 6, 1)), 6, 6, 3, group=6), 6, 6, 1))
    x = g.Concat(a, b, axis=1)
    x = g.Transpose(g.Reshape(x, g.c([1, 2, 6, 8, 8])), perm=[0, 2, 1, 3, 4])
    return str(g.Reshape(x, g.c([1, 12, 8, 8])))


for _mode in ("DCR", "CRD"):
    graph(
        lambda g, mode=_mode: g.DepthToSpace(g.conv(g.input(1, 2, 5, 7), 2, 12), blocksize=2, mode=mode),
        name=f"pixel_shuffle_{_mode}",
    )


@graph
def pixel_shuffle_reshape(g: Graph) -> str:
    x = g.Reshape(g.conv(g.input(1, 2, 5, 7), 2, 27), g.c([1, 3, 3, 3, 5, 7]))
    return str(g.Reshape(g.Transpose(x, perm=[0, 1, 4, 2, 5, 3]), g.c([1, 3, 15, 21])))


@graph
def space_to_depth(g: Graph) -> str:
    return g.conv(g.SpaceToDepth(g.input(1, 3, 8, 6), blocksize=2), 12, 4)


@graph
def yolo_focus(g: Graph) -> str:
    x = g.input(1, 3, 8, 8)
    parts = []
    for top, left in product((0, 1), (0, 1)):
        y = g.Slice(x, g.c([top]), g.c([2**31 - 1]), g.c([2]), g.c([2]))
        parts.append(g.Slice(y, g.c([left]), g.c([2**63 - 1]), g.c([3]), g.c([2])))
    return g.conv(g.Concat(*parts, axis=1), 12, 8)


_COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
for _m, _t in product(("nearest", "linear", "cubic"), _COORDINATES):
    graph(
        lambda g, m=_m, t=_t: g.conv(
            g.Resize(
                g.conv(g.input(1, 3, 5, 7), 3, 4),
                "",
                g.c([1.0, 1.0, 2.0, 2.0]),
                mode=m,
                coordinate_transformation_mode=t,
                nearest_mode="floor" if t == "asymmetric" else "round_prefer_floor",
            ),
            4,
            2,
            1,
        ),
        name=f"resize2x_{_m}_{_t}",
    )
    graph(
        lambda g, m=_m, t=_t: g.Resize(
            g.Relu(g.input(1, 4, 9, 6)),
            "",
            "",
            g.c([1, 4, 5, 13]),
            mode=m,
            coordinate_transformation_mode=t,
            cubic_coeff_a=-0.75,
        ),
        name=f"resize_sizes_{_m}_{_t}",
    )

for _nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    for _t in ("half_pixel", "asymmetric", "align_corners"):
        graph(
            lambda g, n=_nearest, t=_t: g.Resize(
                g.input(1, 2, 5, 6),
                "",
                g.c([1.0, 1.0, 1.7, 2.5]),
                mode="nearest",
                nearest_mode=n,
                coordinate_transformation_mode=t,
            ),
            name=f"resize_nearest_{_nearest}_{_t}",
        )


@graph(opset=9)
def upsample_opset9(g: Graph) -> str:
    return g.conv(g.Upsample(g.input(1, 3, 4, 5), g.c([1.0, 1.0, 2.0, 2.0]), mode="nearest"), 3, 4)


@graph(opset=10)
def resize_opset10(g: Graph) -> str:
    return str(g.Resize(g.conv(g.input(1, 3, 4, 5), 3, 4), g.c([1.0, 1.0, 2.0, 2.0]), mode="linear"))


@graph(opset=11)
def resize_opset11_empty_roi(g: Graph) -> str:
    roi = g.c(np.zeros(0, np.float32))
    return str(
        g.Resize(
            g.conv(g.input(1, 3, 4, 5), 3, 4),
            roi,
            g.c(np.zeros(0, np.float32)),
            g.c([1, 4, 8, 10]),
            mode="linear",
            coordinate_transformation_mode="pytorch_half_pixel",
        )
    )


@graph
def resize_1d(g: Graph) -> str:
    return str(g.Resize(g.input(2, 3, 8), "", g.c([1.0, 1.0, 2.0]), mode="linear"))


@graph
def resize_3d(g: Graph) -> str:
    return str(g.Resize(g.input(1, 2, 3, 4, 5), "", g.c([1.0, 1.0, 2.0, 2.0, 2.0]), mode="nearest"))


@graph
def resize_antialias(g: Graph) -> str:
    return str(g.Resize(g.input(1, 3, 16, 16), "", "", g.c([1, 3, 5, 7]), mode="linear", antialias=1))


@graph
def resize_axes(g: Graph) -> str:
    return str(g.Resize(g.input(1, 3, 6, 6), "", "", g.c([9, 12]), mode="linear", axes=[2, 3]))


@graph
def fpn(g: Graph) -> list[str]:
    x = g.input(1, 3, 32, 32)
    c1 = g.Relu(g.conv(x, 3, 8, 3, strides=[2, 2]))
    c2 = g.Relu(g.conv(c1, 8, 12, 3, strides=[2, 2]))
    c3 = g.Relu(g.conv(c2, 12, 16, 3, strides=[2, 2]))
    p3 = g.conv(c3, 16, 8, 1)
    p2 = g.Add(g.conv(c2, 12, 8, 1), g.Resize(p3, "", "", g.c([1, 8, 8, 8]), mode="nearest"))
    p1 = g.Add(g.conv(c1, 8, 8, 1), g.Resize(p2, "", g.c([1.0, 1.0, 2.0, 2.0]), mode="linear"))
    return [g.conv(p1, 8, 8), g.conv(p2, 8, 8), g.conv(p3, 8, 8)]


for _k, _s, _p, _op, _g in (
    (4, 2, 1, 0, 1),
    (2, 2, 0, 0, 1),
    (3, 2, 1, 1, 1),
    (3, 1, 1, 0, 1),
    (5, 3, 2, 2, 1),
    (4, 2, 1, 0, 8),
    (3, 2, 0, 0, 4),
    (8, 4, 2, 0, 1),
):
    graph(
        lambda g, k=_k, s=_s, p=_p, op=_op, n=_g: g.ConvTranspose(
            g.conv(g.input(1, 3, 6, 5), 3, 8),
            g.w(8, 8 // n, k, k),
            g.w(8),
            kernel_shape=[k, k],
            strides=[s, s],
            pads=[p] * 4,
            output_padding=[op, op],
            group=n,
        ),
        name=f"deconv_k{_k}_s{_s}_p{_p}_op{_op}_g{_g}",
    )


@graph
def deconv_uneven(g: Graph) -> str:
    return str(g.ConvTranspose(g.input(2, 3, 4, 5), g.w(3, 4, 3, 2), strides=[2, 3], pads=[1, 0, 0, 1]))


@graph
def deconv_output_shape(g: Graph) -> str:
    return str(g.ConvTranspose(g.input(1, 3, 4, 5), g.w(3, 4, 3, 3), strides=[2, 2], output_shape=[9, 10]))


@graph
def deconv_same_upper(g: Graph) -> str:
    return str(g.ConvTranspose(g.input(1, 3, 4, 5), g.w(3, 4, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"))


@graph
def deconv_dilated(g: Graph) -> str:
    return str(g.ConvTranspose(g.input(1, 3, 4, 5), g.w(3, 4, 3, 3), dilations=[2, 2], strides=[2, 2]))


@graph
def deconv_1d(g: Graph) -> str:
    return str(g.ConvTranspose(g.input(1, 3, 9), g.w(3, 4, 4), g.w(4), strides=[2], pads=[1, 1]))


@graph
def deconv_3d(g: Graph) -> str:
    return str(g.ConvTranspose(g.input(1, 3, 3, 4, 5), g.w(3, 4, 2, 2, 2), strides=[2, 2, 2]))


@graph
def aspp(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 16, 16), 3, 8)
    parts = [g.Relu(g.conv(x, 8, 6, 3, dilations=[d, d])) for d in (1, 2, 4, 6)]
    pooled = g.Relu(g.conv(g.GlobalAveragePool(x), 8, 6, 1))
    pooled = g.Resize(
        pooled,
        "",
        "",
        g.c([1, 6, 16, 16]),
        mode="linear",
        coordinate_transformation_mode="pytorch_half_pixel",
    )
    return g.conv(g.Concat(*parts, pooled, axis=1), 30, 5, 1)


@graph
def group_norm_reshape(g: Graph) -> str:
    x = g.conv(g.input(2, 3, 6, 7), 3, 8)
    y = g.InstanceNormalization(
        g.Reshape(x, g.c([0, 4, -1])), g.c(np.ones(4, np.float32)), g.c(np.zeros(4, np.float32))
    )
    y = g.Reshape(y, g.c([2, 8, 6, 7]))
    return str(g.Add(g.Mul(y, g.w(8, 1, 1)), g.w(8, 1, 1)))


@graph(opset=21)
def group_norm(g: Graph) -> str:
    x = g.conv(g.input(2, 3, 6, 7), 3, 8)
    return str(g.GroupNormalization(x, g.positive(8), g.w(8), num_groups=4))


@graph
def instance_norm(g: Graph) -> str:
    return str(g.Relu(g.InstanceNormalization(g.conv(g.input(2, 3, 6, 7), 3, 8), g.positive(8), g.w(8))))


@graph
def layer_norm_channels_first(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 6, 7), 3, 8)
    mean = g.ReduceMean(x, g.c([1]), keepdims=1)
    centred = g.Sub(x, mean)
    variance = g.ReduceMean(g.Pow(centred, g.c(2.0)), g.c([1]), keepdims=1)
    y = g.Div(centred, g.Sqrt(g.Add(variance, g.c(1e-6))))
    return str(g.Add(g.Mul(y, g.positive(8, 1, 1)), g.w(8, 1, 1)))


@graph
def convnext_block(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 9, 8), 3, 8)
    y = g.Transpose(g.conv(x, 8, 8, 7, group=8), perm=[0, 2, 3, 1])
    y = g.linear(g.LayerNormalization(y, g.positive(8), g.w(8), axis=-1), 8, 32)
    y = g.Mul(g.Mul(y, g.Add(g.Erf(g.Div(y, g.c(1.4142135))), g.c(1.0))), g.c(0.5))
    y = g.Mul(g.linear(y, 32, 8), g.w(8))
    return str(g.Add(x, g.Transpose(y, perm=[0, 3, 1, 2])))


@graph
def lrn(g: Graph) -> str:
    return str(g.LRN(g.conv(g.input(1, 3, 6, 7), 3, 8), size=5, alpha=1e-2, beta=0.75, bias=1.0))


@graph
def densenet(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 8, 8), 3, 6)
    for channels in (6, 10, 14):
        y = g.conv(g.Relu(g.bn(x, channels)), channels, 4)
        x = g.Concat(x, y, axis=1)
    return str(g.AveragePool(x, kernel_shape=[2, 2], strides=[2, 2]))


for _kernel, _attributes in {
    "max3s2": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max_ceil": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max_ceil_pad": (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [0, 0, 1, 1]},
    ),
    "max_dilated": ("MaxPool", {"kernel_shape": [3, 3], "dilations": [2, 2]}),
    "max_same": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "max_same_lower": ("MaxPool", {"kernel_shape": [2, 2], "strides": [1, 1], "auto_pad": "SAME_LOWER"}),
    "avg_pad": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "avg_include": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "avg_ceil": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "avg_ceil_include": (
        "AveragePool",
        {
            "kernel_shape": [3, 3],
            "strides": [2, 2],
            "ceil_mode": 1,
            "count_include_pad": 1,
            "pads": [1, 1, 1, 1],
        },
    ),
    "avg_same": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "lp": ("LpPool", {"kernel_shape": [2, 2], "strides": [2, 2], "p": 2}),
    "max_1x7": ("MaxPool", {"kernel_shape": [1, 7], "strides": [1, 2], "pads": [0, 3, 0, 3]}),
}.items():
    graph(
        lambda g, a=_attributes: g.add(a[0], g.conv(g.input(2, 3, 8, 10), 3, 6), **a[1]),
        name=f"pool_{_kernel}",
    )

for _auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
    graph(
        lambda g, a=_auto: g.conv(g.input(1, 3, 9, 10), 3, 5, 4, auto_pad=a, strides=[2, 2]),
        name=f"conv_{_auto}",
    )
for _mode in ("constant", "reflect", "edge", "wrap"):
    graph(
        lambda g, m=_mode: g.conv(
            g.Pad(g.input(1, 3, 6, 7), g.c([0, 0, 2, 1, 0, 0, 2, 3]), mode=m), 3, 4, 3, pads=[0, 0, 0, 0]
        ),
        name=f"pad_{_mode}",
        opset=19,
    )


@graph
def pad_negative(g: Graph) -> str:
    return str(g.Pad(g.input(1, 3, 6, 7), g.c([0, 0, -1, 1, 0, 0, 2, -2])))


@graph
def pad_value_axes(g: Graph) -> str:
    return str(g.Pad(g.input(2, 3, 5), g.c([1, 2]), g.c(-1.5), g.c([-1])))


@graph
def conv_weights_computed(g: Graph) -> str:
    return str(g.Conv(g.input(1, 3, 6, 7), g.input(4, 3, 3, 3), kernel_shape=[3, 3]))


@graph
def conv_1d_chain(g: Graph) -> str:
    x = g.Relu(g.conv(g.input(1, 4, 33), 4, 8, [5], strides=[2], pads=[2, 2]))
    x = g.MaxPool(g.conv(x, 8, 8, [3], group=8, dilations=[2]), kernel_shape=[2], strides=[2])
    return str(g.GlobalAveragePool(x))


@graph
def conv_3d_chain(g: Graph) -> str:
    x = g.Relu(g.bn(g.conv(g.input(1, 2, 4, 6, 5), 2, 4, [3, 3, 3]), 4))
    x = g.MaxPool(x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    return str(g.AveragePool(x, kernel_shape=[2, 2, 2], pads=[1, 1, 1, 0, 0, 0]))


@graph
def grid_sample(g: Graph) -> str:
    grid = g.Tanh(g.input(1, 5, 6, 2))
    return str(g.GridSample(g.conv(g.input(1, 3, 7, 8), 3, 4), grid, mode="bilinear", align_corners=1))


@graph
def uint8_image(g: Graph) -> str:
    x = g.Transpose(g.Cast(g.input(1, 8, 10, 3, dtype="uint8"), to=1), perm=[0, 3, 1, 2])
    x = g.Div(g.Sub(x, g.c(np.array([123.7, 116.3, 103.5], np.float32).reshape(1, 3, 1, 1))), g.c(58.4))
    return g.conv(x, 3, 8, 3, strides=[2, 2])


@graph
def quantised_conv_qdq(g: Graph) -> str:
    x = g.DequantizeLinear(
        g.QuantizeLinear(g.input(1, 3, 8, 8), g.c(0.02), g.c(np.uint8(128))), g.c(0.02), g.c(np.uint8(128))
    )
    w = g.c(g.rng.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8))
    w = g.DequantizeLinear(w, g.c(np.full(4, 0.01, np.float32)), g.c(np.zeros(4, np.int8)), axis=0)
    y = g.Relu(g.Conv(x, w, pads=[1, 1, 1, 1]))
    return str(
        g.DequantizeLinear(g.QuantizeLinear(y, g.c(0.05), g.c(np.uint8(0))), g.c(0.05), g.c(np.uint8(0)))
    )


@graph
def detection_decode(g: Graph) -> list[str]:
    x = g.conv(g.input(1, 3, 8, 8), 3, 3 * 7, 1)
    x = g.Transpose(g.Reshape(x, g.c([1, 3, 7, 8, 8])), perm=[0, 1, 3, 4, 2])
    y = g.Sigmoid(x)
    xy, wh, conf = g.Split(y, g.c([2, 2, 3]), axis=4, results=3)
    cells = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(1, 1, 8, 8, 2).astype(np.float32)
    xy = g.Mul(g.Add(g.Sub(g.Mul(xy, g.c(2.0)), g.c(0.5)), g.c(cells)), g.c(8.0))
    wh = g.Mul(
        g.Pow(g.Mul(wh, g.c(2.0)), g.c(2.0)),
        g.c(np.array([[10, 13], [16, 30], [33, 23]], np.float32).reshape(1, 3, 1, 1, 2)),
    )
    return [g.Reshape(g.Concat(xy, wh, conf, axis=-1), g.c([1, -1, 7]))]


@graph
def dfl_head(g: Graph) -> str:
    x = g.Reshape(g.conv(g.input(1, 3, 6, 6), 3, 32, 1), g.c([1, 4, 8, 36]))
    x = g.Softmax(g.Transpose(x, perm=[0, 2, 1, 3]), axis=1)
    x = g.Conv(x, g.c(np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)))
    return str(g.Reshape(x, g.c([1, 4, 36])))


@graph
def segmentation_argmax(g: Graph) -> list[str]:
    x = g.conv(g.input(1, 3, 10, 12), 3, 5)
    labels = g.ArgMax(x, axis=1, keepdims=0)
    return [labels, g.Cast(labels, to=2), g.ReduceMax(g.Softmax(x, axis=1), g.c([1]), keepdims=0)]


@graph
def topk_head(g: Graph) -> list[str]:
    return list(g.TopK(g.Softmax(g.input(2, 20), axis=1), g.c([5]), axis=1, results=2))


@graph
def ctc_head(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 8, 40), 3, 16, 3, strides=[2, 2])
    x = g.AveragePool(x, kernel_shape=[4, 1], strides=[4, 1])
    x = g.Transpose(g.Squeeze(x, g.c([2])), perm=[0, 2, 1])
    return str(g.Softmax(g.linear(x, 16, 37), axis=2))


@graph
def roi_align(g: Graph) -> str:
    rois = g.input(2, 4, values=np.array([[0, 0, 5, 5], [1, 2, 7, 6]], np.float32))
    which = g.input(2, dtype="int64", values=np.zeros(2, np.int64))
    return str(
        g.RoiAlign(
            g.conv(g.input(1, 3, 9, 9), 3, 4), rois, which, output_height=3, output_width=3, sampling_ratio=2
        )
    )


@graph
def roi_align_of_scaled_boxes(g: Graph) -> list[str]:
    """Half a pixel is taken off the boxes after they are scaled, which the importer of TVM does before."""
    x = g.conv(g.input(1, 3, 9, 9), 3, 4)
    corners = np.array([[0, 0, 20, 20], [5, 9, 28, 24], [-6, 3, 50, 60]], np.float32)
    rois = g.input(3, 4, values=corners)
    which = g.c([0, 0, 0])
    sizes = {"output_height": 3, "output_width": 2, "spatial_scale": 0.25}
    return [
        g.RoiAlign(x, rois, which, sampling_ratio=2, **sizes),
        g.RoiAlign(x, rois, which, **sizes),
        g.RoiAlign(x, rois, which, coordinate_transformation_mode="output_half_pixel", **sizes),
    ]


@graph
def conv_shared_by_both(g: Graph) -> list[str]:
    x = g.conv(g.input(1, 3, 8, 8), 3, 8)
    return [x, g.Relu(x), g.conv(g.Relu(x), 8, 8, 1), g.MaxPool(x, kernel_shape=[2, 2])]


@graph
def big_residual(g: Graph) -> str:
    x = g.Relu(g.bn(g.conv(g.input(1, 3, 16, 16), 3, 16, 7, strides=[2, 2]), 16))
    for _ in range(3):
        y = g.bn(g.conv(g.Relu(g.bn(g.conv(x, 16, 16), 16)), 16, 16), 16)
        x = g.Relu(g.Add(x, y))
    x = g.Flatten(g.GlobalAveragePool(x))
    return str(g.Gemm(x, g.w(10, 16), g.w(10), transB=1))


@graph
def flatten_after_conv(g: Graph) -> str:
    x = g.MaxPool(g.conv(g.input(2, 3, 6, 8), 3, 5), kernel_shape=[2, 2], strides=[2, 2])
    return str(g.Gemm(g.Flatten(x), g.w(60, 7), g.w(7)))


@graph
def slices_of_conv(g: Graph) -> list[str]:
    x = g.conv(g.input(1, 3, 9, 9), 3, 8)
    a = g.Slice(x, g.c([0, 1]), g.c([-1, 8]), g.c([3, 2]), g.c([2, 3]))
    b = g.Slice(x, g.c([-1]), g.c([-100]), g.c([1]), g.c([-1]))
    c = g.Gather(x, g.c([3, 0, -1]), axis=1)
    return [a, b, g.Gather(c, g.c(1), axis=2)]


@graph(opset=19)
def deformable(g: Graph) -> str:
    x, offset = g.input(1, 3, 6, 6), g.input(1, 18, 6, 6)
    return str(g.add("DeformConv", x, g.w(4, 3, 3, 3), offset, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
