"""The simplify stage: passes, onnxsim, passes again, and a run before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from onnx import ModelProto, TensorProto

from deploycc.counting import count_rows
from deploycc.onnx_editor import Editor
from deploycc.onnx_graph import Array, checker_complaint, is_bare, tensor_info
from deploycc.reference import ReferenceFailed, compare, run, sample
from deploycc.simplifying.folding import FoldingFailed, fold
from deploycc.simplifying.passes import CLEANING, FOLDING, LOWERING, Pass
from deploycc.types import Diagnostic, Limits, Model, PassCount

Rewritten = tuple[ModelProto, tuple[PassCount, ...]]
"""A graph and what the passes did that made it, in the order they ran."""

_SLACK = 10.0
"""Folding and fusing round in another order; a wrong rewrite is off by far more."""

_ROUNDS = 24
"""Passes enable one another; a chain of shape arithmetic takes a round a link, ten at the most seen."""


def simplify(model: Model, limits: Limits, *, compiled: bool = True) -> Model:
    """The model folded, cleaned and rewritten into what the lowering handles best.

    Where another compiler takes it (``compiled`` is false) it is only folded and cleaned, and so is a
    model with open dimensions, which cannot be run.

    Both models are run on the same random inputs.  Where the result differs, a step fails, or
    folding grows the weights by more than ``limits.folded_bytes``, the step is left out and
    ``Model.diagnostics`` says so: DC151 onnxsim failed, DC152 results differ, DC153 growth,
    DC154 the models could not be compared.

    Where sizes depend on data, ``Model.counts`` tells of them (``deploycc.counting``), for what deploycc
    compiles.  Raises ``DeployccError`` with DC230 where ``max_counts`` names nothing of the kind.
    """
    notes: list[Diagnostic] = list(model.diagnostics)
    best = _passes((model.proto, ()), CLEANING)
    if any(-1 in info.shape for info in model.inputs):
        return replace(model, proto=best[0], passes=best[1])
    check = _Check(model, notes)
    # onnxsim refuses a model whose outputs have no shape; what leads to one is often a reshape to sizes
    # that are computed from sizes.
    bare = any(is_bare(info) for info in best[0].graph.output)
    shaped = _passes(best, (*CLEANING, *FOLDING), limits.folded_bytes) if bare else best
    folded = _folded(shaped, limits, notes, compiled)
    candidates = _candidates(best, folded, limits, LOWERING if compiled else ())
    proto, passes = next((found for found in candidates if check.same(found[0])), (model.proto, ()))
    simplified = replace(
        model,
        proto=proto,
        passes=passes,
        inputs=tuple(tensor_info(info) for info in proto.graph.input),
        outputs=tuple(tensor_info(info) for info in proto.graph.output),
        diagnostics=tuple(notes),
    )
    return count_rows(simplified) if compiled else simplified


def clean(model: Model, limits: Limits) -> Model:
    """The model as it was read, folded and cleaned by our own passes alone and not run: for a look at it."""
    proto = model.proto if model.original is None else model.original
    proto, passes = _passes((proto, ()), (*CLEANING, *FOLDING), limits.folded_bytes)
    return replace(model, proto=proto, passes=passes)


def _candidates(
    cleaned: Rewritten, folded: Rewritten | None, limits: Limits, lowering: tuple[Pass, ...]
) -> Iterator[Rewritten]:
    """From the best to the plainest; after that only the model as it came is left."""
    if folded is not None:
        yield _passes(folded, (*CLEANING, *lowering), limits.folded_bytes)
        yield _passes(folded, CLEANING)
    yield _passes(cleaned, (*CLEANING, *FOLDING, *lowering), limits.folded_bytes)
    yield _passes(cleaned, (*CLEANING, *FOLDING), limits.folded_bytes)
    yield cleaned


def _passes(given: Rewritten, passes: tuple[Pass, ...], budget: int = 0) -> Rewritten:
    editor = Editor(given[0], budget)
    counts: Counter[str] = Counter()
    for _ in range(_ROUNDS):
        changed = 0
        for run_pass in passes:
            count = run_pass(editor)
            if count:
                editor.refresh()
                changed += count
                counts[run_pass.__name__] += count
        if not changed:
            break
    return editor.write_back(), (*given[1], *(PassCount(name, places) for name, places in counts.items()))


def _weight_bytes(proto: ModelProto) -> int:
    total = 0
    for tensor in proto.graph.initializer:
        total += tensor.ByteSize()
    for node in proto.graph.node:
        total += sum(attribute.t.ByteSize() for attribute in node.attribute if attribute.HasField("t"))
    return total


def _folded(given: Rewritten, limits: Limits, notes: list[Diagnostic], compiled: bool) -> Rewritten | None:
    proto, passes = given
    try:
        folded = fold(proto, limits) if compiled else fold(proto, limits, fuse=False)
    except FoldingFailed as failure:
        notes.append(
            Diagnostic(
                "DC151",
                "onnxsim could not simplify the model; it is built without that",
                got=str(failure)[:500],
                severity="warning",
                verdict="fallback",
            )
        )
        return None
    growth = _weight_bytes(folded) - _weight_bytes(proto)
    if growth > limits.folded_bytes:
        notes.append(
            Diagnostic(
                "DC153",
                "folding constants would blow the model up; it is built unfolded",
                got=f"{growth} bytes more of constants",
                need=f"at most {limits.folded_bytes}",
                severity="warning",
                verdict="fallback",
            )
        )
        return None
    removed = len(proto.graph.node) - len(folded.graph.node)
    return folded, (*passes, PassCount("onnxsim", removed))


def _has_four_bits(proto: ModelProto) -> bool:
    return any(
        tensor.data_type in (TensorProto.INT4, TensorProto.UINT4) for tensor in proto.graph.initializer
    )


class _Check:
    """Runs the model as it came once, and every candidate against that."""

    def __init__(self, model: Model, notes: list[Diagnostic]) -> None:
        self._notes = notes
        self._names = [info.name for info in model.proto.graph.output]
        self._inputs: list[Array] = []
        self._original = model.proto
        self._expected: list[Array] | None = None
        try:
            taken = sample(model.proto, model.inputs, seed=0)
            self._inputs, self._expected = taken.inputs, taken.outputs
            if _has_four_bits(model.proto):
                # ONNX Runtime multiplies such weights with inputs that it rounds to 8 bits.
                self._expected, _ = run(model.proto, taken.inputs, plain=True)
        except ReferenceFailed as failure:
            notes.append(
                Diagnostic(
                    "DC154",
                    "the model could not be run before simplifying, so nothing was compared",
                    got=str(failure)[:500],
                    severity="warning",
                )
            )

    def same(self, candidate: ModelProto) -> bool:
        """Whether the candidate computes what the original does, as far as that could be run."""
        reason = self._difference(candidate)
        if reason:
            self._notes.append(
                Diagnostic(
                    "DC152",
                    "a simplified form of the model computes something else and was thrown away",
                    got=reason[:500],
                    severity="warning",
                    verdict="fallback",
                )
            )
        return not reason

    def _difference(self, candidate: ModelProto) -> str:
        complaint = checker_complaint(candidate)
        if complaint:
            return f"the checker refuses it: {complaint.splitlines()[0]}"
        if self._expected is None:
            return ""
        try:
            got, _ = run(candidate, self._inputs)
        except ReferenceFailed as failure:
            return str(failure)
        for name, want, have in zip(self._names, self._expected, got, strict=True):
            result = compare(want, have, slack=_SLACK)
            if not result.ok:
                return f"output '{name}': {result.reason}"
        return ""
