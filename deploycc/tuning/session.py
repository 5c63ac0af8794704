"""One tuning session: tasks, rounds, finals, records, and the comparison of the whole network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploycc.operators import Match, Operator
from deploycc.records import (
    AGAIN,
    FINAL,
    SCREEN,
    Record,
    Records,
    Unit,
    append,
    cache_key,
    candidate_key,
    code_key,
    read,
    shipped,
)
from deploycc.scheduling.library import Schedule, Selection, load_schedules, select
from deploycc.scheduling.recorded import load_records, select_recorded
from deploycc.tuning.budget import Budget
from deploycc.tuning.pool import Answer, Pool, Request
from deploycc.tuning.ranking import Sample
from deploycc.tuning.runner import Effort, Measurement
from deploycc.tuning.search import AHEAD, Candidate, Search, TaskState, make_task
from deploycc.tuning.workload import flops, space
from deploycc.tvm_api import VERSION
from deploycc.types import Target

SCREENING = Effort(batches=3, batch_seconds=0.002)
AGAIN_EFFORT = Effort(batches=7, batch_seconds=0.003)
FINAL_EFFORT = Effort(batches=15, batch_seconds=0.004)
SMALL_FINAL = Effort(batches=7, batch_seconds=0.003)
"""Finals of operators that are less than ``SMALL`` of the network's time."""
SMALL = 0.01
SURVIVORS, WITHIN = 4, 1.2
"""How many candidates are measured again before a final, and how far from the best they may be."""
FINALISTS = 2
"""Candidates of a final beside the static choice and what a build takes today."""
FINALS_SHARE = 0.2
"""Most of a budget in seconds that is kept back for finals."""
FINAL_SECONDS = 0.5
"""What measuring a task again and its final take one worker, about: what is kept back for each."""
LEARNED = 20
"""Operators of earlier sessions that the model learns from beside the network's own."""
PATIENCE = {"seconds": 15.0, "instructions": 300.0}
"""After how many seconds a candidate is given up, by the runner's unit."""
_TELL_SECONDS = 0.25


@dataclass
class _Round:
    """A round under way."""

    task: TaskState
    candidates: list[Candidate]
    answers: dict[str, Measurement] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.answers) == len(self.candidates)


@dataclass
class _Final:
    """A task on its way through the finals: what is measured again, then who meets whom."""

    task: TaskState
    waiting: int
    again: dict[str, float] = field(default_factory=dict)
    begun: bool = False
    done: bool = False


