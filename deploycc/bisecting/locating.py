"""The search itself: the first step with an error of its own, why it is wrong, and how the error spreads."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.bisecting.attributing import MOVING, attribute
from deploycc.bisecting.errors import compared, scaled_error, tolerance_of
from deploycc.bisecting.findings import Certainty, Kind, Link, Suspect
from deploycc.bisecting.graph import Graph
from deploycc.bisecting.judging import Judge, Judged, run_plain
from deploycc.bisecting.observing import Observed, Watched
from deploycc.bisecting.steps import Write
from deploycc.counting.padding import padded, tensor_from_manifest
from deploycc.onnx_graph import Array
from deploycc.reference import ReferenceFailed
from deploycc.result_types import TensorDifference

OVERWHELMING = 100.0
"""An error this many times an earlier one is taken for the fault, and the earlier one for rounding ..."""

MARGINAL = 2.0
"""... if that is no more than so many times the tolerance.  Sound steps are at a tenth of it at most."""

QUIET = 0.1
"""Where outputs are wrong and no step is by itself, steps off by this share of the tolerance are named."""

REPEATS, MOST_REPEATS, REPEAT_SECONDS = 3, 16, 10.0
"""So many runs with several threads are compared with the first, more of them while there is time.

A race shows in some runs only, and a run is cheap beside a build.
"""


@dataclass(frozen=True)
class Located:
    """What the search found.

    ``judged`` has the suspect's result; ``order`` nodes by number, the most suspicious first; ``values`` what
    was written by the run that showed the fault where that is not the first; ``threads`` how many it had.
    """

    suspect: Suspect
    judged: Judged
    order: tuple[int, ...]
    also: tuple[int, ...]
    values: Observed | None
    threads: int

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps whose nodes were judged together; none where another step than the judged is at fault."""
        own = self.judged.write.step
        return (*self.judged.joined, own) if self.suspect.step == own else ()


