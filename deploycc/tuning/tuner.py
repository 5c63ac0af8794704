"""``tune``: the way from a model to records, and the check that they are worth having."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploycc.build import explain_failure, resolve_request
from deploycc.host import detect_host
from deploycc.operators import Operator
from deploycc.ranges import Extent, several_at_once
from deploycc.records import default_database, operator_of
from deploycc.request import reproduce_command, request_to_json
from deploycc.resources import data_dir
from deploycc.supervise import ChildFailed, run_child
from deploycc.tuning.budget import Budget, parse_budget
from deploycc.tuning.pool import Pool, free_cores, session_folder
from deploycc.tuning.session import Session
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Limits, Target

Event = dict[str, Any]

LOCAL = "deploycc.tuning.local:LocalRunner"
EMULATED = "deploycc.tuning.emulated:EmulatedRunner"
ON_GPU = "deploycc.tuning.device:DeviceRunner"
MOST_GPU_WORKERS = 8
"""Workers compile side by side, and each has the driver's memory for itself; one at a time measures."""

_WORTH_PARTS = {"seconds": 20.0, "trials": 100.0}
_FIRST_PART = 0.7
_NOTHING = Diagnostic(
    "DC604",
    "the network has no convolution and no product with constant weights: nothing to tune",
    severity="info",
)

SLOWER = 1.01
"""A tuned network that takes longer than an untuned one by more than this is reported."""


@dataclass(frozen=True)
class Tuned:
    """What a session found.

    ``tasks`` are as in ``Session.snapshot``; ``untuned`` and ``tuned`` one run of the whole network as an
    untuned build makes it and with the records, in ``unit``, ``None`` if not compared; ``same`` says that
    both are the same code.  ``replaced`` counts workers that died or were killed.
    """

    database: Path
    target: Target
    tasks: Sequence[Mapping[str, Any]]
    trials: int
    failures: int
    replaced: int
    seconds: float
    unit: str
    untuned: float | None = None
    tuned: float | None = None
    same: bool = False
    diagnostics: tuple[Diagnostic, ...] = ()


