"""``deploycc bench``: a package's times, and whether it is faster than other engines or packages.

Contestants take turns in processes of their own, in several launches (``deploycc.timing``); before any time
is taken each must give the same results.  The model file is only read for engines, in a child process.
"""

from __future__ import annotations

import os
import random
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycc.build import explain_failure
from deploycc.counting.padding import padded, tensor_from_manifest
from deploycc.lint import lint_request
from deploycc.request import request_from_json, request_to_json
from deploycc.result_types import Benchmark
from deploycc.running import Package, Place, is_emulated, open_package, place_for
from deploycc.running.inputs import inputs_of
from deploycc.supervise import ChildFailed, run_child
from deploycc.timing.agreement import check_agreement
from deploycc.timing.contestants import (
    Contestant,
    EngineContestant,
    PackageContestant,
    Setting,
    engine_failed,
)
from deploycc.timing.measuring import first_results, measure
from deploycc.timing.peers import PEERS, EngineFailed, Peer
from deploycc.timing.pinning import machine, processors
from deploycc.timing.schedule import Effort
from deploycc.timing.statistics import FEWEST
from deploycc.trace import Trace
from deploycc.types import DeployccError, Diagnostic, Limits

Event = dict[str, Any]

OURS = "deploycc"
HERE = "this machine"
"""``Place.shown`` of a package that runs without an emulator."""

ALIASES = {"ort": "onnxruntime"}


