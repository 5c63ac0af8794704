"""Whether the contestants compute the same: a wrong result is not fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deploycc.timing.peers import Array
from deploycc.types import DeployccError, Diagnostic

SLACK = 10.0
"""How far a result may be off, in tolerances of ``deploycc.reference``: engines round in other orders, and
computing another network is off by far more.  How well a package computes is what ``verify`` tells."""


def check_agreement(
    outputs: Mapping[str, Sequence[Array]], reference: Sequence[Array], engine: str, names: Sequence[str]
) -> None:
    """Compare every contestant's ``outputs`` with ``reference``, which ``engine`` computed.

    ``names`` are the outputs'.  Raises ``DeployccError`` (DC833) with every output that differs.
    """
    from deploycc.reference import compare
    from deploycc.tolerances import RELATIVE_TOLERANCE

    faults = []
    for contestant, found in outputs.items():
        for name, got, want in zip(names, found, reference, strict=True):
            result = compare(want, _as(got, want), SLACK)
            if not result.ok:
                allowed = SLACK * RELATIVE_TOLERANCE.get(want.dtype.name, 0.0)
                faults.append(
                    Diagnostic(
                        "DC833",
                        f"{contestant} does not compute what {engine} does, so nothing was timed",
                        node=name,
                        got=result.reason,
                        need=f"errors of at most {allowed:g} of the output's largest magnitude"
                        if allowed
                        else "equal values",
                        help="'deploycc verify' compares the package; is --model the one it was built from?",
                    )
                )
    if faults:
        raise DeployccError(*faults)


def _as(got: Array, want: Array) -> Array:
    """``got`` as ``want`` would have it: engines drop and add axes of one element, and widen integers."""
    plain = [tuple(extent for extent in array.shape if extent != 1) for array in (got, want)]
    if plain[0] == plain[1]:
        got = got.reshape(want.shape)
    if want.dtype.kind != "f" and got.dtype != want.dtype:
        with np.errstate(invalid="ignore"):
            cast = got.astype(want.dtype)
        if np.array_equal(cast, got):
            return cast
    return got