def tune(
    model: str | Path,
    target: str | Path | Target = "host",
    budget: str = "60s",
    *,
    precision: str | None = None,
    shapes: Mapping[str, Sequence[Extent]] | None = None,
    max_counts: Mapping[str, int] | None = None,
    database: str | Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    schedule_dirs: Sequence[str | Path] = (),
    op_dirs: Sequence[str | Path] = (),
    limits: Limits | None = None,
    shipped_records: bool = True,
    compare: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> Tuned:
    """Search schedules and knobs for the operators of an ONNX file by measuring them on ``target``.

    ``budget`` is a time (``60s``, ``10min``) or a number of candidates (``500trials``); reading the model
    before and comparing the whole network afterwards (``compare``) come on top.  What is measured goes
    to ``database`` at once (``default_database`` unless given), where a later session goes on from it and
    ``build(records=...)`` finds it; with ``shipped_records`` false the search knows nothing else.
    ``precision`` is that of the build, for targets with a GPU.
    ``workers`` processes measure, one a core; all cores unless given.
    ``on_event`` gets the stages of reading and ``Session.snapshot`` in the calling thread.

    Raises ``DeployccError`` for everything that is wrong with the input or the machine (DC600 to DC603 and
    DC623 to DC625 are the tuner's own), and ``InternalError`` for faults of ours.
    """
    parts = _parts(parse_budget(budget))
    request = resolve_request(
        model,
        target,
        precision=precision,
        shapes=shapes,
        max_counts=max_counts,
        limits=limits,
        schedule_dirs=schedule_dirs,
        op_dirs=op_dirs,
        shipped_records=shipped_records,
    )
    if request.buckets:
        raise DeployccError(several_at_once("tuning", request.buckets))
    named: tuple[Diagnostic, ...] = ()
    if request.target.gpus:
        request, named = for_gpu_here(request)
        workers = min(workers or len(free_cores(MOST_GPU_WORKERS)) or 1, MOST_GPU_WORKERS)
    path = default_database(request.target.name) if database is None else Path(database).absolute()
    runner = runner_for(request.target)
    command = reproduce_command(request, target)
    directories = (data_dir("schedules"), *request.schedule_dirs)
    trials = failures = replaced = 0
    seconds = 0.0
    unit = "seconds"
    session: Session | None = None
    with tuning_pool(request.target, request.schedule_dirs, runner, workers) as pool:
        for number, part in enumerate(parts):
            # With records the layouts may be others, and with them the operators.
            operators = read_operators(with_records(request, path), command, on_event)
            session = Session(
                operators,
                request.target,
                directories,
                path,
                seed=seed,
                anew=number == 0,
                shipped_records=shipped_records,
                on_event=on_event,
            )
            if not operators:
                return Tuned(path, request.target, (), 0, 0, 0, 0.0, unit, diagnostics=(_NOTHING,))
            session.run(pool, part)
            trials, failures = trials + session.trials, failures + session.failures
            seconds, replaced, unit = seconds + session.seconds, session.replaced, pool.unit
    assert session is not None
    result = Tuned(
        database=path,
        target=request.target,
        tasks=session.snapshot()["tasks"],
        trials=trials,
        failures=failures,
        replaced=replaced,
        seconds=seconds,
        unit=unit,
        diagnostics=(*named, *_notes(session)),
    )
    if not compare:
        return result
    message = {"request": request_to_json(with_records(request, path)), "runner": runner}
    return _compared(result, _child("compare_in_child", message, request, command, on_event))


def _parts(budget: Budget) -> tuple[Budget, ...]:
    """A budget worth dividing in two parts: in between the layouts are chosen anew."""
    if budget.amount < _WORTH_PARTS[budget.kind]:
        return (budget,)
    first = budget.amount * _FIRST_PART
    if budget.kind == "trials":
        first = float(int(first))
    return replace(budget, amount=first), replace(budget, amount=budget.amount - first)


def with_records(request: BuildRequest, database: Path) -> BuildRequest:
    """``request`` with the records of ``database``, if there is one."""
    return replace(request, records=(database,) if database.exists() else ())


def read_operators(
    request: BuildRequest, command: str, on_event: Callable[[Event], None] | None = None
) -> dict[Operator, float]:
    """The operators of the request's model and how often it uses each.  ``command`` is for messages."""
    answer = _child("tasks_in_child", {"request": request_to_json(request)}, request, command, on_event)
    return {operator_of(text): float(uses) for text, uses in answer["tasks"]}


@contextlib.contextmanager
def tuning_pool(
    target: Target, schedule_dirs: Sequence[Path], runner: str, workers: int | None
) -> Iterator[Pool]:
    """Workers that measure for ``target``, one a core this process may use unless their number is given."""
    cores = free_cores(workers or 1 << 10)
    count = workers or max(1, len(cores))
    with session_folder() as folder:
        pool = Pool(target, (data_dir("schedules"), *schedule_dirs), runner, count, folder, cores)
        try:
            yield pool
        finally:
            pool.close()


def runner_for(target: Target) -> str:
    """Which runner measures for ``target``: this processor, else the target's emulator.

    Raises ``DeployccError`` (DC600) when neither can.
    """
    if target.gpus:
        return ON_GPU
    if runs_here(target):
        return LOCAL
    if target.emulator:
        return EMULATED
    raise DeployccError(
        Diagnostic(
            "DC600",
            f"kernels of target {target.name} cannot be measured on this machine",
            got=f"{target.llvm.triple} {target.llvm.cpu}".strip(),
            need="a processor that runs the target's code, or an emulator (run.emulator of the target)",
            help="tune on such a machine and bring the records here: deploycc tune --merge FILE",
        )
    )


def for_gpu_here(request: BuildRequest) -> tuple[BuildRequest, tuple[Diagnostic, ...]]:
    """``request`` for that chip of its target alone that this machine has, and what is to be said of others.

    Raises ``DeployccError``: DC623 without a GPU, DC624 where it is none of the target's.
    """
    from deploycc.tuning.device import no_gpu

    here = devices_here()
    target = request.target
    if not here:
        raise no_gpu(target, "")
    # Candidates are run on the driver's first one.
    arch, processors, name = here[0]
    for gpu in target.gpus:
        if (gpu.arch, gpu.processors) == (arch, processors):
            break
    else:
        chips = ", ".join(f"{one.name} ({one.arch}, {one.processors} processors)" for one in target.gpus)
        raise DeployccError(
            Diagnostic(
                "DC624",
                f"the GPU of this machine is none that {target.name} is for",
                got=f"{name}: {arch}, {processors} processors",
                need=chips,
                help="name the chip that is here: --target cuda:CHIP; 'deploycc targets' lists those with a "
                "description, and a new one is a TOML file (docs/new-target.md)",
            )
        )
    others = [one.name for one in target.gpus if one is not gpu]
    said = Diagnostic(
        "DC625",
        f"tuned for {gpu.name} alone, the GPU of this machine",
        got=f"also for {', '.join(others)}",
        help="tune on a machine with each of the others, and merge the records",
        severity="info",
    )
    return replace(request, target=target.for_gpu(gpu)), (said,) if others else ()


def devices_here() -> tuple[tuple[str, int, str], ...]:
    """Architecture, number of processors and name of each GPU; asked in a process of its own."""
    script = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from deploycc.cuda_driver import devices; "
        "print(json.dumps([[d.arch, d.processors, d.name] for d in devices()]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, json.dumps(sys.path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = json.loads(done.stdout) if done.returncode == 0 else []
    return tuple((str(arch), int(processors), str(name)) for arch, processors, name in found)


def runs_here(target: Target) -> bool:
    """Whether this processor has the target's architecture and vectors as wide as it wants."""
    try:
        host = detect_host()
    except DeployccError:
        return False
    here, there = (one.llvm.triple.partition("-")[0] for one in (host, target))
    return here == there and target.simd.bits <= host.simd.bits and (host.simd.fma or not target.simd.fma)


def _notes(session: Session) -> tuple[Diagnostic, ...]:
    notes = []
    if session.known.outdated:
        notes.append(
            Diagnostic(
                "DC607",
                f"{session.known.outdated} records of {session.database} do not count",
                got="measured with another version of TVM or of their schedule",
                severity="info",
            )
        )
    if session.damaged:
        notes.append(
            Diagnostic(
                "DC605",
                f"{session.damaged} lines of {session.database} are no records",
                help="they are passed over; a tuner that was killed in mid-write leaves one",
                severity="info",
            )
        )
    return tuple(notes)


def _compared(result: Tuned, answer: Mapping[str, Any]) -> Tuned:
    if answer["same"]:
        return replace(result, same=True)
    before, after = answer["untuned"], answer["tuned"]
    result = replace(result, untuned=before["value"], tuned=after["value"])
    wrong = [f"{name}: {one['note']}" for name, one in answer.items() if name != "same" and one["note"]]
    slower = before["value"] and after["value"] and after["value"] > SLOWER * before["value"]
    if not wrong and not slower:
        return result
    finding = Diagnostic(
        "DC606",
        "the tuned network is not faster than the untuned one",
        got="; ".join(wrong) or f"{after['value'] / before['value']:.3f} of its time",
        help="build without --records, or tune for longer",
        severity="warning",
    )
    return replace(result, diagnostics=(*result.diagnostics, finding))


def _child(
    function: str,
    message: Mapping[str, Any],
    request: BuildRequest,
    command: str,
    on_event: Callable[[Event], None] | None,
) -> Any:
    try:
        return run_child(f"deploycc.tuning.front:{function}", message, request.limits, on_event)
    except ChildFailed as error:
        raise explain_failure(error, request, command) from None