def bench(
    package: str | Path,
    *,
    against: Sequence[str] = (),
    model: str | Path | None = None,
    threads: Sequence[int] = (1,),
    runner: str | None = None,
    inputs: str = "golden",
    effort: Effort | None = None,
    pin: bool | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[Benchmark, ...]:
    """Time a package with each number of ``threads``, beside the engines and packages ``against``.

    ``against`` has names of engines (``onnxruntime``, ``openvino``, ``ncnn``, ``mnn``), which are given
    ``model`` with the package's shapes and only run on this machine, and folders of packages, which run where
    the package does.  ``inputs`` is ``golden``, ``random``, an ``.npz`` file or a folder.  ``pin``: to
    processors of their own; where none is said, on this machine if there are enough.  ``seed`` is that of
    the turns' order.  ``on_event`` gets ``{"event": "launch", "threads": n, "number": i, "of": n}``.

    Raises ``DeployccError``: DC830 to DC835 for what cannot be compared, DC833 where results do not agree,
    DC885 for a package for GPUs where there is none, and what reading inputs, running a package and importing
    the model raise.  ``ValueError`` for fewer launches than the test needs.
    """
    effort = effort or Effort()
    if against and effort.launches < FEWEST:
        raise ValueError(f"{effort.launches} launches; a verdict needs {FEWEST}")
    opened = open_package(package)
    opened, place = _timeable(opened, runner)
    engines, folders = _sorted_out(against, model, place)
    arrays, _ = inputs_of(opened, inputs)
    outputs = tuple(tensor["name"] for tensor in opened.manifest["outputs"])
    others = [_beside(opened, folder, runner, outputs) for folder in folders]
    with tempfile.TemporaryDirectory(prefix="deploycc-bench-") as scratch:
        contestants: list[Contestant] = [PackageContestant(OURS, opened, place, outputs)]
        contestants += _engines(opened, engines, model, Path(scratch), limits or Limits(), on_event)
        contestants += others
        return tuple(
            _benchmark(
                _Course(opened, place.shown, machine(runner, place.shown), inputs, effort, on_event),
                contestants,
                Setting(arrays, count, _cpus(count, pin, place, runner)),
                random.Random(seed),
            )
            for count in threads
        )


@dataclass(frozen=True)
class _Course:
    """What stays the same for all numbers of threads."""

    package: Package
    place: str
    machine: str
    inputs: str
    effort: Effort
    on_event: Callable[[Event], None] | None


# ---- who takes part ----


def _sorted_out(
    against: Sequence[str], model: str | Path | None, place: Place
) -> tuple[list[Peer], list[Path]]:
    """Engines and package folders; raises with everything that is wrong with any of them."""
    engines: dict[str, Peer] = {}
    folders: dict[str, Path] = {}
    faults: list[Diagnostic] = []
    for word in against:
        peer = PEERS.get(ALIASES.get(word, word))
        if peer is not None:
            engines[peer.name] = peer
        elif os.sep in word or Path(word).is_dir():
            folders[word] = Path(word)
        else:
            faults.append(
                Diagnostic(
                    "DC830",
                    f"there is no engine '{word}' to compare with",
                    need=f"{', '.join(PEERS)}, or the folder of another package",
                )
            )
    faults += [
        Diagnostic(
            "DC830",
            f"{peer.title} is not installed",
            got=f"no Python module '{peer.module}'",
            help=f"pip install {peer.distribution}" + (" pnnx" * (peer.name == "ncnn")),
        )
        for peer in engines.values()
        if not peer.installed
    ]
    names = ", ".join(engines)
    if engines and place.shown != HERE:
        faults.append(
            Diagnostic(
                "DC832",
                f"{names} would run on this machine and the package on '{place.shown}': "
                "times of two machines are not compared",
                need="the package on this machine, or another package at the same place",
                help="leave --against out, or name the folder of another package",
            )
        )
    elif engines and model is None:
        faults.append(
            Diagnostic(
                "DC831",
                f"{names} needs the model: a package holds kernels, not the network",
                help="--model model.onnx",
            )
        )
    if faults:
        raise DeployccError(*faults)
    return list(engines.values()), list(folders.values())


def _beside(ours: Package, folder: Path, runner: str | None, outputs: tuple[str, ...]) -> Contestant:
    """Another package with the same inputs and outputs."""
    theirs = open_package(folder)
    for role in ("inputs", "outputs"):
        mine, other = ([_interface(t) for t in p.manifest[role]] for p in (ours, theirs))
        if (mine != other) if role == "inputs" else (sorted(mine) != sorted(other)):
            raise DeployccError(
                Diagnostic(
                    "DC835",
                    f"the package {folder} has other {role}",
                    got=", ".join(other),
                    need=", ".join(mine),
                )
            )
    theirs, place = _timeable(theirs, runner)
    return PackageContestant(str(folder), theirs, place, outputs)


def _timeable(package: Package, runner: str | None) -> tuple[Package, Place]:
    """The package and its place.  Raises ``DeployccError`` (DC885) where a GPU's kernels are emulated."""
    package, place = place_for(package, runner, kernels=False)
    if is_emulated(place):
        raise DeployccError(
            Diagnostic(
                "DC885",
                f"times of {package.path.name} on the processor would say nothing of a GPU, and here is none",
                got=place.shown,
                need="a machine with one of the package's GPUs",
                help="--runner 'ssh HOST'; 'deploycc verify' and 'deploycc profile' do without a GPU",
            )
        )
    return package, place


def _interface(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['name']} {tensor['dtype']} {'x'.join(map(str, tensor['shape']))}"


def _engines(
    package: Package,
    engines: Sequence[Peer],
    model: str | Path | None,
    folder: Path,
    limits: Limits,
    on_event: Callable[[Event], None] | None,
) -> list[Contestant]:
    if not engines or model is None:
        return []
    shapes = {tensor["name"]: tuple(tensor["shape"]) for tensor in package.manifest["inputs"]}
    request = lint_request(model, shapes, limits)
    # What only a package puts out: numbers of rows.
    numbers = {tensor["counted"]["output"] for tensor in package.manifest["outputs"] if "counted" in tensor}
    message = {
        "request": request_to_json(request),
        "folder": str(folder),
        "peers": [peer.name for peer in engines],
        "inputs": [_interface(tensor) for tensor in package.manifest["inputs"]],
        "outputs": [
            tensor["name"] for tensor in package.manifest["outputs"] if tensor["name"] not in numbers
        ],
    }
    words = ["deploycc", "bench", str(package.path), "--model", str(model), "--against"]
    command = shlex.join([*words, ",".join(peer.name for peer in engines)])
    try:
        told = run_child("deploycc.bench:convert_in_child", message, limits, on_event)
    except ChildFailed as error:
        raise explain_failure(error, request, command) from None
    inputs, outputs = tuple(told["inputs"]), tuple(told["outputs"])
    return [EngineContestant(peer, Path(told["model"]), inputs, outputs) for peer in engines]


def convert_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Write the model with the package's shapes, and each engine's own form; runs in the child only."""
    import onnx

    from deploycc.importing import load

    request = request_from_json(message["request"])
    trace = Trace(None, emit)
    try:
        model = trace("import", load, request, compiled=False)
    except DeployccError as error:
        if any(diagnostic.code in _SHAPE_FAULTS for diagnostic in error.diagnostics):
            said = "; ".join(diagnostic.message for diagnostic in error.diagnostics)
            raise _other_model(request.model, "inputs", said, ", ".join(message["inputs"])) from None
        raise
    mine = [f"{info.name} {info.dtype} {'x'.join(map(str, info.shape))}" for info in model.inputs]
    if sorted(mine) != sorted(message["inputs"]):
        raise _other_model(request.model, "inputs", ", ".join(mine), ", ".join(message["inputs"]))
    outputs = [info.name for info in model.outputs]
    if sorted(outputs) != sorted(message["outputs"]):
        raise _other_model(request.model, "outputs", ", ".join(outputs), ", ".join(message["outputs"]))
    path = Path(message["folder"]) / "model.onnx"
    onnx.save(model.proto, path)
    for name in message["peers"]:
        try:
            trace("convert", PEERS[name].convert, path)
        except Exception as error:  # converters raise whatever they like
            said = str(error) if isinstance(error, EngineFailed) else f"{type(error).__name__}: {error}"
            raise engine_failed(PEERS[name], said[:400]) from None
    return {
        "model": str(path),
        "inputs": [message["inputs"].index(name) for name in mine],
        "outputs": [outputs.index(name) for name in message["outputs"]],
    }


_SHAPE_FAULTS = ("DC201", "DC202", "DC203", "DC204", "DC205")


def _other_model(path: Path, role: str, got: str, need: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC835",
            f"{path.name} has other {role} than the package",
            got=got,
            need=need,
            help="give the model that the package was built from",
        )
    )


def _cpus(threads: int, pin: bool | None, place: Place, runner: str | None) -> tuple[int, ...]:
    """Processors to pin to.  A device's are not known here: its first ones, if asked."""
    if pin is False or (pin is None and place.shown != HERE):
        return ()
    remote = runner is not None and Path(shlex.split(runner)[0]).name == "ssh"
    return tuple(range(threads)) if remote else processors(threads)


# ---- measuring ----


def _benchmark(
    course: _Course, contestants: Sequence[Contestant], setting: Setting, draw: random.Random
) -> Benchmark:
    results = first_results(contestants, setting)
    infos = [tensor_from_manifest(tensor) for tensor in course.package.manifest["outputs"]]
    names = [info.name for info in infos]
    # An engine puts out no numbers of rows, nor rows that are not there.
    outputs = {
        name: list(result.outputs) if len(result.outputs) == len(infos) else padded(result.outputs, infos)
        for name, result in results.items()
    }
    if course.inputs == "golden":
        engine = str(course.package.manifest["golden"]["engine"])
        check_agreement(outputs, course.package.golden("outputs"), engine, names)
    elif len(contestants) > 1:
        # Engines come before packages: they are the better judges.
        engine = contestants[1].name
        check_agreement(outputs, outputs[engine], engine, names)

    def tell(number: int) -> None:
        if course.on_event is not None:
            of = course.effort.launches
            course.on_event({"event": "launch", "threads": setting.threads, "number": number, "of": of})

    run_us = {name: result.run_us for name, result in results.items()}
    timed, contests = measure(contestants, setting, run_us, course.effort, draw, tell)
    return Benchmark(
        package=course.package.name,
        place=course.place,
        threads=setting.threads,
        pinned=bool(setting.cpus),
        ours=timed[0],
        peers=tuple(timed[1:]),
        contests=tuple(contests),
        machine=course.machine,
        inputs=course.inputs,
    )
