"""The search: which candidates of which operator are measured next.

Each operator is a task.  Candidates go out in rounds of one task.  The first round holds the static choice,
what earlier sessions and the shipped records found best, and each schedule's cheapest; later rounds what
the model ranks highest and, so that it learns, some at random.  A task gets its next round when it is the
one that promises most: uses x time x what a round can be expected to gain.

Rounds are chosen from what was known when the round ``AHEAD`` before was complete, never from how far the
workers happen to be: given the same measured values, the same seed gives the same rounds.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deploycc.operators import Operator
from deploycc.records import Record, candidate_key
from deploycc.tuning.ranking import Ranker, Sample
from deploycc.tuning.workload import flops

ROUND = 8
"""Candidates of a round."""
RANDOM = 2
"""How many of them are random."""
AHEAD = 2
"""Rounds that are with the workers while the next one is chosen."""
SPAN = 4.0
"""Candidates estimated slower than their schedule's cheapest by more than this are not tried."""
SCHEDULE_SPAN = 12.0
"""Schedules whose cheapest is estimated slower than the cheapest of all by more than this are not tried."""
MOST = 2000
"""Most candidates of one schedule and task, the cheapest ones."""
REFIT = 32
"""New results until the model is fitted anew."""
_OPTIMISM, _DOUBT = 0.25, 0.5
"""Gain expected of a task's first search round at no headroom used; how old gains fade."""


@dataclass(frozen=True)
class Candidate:
    """A schedule and knobs for one operator, and their static cost in cycles."""

    schedule: str
    knobs: Mapping[str, int]
    cost: float

    @property
    def key(self) -> str:
        """Equal for equal candidates."""
        return candidate_key(self.schedule, self.knobs)


@dataclass
class TaskState:
    """One operator of the network and all that is known of it.

    ``uses`` is how often the network has it (or another weight), ``values`` the latest right measurement by
    candidate key (in the runner's unit), ``failed`` the keys that are not tried again with their reason,
    ``default`` the static choice.  ``gain`` is the share of time a round is expected to save.
    """

    operator: Operator
    uses: float
    default: Candidate
    candidates: dict[str, Candidate]
    first: list[str]
    """Keys of the first round."""
    values: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    rounds: int = 0
    gain: float = 0.0
    share_of_peak: float = 0.0
    settled: bool = False
    """Whether a final has decided."""

    @property
    def name(self) -> str:
        """The operator's ``repr``, the key in the database."""
        return repr(self.operator)

    @property
    def best(self) -> str | None:
        """Key of the fastest right candidate, the first of equals by key."""
        return min(self.values, key=lambda key: (self.values[key], key), default=None)

    @property
    def value(self) -> float | None:
        """The best candidate's time."""
        return None if self.best is None else self.values[self.best]

    @property
    def gained(self) -> float | None:
        """The static choice's time as a multiple of the best one's."""
        base = self.values.get(self.default.key)
        return None if base is None or self.value is None else base / self.value

    def left(self) -> list[Candidate]:
        """Candidates that were never asked for."""
        return [candidate for key, candidate in self.candidates.items() if key not in self.asked]

    def note(self, key: str, status: str, value: float, why: str = "") -> None:
        """Take one measurement."""
        self.asked.add(key)
        if status == "ok":
            self.values[key] = value
            self.failed.pop(key, None)
        else:
            self.failed[key] = why or status
            self.values.pop(key, None)


def make_task(
    operator: Operator,
    uses: float,
    space: Mapping[str, Sequence[tuple[float, Mapping[str, int]]]],
    default: tuple[str, Mapping[str, int]],
    known: Iterable[Record],
    incumbent: str | None = None,
    *,
    anew: bool = True,
) -> TaskState:
    """A task of everything feasible (``workload.space``) that is not estimated far slower than the best.

    ``known`` are records of this machine that count: right ones are not measured again, others not tried
    again.  ``incumbent`` is the key of what a build would take today; like the static choice it is measured
    in every session, except where ``anew`` is false (the session goes on from one a moment ago).
    """
    cheapest = min(options[0][0] for options in space.values())
    candidates: dict[str, Candidate] = {}
    first: list[str] = []
    for schedule, options in sorted(space.items()):
        if options[0][0] > SCHEDULE_SPAN * cheapest:
            continue
        kept = [option for option in options if option[0] <= SPAN * options[0][0]][:MOST]
        made = [Candidate(schedule, knobs, cost) for cost, knobs in kept]
        candidates.update({candidate.key: candidate for candidate in made})
        first.append(made[0].key)
    costs = {
        candidate_key(schedule, knobs): Candidate(schedule, knobs, cost)
        for schedule, options in space.items()
        for cost, knobs in options
    }
    chosen = costs[candidate_key(*default)]
    task = TaskState(operator, uses, chosen, {chosen.key: chosen, **candidates}, [])
    for record in known:
        if record.candidate not in costs:
            continue  # no longer feasible, or of a schedule that does not match any more
        task.candidates.setdefault(record.candidate, costs[record.candidate])
        task.note(record.candidate, record.status, record.value, record.status)
    incumbent = incumbent if incumbent in costs else None
    if incumbent is not None:
        task.candidates.setdefault(incumbent, costs[incumbent])
    leading = [chosen.key, *filter(None, [incumbent]), *first]
    known_before = {key for key in task.values if not anew or key not in (chosen.key, incumbent)}
    task.first = [key for key in dict.fromkeys(leading) if key not in task.failed and key not in known_before]
    return task


