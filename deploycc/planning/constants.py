"""The weights blob: every constant once, 64-byte aligned, in order of first use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploycc.planning.memory import aligned


@dataclass(frozen=True)
class Weights:
    """``offsets`` in bytes, in the order of the arrays given; equal content shares one offset.

    ``elements`` counts the elements of distinct constants.
    """

    blob: bytes
    offsets: tuple[int, ...]
    elements: int


def lay_out(arrays: Sequence[np.ndarray[Any, Any]]) -> Weights:
    """Lay ``arrays`` (C-contiguous) one behind the other at multiples of 64 bytes.

    Two constants of the same bytes are one, whatever their shapes and dtypes: a kernel sees a
    pointer.  Empty constants lie at offset 0.
    """
    offsets: list[int] = []
    placed: dict[tuple[int, bytes], int] = {}
    chunks: list[bytes] = []
    end = elements = 0
    for array in arrays:
        data = array.tobytes()
        if not data:
            offsets.append(0)
            continue
        key = (len(data), hashlib.sha256(data).digest())
        if key not in placed:
            placed[key] = end
            padded = aligned(len(data))
            chunks.append(data + bytes(padded - len(data)))
            end += padded
            elements += array.size
        offsets.append(placed[key])
    return Weights(b"".join(chunks), tuple(offsets), elements)
