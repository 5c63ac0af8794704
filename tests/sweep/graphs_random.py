"""Networks drawn at random that are right by construction: every node fits what it reads.

A value knows its shape, its element type and whether it is ``exact``: only inputs and what moves them about
are, and only on those may a step function act (rounding, comparing, casting to integers), for elsewhere one
unit in the last place may change its result, and two right answers differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tests.sweep.case import Case, random_inputs
from tests.sweep.graphs import Graph

EXTENTS = (1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31, 32, 33)
LARGEST = 20_000
"""Elements of a value."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name and what is known of it."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    exact: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        return self.dtype.startswith("float")


Step = Callable[["Drawing", Value], Value | None]


class Drawing:
    """A graph while it is drawn; ``draw`` decides everything."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.graph = Graph(self.draw.choice((18, 18, 19, 20, 21, 22)), seed)
        self.values: list[Value] = []

    def extent(self) -> int:
        return self.draw.choice(EXTENTS)

    def input(self) -> Value:
        rank = self.draw.choice((1, 2, 3, 3, 4, 4, 4, 4, 5))
        shape = tuple(self.extent() for _ in range(rank))
        while math.prod(shape) > LARGEST // 4:
            shape = tuple(max(1, extent // 2) for extent in shape)
        dtype = self.draw.choice(("float32",) * 9 + ("float64", "float16", "int32", "int64", "uint8"))
        return Value(self.graph.input(*shape, dtype=dtype), shape, dtype, exact=True)

    def weight(self, *shape: int, dtype: str = "float32", scale: float = 0.3) -> str:
        if dtype.startswith("float"):
            return self.graph.w(*shape, dtype=dtype, scale=scale)
        return self.graph.c(self.graph.rng.integers(1, 4, shape).astype(dtype))

    def add(
        self,
        like: Value,
        shape: tuple[int, ...],
        op: str,
        *inputs: str,
        exact: bool = False,
        **attributes: object,
    ) -> Value:
        name = self.graph.add(op, *inputs, **attributes)
        return Value(name, shape, like.dtype, exact)

    def step(self) -> None:
        """One more value, from one that is there."""
        for _ in range(20):
            # The newest are read more often than the old: a network is deeper than wide.
            value = self.draw.choice(self.values[-3:] if self.draw.random() < 0.7 else self.values)
            made = self.draw.choice(STEPS if value.shape else SCALAR_STEPS)(self, value)
            if made is not None and made.size <= LARGEST:
                self.values.append(made)
                return


UNARY = (
    *(
        "Relu",
        "Sigmoid",
        "Tanh",
        "LeakyRelu",
        "Elu",
        "HardSwish",
        "HardSigmoid",
        "Softplus",
        "Softsign",
        "Erf",
    ),
    *("Mish", "Abs", "Neg", "Selu", "Celu", "Sin", "Cos", "Identity", "Gelu", "Atan", "Asinh"),
)


def unary(d: Drawing, x: Value) -> Value | None:
    op = d.draw.choice(UNARY)
    if not x.floating or (op == "Gelu" and d.graph.opset < 20):
        op = "Identity"
    if x.dtype != "float32" and op not in ("Relu", "Sigmoid", "Tanh", "Neg", "Identity"):
        op = "Abs"  # of the others ONNX Runtime has no such kernels
    attributes: dict[str, object] = {}
    if op in ("LeakyRelu", "Elu", "Celu") and d.draw.random() < 0.7:
        attributes["alpha"] = d.draw.choice((0.01, 0.1, 0.25, 1.0, 2.0))
    if op == "HardSigmoid" and d.draw.random() < 0.5:
        attributes |= {"alpha": 0.3, "beta": 0.4}
    if op == "Gelu" and d.draw.random() < 0.5:
        attributes["approximate"] = "tanh"
    exact = x.exact and op in ("Relu", "Abs", "Neg", "Identity")
    return d.add(x, x.shape, op, x.name, exact=exact, **attributes)


def tamed(d: Drawing, x: Value) -> Value | None:
    """Functions that want their argument in a range."""
    if x.dtype != "float32":
        return None
    positive = d.graph.Add(d.graph.Abs(x.name), d.graph.c(0.5))
    op = d.draw.choice(("Sqrt", "Log", "Reciprocal", "Exp", "Pow"))
    if op == "Exp":
        return d.add(x, x.shape, op, d.graph.Tanh(x.name))
    if op == "Pow":
        return d.add(x, x.shape, op, positive, d.graph.c(d.draw.choice((2.0, 0.5, -1.0, 1.5, 3.0))))
    return d.add(x, x.shape, op, positive)


def clip(d: Drawing, x: Value) -> Value | None:
    if not x.floating:
        return None
    low, high = d.graph.c(-0.5, x.dtype), d.graph.c(0.75, x.dtype)
    ends = d.draw.choice(([low], [low, high], ["", high]))
    return d.add(x, x.shape, "Clip", x.name, *ends, exact=x.exact)


def stepping(d: Drawing, x: Value) -> Value | None:
    if not x.exact or not x.floating or x.dtype == "float16":
        return None
    op = d.draw.choice(("Floor", "Ceil", "Round", "Sign", "ThresholdedRelu", "Cast"))
    if op == "Cast":
        to = d.draw.choice(("int32", "int64"))
        kinds = {"int32": 6, "int64": 7}
        return replace(d.add(x, x.shape, "Cast", x.name, exact=True, to=kinds[to]), dtype=to)
    if op in ("ThresholdedRelu",) and x.dtype != "float32":
        return None
    return d.add(x, x.shape, op, x.name, exact=True)


def cast(d: Drawing, x: Value) -> Value | None:
    to = d.draw.choice(("float32", "float32", "float64"))
    if x.dtype == to:
        return None
    made = d.add(x, x.shape, "Cast", x.name, exact=x.exact, to={"float32": 1, "float64": 11}[to])
    return replace(made, dtype=to)


def _other(d: Drawing, x: Value) -> str:
    """Something of ``x``'s type that broadcasts to its shape."""
    same = [v for v in d.values if v.dtype == x.dtype and _broadcasts(v.shape, x.shape)]
    if same and d.draw.random() < 0.6:
        return d.draw.choice(same).name
    shape = x.shape[d.draw.randrange(len(x.shape) + 1) :]
    shape = tuple(extent if d.draw.random() < 0.7 else 1 for extent in shape)
    return d.weight(*shape, dtype=x.dtype, scale=1.0)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    if len(shape) > len(to):
        return False
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def binary(d: Drawing, x: Value) -> Value | None:
    op = d.draw.choice(("Add", "Add", "Sub", "Mul", "Mul", "Max", "Min"))
    if x.dtype == "uint8" and op in ("Add", "Sub", "Mul"):
        return None
    names = [x.name, _other(d, x)]
    if d.draw.random() < 0.5:
        names.reverse()
    if op in ("Max", "Min") and d.draw.random() < 0.3:
        names.append(_other(d, x))
    return d.add(x, x.shape, op, *names)


