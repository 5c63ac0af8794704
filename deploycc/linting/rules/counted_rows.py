"""Rows whose number depends on the data, in an operator that does not keep them apart.

`NonZero`, `Compress`, `Unique` and `NonMaxSuppression` are compiled for the most rows that there can be, and
what is computed of their rows is computed for all of these: right as long as every row of a result depends on
the same row only. Elementwise operators, `Gather` by such rows, slices, transposes, reshapes that leave the
rows an axis (with -1 as their extent), products with weights, sums, and reductions along other axes are; a
maximum or softmax along the rows, a concatenation behind them, or a size computed from their number is not
(`docs/counted.md`).

Instead: make the tensor in front of it an output, which a package gives with its number of rows, and do the
rest in the app. Where the maximum of what was selected is wanted, mask instead of selecting: in PyTorch
`torch.where(mask, x, -inf).max()` for `x[mask].max()`, in ONNX `Where` in front of the reduction.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject, compiled_only
from deploycc.types import Diagnostic

CODE = "DC231"
applies = compiled_only


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that mixes such rows, or of whose rows the most cannot be told."""
    if subject.model.counts is not None:
        yield from subject.model.counts.faults
