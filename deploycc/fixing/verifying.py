"""Whether a rewritten model computes what the original does, measured on random inputs of this model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from deploycc.fix_types import OutputError
from deploycc.onnx_graph import checker_complaint, tensor_info
from deploycc.reference import Comparison, ReferenceFailed, compare, run, sharp_sample
from deploycc.types import DeployccError, Diagnostic

EXACT = 1e-5
"""Largest error that exact rewrites may make, as a share of the output's largest magnitude."""

NOISE = 4.0
"""Folding rounds too, and a deep network repeats it: that many times its error is allowed at least."""


class Mismatch(Exception):
    """A rewritten model computes something else, or cannot be run; the message says what."""


class Verification:
    """The original model's outputs on random inputs, and how far another form of it is from them.

    Raises ``DeployccError`` with DC792 where no reference engine can run the original.
    """

    def __init__(self, original: ModelProto) -> None:
        inputs = [tensor_info(info) for info in original.graph.input]
        self._names = [info.name for info in original.graph.output]
        try:
            self._sample = sharp_sample(original, inputs, seed=0)
        except ReferenceFailed as failure:
            raise _not_checked(str(failure)) from None
        self._noise = 0.0
        self._measured: dict[bytes, list[Comparison]] = {}

    @property
    def allowed(self) -> float:
        """What exact rewrites may be off by, as a share of an output's magnitude."""
        return max(EXACT, NOISE * self._noise)

    def accept(self, cleaned: ModelProto) -> None:
        """Take the error of the folded and cleaned model, before any rewrite, as that of rounding.

        Raises ``DeployccError`` with DC792 where that is no rounding.
        """
        try:
            self._noise = max((error.share for error in self.errors(cleaned)), default=0.0)
        except Mismatch as mismatch:
            raise _not_checked(f"folded and cleaned, {mismatch}") from None

    def check(self, candidate: ModelProto, bound: float) -> tuple[OutputError, ...]:
        """The errors of all outputs.

        Raises ``Mismatch`` where one is above ``bound`` and above what rounding explains.
        """
        allowed = max(bound, self.allowed)
        errors = self.errors(candidate, allowed)
        worst = max(errors, key=lambda error: error.share, default=None)
        if worst is not None and not worst.share <= allowed:
            raise Mismatch(
                f"output '{worst.output}' is off by {worst.share:.3g} of its magnitude, allowed {allowed:.3g}"
            )
        return errors

    def errors(self, candidate: ModelProto, allowed: float = EXACT) -> tuple[OutputError, ...]:
        """The errors of all outputs.  Raises ``Mismatch`` for other shapes, types, NaN, or no result."""
        found = []
        results = zip(self._names, self._sample.outputs, self._results(candidate), strict=True)
        for name, want, result in results:
            if not np.isfinite(result.max_abs_error):
                raise Mismatch(f"output '{name}': {result.reason}")
            scale = _magnitude([want])
            share = result.max_abs_error / scale if scale else float(result.max_abs_error > 0)
            found.append(OutputError(name, result.max_abs_error, scale, share, allowed))
        return tuple(found)

    def _results(self, candidate: ModelProto) -> list[Comparison]:
        """Each output compared; a model that was run before is not run again."""
        key = hashlib.sha256(candidate.SerializeToString(deterministic=True)).digest()
        if key not in self._measured:
            complaint = checker_complaint(candidate)
            if complaint:
                raise Mismatch(f"the checker refuses it: {complaint.splitlines()[0]}")
            try:
                outputs, _ = run(candidate, self._sample.inputs)
            except ReferenceFailed as failure:
                raise Mismatch(f"it cannot be run: {str(failure)[:300]}") from None
            pairs = zip(self._sample.outputs, outputs, strict=True)
            self._measured[key] = [compare(want, have) for want, have in pairs]
        return self._measured[key]


def _not_checked(reason: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC792",
            "the model cannot be run here as it is, so no rewrite could be checked on it",
            got=reason[:500],
            need="a model that ONNX Runtime or onnx.reference runs on random inputs",
            help="without --fix it is linted all the same",
        )
    )


def _magnitude(values: Sequence[np.ndarray]) -> float:
    """The largest finite magnitude, 0 for none."""
    largest = 0.0
    for value in values:
        if value.dtype.kind in "fiub":
            wide = np.abs(value.astype(np.float64))
            largest = max(largest, float(np.max(wide[np.isfinite(wide)], initial=0.0)))
    return largest
