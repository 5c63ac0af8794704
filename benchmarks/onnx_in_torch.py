"""Public CNNs in PyTorch: an ONNX graph as a module of torch's own operators, for benchmarks on a GPU.

The graph is one that ``deploycc`` simplified: static shapes, constants folded.  What is not in ``OPERATORS``
is refused, and the network left out of a comparison with the reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional


class NotInTorch(Exception):
    """An operator, or a form of one, that is not translated; the message says which."""


class OnnxModule(torch.nn.Module):
    """A graph's nodes, one after the other.  Weights are buffers, so that ``to`` and ``half`` move them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__()
        self._constants: dict[str, np.ndarray[Any, Any]] = {}
        self._buffer_names: dict[str, str] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, numpy_helper.to_array(tensor))
        self._steps: list[tuple[Callable[..., Any], list[str], list[str], dict[str, Any]]] = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self._keep(node.output[0], numpy_helper.to_array(attributes["value"]))
                continue
            if node.op_type not in OPERATORS:
                raise NotInTorch(f"{node.op_type} '{node.name}'")
            self._steps.append((OPERATORS[node.op_type], list(node.input), list(node.output), attributes))
        self._inputs = [info.name for info in graph.input if info.name not in self._constants]
        self._outputs = [info.name for info in graph.output]

    def _keep(self, name: str, value: np.ndarray[Any, Any]) -> None:
        self._constants[name] = value
        self._buffer_names[name] = f"constant_{len(self._buffer_names)}"
        self.register_buffer(self._buffer_names[name], torch.from_numpy(np.array(value)))

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The outputs, in the graph's order."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        for name, buffer in self._buffer_names.items():
            values[name] = getattr(self, buffer)
        for run, given, made, attributes in self._steps:
            arguments = [values[name] if name else None for name in given]
            constants = [self._constants.get(name) for name in given]
            result = run(arguments, attributes, constants)
            results = result if isinstance(result, tuple | list) else (result,)
            values.update(zip(made, results, strict=False))
        return [values[name] for name in self._outputs]


Arguments = Sequence[Any]
Attributes = Mapping[str, Any]


def _numbers(constants: Sequence[Any], place: int) -> list[int]:
    if place >= len(constants) or constants[place] is None:
        raise NotInTorch("numbers that are computed")
    return [int(value) for value in np.ravel(constants[place])]


