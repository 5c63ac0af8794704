"""The schedules: one Python file each, loaded by path, tried in order.

A file has ``KNOBS`` (the search space, as data), ``match(task, target) -> Match | Skip``,
``apply(sch, match, knobs)`` and ``cost(match, knobs)``, the static estimate that picks the knobs where
nothing was measured; one whose algorithm is not the operator's own loop nest also has
``compute(match, knobs) -> Algorithm``.  ``PRIORITY`` and ``VERSION`` are whole numbers and may be left out;
``DTYPES`` too, the element types of the operators that it is asked about (floats).  Schedules that bind loops
to a GPU's threads stand in a folder ``cuda`` of their own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from deploycc.operators import Algorithm, Knobs, Match, Operator, Skip
from deploycc.relax_graph import FLOATS
from deploycc.types import DeployccError, Diagnostic, Target
from deploycc.user_files import load_file, told

NAMES = ("KNOBS", "match", "apply", "cost")


@dataclass(frozen=True)
class Schedule:
    """One schedule file.

    ``priority`` (the file's ``PRIORITY``, 0 by default) breaks ties: high first.  ``version`` (its
    ``VERSION``, 1 by default) rises when the code that the same knobs give changes its speed: what was
    measured of another version no longer counts.
    """

    name: str
    knobs: Mapping[str, Sequence[int]]
    match: Callable[[Any, Target], Match | Skip]
    apply: Callable[[Any, Match, Knobs], Any]
    """Moves the loops of the schedule it is given and returns ``None``, or returns another PrimFunc."""
    cost: Callable[[Match, Knobs], float | None]
    compute: Callable[[Match, Knobs], Algorithm] | None = None
    priority: int = 0
    path: Path = Path()
    version: int = 1
    dtypes: tuple[str, ...] = FLOATS

    def answer(self, task: Any, target: Target) -> Match | Skip:
        """What ``match`` says; it is not asked about operators of other element types than the file's."""
        if isinstance(task, Operator) and task.dtype not in self.dtypes:
            return Skip(f"{task.dtype}: only {' and '.join(self.dtypes)}")
        return self.match(task, target)

    def space(self) -> Iterator[Knobs]:
        """Every combination of knob values, in the file's order."""
        return iter(self._combinations)

    @functools.cached_property
    def _combinations(self) -> tuple[Knobs, ...]:
        # Gone through for every operator: shared, and read-only as Knobs are.
        return tuple(
            dict(zip(self.knobs, values, strict=True)) for values in itertools.product(*self.knobs.values())
        )

    def best(self, match: Match) -> tuple[float, Knobs] | None:
        """The cheapest knobs by the static estimate, ``None`` where no combination is feasible."""
        best: tuple[float, Knobs] | None = None
        for knobs in self.space():
            cost = self.cost(match, knobs)
            if cost is None:
                continue
            if not isinstance(cost, (int, float)):  # not a union, which is made anew at every call
                raise TypeError(f"cost must return a number or None, not {cost!r}")
            if best is None or cost < best[0]:
                best = (cost, knobs)
        return best

    @contextlib.contextmanager
    def blamed(self, name: str) -> Iterator[None]:
        """Whatever is raised within is a fault of the file's function ``name``: ``DeployccError`` (DC460)."""
        try:
            yield
        except DeployccError:
            raise
        except Exception as error:  # a user's file may raise anything
            raise DeployccError(_failure(self.path, f"fails in {name}", error)) from error


@dataclass(frozen=True)
class Selection:
    """The schedule an operator or kernel gets, and why each other one was passed over.

    ``measured_seconds`` is the time of the tuning record that decided, ``None`` where the static cost did.
    """

    schedule: Schedule
    match: Match
    knobs: Knobs
    skipped: Mapping[str, str]
    measured_seconds: float | None = None