def divide(d: Drawing, x: Value) -> Value | None:
    if x.dtype != "float32":
        return None
    return d.add(x, x.shape, "Div", x.name, d.graph.positive(*x.shape[-1:]))


def where(d: Drawing, x: Value) -> Value | None:
    if x.dtype == "uint8" or x.dtype == "float16":
        return None
    condition = d.graph.c(d.graph.rng.integers(0, 2, x.shape[-1:]).astype(bool))
    if x.exact and x.floating and d.draw.random() < 0.6:
        condition = d.graph.add(d.draw.choice(("Greater", "Less")), x.name, d.graph.c(0.1, x.dtype))
    return d.add(x, x.shape, "Where", condition, x.name, _other(d, x))


def prelu(d: Drawing, x: Value) -> Value | None:
    if x.dtype != "float32" or len(x.shape) < 2:
        return None
    return d.add(x, x.shape, "PRelu", x.name, d.weight(x.shape[1], *[1] * (len(x.shape) - 2)))


def _window(d: Drawing, extents: tuple[int, ...]) -> dict[str, list[int]] | None:
    kernel = [d.draw.choice((1, 2, 3, 3, 4, 5)) for _ in extents]
    strides = [d.draw.choice((1, 1, 1, 2, 3)) for _ in extents]
    begin = [d.draw.randint(0, k - 1) if d.draw.random() < 0.6 else k // 2 for k in kernel]
    end = [
        d.draw.randint(0, k - 1) if d.draw.random() < 0.4 else b for k, b in zip(kernel, begin, strict=True)
    ]
    ends = [min(e, k - 1) for e, k in zip(end, kernel, strict=True)]
    begins = [min(b, k - 1) for b, k in zip(begin, kernel, strict=True)]
    if any(x + b + e < k for x, b, e, k in zip(extents, begins, ends, kernel, strict=True)):
        return None
    return {"kernel_shape": kernel, "strides": strides, "pads": [*begins, *ends]}


def _swept(
    extents: tuple[int, ...], window: dict[str, list[int]], dilations: list[int], ceil: bool
) -> list[int]:
    rank = len(extents)
    pads = window["pads"]
    made = []
    for axis, extent in enumerate(extents):
        span = (window["kernel_shape"][axis] - 1) * dilations[axis] + 1
        room, stride = extent + pads[axis] + pads[rank + axis] - span, window["strides"][axis]
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (count - 1) * stride >= extent + pads[axis]:
            count -= 1
        made.append(count)
    return made


def convolution(d: Drawing, x: Value) -> Value | None:
    if not 3 <= len(x.shape) <= 5 or x.dtype != "float32":
        return None
    window = _window(d, x.shape[2:])
    if window is None:
        return None
    dilations = [d.draw.choice((1, 1, 1, 2)) for _ in window["strides"]]
    swept = _swept(x.shape[2:], window, dilations, ceil=False)
    if min(swept) < 1:
        return None
    groups = d.draw.choice([g for g in (1, 1, 2, 3, x.shape[1]) if x.shape[1] % g == 0])
    out = groups * d.draw.choice((1, 2, 3, 4, 8) if groups < 9 else (1, 2))
    names = [x.name, d.weight(out, x.shape[1] // groups, *window["kernel_shape"])]
    if d.draw.random() < 0.6:
        names.append(d.weight(out))
    shape = (x.shape[0], out, *swept)
    return d.add(x, shape, "Conv", *names, group=groups, dilations=dilations, **window)


def transposed_convolution(d: Drawing, x: Value) -> Value | None:
    if len(x.shape) not in (3, 4) or x.dtype != "float32":
        return None
    rank = len(x.shape) - 2
    kernel = [d.draw.choice((1, 2, 3, 4)) for _ in range(rank)]
    strides = [d.draw.choice((1, 2, 3)) for _ in range(rank)]
    pads = [d.draw.randint(0, (k - 1) // 2) for k in kernel]
    groups = d.draw.choice([g for g in (1, 1, 2, x.shape[1]) if x.shape[1] % g == 0])
    each = d.draw.choice((1, 2, 3, 5))
    swept = [(e - 1) * s + k - 2 * p for e, s, k, p in zip(x.shape[2:], strides, kernel, pads, strict=True)]
    if min(swept) < 1 or math.prod(swept) * x.shape[0] * groups * each > LARGEST:
        return None
    weights = d.weight(x.shape[1], each, *kernel)
    shape = (x.shape[0], groups * each, *swept)
    return d.add(
        x, shape, "ConvTranspose", x.name, weights, strides=strides, pads=[*pads, *pads], group=groups
    )


def pool(d: Drawing, x: Value) -> Value | None:
    if not 3 <= len(x.shape) <= 5 or x.dtype != "float32":
        return None
    window = _window(d, x.shape[2:])
    if window is None:
        return None
    op, ceil = d.draw.choice(("MaxPool", "AveragePool")), d.draw.random() < 0.3
    swept = _swept(x.shape[2:], window, [1] * len(window["strides"]), ceil)
    if min(swept) < 1:
        return None
    attributes: dict[str, object] = {"ceil_mode": int(ceil), **window}
    if op == "AveragePool":
        attributes["count_include_pad"] = d.draw.choice((0, 1))
    return d.add(x, (*x.shape[:2], *swept), op, x.name, **attributes)


def whole_pool(d: Drawing, x: Value) -> Value | None:
    if len(x.shape) < 3 or x.dtype != "float32":
        return None
    op = d.draw.choice(("GlobalAveragePool", "GlobalMaxPool"))
    return d.add(x, (*x.shape[:2], *[1] * (len(x.shape) - 2)), op, x.name)


def normalised(d: Drawing, x: Value) -> Value | None:
    if len(x.shape) < 3 or x.dtype != "float32":
        return None
    c, op = (
        x.shape[1],
        d.draw.choice(("BatchNormalization", "InstanceNormalization", "LayerNormalization", "LRN")),
    )
    if op == "BatchNormalization":
        return replace(x, name=d.graph.bn(x.name, c), exact=False)
    if op == "InstanceNormalization":
        if math.prod(x.shape[2:]) < 4:
            return None  # the variance of few values that are alike is nothing but rounding
        return d.add(x, x.shape, op, x.name, d.graph.positive(c), d.weight(c), epsilon=1e-2)
    if op == "LayerNormalization":
        axis = d.draw.randint(1, len(x.shape) - 1)
        inner = x.shape[axis:]
        return d.add(
            x, x.shape, op, x.name, d.graph.positive(*inner), d.weight(*inner), axis=axis, epsilon=1e-2
        )
    if len(x.shape) != 4:
        return None
    return d.add(x, x.shape, op, x.name, size=d.draw.choice((1, 3, 5)), bias=1.0)


def softmax(d: Drawing, x: Value) -> Value | None:
    if x.dtype not in ("float32", "float64"):
        return None
    axis = d.draw.randrange(-len(x.shape), len(x.shape))
    return d.add(x, x.shape, d.draw.choice(("Softmax", "LogSoftmax")), x.name, axis=axis)


def product(d: Drawing, x: Value) -> Value | None:
    if x.dtype not in ("float32", "float64") or len(x.shape) < 2:
        return None
    inner, outer = x.shape[-1], d.extent()
    if d.draw.random() < 0.3 and len(x.shape) == 2:
        turned = d.draw.randrange(2)
        weights = d.weight(*((outer, inner) if turned else (inner, outer)), dtype=x.dtype)
        bias = d.weight(*d.draw.choice(((outer,), (1,), (x.shape[0], 1), (1, outer))), dtype=x.dtype)
        numbers = {"alpha": d.draw.choice((1.0, 0.5)), "beta": d.draw.choice((1.0, 2.0))}
        return d.add(x, (x.shape[0], outer), "Gemm", x.name, weights, bias, transB=turned, **numbers)
    if d.draw.random() < 0.3 and len(x.shape) > 2:
        weights = d.weight(*x.shape[:-2], inner, outer, dtype=x.dtype)
    else:
        weights = d.weight(inner, outer, dtype=x.dtype)
    return d.add(x, (*x.shape[:-1], outer), "MatMul", x.name, weights)


def attention_scores(d: Drawing, x: Value) -> Value | None:
    if x.dtype != "float32" or len(x.shape) not in (3, 4) or x.shape[-2] > 40:
        return None
    order = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
    scores = d.graph.MatMul(x.name, d.graph.Transpose(x.name, perm=order))
    weights = d.graph.Softmax(d.graph.Mul(scores, d.graph.c(0.1)), axis=-1)
    return d.add(x, x.shape, "MatMul", weights, x.name)


def transpose(d: Drawing, x: Value) -> Value | None:
    order = list(range(len(x.shape)))
    d.draw.shuffle(order)
    return d.add(x, tuple(x.shape[i] for i in order), "Transpose", x.name, exact=x.exact, perm=order)


def reshape(d: Drawing, x: Value) -> Value | None:
    factors, rest = [], x.size
    for _ in range(d.draw.randint(0, 3)):
        divisors = [n for n in range(1, min(rest, 64) + 1) if rest % n == 0]
        factors.append(d.draw.choice(divisors))
        rest //= factors[-1]
    shape = [*factors, rest]
    d.draw.shuffle(shape)
    told = list(shape)
    if d.draw.random() < 0.4:
        told[d.draw.randrange(len(told))] = -1
    return d.add(x, tuple(shape), "Reshape", x.name, d.graph.c(told), exact=x.exact)


def flatten(d: Drawing, x: Value) -> Value | None:
    axis = d.draw.randint(0, len(x.shape))
    shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return d.add(x, shape, "Flatten", x.name, exact=x.exact, axis=axis)


def squeeze(d: Drawing, x: Value) -> Value | None:
    ones = [i for i, extent in enumerate(x.shape) if extent == 1]
    if ones and len(x.shape) > 1 and d.draw.random() < 0.5:
        axis = d.draw.choice(ones)
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        return d.add(x, shape, "Squeeze", x.name, d.graph.c([axis]), exact=x.exact)
    axis = d.draw.randint(0, len(x.shape))
    if len(x.shape) > 4:
        return None
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return d.add(x, shape, "Unsqueeze", x.name, d.graph.c([axis]), exact=x.exact)


def concat(d: Drawing, x: Value) -> Value | None:
    axis = d.draw.randrange(len(x.shape))
    parts, extent, exact = [x.name], x.shape[axis], x.exact
    for _ in range(d.draw.randint(1, 3)):
        fitting = [
            v
            for v in d.values
            if v.dtype == x.dtype
            and len(v.shape) == len(x.shape)
            and all(a == b for i, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)) if i != axis)
        ]
        other = d.draw.choice(fitting)
        parts.append(other.name)
        extent += other.shape[axis]
        exact = exact and other.exact
    shape = (*x.shape[:axis], extent, *x.shape[axis + 1 :])
    return d.add(x, shape, "Concat", *parts, exact=exact, axis=axis)


def split(d: Drawing, x: Value) -> Value | None:
    axis = d.draw.randrange(len(x.shape))
    if x.shape[axis] < 2:
        return None
    first = d.draw.randint(1, x.shape[axis] - 1)
    sizes = [first, x.shape[axis] - first]
    names = d.graph.Split(x.name, d.graph.c(sizes), axis=axis, results=2)
    made = [
        Value(name, (*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype, x.exact)
        for name, size in zip(names, sizes, strict=True)
    ]
    d.values.append(made[0])
    return made[1]


def cut(d: Drawing, x: Value) -> Value | None:
    axis = d.draw.randrange(len(x.shape))
    extent = x.shape[axis]
    start, step = d.draw.randrange(extent), d.draw.choice((1, 1, 2, 3, -1, -2))
    end = d.draw.randint(start + 1, extent) if step > 0 else -extent - 1
    count = len(range(start, end if step > 0 else -1, step))
    if step > 0 and d.draw.random() < 0.3:
        start, end = start - extent, end if end == extent else end - extent
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    c = d.graph.c
    return d.add(x, shape, "Slice", x.name, c([start]), c([end]), c([axis]), c([step]), exact=x.exact)


def pad(d: Drawing, x: Value) -> Value | None:
    if x.dtype not in ("float32", "float64"):
        return None
    mode = d.draw.choice(("constant", "reflect", "edge"))
    most = 3 if mode == "constant" else min(3, min(x.shape) - 1)
    if most < 1:
        return None
    pads = [d.draw.randint(0, most) if d.draw.random() < 0.5 else 0 for _ in range(2 * len(x.shape))]
    rank = len(x.shape)
    shape = tuple(e + pads[i] + pads[rank + i] for i, e in enumerate(x.shape))
    names = [x.name, d.graph.c(pads)]
    if mode == "constant" and d.draw.random() < 0.5:
        names.append(d.graph.c(1.5, x.dtype))
    return d.add(x, shape, "Pad", *names, exact=x.exact, mode=mode)


def repeated(d: Drawing, x: Value) -> Value | None:
    repeats = [d.draw.choice((1, 1, 2, 3)) for _ in x.shape]
    shape = tuple(e * r for e, r in zip(x.shape, repeats, strict=True))
    if d.draw.random() < 0.5:
        return d.add(x, shape, "Tile", x.name, d.graph.c(repeats), exact=x.exact)
    shape = tuple(d.extent() if e == 1 else e for e in x.shape)
    return d.add(x, shape, "Expand", x.name, d.graph.c(list(shape)), exact=x.exact)


def gather(d: Drawing, x: Value) -> Value | None:
    axis = d.draw.randrange(len(x.shape))
    indices = [d.draw.randrange(-x.shape[axis], x.shape[axis]) for _ in range(d.draw.randint(1, 5))]
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    return d.add(x, shape, "Gather", x.name, d.graph.c(indices), exact=x.exact, axis=axis)


def reduced(d: Drawing, x: Value) -> Value | None:
    if x.dtype not in ("float32", "float64"):
        return None
    op = d.draw.choice(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"))
    axes = sorted(d.draw.sample(range(len(x.shape)), d.draw.randint(1, len(x.shape))))
    kept = d.draw.randrange(2)
    shape = tuple(1 if i in axes else e for i, e in enumerate(x.shape) if kept or i not in axes)
    exact = x.exact and op in ("ReduceMax", "ReduceMin")
    return d.add(x, shape, op, x.name, d.graph.c(axes), exact=exact, keepdims=kept)


def largest(d: Drawing, x: Value) -> Value | None:
    if not x.exact or x.dtype not in ("float32", "int32"):
        return None
    axis = d.draw.randrange(len(x.shape))
    shape = tuple(1 if i == axis else e for i, e in enumerate(x.shape))
    op = d.draw.choice(("ArgMax", "ArgMin"))
    made = d.add(x, shape, op, x.name, exact=True, axis=axis, keepdims=1)
    return replace(made, dtype="int64")


def summed_up(d: Drawing, x: Value) -> Value | None:
    if x.dtype not in ("float32", "int32"):
        return None
    axis = d.graph.c(np.array(d.draw.randrange(len(x.shape)), np.int64))
    numbers = {"exclusive": d.draw.randrange(2), "reverse": d.draw.randrange(2)}
    return d.add(x, x.shape, "CumSum", x.name, axis, **numbers)


def resized(d: Drawing, x: Value) -> Value | None:
    if len(x.shape) != 4 or x.dtype != "float32":
        return None
    mode = d.draw.choice(("nearest", "linear", "linear", "cubic"))
    attributes: dict[str, object] = {"mode": mode}
    attributes["coordinate_transformation_mode"] = d.draw.choice(
        ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    )
    if mode == "nearest":
        attributes["nearest_mode"] = d.draw.choice(("floor", "round_prefer_floor", "ceil"))
    if d.draw.random() < 0.5:
        sizes = [x.shape[0], x.shape[1], d.draw.randint(1, 20), d.draw.randint(1, 20)]
        return d.add(x, tuple(sizes), "Resize", x.name, "", "", d.graph.c(sizes), **attributes)
    scales = [d.draw.choice((1, 2, 3)) for _ in range(2)]
    shape = (*x.shape[:2], x.shape[2] * scales[0], x.shape[3] * scales[1])
    told = d.graph.c([1.0, 1.0, *map(float, scales)])
    return d.add(x, shape, "Resize", x.name, "", told, **attributes)


def shuffled(d: Drawing, x: Value) -> Value | None:
    if len(x.shape) != 4 or x.dtype != "float32":
        return None
    n, c, h, w = x.shape
    if c % 4 == 0 and d.draw.random() < 0.6:
        mode = d.draw.choice(("DCR", "CRD"))
        shape = (n, c // 4, h * 2, w * 2)
        return d.add(x, shape, "DepthToSpace", x.name, exact=x.exact, blocksize=2, mode=mode)
    if h % 2 == 0 and w % 2 == 0:
        return d.add(x, (n, c * 4, h // 2, w // 2), "SpaceToDepth", x.name, exact=x.exact, blocksize=2)
    return None


def contracted(d: Drawing, x: Value) -> Value | None:
    if x.dtype != "float32" or len(x.shape) not in (2, 3):
        return None
    k = d.draw.choice((1, 3, 8))
    if len(x.shape) == 2:
        return d.add(x, (x.shape[0], k), "Einsum", x.name, d.weight(x.shape[1], k), equation="ij,jk->ik")
    b, i, j = x.shape
    return d.add(x, (b, k, i), "Einsum", x.name, d.weight(k, j), equation="bij,kj->bki")


def summed(d: Drawing, x: Value) -> Value | None:
    if x.dtype != "float32":
        return None
    names = [x.name, *(_other(d, x) for _ in range(d.draw.randint(1, 3)))]
    return d.add(x, x.shape, d.draw.choice(("Sum", "Mean")), *names)


STEPS: tuple[Step, ...] = (
    *(unary, unary, unary, tamed, clip, stepping, cast, binary, binary, binary, divide, where, prelu),
    *(convolution, convolution, convolution, transposed_convolution, pool, pool, whole_pool, normalised),
    *(softmax, product, product, attention_scores, transpose, transpose, reshape, reshape, flatten, squeeze),
    *(concat, concat, split, cut, cut, pad, repeated, gather, reduced, reduced, largest, summed_up, resized),
    *(shuffled, contracted, summed),
)
SCALAR_STEPS: tuple[Step, ...] = (unary, tamed, clip, binary, squeeze)


def random_case(seed: int) -> Case:
    """The case of that seed, the same every time."""
    d = Drawing(seed)
    d.values = [d.input() for _ in range(d.draw.choice((1, 1, 1, 2, 3)))]
    for _ in range(d.draw.randint(2, 14)):
        d.step()
    read = {name for node in d.graph.nodes for name in node.input}
    ends = [value.name for value in d.values if value.name not in read]
    made = [value.name for value in d.values if value.name.split("_")[0] != "in"] or [d.values[0].name]
    results = ends[-3:] if any(name in made for name in ends[-3:]) else [*ends[-2:], made[-1]]
    if d.draw.random() < 0.15:
        results.append(d.draw.choice(made))
    proto = d.graph.finish(list(dict.fromkeys(results)), ir_version=8 if d.graph.opset < 21 else 10)
    return Case(f"random_{seed}", proto, {**random_inputs(proto, seed, {}), **d.graph.values})
