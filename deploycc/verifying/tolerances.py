"""How far each output of a package may be from the reference: by its dtype and the depth behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deploycc.call_types import COPIES
from deploycc.tolerances import RELATIVE_TOLERANCE, SHARP, precision_tolerance
from deploycc.types import DeployccError, Diagnostic

UNIT_ROUNDOFF: Mapping[str, float] = {
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float32": 2.0**-24,
    "float64": 2.0**-53,
}

LAMBDA = 8.0
"""How many standard deviations of accumulated rounding are allowed; see ``depth_tolerance``."""

OWN_ERROR = 2.0
"""How many times the reference's own error is allowed beside ours: it is an estimate from two more runs."""

OWN_ERROR_CAP = 100.0
"""How many times ``RELATIVE_TOLERANCE`` the reference's own error may allow at most."""


def depth_tolerance(dtype: str, roundings: float) -> float:
    """The tolerance of an output of ``dtype`` behind a chain of so many roundings; 0 for integers.

    ``LAMBDA * u * sqrt(roundings)`` with the unit roundoff ``u``: rounding errors are as good as independent
    and of mean zero, so n of them grow as the root of n (Higham and Mary, A new approach to probabilistic
    rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019, theorem 2.4; the public networks are within 2
    in place of 8).  It is never more than ``RELATIVE_TOLERANCE``, and never less than the share ``SHARP`` of
    that: so far the reference may disagree with itself on the golden inputs.
    """
    if dtype not in UNIT_ROUNDOFF:
        return 0.0
    most = RELATIVE_TOLERANCE[dtype]
    return min(most, max(SHARP * most, LAMBDA * UNIT_ROUNDOFF[dtype] * math.sqrt(roundings)))


def widened(tolerance: float, dtype: str, own_error: float) -> float:
    """``tolerance`` and what the reference itself may be off by (``deploycc.reference.own_error``).

    Some networks amplify rounding on some inputs, and a sigmoid far from 0 leaves few digits in any library;
    a bound below that would judge the reference.
    """
    return tolerance + min(OWN_ERROR * own_error, OWN_ERROR_CAP * RELATIVE_TOLERANCE.get(dtype, 0.0))


def output_roundings(manifest: Mapping[str, Any]) -> list[float]:
    """For each output of a package the roundings on the longest chain of steps that leads to it.

    A step rounds as often as it adds for one element: half its flops over the elements it writes (taken as
    float32) where they are counted; else once for each operator in it, or for each element it reads for one
    that it writes.  A copy rounds nothing.
    """
    written: dict[tuple[str, int], list[tuple[int, int, float]]] = {}
    found = [0.0] * len(manifest["outputs"])
    for call in manifest["calls"]:
        depth = max((_depth_of(written, read) for read in call["reads"]), default=0.0) + _step_roundings(call)
        for write in call["writes"]:
            start, end = int(write["offset"]), int(write["offset"]) + int(write["bytes"])
            key = _memory(write)
            pieces = [piece for old in written.get(key, []) for piece in _without(old, start, end)]
            written[key] = [*pieces, (start, end, depth)]
            if write["kind"] == "output":
                found[write["index"]] = max(found[write["index"]], depth)
    return found


def _memory(buffer: Mapping[str, Any]) -> tuple[str, int]:
    return str(buffer["kind"]), int(buffer.get("index", 0))


def _depth_of(
    written: Mapping[tuple[str, int], Sequence[tuple[int, int, float]]], read: Mapping[str, Any]
) -> float:
    start, end = int(read["offset"]), int(read["offset"]) + int(read["bytes"])
    pieces = written.get(_memory(read), ())
    return max((depth for first, last, depth in pieces if first < end and last > start), default=0.0)


def _without(piece: tuple[int, int, float], start: int, end: int) -> list[tuple[int, int, float]]:
    """What is left of a piece of memory when the bytes from ``start`` to ``end`` are written anew."""
    first, last, depth = piece
    if last <= start or first >= end:
        return [piece]
    return [(a, b, depth) for a, b in ((first, min(last, start)), (max(first, end), last)) if a < b]


def _step_roundings(call: Mapping[str, Any]) -> float:
    if call["symbol"] in COPIES:
        return 0.0
    write_bytes = max(1, sum(int(write["bytes"]) for write in call["writes"]))
    read_bytes = sum(int(read["bytes"]) for read in call["reads"] if read["kind"] != "constant")
    sums = int(call.get("flops", 0)) / 2 / (write_bytes / 4)
    return max(sums, read_bytes / write_bytes, float(len(call["operators"])))


def output_tolerances(
    manifest: Mapping[str, Any],
    overrides: Mapping[str, float],
    own_error: Sequence[float] = (),
    computed_in: str = "",
) -> list[float]:
    """The tolerance of each output: from ``overrides`` (by output's name, ``""`` for all), else by depth.

    ``own_error`` is by output how far the reference may be off, ``computed_in`` the coarsest float type that
    the network computes in, where they are known.  A GPU's package that computes in less than single
    precision may besides be off by what that was measured to cost (``precision_tolerance``).
    """
    precision = manifest.get("precision", {"name": "fp32", "error": []})
    found = []
    for number, (tensor, roundings) in enumerate(
        zip(manifest["outputs"], output_roundings(manifest), strict=True)
    ):
        dtype = str(tensor["dtype"])
        if dtype in UNIT_ROUNDOFF and UNIT_ROUNDOFF.get(computed_in, 0.0) > UNIT_ROUNDOFF[dtype]:
            dtype = computed_in
        allowed = widened(depth_tolerance(dtype, roundings), dtype, own_error[number] if own_error else 0.0)
        if precision["name"] != "fp32" and str(tensor["dtype"]) in UNIT_ROUNDOFF:
            measured = precision["error"][number]["max_scaled"] if precision["error"] else 0.0
            allowed += precision_tolerance(precision["name"], measured)
        found.append(overrides.get(tensor["name"], overrides.get("", allowed)))
    return found


def check_overrides(overrides: Mapping[str, float], manifest: Mapping[str, Any]) -> None:
    """Raise ``DeployccError`` with a DC817 for each output that is none and each value that is none."""
    names = [str(tensor["name"]) for tensor in manifest["outputs"]]
    findings = [
        Diagnostic(
            "DC817",
            f"--tolerance names '{name}', which is no output of the package",
            got=name,
            need=f"one of {', '.join(names)}",
        )
        for name in overrides
        if name and name not in names
    ]
    findings += [
        Diagnostic(
            "DC817",
            f"the tolerance of {name or 'all outputs'} is no share",
            got=repr(value),
            need="a number from 0 on: the largest error allowed, over the output's largest magnitude",
        )
        for name, value in overrides.items()
        if not 0.0 <= value < math.inf
    ]
    if findings:
        raise DeployccError(*findings)