class Search:
    """Chooses rounds; knows nothing of processes or clocks.

    ``peak`` is a core's FLOP/s (0 where the runner does not count seconds), ``learned`` what was measured of
    other operators before.
    """

    def __init__(
        self, tasks: Sequence[TaskState], seed: int, peak: float = 0.0, learned: Sequence[Sample] = ()
    ) -> None:
        self.tasks = list(tasks)
        self._learned = list(learned)
        self.peak = peak
        self._seed = seed
        self._ranker = Ranker(seed)
        self._random = {task.name: random.Random(f"{seed} {task.name}") for task in tasks}
        self._fitted = 0
        self.samples = 0

    def next_round(self, waiting: Iterable[TaskState] = ()) -> tuple[TaskState, list[Candidate]] | None:
        """The task that promises most and its next candidates; ``None`` when nothing is left to try.

        ``waiting`` has the task of every round under way: each one makes another of it promise less, since
        that would be chosen without what the first has to teach.
        """
        under_way = Counter(task.name for task in waiting)
        fresh = [task for task in self.tasks if task.rounds == 0]
        if fresh:
            task = max(fresh, key=lambda task: (task.uses * task.default.cost, task.name))
            return task, self._begin(task, [task.candidates[key] for key in task.first])
        ready = [task for task in self.tasks if task.value is not None and task.left()]
        if not ready:
            return None
        task = max(ready, key=lambda task: (self.promise(task) / (1 + under_way[task.name]) ** 2, task.name))
        return task, self._begin(task, self._pick(task))

    def take(self, task: TaskState, before: float | None) -> None:
        """A round of ``task`` is complete; ``before`` was its best time until then."""
        self.samples += 1
        if task.value is not None and before is not None:
            task.gain = _DOUBT * task.gain + (1 - _DOUBT) * (before - task.value) / before
        if task.value and self.peak:
            task.share_of_peak = flops(task.operator) / task.value / self.peak

    def promise(self, task: TaskState) -> float:
        """Time of a run that the task's next round can be expected to save."""
        if task.value is None:
            return 0.0
        headroom = min(1.0, max(0.1, 1.0 - task.share_of_peak))
        hope = _OPTIMISM * headroom / math.pow(max(1, task.rounds), 1.5)
        return task.uses * task.value * max(task.gain, hope)

    def shares(self) -> dict[str, float]:
        """Each task's share of the time of all, by name, at the best time known (or static cost)."""
        timed = [task for task in self.tasks if task.value is not None]
        scale = sum(task.default.cost for task in timed) or 1.0
        rate = sum(task.value or 0.0 for task in timed) / scale if timed else 1.0
        times = {
            task.name: task.uses * (task.value if task.value is not None else task.default.cost * rate)
            for task in self.tasks
        }
        total = sum(times.values()) or 1.0
        return {name: time / total for name, time in times.items()}

    def survivors(self, task: TaskState, count: int, within: float) -> list[Candidate]:
        """The fastest candidates so far, at most ``count`` within a factor ``within`` of the best."""
        if task.value is None:
            return []
        order = sorted(task.values, key=lambda key: (task.values[key], key))
        near = [key for key in order if task.values[key] <= within * task.value]
        return [task.candidates[key] for key in near[:count]]

    def _begin(self, task: TaskState, chosen: list[Candidate]) -> list[Candidate]:
        task.rounds += 1
        task.asked.update(candidate.key for candidate in chosen)
        return chosen

    def _pick(self, task: TaskState) -> list[Candidate]:
        left = task.left()
        self._refit()
        corrections = self._ranker.corrections(
            task.operator, [(candidate.schedule, candidate.knobs, candidate.cost) for candidate in left]
        )
        order = sorted(
            range(len(left)),
            key=lambda i: (math.log(max(left[i].cost, 1.0)) + corrections[i], left[i].key),
        )
        best = [left[i] for i in order[: ROUND - RANDOM]]
        rest = [left[i] for i in order[ROUND - RANDOM :]]
        # Of the rest the cheaper half: the far end of the space teaches little.
        pool = rest[: max(RANDOM, len(rest) // 2)]
        return best + self._random[task.name].sample(pool, min(RANDOM, len(pool)))

    def _refit(self) -> None:
        samples = [
            Sample(
                task.operator,
                task.candidates[key].schedule,
                task.candidates[key].knobs,
                max(task.candidates[key].cost, 1.0),
                value,
                max(task.default.cost, 1.0),
                task.values[task.default.key],
            )
            for task in self.tasks
            if task.default.key in task.values
            for key, value in task.values.items()
        ]
        samples += self._learned
        if len(samples) >= self._fitted + REFIT or (self._fitted == 0 and samples):
            self._ranker.fit(samples)
            self._fitted = len(samples)