class Search:
    """One package on one set of inputs, beside its simplified model."""

    def __init__(self, watched: Watched, graph: Graph, folder: Path) -> None:
        self.watched, self.graph, self.folder = watched, graph, folder
        self.writes = watched.steps.named()
        self.observed, self.outputs = watched.observe(self.writes, folder / "first")
        self.judge = Judge(watched, graph, self.observed)
        self.notes: list[str] = []
        self._expected: list[Array] | None = None

    @property
    def expected(self) -> list[Array]:
        """The model's outputs, as the package has them.  Raises ``ReferenceFailed``."""
        infos = [tensor_from_manifest(tensor) for tensor in self.watched.package.manifest["outputs"]]
        return padded(self.model_outputs, infos)

    @property
    def model_outputs(self) -> list[Array]:
        """The model's outputs.  Raises ``ReferenceFailed``."""
        if self._expected is None:
            order = dict(zip(self.watched.names, self.watched.inputs, strict=True))
            self._expected = run_plain(self.graph.proto, [order[name] for name in self.graph.inputs])
        return self._expected

    def output_differences(self) -> tuple[TensorDifference, ...]:
        """The package's outputs beside the model's."""
        names = [str(tensor["name"]) for tensor in self.watched.package.manifest["outputs"]]
        slack = self.watched.precision_tolerance
        return tuple(
            compared(name, want, got, slack)
            for name, want, got in zip(names, self.expected, self.outputs, strict=True)
        )

    def locate(self) -> Located | None:
        """The first step whose own error exceeds what its inputs explain; ``None`` if none is."""
        judged = self.judge.all()
        skipped = sum(one.own is None for one in judged)
        if skipped:
            self.notes.append(
                f"{skipped} results could not be compared: the reference cannot run their nodes"
            )
        found = self._first(judged)
        if found is not None:
            return self._explain(found, self._also(judged, found), None, 1)
        unsteady = self._unsteady()
        if unsteady is not None:
            return unsteady
        if all(one.ok for one in self.output_differences()):
            return None
        quiet = self._first(judged, QUIET) or self._flip(judged)
        return None if quiet is None else self._explain(quiet, self._also(judged, quiet), None, 1)

    # ---- which step ----

    def _first(self, judged: Sequence[Judged], share: float = 1.0) -> Judged | None:
        wrong = [one for one in judged if one.own is not None and one.own > share * self._bound(one)]
        if not wrong:
            return None
        worst = max(min(float(one.own or 0.0), 1.0) for one in wrong)
        clear = (
            one
            for one in wrong
            if min(float(one.own or 0.0), 1.0) * OVERWHELMING >= worst
            or float(one.own or 0.0) > MARGINAL * share * self._bound(one)
        )
        return next(clear)

    def _bound(self, one: Judged) -> float:
        kind = self.graph.type_of(one.write.tensor)
        assert kind is not None
        if not one.nodes:
            return 0.0
        return max(tolerance_of(np.zeros(0, kind.dtype)), self.watched.precision_tolerance)

    def _also(self, judged: Sequence[Judged], first: Judged) -> tuple[int, ...]:
        steps = [
            one.write.step
            for one in judged
            if one.own is not None and one.own > self._bound(one) and one.write.step > first.write.step
        ]
        return tuple(dict.fromkeys(steps))

    def _flip(self, judged: Sequence[Judged]) -> Judged | None:
        """The step with which the outputs become wrong, if ONNX Runtime does all that comes after it.

        No step is wrong by itself; one of them is where the network is sensitive to rounding.
        """
        low, high = -1, len(judged) - 1
        try:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if self._wrong_after(middle) else (middle, high)
        except ReferenceFailed:
            return None
        return judged[high] if judged and judged[high].own else None

    def _wrong_after(self, count: int) -> bool:
        known = {write.tensor: write for write in self.writes[: count + 1]}
        left = [name for name in self.graph.outputs if name not in known]
        nodes, inputs = self.graph.between(left, known)
        given = dict(zip(self.watched.names, self.watched.inputs, strict=True))
        values = {name: self.observed[known[name]] if name in known else given[name] for name in inputs}
        values |= {name: self.observed[known[name]] for name in self.graph.outputs if name in known}
        got = self.judge.computed(nodes, values, self.graph.outputs)
        return any(
            want.shape != have.shape or scaled_error(want, have) > tolerance_of(want)
            for want, have in zip(self.model_outputs, got, strict=True)
        )

    def _unsteady(self) -> Located | None:
        """A step that writes something else when several threads run, or from run to run."""
        several = min(4, max(2, os.cpu_count() or 2))
        steady = False
        began = time.monotonic()
        for number in range(MOST_REPEATS):
            late = number == MOST_REPEATS - 1 or time.monotonic() - began > REPEAT_SECONDS
            threads = 1 if late and number >= REPEATS - 1 else several
            other, changed = self.watched.differing(
                self.observed, self.writes, self.folder / f"again{number}", threads
            )
            steady = steady or not changed
            judged = [self.judge.judge(write, other) for write in changed]
            found = self._first(judged)
            if found is not None:
                kind: Kind = "not deterministic" if threads == 1 or steady else "only with several threads"
                return self._explain(found, self._also(judged, found), other, threads, kind)
            if threads == 1:
                break
        return None

    # ---- why ----

    def _explain(
        self,
        found: Judged,
        also: tuple[int, ...],
        values: Observed | None,
        threads: int,
        kind: Kind | None = None,
    ) -> Located:
        write = found.write
        call = self.watched.steps.calls[write.step]
        expected = self.judge.expected(write, values)
        got = self.judge.value_of(write, values)
        own = compared(write.tensor, expected, np.asarray(got))
        culprit = self._overwriter(found) if kind is None else None
        if culprit is not None:
            return self._overwritten(culprit, found, also, own)
        nodes = self._nodes(found)
        inputs = self.judge.inputs_of(write, found.inputs, values)
        told, certainty, why = nodes, self._certainty(found), ""
        if found.nodes:
            attribution = attribute(self.judge, found.nodes, inputs, np.asarray(got), write.tensor)
            told, why = attribution.order, attribution.reason
            certainty = "the only node" if len(told) == 1 else certainty
            certainty = "told by its values" if attribution.told and len(told) > 1 else certainty
        node = self.graph.nodes[told[0]] if told else None
        suspect = Suspect(
            kind=kind or self._kind(found, own),
            node=node.name if node is not None else "",
            op=node.op_type if node is not None else "",
            certainty=certainty,
            step=write.step,
            symbol=str(call["symbol"]),
            schedule=str(call["schedule"]),
            knobs=dict(call["knobs"]),
            nodes=self._names(found),
            tensor=write.tensor,
            own=own,
            reason=why,
        )
        return Located(suspect, found, tuple(told), also, values, threads)

    def _certainty(self, found: Judged) -> Certainty:
        return "most likely" if found.nodes else "told by its values"

    def _kind(self, found: Judged, own: TensorDifference) -> Kind:
        working = [i for i in found.nodes if self.graph.nodes[i].op_type not in MOVING]
        if not working:
            return "layout transform"
        return "not finite" if own.unexpected and (own.nan or own.infinite) else "wrong values"

    def _nodes(self, found: Judged) -> tuple[int, ...]:
        """The nodes computed; for a step that only moves a tensor that which made it."""
        if found.nodes:
            return found.nodes
        producer = self.graph.producer.get(found.write.tensor)
        return () if producer is None else (producer,)

    def _names(self, found: Judged) -> tuple[str, ...]:
        steps = (*found.joined, found.write.step)
        told = [str(name) for step in steps for name in self.watched.steps.calls[step]["nodes"]]
        return tuple(dict.fromkeys([*self.graph.names_of(self._nodes(found)), *told]))

    def _overwriter(self, found: Judged) -> tuple[int, Write] | None:
        """The step that changed what the suspect reads, after it was written and before it was read."""
        steps = self.watched.steps
        known = self.judge.written_before(found.write)
        readers = (*found.joined, found.write.step)
        spans: dict[Write, int] = {}
        for write in {known[name] for name in found.inputs if name in known}:
            # The reader may be told from the manifest, unless the planner itself put another tensor there.
            first = min((s for s in readers if write in steps.reads(s)), default=found.write.step)
            if write.kind == "arena" and write.step < first - 1:
                spans[write] = first
        if not spans:
            return None
        dumps = [write.dump(after) for write, first in spans.items() for after in range(write.step, first)]
        if sum(dump.nbytes for dump in dumps) > 1 << 30:
            dumps = [write.dump(after) for write, first in spans.items() for after in (write.step, first - 1)]
        copies = self.watched.run(dumps).dumps
        changed = [
            (after, write)
            for write, first in spans.items()
            for after in range(write.step + 1, first)
            if write.dump(after) in copies and copies[write.dump(after)] != copies[write.dump()]
        ]
        return min(changed, key=lambda one: one[0]) if changed else None

    def _overwritten(
        self,
        culprit: tuple[int, Write],
        found: Judged,
        also: tuple[int, ...],
        own: TensorDifference,
    ) -> Located:
        step, write = culprit
        call = self.watched.steps.calls[step]
        names = tuple(str(name) for name in call["nodes"])
        order = tuple(self.graph.numbers_of(names))
        node = self.graph.nodes[order[-1]] if order else None
        reader = self.watched.steps.calls[found.write.step]["symbol"]
        suspect = Suspect(
            kind="overwritten",
            node=node.name if node is not None else "",
            op=node.op_type if node is not None else "",
            certainty="most likely",
            step=step,
            symbol=str(call["symbol"]),
            schedule=str(call["schedule"]),
            knobs=dict(call["knobs"]),
            nodes=names,
            tensor=write.tensor,
            own=own,
            reason=f"it writes where '{write.tensor}' of step {write.step} lies, "
            f"which step {found.write.step} ({reader}) still reads",
        )
        return Located(suspect, found, order, also, None, 1)

    # ---- how it spreads ----

    def chain(self, located: Located) -> tuple[Link, ...]:
        """From the suspect's result along the graph to the output that it spoils most."""
        judged = {one.write: one for one in self._downstream(located)}
        if not judged:
            return ()
        totals = self._totals(list(judged), located.values)
        last = max(judged, key=lambda w: (w.tensor in self.graph.outputs, totals.get(w, 0.0), w.step))
        path = [last]
        while path[-1] != located.judged.write:
            sources = [w for w in self.watched.steps.sources(path[-1].step).writes if w in judged]
            if not sources:
                break
            path.append(max(sources, key=lambda w: (totals.get(w, 0.0), w.step)))
        return tuple(
            Link(
                write.step,
                write.tensor,
                self._names(judged[write]),
                float(judged[write].own or 0.0),
                totals.get(write, 0.0),
            )
            for write in reversed(path)
        )

    def _downstream(self, located: Located) -> list[Judged]:
        reached = {located.judged.write}
        found = [located.judged]
        for write in self.writes:
            if write.step <= located.judged.write.step:
                continue
            if reached & set(self.watched.steps.sources(write.step).writes):
                reached.add(write)
                found.append(self.judge.judge(write, located.values))
        return found

    def _totals(self, writes: Sequence[Write], values: Observed | None) -> dict[Write, float]:
        given = dict(zip(self.watched.names, self.watched.inputs, strict=True))
        names = sorted({write.tensor for write in writes if write.tensor in self.graph.producer})
        try:
            nodes, inputs = self.graph.between(names, ())
            model = self.graph.piece(nodes, inputs, names)
            results = dict(zip(names, run_plain(model, [given[n] for n in inputs]), strict=True))
        except ReferenceFailed:
            return {}
        return {
            write: scaled_error(results[write.tensor], np.asarray(self.judge.value_of(write, values)))
            for write in writes
            if write.tensor in results
        }