def _padded(x: torch.Tensor, attributes: Attributes, rank: int, value: float = 0.0) -> tuple[Any, list[int]]:
    """The image, padded where both sides differ, and the padding that is left for the operator."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise NotInTorch("automatic padding")
    pads = list(attributes.get("pads", [0] * 2 * rank))
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank]
    both = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[axis + rank])]
    return functional.pad(x, both, value=value), [0] * rank


def _conv(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    rank = a[1].dim() - 2
    x, padding = _padded(a[0], n, rank)
    convolve = {1: functional.conv1d, 2: functional.conv2d}[rank]
    bias = a[2] if len(a) > 2 else None
    strides, dilations = n.get("strides", [1] * rank), n.get("dilations", [1] * rank)
    return convolve(x, a[1], bias, strides, padding, dilations, n.get("group", 1))


def _conv_transpose(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    x, padding = a[0], list(n.get("pads", [0, 0, 0, 0]))
    if padding[:2] != padding[2:] or "output_shape" in n:
        raise NotInTorch("ConvTranspose with uneven pads")
    return functional.conv_transpose2d(
        x,
        a[1],
        a[2] if len(a) > 2 else None,
        n.get("strides", [1, 1]),
        padding[:2],
        n.get("output_padding", [0, 0]),
        n.get("group", 1),
        n.get("dilations", [1, 1]),
    )


def _pool(most: bool) -> Callable[..., Any]:
    def run(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
        ceil = bool(n.get("ceil_mode", 0))
        x, padding = _padded(a[0], n, 2, float("-inf") if most else 0.0)
        kernel, strides = n["kernel_shape"], n.get("strides", [1, 1])
        if most:
            return functional.max_pool2d(x, kernel, strides, padding, n.get("dilations", [1, 1]), ceil)
        if x is not a[0]:
            raise NotInTorch("AveragePool with uneven pads")
        return functional.avg_pool2d(x, kernel, strides, padding, ceil, bool(n.get("count_include_pad", 0)))

    return run


def _gemm(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    left = a[0].t() if n.get("transA", 0) else a[0]
    right = a[1].t() if n.get("transB", 0) else a[1]
    product = n.get("alpha", 1.0) * (left @ right)
    return product + n.get("beta", 1.0) * a[2] if len(a) > 2 and a[2] is not None else product


def _resize(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    mode = n.get("mode", b"nearest").decode()
    how = n.get("coordinate_transformation_mode", b"half_pixel").decode()
    if len(c) > 3 and c[3] is not None:
        size = [int(extent) for extent in c[3]][2:]
    elif len(c) > 2 and c[2] is not None:
        factors = [float(factor) for factor in c[2]][2:]
        size = [int(extent * factor) for extent, factor in zip(a[0].shape[2:], factors, strict=True)]
    else:
        raise NotInTorch("Resize to a size that is computed")
    if mode == "linear" and how in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return functional.interpolate(a[0], size, mode="bilinear", align_corners=how == "align_corners")
    if mode == "nearest" and how == "asymmetric":
        return functional.interpolate(a[0], size, mode="nearest")
    raise NotInTorch(f"Resize {mode} {how}")


def _slice(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    starts, ends = _numbers(c, 1), _numbers(c, 2)
    axes = _numbers(c, 3) if len(a) > 3 and a[3] is not None else list(range(len(starts)))
    steps = _numbers(c, 4) if len(a) > 4 and a[4] is not None else [1] * len(starts)
    if min(steps) < 1:
        raise NotInTorch("Slice backwards")
    x = a[0]
    where = [slice(None)] * x.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[axis] = slice(start, min(end, x.shape[axis]), step)
    return x[tuple(where)]


def _reshape(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    shape = [a[0].shape[i] if extent == 0 else extent for i, extent in enumerate(_numbers(c, 1))]
    return a[0].reshape(shape)


def _reduce_mean(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    axes = list(n["axes"]) if "axes" in n else _numbers(c, 1)
    return a[0].mean(dim=axes, keepdim=bool(n.get("keepdims", 1)))


def _squeeze(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    axes = list(n["axes"]) if "axes" in n else _numbers(c, 1)
    return a[0].squeeze(dim=axes)


def _unsqueeze(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    x = a[0]
    for axis in sorted(n["axes"] if "axes" in n else _numbers(c, 1)):
        x = x.unsqueeze(axis)
    return x


def _clip(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    low = n.get("min", float(c[1]) if len(c) > 1 and c[1] is not None else None)
    high = n.get("max", float(c[2]) if len(c) > 2 and c[2] is not None else None)
    return torch.clamp(a[0], low, high)


def _prelu(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    return torch.where(a[0] < 0, a[0] * a[1], a[0])


def _batch_norm(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    return functional.batch_norm(a[0], a[3], a[4], a[1], a[2], eps=n.get("epsilon", 1e-5))


def _hard_sigmoid(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    return torch.clamp(a[0] * n.get("alpha", 0.2) + n.get("beta", 0.5), 0, 1)


def _pad(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    pads = list(n["pads"]) if "pads" in n else _numbers(c, 1)
    rank = a[0].dim()
    if n.get("mode", b"constant") != b"constant" or len(pads) != 2 * rank:
        raise NotInTorch(f"Pad {n.get('mode', b'constant').decode()}")
    value = float(c[2]) if len(c) > 2 and c[2] is not None else float(n.get("value", 0.0))
    both = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[axis + rank])]
    return functional.pad(a[0], both, value=value)


def _flatten(a: Arguments, n: Attributes, c: Sequence[Any]) -> Any:
    axis = n.get("axis", 1)
    return a[0].reshape(int(np.prod(a[0].shape[:axis], dtype=np.int64)), -1)


OPERATORS: Mapping[str, Callable[[Arguments, Attributes, Sequence[Any]], Any]] = {
    "Add": lambda a, n, c: a[0] + a[1],
    "AveragePool": _pool(False),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda a, n, c: torch.cat(list(a), dim=n["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": lambda a, n, c: a[0] / a[1],
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, n, c: a[0].mean(dim=(2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda a, n, c: functional.hardswish(a[0]),
    "Identity": lambda a, n, c: a[0],
    "LeakyRelu": lambda a, n, c: functional.leaky_relu(a[0], n.get("alpha", 0.01)),
    "MatMul": lambda a, n, c: a[0] @ a[1],
    "Max": lambda a, n, c: functools.reduce(torch.maximum, a),
    "MaxPool": _pool(True),
    "Min": lambda a, n, c: functools.reduce(torch.minimum, a),
    "Mul": lambda a, n, c: a[0] * a[1],
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": lambda a, n, c: a[0] ** a[1],
    "ReduceMean": _reduce_mean,
    "Relu": lambda a, n, c: functional.relu(a[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda a, n, c: torch.sigmoid(a[0]),
    "Slice": _slice,
    "Softmax": lambda a, n, c: torch.softmax(a[0], dim=n.get("axis", -1)),
    "Sqrt": lambda a, n, c: torch.sqrt(a[0]),
    "Squeeze": _squeeze,
    "Sub": lambda a, n, c: a[0] - a[1],
    "Tanh": lambda a, n, c: torch.tanh(a[0]),
    "Transpose": lambda a, n, c: a[0].permute(*n["perm"]),
    "Unsqueeze": _unsqueeze,
}