def load_schedules(directories: Sequence[Path], target: Target | None = None) -> tuple[Schedule, ...]:
    """Every schedule in ``directories``, highest priority first, then by name.

    For a ``target`` with a GPU those are the ones in its folder ``cuda``.  A file of the same name in a later
    directory replaces one in an earlier.  Raises ``DeployccError`` (DC460) for a file that cannot be loaded
    or lacks a name.
    """
    below = "cuda" if target is not None and target.gpus else "."
    files: dict[str, Path] = {}
    findings: list[Diagnostic] = []
    for directory in directories:
        if directory.is_dir():
            files.update(
                {p.stem: p for p in sorted((directory / below).glob("*.py")) if p.stem != "__init__"}
            )
        else:
            findings.append(
                Diagnostic("DC460", f"no schedule folder {directory}", need="a folder of schedule files")
            )
    schedules = []
    for path in files.values():
        try:
            schedules.append(_load(path))
        except DeployccError as error:
            findings.extend(error.diagnostics)
    if findings:
        raise DeployccError(*findings)
    return tuple(sorted(schedules, key=lambda schedule: (-schedule.priority, schedule.name)))


def select(
    schedules: Sequence[Schedule],
    task: Any,
    target: Target,
    computing: bool,
    skipped: dict[str, str] | None = None,
) -> Selection | None:
    """The cheapest match for ``task`` among the schedules with (or without) a ``compute`` of their own.

    ``skipped`` gets the reason of every other one by name, also where none matches.  Raises
    ``DeployccError`` (DC460) for a schedule that fails instead of answering.
    """
    skipped = {} if skipped is None else skipped
    found: tuple[float, Schedule, Match, Knobs] | None = None
    for schedule in schedules:
        if (schedule.compute is not None) != computing:
            continue
        with schedule.blamed("match"):
            match = schedule.answer(task, target)
            if not isinstance(match, Match | Skip):
                raise TypeError(f"match must return a Match or a Skip, not {match!r}")
        if isinstance(match, Skip):
            skipped[schedule.name] = match.reason
            continue
        with schedule.blamed("cost"):
            best = schedule.best(match)
        if best is None:
            skipped[schedule.name] = "no combination of knobs fits the target's registers"
        elif found is None or best[0] < found[0]:
            if found is not None:
                skipped[found[1].name] = f"estimated slower: {found[0]:.3g} against {best[0]:.3g} cycles"
            found = (best[0], schedule, match, best[1])
        else:
            skipped[schedule.name] = f"estimated slower: {best[0]:.3g} against {found[0]:.3g} cycles"
    return None if found is None else Selection(found[1], found[2], found[3], skipped)


def _load(path: Path) -> Schedule:
    try:
        module = load_file(path, f"deploycc_schedule_{path.stem}")
    except Exception as error:  # a user's file may raise anything
        raise DeployccError(_failure(path, "cannot be loaded", error)) from error
    return _checked(path, module)


def _failure(path: Path, what: str, error: Exception) -> Diagnostic:
    return Diagnostic(
        "DC460",
        f"schedule {path.name} {what}",
        got=told(path, error),
        source=str(path),
    )


def _checked(path: Path, module: ModuleType) -> Schedule:
    missing = [name for name in NAMES if not hasattr(module, name)]
    if missing:
        raise DeployccError(
            Diagnostic(
                "DC460",
                f"schedule {path.name} lacks {', '.join(missing)}",
                need=f"{', '.join(NAMES)} and, for an algorithm of its own, compute",
                help="docs/new-schedule.md shows a whole one",
                source=str(path),
            )
        )
    knobs = module.KNOBS
    if not isinstance(knobs, Mapping) or not all(
        isinstance(name, str)
        and isinstance(values, Sequence)
        and values
        and all(type(v) is int for v in values)
        for name, values in knobs.items()
    ):
        raise DeployccError(
            Diagnostic(
                "DC460",
                f"KNOBS of schedule {path.name} is no search space",
                got=repr(knobs)[:200],
                need='names with the whole numbers to choose from, like {"tile": (1, 2, 4)}',
                source=str(path),
            )
        )
    return Schedule(
        name=path.stem,
        knobs=knobs,
        match=module.match,
        apply=module.apply,
        cost=module.cost,
        compute=getattr(module, "compute", None),
        priority=getattr(module, "PRIORITY", 0),
        path=path,
        version=getattr(module, "VERSION", 1),
        dtypes=tuple(getattr(module, "DTYPES", FLOATS)),
    )
