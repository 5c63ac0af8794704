"""How close to the reference is close enough, by element type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

PRECISION_LEAST: Mapping[str, float] = {"tf32": 1e-3, "fp16": 1e-3, "bf16": 8e-3}
"""The least tolerance of an output that a GPU computes so: two units of what it rounds to."""

PRECISION_FACTOR = 4.0
"""How many times the measured error of a precision an output may be off: the GPU rounds the same tensors as
the measurement did, but others of equal size come out of sums in another order."""


def precision_tolerance(precision: str, measured: float) -> float:
    """What an output may be off, as a share of its magnitude, if rounding costs it ``measured``."""
    return max(PRECISION_LEAST[precision], PRECISION_FACTOR * measured)


def precision_text(manifest: Mapping[str, Any]) -> str:
    """What a package's precision costs, in words; empty for one that computes in fp32 alone."""
    table = manifest.get("precision", {})
    name, errors = table.get("name", "fp32"), table.get("error", [])
    if name == "fp32":
        return ""
    if not errors:
        return f"{name}: its error was not measured"
    if not all(error["finite"] for error in errors):
        return f"{name}: NaN or infinity in an output where fp32 has numbers"
    worst = max(error["max_scaled"] for error in errors)
    return f"{name}: error at most {worst:.2g} of an output's largest magnitude"
