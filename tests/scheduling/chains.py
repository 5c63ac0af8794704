"""Fused epilogues, matrix products, reductions and movements, as cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.scheduling.graphs import Case, Graph

Epilogue = Callable[[Graph, str, Sequence[int]], str]
"""Adds nodes behind a result of the given NCHW shape."""


def _clip(graph: Graph, x: str, shape: Sequence[int]) -> str:
    return str(graph.add("Clip", x, graph.constant(np.float32(0)), graph.constant(np.float32(6))))


def _prelu(graph: Graph, x: str, shape: Sequence[int]) -> str:
    return str(graph.add("PRelu", x, graph.weight(shape[1], 1, 1)))


def _prelu_of_one(graph: Graph, x: str, shape: Sequence[int]) -> str:
    return str(graph.add("PRelu", x, graph.weight(1)))


def _residual(graph: Graph, x: str, shape: Sequence[int]) -> str:
    return str(graph.add("Relu", graph.add("Add", x, graph.input(*shape))))


def _residual_first(graph: Graph, x: str, shape: Sequence[int]) -> str:
    return str(graph.add("Add", graph.input(*shape), graph.add("Relu", x)))


def _itself(graph: Graph, x: str, shape: Sequence[int]) -> str:
    return str(graph.add("Mul", x, graph.add("Sigmoid", x)))


def _batch_norm(graph: Graph, x: str, shape: Sequence[int]) -> str:
    channels = shape[1]
    variance = graph.constant(graph.rng.uniform(0.5, 2, channels).astype(np.float32))
    parts = [graph.weight(channels), graph.weight(channels), graph.weight(channels), variance]
    return str(graph.add("BatchNormalization", x, *parts))


def _squeeze_excite(graph: Graph, x: str, shape: Sequence[int]) -> str:
    channels, less = shape[1], max(1, shape[1] // 4)
    pooled = graph.add("GlobalAveragePool", x)
    hidden = graph.add("Relu", graph.conv(pooled, channels, less, (1, 1)))
    gate = graph.add("HardSigmoid", graph.conv(hidden, less, channels, (1, 1)), alpha=0.2, beta=0.5)
    return str(graph.add("Mul", x, gate))


def _scaled(graph: Graph, x: str, shape: Sequence[int]) -> str:
    scaled = graph.add("Mul", x, graph.weight(1, shape[1], 1, 1))
    return str(graph.add("Sub", graph.add("Div", scaled, graph.constant(np.float32(3))), graph.weight(1)))


def _unary(operator: str, **attributes: float) -> Epilogue:
    return lambda graph, x, shape: str(graph.add(operator, x, **attributes))


EPILOGUES: dict[str, Epilogue] = {
    "nothing": lambda graph, x, shape: x,
    "relu": _unary("Relu"),
    "clip": _clip,
    "leaky relu": _unary("LeakyRelu", alpha=0.1),
    "prelu": _prelu,
    "prelu of one": _prelu_of_one,
    "hard swish": _unary("HardSwish"),
    "sigmoid": _unary("Sigmoid"),
    "silu": _itself,
    "tanh": _unary("Tanh"),
    "residual and relu": _residual,
    "residual behind relu": _residual_first,
    "batch norm": _batch_norm,
    "squeeze and excite": _squeeze_excite,
    "scaled": _scaled,
}


def behind(anchor: str, epilogue: str, channels: int, out: int, height: int, width: int) -> Case:
    """``epilogue`` behind a convolution of the kind ``anchor``."""

    def build(graph: Graph) -> str:
        x = graph.input(1, channels, height, width)
        if anchor == "pointwise":
            y = graph.conv(x, channels, out, (1, 1))
        elif anchor == "depthwise":
            y = graph.conv(x, channels, out, (3, 3), group=channels, pads=[1, 1, 1, 1])
        else:
            y = graph.conv(x, channels, out, (3, 3), pads=[1, 1, 1, 1])
        return EPILOGUES[epilogue](graph, y, (1, out, height, width))

    return Case(f"{epilogue} behind {anchor} {channels}->{out} {height}x{width}", build)


FUSED = [
    behind(anchor, epilogue, channels if anchor != "depthwise" else out, out, 5, width)
    for number, epilogue in enumerate(EPILOGUES)
    for anchor, channels, out, width in [
        ("direct", 3, (16, 10, 7)[number % 3], 9),
        ("pointwise", 8, (17, 8, 24)[number % 3], 7),
        ("depthwise", 0, (12, 16, 11)[number % 3], 6),
    ]
]


def matmul(left: Sequence[int], columns: int, *, add: bool = True, end: str = "") -> Case:
    """Matrix product with a constant right side, and bias."""

    def build(graph: Graph) -> str:
        y = graph.add("MatMul", graph.input(*left), graph.weight(left[-1], columns))
        if add:
            y = graph.add("Add", y, graph.weight(columns))
        return str(graph.add(end, y)) if end else str(y)

    return Case(f"matmul {tuple(left)} x {columns} {end}", build)


def gemm(rows: int, inner: int, columns: int, *, swapped: bool = False, alpha: float = 1.0) -> Case:
    """Gemm with constant B and C."""

    def build(graph: Graph) -> str:
        right = graph.weight(columns, inner) if swapped else graph.weight(inner, columns)
        left = graph.input(rows, inner)
        return str(
            graph.add("Gemm", left, right, graph.weight(columns), transB=int(swapped), alpha=alpha, beta=0.5)
        )

    return Case(f"gemm {rows}x{inner}x{columns} transB={swapped} alpha={alpha}", build)


def variable_product(left: Sequence[int], right: Sequence[int]) -> Case:
    """Matrix product of two inputs."""
    return Case(
        f"product {tuple(left)} x {tuple(right)}",
        lambda graph: graph.add("MatMul", graph.input(*left), graph.input(*right)),
    )


PRODUCTS = [
    matmul((1, 1), 1), matmul((1, 7), 1), matmul((7, 1), 3), matmul((1, 13), 17, end="Relu"),
    matmul((3, 5), 1),
    matmul((2, 31), 16, add=False), matmul((5, 16), 8), matmul((13, 17), 19, end="Sigmoid"),
    matmul((17, 23), 37),
    matmul((16, 64), 97), matmul((29, 131), 15), matmul((6,), 5), matmul((33,), 24, end="Relu"),
    matmul((1,), 1),
    matmul((2, 3, 5), 7), matmul((2, 7, 16), 33, end="Tanh"), matmul((1, 40, 15), 120),
    matmul((3, 1, 10), 10),
    matmul((2, 3, 4, 9), 11), matmul((2, 1, 1, 9), 31), matmul((1, 2, 17, 8), 16, end="Relu"),
    gemm(1, 64, 10), gemm(3, 17, 23, swapped=True), gemm(1, 1, 1, alpha=2.0),
    gemm(8, 16, 131, swapped=True, alpha=0.5),
    variable_product((3, 5), (5, 7)), variable_product((2, 5, 8), (2, 8, 16)),
    variable_product((1, 9), (9, 1)),
    variable_product((2, 3, 4, 17), (2, 3, 17, 5)), variable_product((4, 6), (2, 6, 8)),
]  # fmt: skip


def unary(operator: str, shape: Sequence[int], **attributes: object) -> Case:
    """One operator on one input."""
    given = " ".join(f"{key}={value}" for key, value in attributes.items())
    return Case(
        f"{operator} {tuple(shape)} {given}",
        lambda graph: graph.add(operator, graph.input(*shape), **attributes),
    )


def pooled(
    operator: str, channels: int, size: Sequence[int], kernel: Sequence[int], **attributes: object
) -> Case:
    """A pooling operator between two convolutions, so that it runs channels-last, and its first result."""

    def build(graph: Graph) -> str:
        ones = [1] * len(size)
        y = graph.conv(graph.input(1, 3, *size), 3, channels, ones)
        y = graph.add(operator, y, kernel_shape=list(kernel), **attributes)
        return graph.conv(y, channels, 4, ones)

    given = " ".join(f"{key}={value}" for key, value in attributes.items())
    return Case(f"{operator} {channels}x{'x'.join(map(str, size))} {tuple(kernel)} {given}", build)


def layer_norm(*shape: int) -> Case:
    """LayerNormalization over the last axis."""
    return Case(
        f"layer norm {shape}",
        lambda graph: graph.add(
            "LayerNormalization", graph.input(*shape), graph.weight(shape[-1]), graph.weight(shape[-1])
        ),
    )


def instance_norm(*shape: int) -> Case:
    """InstanceNormalization over the image."""
    return Case(
        f"instance norm {shape}",
        lambda graph: graph.add(
            "InstanceNormalization", graph.input(*shape), graph.weight(shape[1]), graph.weight(shape[1])
        ),
    )


def reduced(operator: str, shape: Sequence[int], axes: list[int], keepdims: int) -> Case:
    """A reduction of opset 17: ReduceSum takes its axes as an input."""

    def build(graph: Graph) -> str:
        x = graph.input(*shape)
        graph.feeds[x] += 1  # a sum near 0 by cancellation would show its terms' rounding, not ours
        if operator == "ReduceSum":
            return str(graph.add(operator, x, graph.constant(axes), keepdims=keepdims))
        return str(graph.add(operator, x, axes=axes, keepdims=keepdims))

    return Case(f"{operator} {tuple(shape)} over {axes} keepdims={keepdims}", build)


REDUCTIONS = [
    unary("Softmax", (1, 10)), unary("Softmax", (5, 17)), unary("Softmax", (3, 1)),
    unary("Softmax", (2, 7, 97), axis=-1),
    unary("Softmax", (2, 16, 33), axis=1), unary("Softmax", (1, 5, 7, 11), axis=1),
    unary("LogSoftmax", (4, 131)),
    unary("Softmax", (1, 40, 438), axis=2), unary("LogSoftmax", (3, 8, 5), axis=1),
    unary("Softmax", (7,), axis=0),
    layer_norm(3, 8), layer_norm(2, 5, 37), layer_norm(1, 7, 120), layer_norm(4, 1),
    instance_norm(1, 5, 6, 7),
    instance_norm(2, 16, 3, 5),
    reduced("ReduceMean", (2, 5, 6, 7), [2, 3], 1), reduced("ReduceMean", (1, 17, 4, 4), [2, 3], 0),
    reduced("ReduceSum", (3, 5, 7), [1], 1), reduced("ReduceSum", (3, 16, 8), [0], 0),
    reduced("ReduceSum", (131,), [0], 1),
    reduced("ReduceMax", (2, 9, 31), [-1], 1), reduced("ReduceMin", (2, 9, 31), [1, 2], 0),
    reduced("ReduceMax", (1, 1, 1, 1), [1], 1), reduced("ReduceL2", (3, 23), [1], 1),
    reduced("ReduceMean", (2, 3, 5, 8), [1], 1), reduced("ReduceProd", (3, 4, 5), [2], 0),
    pooled("MaxPool", 8, (7, 9), (2, 2), strides=[2, 2]),
    pooled("MaxPool", 17, (8, 11), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
    pooled("MaxPool", 5, (7, 7), (3, 3), strides=[2, 2], ceil_mode=1),
    pooled("MaxPool", 3, (6, 6), (1, 1), strides=[2, 2]),
    pooled("MaxPool", 4, (9, 9), (3, 3), dilations=[2, 2]),
    pooled("MaxPool", 16, (13, 5), (5, 5), pads=[2, 2, 2, 2]),
    pooled("AveragePool", 8, (7, 9), (2, 2), strides=[2, 2]),
    pooled("AveragePool", 10, (8, 7), (3, 3), pads=[1, 1, 1, 1]),
    pooled("AveragePool", 7, (8, 7), (3, 2), pads=[1, 0, 0, 1], strides=[2, 1], count_include_pad=1),
    pooled("AveragePool", 31, (5, 5), (5, 5)), pooled("MaxPool", 6, (13,), (3,), strides=[2], pads=[1, 1]),
    pooled("AveragePool", 9, (12,), (2,), strides=[2]), unary("GlobalAveragePool", (1, 23, 7, 5)),
    unary("GlobalMaxPool", (2, 8, 5, 7)), unary("GlobalAveragePool", (1, 16, 1, 1)),
    # Sums and spatial extents above two vectors that fill no whole number of them.
    unary("Softmax", (3, 97)), unary("Softmax", (2, 331)), unary("Softmax", (2, 6625)), layer_norm(2, 3, 97),
    layer_norm(3, 331), instance_norm(1, 3, 9, 11), reduced("ReduceMean", (2, 5, 13, 17), [2, 3], 1),
    reduced("ReduceMax", (2, 331), [1], 0), reduced("ReduceSum", (2, 97, 37), [1], 0),
    pooled("MaxPool", 8, (37, 47), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
    pooled("AveragePool", 5, (19, 43), (3, 3), pads=[1, 1, 1, 1]), unary("Softmax", (2, 61, 97), axis=1),
]  # fmt: skip


def _resize(channels: int, size: Sequence[int], scales: Sequence[float], **attributes: str) -> Case:
    attributes = {
        key.replace("transform", "coordinate_transformation_mode"): v for key, v in attributes.items()
    }

    def build(graph: Graph) -> str:
        y = graph.conv(graph.input(1, 3, *size), 3, channels, (1, 1))
        empty = graph.constant(np.zeros(0, np.float32))
        factors = graph.constant(np.array([1, 1, *scales], np.float32))
        return str(graph.add("Relu", graph.add("Resize", y, empty, factors, **attributes)))

    return Case(f"resize {channels} {tuple(size)} {tuple(scales)} {attributes}", build)


def _concat(*parts: int, axis: int = 1) -> Case:
    def build(graph: Graph) -> str:
        shapes = [[1, 4, 5, 6] for _ in parts]
        for shape, part in zip(shapes, parts, strict=True):
            shape[axis] = part
        convolved = [graph.conv(graph.input(*shape), shape[1], shape[1], (1, 1)) for shape in shapes]
        return str(graph.add("Relu", graph.add("Concat", *convolved, axis=axis)))

    return Case(f"concat {parts} axis {axis}", build)


def _split(channels: int, parts: list[int]) -> Case:
    def build(graph: Graph) -> tuple[str, ...]:
        y = graph.conv(graph.input(1, 3, 4, 5), 3, channels, (3, 3), pads=[1, 1, 1, 1])
        halves = graph.add("Split", y, graph.constant(parts), results=len(parts), axis=1)
        return tuple(graph.add("Relu", half) for half in halves)

    return Case(f"split {channels} {parts}", build)


def _shuffle(channels: int, groups: int) -> Case:
    def build(graph: Graph) -> str:
        y = graph.conv(graph.input(1, 3, 5, 6), 3, channels, (1, 1))
        y = graph.add("Reshape", y, graph.constant([1, groups, channels // groups, 5, 6]))
        y = graph.add("Transpose", y, perm=[0, 2, 1, 3, 4])
        y = graph.add("Reshape", y, graph.constant([1, channels, 5, 6]))
        return graph.conv(y, channels, channels, (3, 3), group=channels, pads=[1, 1, 1, 1])

    return Case(f"channel shuffle {channels}/{groups}", build)


def _padded(mode: str, pads: list[int]) -> Case:
    def build(graph: Graph) -> str:
        y = graph.conv(graph.input(1, 3, 6, 7), 3, 5, (1, 1))
        y = graph.add("Pad", y, graph.constant(pads), mode=mode)
        return graph.conv(y, 5, 9, (3, 3))

    return Case(f"pad {mode} {pads}", build)


def _sliced(starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Case:
    def build(graph: Graph) -> str:
        y = graph.conv(graph.input(1, 3, 8, 9), 3, 10, (1, 1))
        y = graph.add("Slice", y, *(graph.constant(part) for part in (starts, ends, axes, steps)))
        return str(graph.add("Sigmoid", y))

    return Case(f"slice {starts} {ends} {axes} {steps}", build)


def _flattened(channels: int, height: int, width: int) -> Case:
    def build(graph: Graph) -> str:
        y = graph.conv(graph.input(1, 2, height, width), 2, channels, (3, 3), pads=[1, 1, 1, 1])
        y = graph.add("Flatten", y, axis=1)
        return str(graph.add("Gemm", y, graph.weight(channels * height * width, 10), graph.weight(10)))

    return Case(f"flatten {channels}x{height}x{width} into gemm", build)


MOVEMENTS = [
    unary("Transpose", (2, 3, 5), perm=[2, 0, 1]), unary("Transpose", (7, 13), perm=[1, 0]),
    unary("Transpose", (1, 17, 3, 4), perm=[0, 2, 3, 1]),
    unary("Transpose", (2, 4, 5, 16), perm=[0, 3, 1, 2]),
    unary("Transpose", (1, 1, 9, 1), perm=[3, 2, 1, 0]),
    _resize(8, (5, 7), (2, 2), mode="nearest", transform="asymmetric", nearest_mode="floor"),
    _resize(5, (4, 6), (2, 2), mode="linear", transform="half_pixel"),
    _resize(17, (4, 3), (3, 3), mode="linear", transform="align_corners"),
    _resize(16, (8, 6), (0.5, 0.5), mode="linear", transform="half_pixel"),
    _concat(1, 1), _concat(3, 5, 7), _concat(16, 8), _concat(4, 31, 1), _concat(3, 4, axis=2),
    _concat(1, 5, axis=3),
    _split(8, [4, 4]), _split(15, [5, 7, 3]), _split(5, [1, 1, 1, 1, 1]), _shuffle(8, 2), _shuffle(15, 3),
    _padded("constant", [0, 0, 1, 2, 0, 0, 0, 1]), _padded("reflect", [0, 0, 2, 1, 0, 0, 1, 2]),
    _padded("edge", [0, 0, 1, 1, 0, 0, 1, 1]), _padded("constant", [0] * 8),
    _sliced([1], [7], [1], [2]), _sliced([0, 2], [8, 9], [2, 3], [1, 3]), _sliced([-1], [-9], [3], [-1]),
    _flattened(5, 3, 4), _flattened(16, 1, 1), _flattened(1, 7, 5),
    unary("DepthToSpace", (1, 12, 3, 5), blocksize=2),
    unary("DepthToSpace", (1, 27, 2, 3), blocksize=3, mode="CRD"),
    unary("SpaceToDepth", (1, 3, 4, 6), blocksize=2),
    unary("Relu", (1,)), unary("Sigmoid", (7,)), unary("Exp", (3, 17)), unary("Erf", (2, 5, 33)),
    unary("Tanh", (1, 1, 1, 131)),
]  # fmt: skip


def network() -> Case:
    """A small network: stem, inverted residual, pooling, concatenation, upsampling, classifier."""

    def build(graph: Graph) -> tuple[str, str]:
        y = graph.add(
            "Relu", graph.conv(graph.input(1, 3, 17, 19), 3, 10, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
        )
        wide = graph.add("HardSwish", graph.conv(y, 10, 23, (1, 1)))
        wide = graph.add("Relu", graph.conv(wide, 23, 23, (3, 3), group=23, pads=[1, 1, 1, 1]))
        y = graph.add("Add", y, graph.conv(wide, 23, 10, (1, 1)))
        low = graph.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        sizes = graph.constant(np.array([1, 1, 2, 2], np.float32))
        up = graph.add(
            "Resize",
            graph.conv(low, 10, 6, (1, 1)),
            graph.constant(np.zeros(0, np.float32)),
            sizes,
            mode="nearest",
        )
        up = graph.add("Slice", up, graph.constant([0, 0]), graph.constant([9, 10]), graph.constant([2, 3]))
        y = graph.add("Concat", y, up, axis=1)
        heat = graph.add("Sigmoid", graph.conv(y, 16, 1, (1, 1)))
        y = graph.add("Flatten", graph.add("GlobalAveragePool", y), axis=1)
        return heat, graph.add("Softmax", graph.add("Gemm", y, graph.weight(16, 5), graph.weight(5)))

    return Case("small network", build)


def _half(graph: Graph) -> str:
    x = graph.input(1, 5, 6, 7, dtype="float16")
    y = graph.add(
        "Conv", x, graph.weight(16, 5, 3, 3, dtype="float16"), kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )
    y = graph.add("Relu", y)
    y = graph.add("Conv", y, graph.weight(16, 1, 3, 3, dtype="float16"), kernel_shape=[3, 3], group=16)
    return str(graph.add("Conv", y, graph.weight(9, 16, 1, 1, dtype="float16"), kernel_shape=[1, 1]))


NETWORKS = [network(), Case("half precision chain", _half)]