def simplification_fault(
    original: Any, graph: Graph, names: Sequence[str], inputs: Sequence[Array], wanted: Sequence[Array]
) -> Suspect | None:
    """The first tensor that the simplified model computes otherwise than the file, if an output differs.

    ``wanted`` are the simplified model's outputs; ``original`` the model as it was read.
    """
    given = dict(zip(names, inputs, strict=True))
    before = Graph(original)
    values = [given[name] for name in before.inputs]
    try:
        outputs = run_plain(before.proto, values)
    except ReferenceFailed:
        return None
    pairs = list(zip(before.outputs, outputs, wanted, strict=True))
    if all(
        want.shape == have.shape and scaled_error(want, have) <= tolerance_of(want) for _, want, have in pairs
    ):
        return None
    shared = [n for n in graph.producer if n in before.producer and before.type_of(n) == graph.type_of(n)]
    try:
        results = []
        for one in (before, graph):
            nodes, read = one.between(shared, ())
            results.append(run_plain(one.piece(nodes, read, shared), [given[name] for name in read]))
    except ReferenceFailed:
        return None
    for name, want, have in zip(shared, *results, strict=True):
        if scaled_error(want, have) > tolerance_of(want):
            node = graph.nodes[graph.producer[name]]
            return Suspect(
                kind="simplification",
                node=node.name,
                op=node.op_type,
                certainty="told by its values",
                step=-1,
                symbol="",
                schedule="",
                knobs={},
                nodes=(node.name,),
                tensor=name,
                own=compared(name, want, have),
                reason="the simplified model computes something else than the file up to here; the package "
                "computes what the simplified model does",
            )
    return None
