"""``deploycc diff``: two packages beside each other.

What manifests say (layers, schedules, sizes, interface, target) is compared without running anything.  What
the packages compute is compared where both can run on the same inputs, and their times where they can run in
the same place.  What could not be compared is said, and refused if somebody asked for it.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deploycc.build import explain_failure
from deploycc.diffing.comparing import compare
from deploycc.diffing.facts import facts_of, interface_same, sizes_of
from deploycc.diffing.layers import layers_of
from deploycc.diffing.timing import time_both, with_times
from deploycc.diffing.types import (
    Change,
    Difference,
    Fact,
    Layer,
    LayerTimes,
    Numbers,
    Size,
    Step,
    TensorPair,
    Times,
)
from deploycc.lint import judged, lint_request
from deploycc.request import request_from_json, request_to_json
from deploycc.running import Package, Place, is_emulated, open_package, place_for
from deploycc.running.inputs import inputs_of
from deploycc.supervise import ChildFailed, run_child
from deploycc.timing.pinning import processors
from deploycc.timing.schedule import SECONDS, Effort
from deploycc.trace import Trace
from deploycc.types import DeployccError, Diagnostic, Limits

__all__ = [
    "FAIL_ON",
    "Change",
    "Difference",
    "Fact",
    "FailOn",
    "Layer",
    "LayerTimes",
    "Numbers",
    "Size",
    "Step",
    "TensorPair",
    "Times",
    "diff",
    "failures",
]

Array = npt.NDArray[Any]
Event = dict[str, Any]
FailOn = Literal["numbers", "layers", "sizes", "times"]
FAIL_ON: tuple[FailOn, ...] = ("numbers", "layers", "sizes", "times")

GROWING = ("library", "weights", "arena", "workspace")
"""Sizes that ``--fail-on sizes`` is about: what a package takes on the device."""


def diff(
    a: str | Path,
    b: str | Path,
    *,
    model: str | Path | None = None,
    inputs: str | Path | Sequence[Array] = "golden",
    runners: Sequence[str] = (),
    run: bool = True,
    numbers: bool = False,
    times: bool = False,
    tolerance: float | None = None,
    threads: int = 1,
    effort: Effort | None = None,
    limits: Limits | None = None,
) -> Difference:
    """Compare package ``a`` (before) with ``b`` (after).

    ``inputs`` are arrays in the order of the inputs, ``golden`` (A's), ``random`` or ``random:SEED``, or an
    ``.npz`` file or folder as ``deploycc verify`` takes them.
    ``runners`` is one for both or one for each (``deploycc.running.place_for``).  Without ``run`` nothing is
    run.  With ``model``, the ONNX file, tensors are also compared with its own values by ONNX Runtime.
    ``tolerance`` replaces that of the outputs' types, as a share of A's largest magnitude; 0 asks for equal
    values.

    Numbers are compared wherever that is possible; with ``numbers`` it is an error where it is not.
    ``times`` takes turns of both in one place, for about ``effort.seconds``.

    Raises ``DeployccError``: DC700 to DC703 for a folder that is no package, DC860 where what was asked for
    cannot be compared, DC861 for a model that neither was built from, DC812 and DC813 for inputs that cannot
    be read or do not fit, DC800 to DC805 where a package cannot be run.
    """
    if len(runners) > 2:
        raise ValueError(f"{len(runners)} runners for two packages")
    packages = (open_package(a), open_package(b))
    manifests = (packages[0].manifest, packages[1].manifest)
    layers, matched_by = layers_of(*manifests)
    found = Difference(
        a=Path(packages[0].reference).name,
        b=Path(packages[1].reference).name,
        target_a=manifests[0]["target"]["name"],
        target_b=manifests[1]["target"]["name"],
        matched_by=matched_by,
        facts=facts_of(*manifests),
        sizes=sizes_of(*manifests),
        layers=layers,
    )
    asked = numbers or times or model is not None or bool(runners) or inputs != "golden"
    if not run:
        if asked:
            raise _cannot("what the packages compute was asked for, but not to run them")
        return replace(found, left_out=("numbers and times: the packages were not to be run",))
    if not times:
        found = replace(found, left_out=("times: not asked for (--times)",))
    try:
        return _at_work(
            found,
            _as_run(packages, runners),
            model,
            inputs,
            _placing(runners),
            times=times,
            tolerance=tolerance,
            threads=threads,
            effort=effort or Effort(seconds=SECONDS),
            limits=limits or Limits(),
        )
    except DeployccError as error:
        if asked:
            raise
        why = "; ".join(f"{d.message} ({d.got})" if d.got else d.message for d in error.diagnostics)
        return replace(found, left_out=(f"numbers: {why}", *found.left_out))


def failures(difference: Difference, fail_on: Collection[FailOn], growth: float = 0.0) -> list[str]:
    """Which of ``fail_on`` hold, a line each: what a build in CI ends with.

    ``numbers``: an output differs by more than its tolerance, or is another.  ``layers``: any layer
    is another.  ``sizes``: one of ``GROWING`` is larger in B by more than ``growth`` (0.01 is 1 %).
    ``times``: B is slower.  Raises ``DeployccError`` (DC860) for numbers and times that were not compared.
    """
    lines: list[str] = []
    if "numbers" in fail_on:
        if difference.numbers is None:
            raise _cannot("numbers were not compared", *difference.left_out)
        wrong = [p.difference.tensor for p in difference.numbers.outputs if not p.difference.ok]
        others = [f.name for f in difference.facts if f.name.startswith("output ") and not f.same]
        if wrong:
            lines.append(f"numbers: {', '.join(wrong)} differ by more than the tolerance")
        if others:
            lines.append(f"numbers: {', '.join(others)} are not the same in both")
    if "layers" in fail_on:
        count = sum(layer.kind != "same" for layer in difference.layers)
        if count:
            lines.append(f"layers: {count} of {len(difference.layers)} differ")
    if "sizes" in fail_on:
        lines += [
            f"sizes: {size.name} grew from {size.a} to {size.b} bytes"
            for size in difference.sizes
            if size.section == "sizes" and size.name in GROWING
            if (size.b or 0) > (size.a or 0) * (1.0 + growth)
        ]
    if "times" in fail_on:
        if difference.times is None:
            raise _cannot("times were not compared", *difference.left_out)
        if difference.times.verdict == "slower":
            lines.append(f"times: {difference.b} is slower ({1 / difference.times.ratio:.3f} times as long)")
    return lines


def _placing(runners: Sequence[str]) -> tuple[Callable[[Package], Place], Callable[[Package], Place]]:
    """How A and B get a place; anew for each run, because a device behind ssh has a folder for each."""
    of = (runners[0], runners[-1]) if runners else (None, None)
    return (lambda package: place_for(package, of[0])[1], lambda package: place_for(package, of[1])[1])


def _as_run(packages: tuple[Package, Package], runners: Sequence[str]) -> tuple[Package, Package]:
    """The packages with the steps of the GPU chip that each runs on where it does."""
    of = (runners[0], runners[-1]) if runners else (None, None)
    a, b = (place_for(one, runner, kernels=False)[0] for one, runner in zip(packages, of, strict=True))
    return a, b


def _at_work(
    found: Difference,
    packages: tuple[Package, Package],
    model: str | Path | None,
    inputs: str | Path | Sequence[Array],
    placing: tuple[Callable[[Package], Place], Callable[[Package], Place]],
    *,
    times: bool,
    tolerance: float | None,
    threads: int,
    effort: Effort,
    limits: Limits,
) -> Difference:
    """``found`` with numbers, and with times where they were asked for."""
    manifests = [package.manifest for package in packages]
    if not interface_same(manifests[0]["inputs"], manifests[1]["inputs"]):
        raise _cannot("the packages do not take the same inputs")
    arrays, told = inputs_of(packages[0], inputs)
    places = (placing[0](packages[0]), placing[1](packages[1]))
    values, engine = ({}, "") if model is None else _of_model(Path(model), packages, arrays, limits)
    outputs, tensors = compare(packages, places, arrays, tolerance, values, threads)
    numbers = Numbers(places[0].shown, places[1].shown, told, engine, outputs, tensors)
    found = replace(found, numbers=numbers)
    if not times:
        return found
    if any(map(is_emulated, places)):
        raise _cannot("times of a GPU's kernels on the processor say nothing", places[0].shown)
    if places[0].shown != places[1].shown:
        raise _cannot(
            "times of two places say nothing about the packages",
            f"A on {places[0].shown}, B on {places[1].shown}",
        )
    here = places[0].shown == "this machine"
    timed = time_both(packages, placing[0], arrays, effort, threads, processors(threads) if here else ())
    return replace(found, times=timed.whole, layers=with_times(found.layers, timed.steps))


def _of_model(
    model: Path, packages: tuple[Package, Package], arrays: Sequence[Array], limits: Limits
) -> tuple[dict[str, Array], str]:
    """The model's own tensors by name, and what computed them."""
    manifests = [package.manifest for package in packages]
    known = sorted({manifest["model"]["sha256"] for manifest in manifests})
    shapes = {tensor["name"]: tensor["shape"] for tensor in manifests[0]["inputs"]}
    request = lint_request(model, shapes, limits)
    with tempfile.TemporaryDirectory(prefix="deploycc-diff-") as folder:
        np.savez(Path(folder) / "inputs.npz", *arrays)
        message = {
            "request": request_to_json(request),
            "shown": model.name,
            "known": known,
            "tensors": sorted(set().union(*map(_tensors, manifests))),
            "folder": folder,
        }
        words = ["deploycc", "diff", *(str(package.path) for package in packages), "--model", str(model)]
        try:
            answer = run_child("deploycc.diff:model_in_child", message, limits)
        except ChildFailed as error:
            raise explain_failure(error, request, shlex.join(words)) from None
        with np.load(Path(folder) / "tensors.npz", allow_pickle=False) as stored:
            return {name: stored[f"arr_{i}"] for i, name in enumerate(answer["tensors"])}, answer["engine"]


def _tensors(manifest: Mapping[str, Any]) -> set[str]:
    """Tensors of the model that a package has."""
    places = [place for call in manifest["calls"] for place in call.get("writes", ())]
    return {place["tensor"] for place in places if "tensor" in place} | {
        tensor["name"] for tensor in manifest["outputs"]
    }


def model_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Import, simplify and run the model; in the child process only.

    ``folder`` has ``inputs.npz`` and gets ``tensors.npz`` with those of ``tensors`` that the model has.
    """
    folder = Path(message["folder"])
    model = judged(request_from_json(message["request"]), Trace(None, emit), compiled=True)
    if model.sha256 not in message["known"]:
        raise DeployccError(
            Diagnostic(
                "DC861",
                f"{message['shown']} is not the model that the packages were built from",
                got=f"SHA-256 {model.sha256[:12]}",
                need=" or ".join(known[:12] for known in message["known"]),
                help="give the file that one of them was built from, or leave --model out",
            )
        )

    import onnx

    from deploycc.reference import ReferenceFailed
    from deploycc.reference import run as run_reference

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    computed = {name for node in proto.graph.node for name in node.output}
    names = [name for name in message["tensors"] if name in computed]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    with np.load(folder / "inputs.npz", allow_pickle=False) as stored:
        arrays = [stored[f"arr_{i}"] for i in range(len(model.inputs))]
    try:
        values, engine = run_reference(proto, arrays, plain=True)
    except ReferenceFailed as error:
        raise _cannot("the model cannot be run", str(error)[:500]) from None
    np.savez(folder / "tensors.npz", *values)
    return {"tensors": names, "engine": engine}


def _cannot(message: str, *got: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC860",
            message,
            got="; ".join(got),
            help="leave out the options that ask for it, or compare packages for which it has an answer",
        )
    )
