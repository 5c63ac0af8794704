"""Maxima and minima start from infinity.

TVM starts them from the type's largest finite magnitude, so that the maximum over nothing but
``-inf`` (a row of attention that is masked as a whole) would come out as -3.4e38 and compare unequal
to ``-inf``.  The reductions are changed after scheduling, because TVM's ``rfactor`` knows them by the
value they start from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploycc.tvm_api import ir, structural_map, structural_walk, tirx


def infinite_identities(func: Any) -> Any:
    """``func`` with every float buffer that gathers a maximum or minimum initialised to an infinity."""
    gathered: set[tuple[Any, float]] = set()

    def find(store: Any) -> None:
        for kind, sign in ((tirx.Max, -1.0), (tirx.Min, 1.0)):
            if isinstance(store.value, kind):
                for side in (store.value.a, store.value.b):
                    if isinstance(side, ir.TensorLoad) and side.source.same_as(store.buffer):
                        gathered.add((store.buffer, sign))

    structural_walk(func.body, (tirx.BufferStore, find))
    if not gathered:
        return func

    def replace(store: Any) -> Any:
        value = store.value
        dtype = str(value.ty.dtype) if isinstance(value, tirx.FloatImm) else ""
        if not dtype:
            return store
        sign = -1.0 if value.value < 0 else 1.0
        if (store.buffer, sign) not in gathered or abs(value.value) != float(np.finfo(dtype).max):
            return store
        infinity = tirx.FloatImm(dtype, sign * float("inf"))
        return tirx.BufferStore(store.buffer, infinity, store.indices)

    body = structural_map(func.body, (tirx.BufferStore, replace), order="post")
    return func if body.same_as(func.body) else func.with_body(body)
