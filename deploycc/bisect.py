"""``deploycc verify --bisect``: the first layer of a package that computes something else than the model.

The model is imported and simplified as a build did, so that its nodes and tensors have the names that the
manifest knows, and every step's result is compared with what ONNX Runtime makes of what that step read.  That
takes one run of the package and one of the model, and no build.  All of it happens in a child process
(``deploycc.supervise``), since it runs native code on the user's model; builds of reduced models, each with
a child of its own, are the parent's.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.bisecting.findings import Bisection, Link, Reduction, Suspect, at_its_step
from deploycc.build import build, explain_failure
from deploycc.lint import lint_request
from deploycc.request import request_from_json, request_to_json
from deploycc.result_types import TensorDifference, from_json
from deploycc.running import Package, is_emulated, open_package, place_for
from deploycc.supervise import ChildFailed, run_child
from deploycc.targets import load_target
from deploycc.trace import Trace
from deploycc.types import DeployccError, Diagnostic, Limits, Target

if TYPE_CHECKING:  # the command line's start should not take the time that numpy takes
    from deploycc.bisecting.reducing import Builder
    from deploycc.onnx_graph import Array

Event = dict[str, Any]


def bisect(
    package: str | Path | Package,
    model: str | Path,
    inputs: Sequence[Array] | None = None,
    *,
    runner: str | None = None,
    output: str | Path | None = None,
    target: str | Target | None = None,
    builder: Builder | None = None,
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
    chip: str | None = None,
) -> Bisection:
    """The first step of ``package`` whose own error exceeds what its inputs explain, and why.

    ``model`` is the ONNX file it was built from, ``inputs`` are in the manifest's order (the golden ones
    unless given), ``runner`` and ``chip`` say where it runs (``deploycc.running.place_for``).  A model
    reduced to what shows the fault is built with the compiler at hand, for the package's target or
    ``target``, or by ``builder``; it is written to the folder ``output``, ``./NAME-bisect`` unless given.

    Raises ``DeployccError``: DC821 if the package's tensors are not the model's, DC822 if the reference
    cannot run the model on these inputs, DC823 if ``output`` holds something else; and what
    ``open_package``, the place, import and simplify raise.
    """
    opened = package if isinstance(package, Package) else open_package(package)
    opened, place = place_for(opened, runner, chip)
    # The same chip, wherever the package is opened again.
    chip = opened.chip if is_emulated(place) else None
    folder = Path(output) if output is not None else Path(f"{opened.name}-bisect")
    _check_output(folder)
    given = list(inputs) if inputs is not None else opened.golden("inputs")
    with tempfile.TemporaryDirectory(prefix="deploycc-bisect-") as scratch:
        answer = _located(
            opened, Path(model), given, (runner, chip), Path(scratch), limits or Limits(), on_event
        )
        found = _read(answer["bisection"])
        if found.suspect is None or not answer["candidates"]:
            return found
        reduction, suspect = _reduced(
            opened, found, answer, (runner, chip), folder, target, builder, Path(scratch)
        )
    suspect = at_its_step(suspect, answer["steps"], opened.manifest["calls"])
    return replace(found, reduction=reduction, suspect=suspect)


def to_json(bisection: Bisection) -> str:
    """A bisection as JSON; numbers that are not finite become ``null``."""
    return json.dumps(_plain(asdict(bisection)), indent=1)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check_output(folder: Path) -> None:
    own = {"model.onnx", "inputs.npz", "command.txt", "package"}
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - own):
        raise DeployccError(
            Diagnostic(
                "DC823",
                f"{folder} holds something else than a reduced model",
                need="a folder that is new, empty, or of an earlier search",
                help="give another one with --reduced",
            )
        )


def _located(
    package: Package,
    model: Path,
    inputs: Sequence[Array],
    where: tuple[str | None, str | None],
    scratch: Path,
    limits: Limits,
    on_event: Callable[[Event], None] | None,
) -> Any:
    from deploycc.bisecting.candidates import save_arrays

    names = [str(tensor["name"]) for tensor in package.manifest["inputs"]]
    shapes = {str(tensor["name"]): tensor["shape"] for tensor in package.manifest["inputs"]}
    save_arrays(scratch / "inputs.npz", dict(zip(names, inputs, strict=True)))
    request = lint_request(model, shapes, limits)
    message = {
        "request": request_to_json(request),
        "package": package.reference,
        "where": where,
        "scratch": str(scratch),
    }
    command = f"deploycc verify {package.reference} --model {model} --bisect"
    try:
        return run_child("deploycc.bisect:locate_in_child", message, limits, on_event)
    except ChildFailed as error:
        raise explain_failure(error, request, command) from None


def locate_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Import, simplify, watch the package and compare; runs in the child process only."""
    from deploycc.bisecting.candidates import Writer
    from deploycc.bisecting.graph import Graph
    from deploycc.bisecting.locating import Search, simplification_fault
    from deploycc.bisecting.observing import Watched
    from deploycc.bisecting.reducing import read_arrays
    from deploycc.importing import load
    from deploycc.reference import ReferenceFailed
    from deploycc.simplifying import simplify

    request = request_from_json(message["request"])
    scratch = Path(message["scratch"])
    trace = Trace(None, emit)
    package, place = place_for(open_package(message["package"]), *message["where"])
    model = trace("import", load, request)
    simplified = trace("simplify", simplify, model, request.limits)
    graph = Graph(simplified.proto)
    _check_names(package, graph)
    arrays = read_arrays(scratch / "inputs.npz")
    watched = Watched(package, place, [arrays[t["name"]] for t in package.manifest["inputs"]], graph)
    search = trace("watch", Search, watched, graph, scratch / "values")
    try:
        differences = trace("reference", search.output_differences)
    except ReferenceFailed as error:
        raise DeployccError(
            Diagnostic(
                "DC822",
                "the reference cannot run the model on these inputs, so no layer can be compared",
                got=str(error)[:500],
                need="inputs on which ONNX Runtime or onnx.reference runs the model",
            )
        ) from None
    located = trace("locate", search.locate)
    suspect = located.suspect if located is not None else None
    if suspect is None and all(one.ok for one in differences):
        suspect = simplification_fault(
            model.proto, graph, watched.names, watched.inputs, search.model_outputs
        )
    if simplified.sha256 != package.manifest["model"]["sha256"]:
        search.notes.append("the model is another file than the one that the package was built from")
    writer = Writer(search, located, scratch / "candidates") if located is not None else None
    candidates = trace("reduce", writer.all) if writer is not None else []
    gathered = writer.gathered() if writer is not None else None
    order = (
        [graph.nodes[i].name for i in located.order] if located is not None and located.judged.nodes else []
    )
    bisection = Bisection(
        package=package.name,
        place=place.shown,
        steps=len(watched.steps.calls),
        compared=len({write.step for write in search.writes}),
        outputs=differences,
        suspect=suspect,
        chain=search.chain(located) if located is not None else (),
        also=located.also if located is not None else (),
        reduction=None,
        notes=tuple(search.notes),
    )
    return {
        "bisection": asdict(bisection),
        "candidates": [asdict(candidate) for candidate in candidates],
        "gathered": None if gathered is None else asdict(gathered),
        "told": suspect is not None and suspect.certainty == "told by its values",
        "order": order,
        "steps": [] if located is None else list(located.steps),
        "operators": {node.name: node.op_type for node in graph.nodes},
        "threads": located.threads if located is not None else 1,
    }