class Session:
    """Tunes operators until the budget is spent; every answer is in the database at once.

    ``operators`` have a weight each, their number of uses.  ``anew`` as in ``make_task``; without
    ``shipped_records`` only ``database`` says what a build takes today.
    ``on_event`` gets ``{"event": "tune", ...}`` with what a person wants to see (``snapshot``).  The budget
    begins with the first candidate: preparing the spaces and starting the workers come before.
    """

    def __init__(
        self,
        operators: Mapping[Operator, float],
        target: Target,
        schedule_dirs: Sequence[Path],
        database: Path,
        *,
        seed: int = 0,
        anew: bool = True,
        shipped_records: bool = True,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.target, self.database = target, database
        self._schedules: Sequence[Schedule] = load_schedules(schedule_dirs, target)
        self._versions = {schedule.name: schedule.version for schedule in self._schedules}
        self._on_event = on_event or (lambda event: None)
        self._seed = seed
        self._anew = anew
        self._operators = operators
        own, self.damaged = read(database)
        self.known = Records([own], target, self._versions, VERSION)
        self._in_use = load_records(
            (*(shipped() if shipped_records else ()), database), target, self._schedules
        )
        self.search = Search([], seed)
        self.trials = self.failures = 0
        self.seconds = 0.0
        self.replaced = 0
        self._began = self._told = time.monotonic()
        self._budget = Budget(1, "trials")
        self._phase = "search"

    def run(self, pool: Pool, budget: Budget) -> None:
        """Search, then the finals.  What was measured is in the database whatever ends this."""
        self._budget = budget
        spaces = self._spaces()  # while the workers start
        while not pool.ready:
            pool.wait(0.1)
        peak = (pool.peak or 0.0) if pool.unit == "seconds" else 0.0
        learned = self._learned(pool.unit)
        self.search = Search(self._tasks(spaces, pool.unit), self._seed, peak, learned)
        self._began = time.monotonic()
        try:
            self._rounds(pool)
            self._phase = "finals"
            self._finals(pool)
        finally:
            self.seconds = time.monotonic() - self._began
            self.replaced = pool.replaced
        self._tell(force=True)

    def snapshot(self) -> dict[str, Any]:
        """Where the session stands: per task what is best, and how much of the budget is spent."""
        shares = self.search.shares()
        tasks = [
            {
                "operator": task.name,
                "uses": task.uses,
                "share": shares[task.name],
                "best": task.best,
                "value": task.value,
                "default": task.values.get(task.default.key),
                "flops": flops(task.operator),
                "share_of_peak": task.share_of_peak,
                "tried": len(task.asked),
                "left": len(task.candidates) - len(task.asked),
                "failed": len(task.failed),
                "settled": task.settled,
            }
            for task in sorted(self.search.tasks, key=lambda task: -shares[task.name])
        ]
        elapsed = time.monotonic() - self._began
        return {
            "event": "tune",
            "phase": self._phase,
            "tasks": tasks,
            "trials": self.trials,
            "failures": self.failures,
            "seconds": elapsed,
            "budget": [self._budget.amount, self._budget.kind],
            "peak": self.search.peak,
        }

    def _spaces(self) -> dict[Operator, tuple[Any, Selection]]:
        """Feasible candidates and the static choice of every operator that a schedule takes."""
        found: dict[Operator, tuple[Any, Selection]] = {}
        for operator in self._operators:
            options = space(self._schedules, operator, self.target)
            chosen = select(self._schedules, operator, self.target, computing=True)
            if chosen is not None and options:
                found[operator] = (options, chosen)
        return found

    def _tasks(self, spaces: Mapping[Operator, tuple[Any, Selection]], unit: Unit) -> list[TaskState]:
        made = []
        for operator, (options, chosen) in spaces.items():
            in_use = select_recorded(self._schedules, operator, self.target, self._in_use)
            incumbent = None if in_use is None else candidate_key(in_use.schedule.name, in_use.knobs)
            known = self.known.known(operator, unit)
            default = (chosen.schedule.name, chosen.knobs)
            uses = self._operators[operator]
            made.append(make_task(operator, uses, options, default, known, incumbent, anew=self._anew))
        return made

    def _learned(self, unit: Unit) -> list[Sample]:
        """Samples of the operators that earlier sessions measured most, for the model."""
        found: list[Sample] = []
        by_name = {schedule.name: schedule for schedule in self._schedules}
        right = {
            operator: {r.candidate: r for r in self.known.known(operator, unit) if r.status == "ok"}
            for operator in self.known.operators()
            if operator not in self._operators
        }
        most = sorted(right, key=lambda operator: (-len(right[operator]), repr(operator)))[:LEARNED]
        for operator in most:
            chosen = select(self._schedules, operator, self.target, computing=True)
            if chosen is None:
                continue
            default = right[operator].get(candidate_key(chosen.schedule.name, chosen.knobs))
            base = chosen.schedule.cost(chosen.match, chosen.knobs)
            if default is None or not base:
                continue
            for record in right[operator].values():
                schedule = by_name[record.schedule]
                match = schedule.match(operator, self.target)
                cost = schedule.cost(match, record.knobs) if isinstance(match, Match) else None
                if cost:
                    found.append(
                        Sample(
                            operator, record.schedule, record.knobs, cost, record.value, base, default.value
                        )
                    )
        return found

    # ---- search ----

    def _spent(self, reserve: float = 0.0) -> bool:
        if self._budget.kind == "trials":
            return self.trials >= self._budget.amount
        return time.monotonic() - self._began >= self._budget.amount - reserve

    def _reserve(self, workers: int) -> float:
        """Seconds kept back for the finals of all tasks begun."""
        if self._budget.kind == "trials":
            return 0.0
        begun = sum(task.rounds > 0 for task in self.search.tasks)
        return min(FINALS_SHARE * self._budget.amount, begun * FINAL_SECONDS / workers)

    def _rounds(self, pool: Pool) -> None:
        under_way: deque[_Round] = deque()
        submitted = 0
        while True:
            spent = self._spent(self._reserve(pool.workers))
            if self._budget.kind == "trials":
                spent = submitted >= self._budget.amount
            while not spent and len(under_way) <= AHEAD:
                chosen = self.search.next_round([one.task for one in under_way])
                if chosen is None:
                    break
                task, candidates = chosen
                if self._budget.kind == "trials":
                    candidates = candidates[: int(self._budget.amount) - submitted]
                    spent = submitted + len(candidates) >= self._budget.amount
                one = _Round(task, candidates)
                submitted += len(candidates)
                under_way.append(one)
                for candidate in candidates:
                    self._submit(pool, task, [candidate], SCREENING, (one, SCREEN))
            if not under_way:
                return
            # One at a time: the next round is chosen from as many complete ones however fast answers come.
            while not under_way[0].complete and not self._out_of_time(pool):
                self._collect(pool)
            if under_way[0].complete:
                self._absorb(under_way.popleft())
            if self._out_of_time(pool):
                pool.cancel()
                while pool.busy:  # what a worker has begun is worth its second
                    self._collect(pool)
                for one in under_way:
                    self._absorb(one)
                return

    def _out_of_time(self, pool: Pool) -> bool:
        return self._budget.kind == "seconds" and self._spent(self._reserve(pool.workers))

    def _collect(self, pool: Pool) -> None:
        """Take what the workers answer to rounds."""
        for answer in pool.wait(0.2):
            self._note(answer)
            one, _, candidates = answer.request.tag
            one.answers[candidates[0].key] = answer.measurements[0]
        self._tell()

    def _absorb(self, one: _Round) -> None:
        before = one.task.value
        for candidate in one.candidates:  # in the order they were chosen, whatever order they came in
            measurement = one.answers.get(candidate.key)
            if measurement is not None:
                one.task.note(candidate.key, measurement.status, measurement.value, measurement.note)
            else:
                one.task.asked.discard(candidate.key)
        self.search.take(one.task, before)

    # ---- finals ----

    def _finals(self, pool: Pool) -> None:
        """Measure the best few of each task again, then the best of those against the static choice."""
        shares = self.search.shares()
        order = sorted(self.search.tasks, key=lambda task: (-shares[task.name], task.name))
        finals: list[_Final] = []
        for task in order:
            chosen = self._survivors(task)
            if task.rounds and len(chosen) > 1:
                final = _Final(task, len(chosen))
                finals.append(final)
                for candidate in chosen:
                    self._submit(pool, task, [candidate], AGAIN_EFFORT, (final, AGAIN))
        grace = 0.1 * self._budget.amount if self._budget.kind == "seconds" else float("inf")
        while pool.busy:
            for answer in pool.wait(0.2):
                self._note(answer)
                self._advance(pool, answer, shares)
            self._tell()
            if self._budget.kind == "seconds" and self._spent(-grace):
                pool.cancel()

    def _survivors(self, task: TaskState) -> list[Candidate]:
        chosen = self.search.survivors(task, SURVIVORS, WITHIN)
        for key in (task.default.key, task.first[0] if task.first else None):
            if key in task.values and key not in {candidate.key for candidate in chosen}:
                chosen.append(task.candidates[key])
        return chosen

    def _advance(self, pool: Pool, answer: Answer, shares: Mapping[str, float]) -> None:
        final, level, candidates = answer.request.tag
        if level == AGAIN:
            final.waiting -= 1
            measurement = answer.measurements[0]
            if measurement.status == "ok":
                final.again[candidates[0].key] = measurement.value
            if final.waiting == 0:
                self._meet(pool, final, shares)
            return
        for candidate, measurement in zip(candidates, answer.measurements, strict=True):
            if measurement.status == "ok":
                final.task.note(candidate.key, "ok", measurement.value)
        if all(measurement.status == "ok" for measurement in answer.measurements):
            decided = {candidate.key for candidate in candidates}
            # Who was not in the final is no longer in the running: its time is from another moment.
            for key in [key for key in final.task.values if key not in decided]:
                final.task.values.pop(key)
            final.task.settled = True
            self.search.take(final.task, None)

    def _meet(self, pool: Pool, final: _Final, shares: Mapping[str, float]) -> None:
        order = sorted(final.again, key=lambda key: (final.again[key], key))
        task = final.task
        chosen = order[:FINALISTS]
        standing = [task.default.key, *(key for key in self._standing(task) if key in final.again)]
        chosen += [key for key in dict.fromkeys(standing) if key in final.again and key not in chosen]
        if len(chosen) > 1:
            effort = FINAL_EFFORT if shares[task.name] >= SMALL else SMALL_FINAL
            self._submit(pool, task, [task.candidates[key] for key in chosen], effort, (final, FINAL))

    def _standing(self, task: TaskState) -> list[str]:
        """What a build would take today, if records say so."""
        ranked = self._in_use.ranked(task.operator)
        return [ranked[0].candidate] if ranked else []

    # ---- records ----

    def _submit(
        self, pool: Pool, task: TaskState, candidates: Sequence[Candidate], effort: Effort, tag: Any
    ) -> None:
        pairs = tuple((candidate.schedule, candidate.knobs) for candidate in candidates)
        seconds = PATIENCE[pool.unit] * len(pairs)
        pool.submit(Request(task.name, pairs, effort, (*tag, list(candidates)), seconds))

    def _note(self, answer: Answer) -> None:
        """Write an answer to the database and count it."""
        _, level, candidates = answer.request.tag
        if level == SCREEN:
            self.trials += len(candidates)
            self.failures += sum(m.status != "ok" for m in answer.measurements)
        # A final that went wrong says nothing of any single candidate.
        if level == SCREEN or all(m.status == "ok" for m in answer.measurements):
            append(self.database, self._records(answer, level, candidates))

    def _records(self, answer: Answer, level: int, candidates: Sequence[Candidate]) -> Iterable[Record]:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        for candidate, measurement in zip(candidates, answer.measurements, strict=True):
            yield Record(
                operator=answer.request.operator,
                code=code_key(self.target),
                cache=cache_key(self.target),
                schedule=candidate.schedule,
                version=self._versions[candidate.schedule],
                knobs=dict(candidate.knobs),
                tvm=VERSION,
                status=measurement.status,
                unit=measurement.unit,
                value=measurement.value,
                error=measurement.error,
                runs=measurement.runs,
                level=level,
                when=when,
            )

    def _tell(self, force: bool = False) -> None:
        if force or time.monotonic() - self._told >= _TELL_SECONDS:
            self._told = time.monotonic()
            self._on_event(self.snapshot())
