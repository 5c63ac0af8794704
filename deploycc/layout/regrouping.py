"""Depth to space, space to depth and channel shuffles in NHWC.

ONNX and its importers write them as a reshape that splits axes, a transpose and a reshape that joins
axes.  Where each split and each join stays within one axis of the image, the same is possible with the
channels last, and then whole runs of channels move at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from deploycc.layout.rules import Operands, permutation, rank
from deploycc.relax_graph import static_shape
from deploycc.tvm_api import ir, relax

Regrouping = Callable[[Operands], Any]
"""The call in NHWC, given its operand in NHWC."""

NHWC = (0, 2, 3, 1)


def find_regroupings(bindings: Sequence[Any]) -> tuple[dict[Any, Regrouping], set[Any]]:
    """The regroupings by the variable of their result, and the variables that only lead there."""
    calls = {b.var: b.value for b in bindings if isinstance(b.value, relax.Call)}
    readers = Counter(var for binding in bindings for var in set(relax.analysis.free_vars(binding.value)))
    found: dict[Any, Regrouping] = {}
    absorbed: set[Any] = set()
    for var, last in calls.items():
        turned = _reshaped(last)
        split = calls[turned].args[0] if turned in calls and permutation(calls[turned]) is not None else None
        source = _reshaped(calls[split]) if split in calls else None
        if source is None or rank(source) != 4 or rank(var) != 4 or readers[turned] + readers[split] != 2:
            continue
        axes = permutation(calls[turned])
        assert axes is not None, "asked above"
        regrouping = _in_nhwc(source, static_shape(split), axes, static_shape(var))
        if regrouping is not None:
            found[var] = regrouping
            absorbed |= {turned, split}
    return found, absorbed


def _reshaped(call: Any) -> Any | None:
    """The variable that a reshape reads, ``None`` for another call."""
    if getattr(call.op, "name", "") != "relax.reshape" or not isinstance(call.args[0], ir.Var):
        return None
    return call.args[0]


def _in_nhwc(source: Any, split: list[int], axes: tuple[int, ...], result: list[int]) -> Regrouping | None:
    splits = _groups(split, static_shape(source))
    joins = _groups([split[axis] for axis in axes], result)
    if splits is None or joins is None:
        return None
    before = [part for axis in NHWC for part in splits[axis]]
    after = [axes[part] for axis in NHWC for part in joins[axis]]
    order = [before.index(part) for part in after]

    def regroup(operands: Operands) -> Any | None:
        data = operands.nhwc(source)
        if data is None:
            return None
        turned = relax.op.permute_dims(relax.op.reshape(data, [split[part] for part in before]), order)
        return relax.op.reshape(turned, [result[axis] for axis in NHWC])

    return regroup


def _groups(parts: Sequence[int], extents: Sequence[int]) -> list[list[int]] | None:
    """Which consecutive ``parts`` (by number) multiply to each of ``extents``; ``None`` where they do not."""
    groups: list[list[int]] = []
    place = 0
    for extent in extents:
        group: list[int] = []
        product = 1
        while product < extent and place < len(parts):
            group.append(place)
            product *= parts[place]
            place += 1
        if product != extent:
            return None
        groups.append(group)
    if any(part != 1 for part in parts[place:]):
        return None
    groups[-1] += range(place, len(parts))
    return groups