def _check_names(package: Package, graph: Any) -> None:
    named = {
        str(write["tensor"])
        for call in package.manifest["calls"]
        for write in call["writes"]
        if "tensor" in write
    }
    known = named & set(graph.producer)
    inputs = {str(tensor["name"]) for tensor in package.manifest["inputs"]}
    if inputs != set(graph.inputs) or 2 * len(known) < len(named):
        raise DeployccError(
            Diagnostic(
                "DC821",
                f"the package {package.name} was not built from this model",
                got=f"{len(known)} of the {len(named)} tensors that its steps write are in the model",
                need="the ONNX file that it was built from, and the same deploycc",
                help="'deploycc inspect' shows the model's SHA-256; or build the package again",
            )
        )


def _read(table: Mapping[str, Any]) -> Bisection:
    return from_json(Bisection, table)


def _reduced(
    package: Package,
    found: Bisection,
    answer: Mapping[str, Any],
    where: tuple[str | None, str | None],
    output: Path,
    target: str | Target | None,
    builder: Builder | None,
    scratch: Path,
) -> tuple[Reduction, Suspect]:
    from deploycc.bisecting.reducing import Reducer, written

    suspect = found.suspect
    assert suspect is not None
    interface = package.manifest["interface"]
    options = [] if interface["emit"] == "shared" else ["--emit", str(interface["emit"])]
    name = str(package.manifest["target"]["name"])
    if builder is None:
        resolved = target if target is not None else _target_of(package.manifest)
        if resolved is None:
            why = (
                f"the package's target '{name}' is not the one of that name here; from Python, "
                "bisect(..., target=...) takes its file"
            )
            return Reduction("", (), "", 0, None, why), suspect
        name = resolved if isinstance(resolved, str) else resolved.name
        builder = _builder(resolved, str(interface["emit"]))
    steady = suspect.kind not in ("not deterministic", "only with several threads")
    reducer = Reducer(builder, lambda one: place_for(one, *where), scratch, int(answer["threads"]), steady)
    candidates = [
        (c["folder"], c["role"], tuple(c["nodes"]), bool(c["layouts"])) for c in answer["candidates"]
    ]
    reduced = reducer.reduce(candidates, answer["order"], answer["gathered"])
    # What no elementwise node can have done is the operator's, whichever prefix shows it first.
    if reduced.node and len(answer["order"]) > 1 and not answer["told"]:
        suspect = replace(
            suspect,
            node=reduced.node,
            op=answer["operators"].get(reduced.node, ""),
            certainty="shown by a build",
            reason="" if reduced.node != suspect.node else suspect.reason,
        )
    if reduced.smallest is not None and output.exists():
        shutil.rmtree(output / "package", ignore_errors=True)
    return written(reduced, output, name, options, int(answer["threads"])), suspect


def _builder(target: str | Target, emit: Any) -> Builder:
    def one(model: Path, package: Path) -> None:
        build(model, target, package, name="reduced", emit=emit)

    return one


def _target_of(manifest: Mapping[str, Any]) -> str | None:
    """The package's target, by name, if that stands for the same machine here."""
    described = manifest["target"]
    name = str(described["name"])
    try:
        target = load_target(name)
    except DeployccError:
        return None
    same = (
        target.llvm.triple == described["llvm_triple"]
        and target.llvm.cpu == described["cpu"]
        and list(target.llvm.features) == list(described["features"])
        and target.linker.triple == described["linker_triple"]
        and [gpu.arch for gpu in target.gpus] == [gpu["arch"] for gpu in described.get("gpus", ())]
    )
    return name if same else None


__all__ = ["Bisection", "Link", "Reduction", "Suspect", "TensorDifference", "bisect", "to_json"]
