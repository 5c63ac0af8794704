"""What a step computes and moves, from its entry in the manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deploycc.call_types import COPIES

MOVES = frozenset(
    "reshape transpose permute_dims concat split strided_slice dynamic_strided_slice expand_dims squeeze "
    "flatten take gather_elements gather_nd scatter_elements scatter_nd pad tile repeat flip broadcast_to "
    "astype cast layout_transform zeros ones full zeros_like ones_like full_like memcpy copy".split()
)
"""Operators without arithmetic, by their Relax names."""

_ELEMENTWISE = frozenset(
    "add subtract multiply divide maximum minimum power floor_divide mod floor_mod less less_equal greater "
    "greater_equal equal not_equal logical_and logical_or logical_xor logical_not where relu gelu gelu_tanh "
    "silu leakyrelu prelu softplus relu6 sigmoid tanh exp log sqrt rsqrt abs negative ceil floor round sign "
    "erf clip square sin cos tan isnan isinf isfinite hardswish hardsigmoid".split()
)
_RECURRENT = frozenset(("lstm", "gru", "rnn"))
_REDUCTIONS = frozenset("mean sum max min prod".split())


def moves_only(symbol: str, operators: Sequence[str]) -> bool:
    """Whether a step copies: one of the plan's own, or a kernel of operators without arithmetic."""
    return symbol in COPIES or (bool(operators) and all(name in MOVES for name in operators))


def flops_of(call: Mapping[str, Any]) -> int:
    """Floating-point operations of a step of the manifest, 0 where they are not counted.

    Counted are: a convolution's or product's multiply-adds, two each, by its definition (a schedule of
    Winograd makes fewer; what is fused behind it is left out); a product of two activations likewise, and
    those of a recurrent layer's state; one for each element and elementwise operator; one for each element
    that a reduction reads.  Pools, resizes, softmax and normalisations are not counted, nor is a step with
    one of them in it.
    """
    if "flops" in call:
        return int(call["flops"])
    arithmetic = [name for name in call["operators"] if name not in MOVES]
    written = _elements(call["writes"])
    if not arithmetic or written is None:
        return 0
    count, size = written
    if "matmul" in arithmetic:
        return _product(call, count, size)
    if _RECURRENT & set(arithmetic):
        # It reads its projected inputs first, as many as it has sums of one product for each unit.
        sums = int(call["reads"][0]["bytes"]) // size
        return 2 * sums * int(call["writes"][0]["shape"][-1])
    total = 0
    for name in arithmetic:
        if name in _ELEMENTWISE:
            total += count
        elif name in _REDUCTIONS:
            total += max((read["bytes"] for read in call["reads"]), default=0) // size
        else:
            return 0
    return total


def nbytes_of(call: Mapping[str, Any]) -> int:
    """Bytes that a step reads and writes, each tensor once."""
    return sum(
        sum({(b["kind"], b.get("index", 0), b["offset"]): b["bytes"] for b in call[role]}.values())
        for role in ("reads", "writes")
    )


def _elements(writes: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Elements of the first result, and bytes of each; ``None`` where its shape is not known."""
    if not writes or "shape" not in writes[0]:
        return None
    count = math.prod(writes[0]["shape"])
    return (count, writes[0]["bytes"] // count) if count and writes[0]["bytes"] >= count else None


def _product(call: Mapping[str, Any], count: int, size: int) -> int:
    """Two for each multiply-add of ``A (..., rows, inner) x B``, whose result has ``A``'s rows."""
    shape, reads = call["writes"][0]["shape"], call["reads"]
    if len(shape) < 2 or not reads:
        return 0
    rows = math.prod(shape[:-1])
    inner, rest = divmod(reads[0]["bytes"] // size, rows)
    return 0 if rest else 2 * count * inner
