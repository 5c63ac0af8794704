"""A constant that float16 cannot hold.

The unit keeps what it computes in float16: above 65504 a number becomes infinite, below 6e-8 it becomes 0.
An infinite weight makes everything behind it infinite or no number; an epsilon that becomes 0 no longer
keeps a division from dividing by 0.  Nothing reports it.

Instead: scale the constant and take the factor out elsewhere; mask with -10000 in place of -1e9
(`scores.masked_fill(mask, -1e4)`); use an epsilon of 1e-5 (`nn.LayerNorm(n, eps=1e-5)`).  In ONNX, change
the initialiser.  A mask of -10000 gives the same softmax to 7 digits; another epsilon changes results
slightly where the variance is small.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject
from deploycc.types import Diagnostic

CODE = "DC314"

LARGEST = 65504.0
"""The largest finite float16 (IEEE 754-2008, binary16)."""

_SMALLEST = 2.0**-25
"""Half of the smallest float16 above 0: what is below is rounded to 0."""

_BOUNDS = ("Clip", "Min", "Max")
"""Operators for which an infinite operand is a bound that never holds."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node with a constant or epsilon out of range, where the target has `float16_intermediates`."""
    limit = subject.limit("float16_intermediates")
    if limit is None or not limit.value:
        return
    view = subject.view
    for node in view.model.graph.node:
        if node.op_type == "Constant" or node.domain:
            continue
        for name in node.input:
            value = view.constant(name) if view.is_constant(name) else None
            if value is None or value.dtype not in (np.float32, np.float64) or not value.size:
                continue
            largest = float(np.abs(value[np.isfinite(value)], dtype=np.float64).max(initial=0.0))
            tiny = value.size == 1 and 0 < largest < _SMALLEST and node.op_type in ("Add", "Max", "Div")
            if (largest > LARGEST and node.op_type not in _BOUNDS) or tiny:
                yield _finding(node.name, node.op_type, name, largest, limit.source)
                break
        epsilon = NodeFacts(node, view).attr("epsilon")
        if isinstance(epsilon, float) and 0 < epsilon < _SMALLEST:
            yield _finding(node.name, node.op_type, "epsilon", epsilon, limit.source)


def _finding(node: str, op: str, tensor: str, value: float, source: str) -> Diagnostic:
    large = value > LARGEST
    return Diagnostic(
        CODE,
        f"a constant becomes {'infinite' if large else '0'} in float16",
        node=node,
        op=op,
        tensor=tensor,
        got=f"{value:.6g} in '{tensor}'",
        need="magnitudes up to 65504" if large else "6e-8 and more",
        help="mask with -10000, or scale the weights" if large else "use an epsilon of 1e-5",
        severity="warning",
        verdict="silently-wrong",
        source=source,
    )
