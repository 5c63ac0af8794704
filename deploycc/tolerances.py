"""How close to the reference is close enough, by element type."""

from __future__ import annotations

from collections.abc import Mapping

RELATIVE_TOLERANCE: Mapping[str, float] = {
    "float16": 1e-2,
    "bfloat16": 5e-2,
    "float32": 1e-4,
    "float64": 1e-6,
}
"""Largest absolute error allowed, as a share of the reference's largest finite absolute value.

float16 has 11 significant bits (one unit is 4.9e-4 of the value); 1e-2 leaves about twenty
units for what accumulates through a network; bfloat16 has 8.  Integers and booleans must be equal.
"""

SHARP = 0.25
"""The reference is sharp where its own rounding takes at most this share of the tolerance."""
