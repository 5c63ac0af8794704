"""``deploycc split``: a network in parts, for an accelerator, the CPU and the app.

The parent owns the staging folder, has the CPU's parts built and writes the pipeline; import, lint,
cutting and the check run in one child process (``split_in_child``), as in a build.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deploycc.build import InternalError, build, explain_failure
from deploycc.handover import (
    folder_word,
    library_name,
    model_of,
    repaired,
    shareable,
    with_converter,
    write_handover,
)
from deploycc.lint import judged, lint_request
from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import LintTarget, Report
from deploycc.request import lint_target_from_json, lint_target_to_json, request_from_json, request_to_json
from deploycc.staging import has_format, staging
from deploycc.supervise import ChildFailed, run_child
from deploycc.trace import Trace
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Limits, Model

if TYPE_CHECKING:
    from onnx import ModelProto

    from deploycc.splitting.parts import Cut, Part

Event = dict[str, Any]

FORMAT = "deploycc-pipeline"
"""Of ``pipeline.json`` (``deploycc.splitting.describing``)."""

_ROUNDS = 24
"""Each round of cutting takes at least one node from a place that does not take it as a part."""


@dataclass(frozen=True)
class Split:
    """A finished folder of parts: its path, its parsed ``pipeline.json``, what was noted on the way."""

    path: Path
    pipeline: Mapping[str, Any]
    diagnostics: tuple[Diagnostic, ...] = ()


def split(
    model: str | Path,
    target: str | LintTarget,
    output: str | Path | None = None,
    *,
    cpu_target: str = "arm64",
    shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    emit: Literal["shared", "static"] = "shared",
    build_packages: bool = True,
    seed: int = 0,
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Split:
    """Cut an ONNX file into the fewest parts that ``target``, ``cpu_target`` and the app can run.

    ``shapes`` gives static shapes to inputs, and to tensors inside whose extents only a run can tell
    the most that they have: what lies behind is then computed for that many.  ``output`` is
    ``./NAME-TARGET-split`` unless given; an older one there is replaced, anything else is refused.  With
    ``build_packages`` false the CPU's parts are checked but not built.  ``seed`` is that of the inputs
    with which the parts are compared with the whole.

    Raises ``DeployccError``: DC785 for targets that this is not for, DC781 to DC784 for networks that
    cannot be cut, what is wrong with the file or the folder; ``InternalError`` for faults of our own.
    Nothing is left behind in either case.
    """
    accelerator = with_converter(target)
    cpu = _cpu(cpu_target)
    checked = library_name(model, name)
    place = Path(output or f"{checked}-{folder_word(accelerator.name)}-split").absolute()
    request = replace(
        lint_request(model, shapes or {}, limits or Limits()), name=checked, output=place, seed=seed
    )
    words = ("deploycc", "split", str(request.model), "--target", accelerator.name)
    command = shlex.join([*words, "--cpu-target", cpu_target])
    refused: set[str] = set()
    with staging(place, is_split, "split network") as aside:
        while True:
            message = {
                "request": request_to_json(request),
                "accelerator": lint_target_to_json(accelerator),
                "cpu": lint_target_to_json(cpu),
                "folder": str(aside.folder),
                "refused": sorted(refused),
                "lint_cpu_parts": not build_packages,
            }
            try:
                answer = run_child("deploycc.split:split_in_child", message, request.limits, on_event)
            except ChildFailed as error:
                raise explain_failure(error, request, command) from None
            if not build_packages:
                break
            more = _built(answer["pipeline"], aside.folder, cpu_target, emit, request, on_event)
            if not more - refused:
                break
            refused |= more
        aside.commit()
    notes = tuple(Diagnostic(**row) for row in answer["diagnostics"])
    return Split(place, answer["pipeline"], notes)


def is_split(folder: Path) -> bool:
    """Whether ``split`` wrote this folder."""
    return has_format(folder / "pipeline.json", FORMAT)


def _cpu(name: str) -> LintTarget:
    target = load_lint_target(name)
    if target.compiled is None:
        raise DeployccError(
            Diagnostic(
                "DC785",
                f"the parts on the CPU cannot be for '{name}'",
                got="a target of another compiler",
                need="a target that packages are built for",
                help="deploycc targets lists them",
            )
        )
    return target


def _built(
    pipeline: Mapping[str, Any],
    folder: Path,
    cpu_target: str,
    emit: Literal["shared", "static"],
    request: BuildRequest,
    on_event: Callable[[Event], None] | None,
) -> set[str]:
    """Build the packages of the CPU's parts; names of nodes of parts that the compiler refused.

    Raises ``DeployccError`` where the machine, not the network, is the reason.
    """
    refused: set[str] = set()
    for part in pipeline["parts"]:
        if part["place"] != "cpu":
            continue
        package = folder / part["package"]
        try:
            build(
                folder / part["onnx"],
                cpu_target,
                package,
                name=package.name,
                emit=emit,
                seed=request.seed,
                limits=request.limits,
                on_event=on_event,
            )
        except InternalError as error:
            how = shlex.join(["deploycc", "split", str(request.model), "--no-build"])
            told = f"this is a fault of deploycc; to reproduce it: {how}, then build {part['onnx']}"
            diagnostic = replace(error.diagnostic, help=told)
            raise InternalError(diagnostic, stage=error.stage, details=error.details) from None
        except DeployccError as error:
            nodes = set(part["node_names"])
            if not _about_network(error):
                raise
            # A refusal that names no node of the part is about all of it.
            refused |= {d.node for d in error.diagnostics if d.severity == "error"} & nodes or nodes
    return refused


def _about_network(error: DeployccError) -> bool:
    """Whether what went wrong are the model's shapes, types and operators."""
    numbers = [int(d.code[2:]) for d in error.diagnostics if d.severity == "error"]
    return all(number < 500 or 520 <= number < 550 or number == 705 for number in numbers)


def split_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """From the file to a folder that only lacks the packages; runs in the child process only."""
    request = request_from_json(message["request"])
    accelerator = lint_target_from_json(message["accelerator"])
    cpu = lint_target_from_json(message["cpu"])
    folder = Path(message["folder"])
    _empty(folder)
    trace = Trace(None, emit)
    of_inputs, promised = _shapes(request)
    request = replace(request, shapes=of_inputs)
    as_read = judged(request, trace, compiled=False)
    Report(as_read.diagnostics).raise_if_errors()
    better, fixes = repaired(request, as_read, accelerator, trace)
    model = replace(better, proto=shareable(better.proto), original=as_read.original)

    from deploycc.splitting.describing import describe, write_records
    from deploycc.splitting.pipeline import GOLDEN, pipeline_of
    from deploycc.splitting.running import check
    from deploycc.splitting.worlds import Worlds

    worlds = Worlds(model.proto, promised)
    cutter = _Cutter(request, accelerator, cpu, trace, folder, bool(message["lint_cpu_parts"]))
    cut, reports = cutter.parts(model, worlds, frozenset(message["refused"]))
    agreement = trace("check", check, cut, model, request.seed)
    pipeline = pipeline_of(request.name, accelerator.name, cpu.name, cut)
    commands = {}
    for part in cut.parts:
        _write(folder / "parts" / f"{part.stem}.onnx", part.proto)
        if part.place == "accelerator":
            place = folder / "handover" / part.stem
            place.mkdir(parents=True)
            stem = f"{request.name}_part{part.number}"
            judged_part = model_of(part.proto, model.sha256)
            manifest = write_handover(place, stem, judged_part, reports[part.number], accelerator)
            commands[part.number] = manifest["commands"]
    write_records(pipeline, agreement, folder / GOLDEN)

    from deploycc import __version__
    from deploycc.splitting.generate_app import cmake, main
    from deploycc.splitting.generate_header import header
    from deploycc.splitting.generate_source import source

    file = {"file": request.model.name, "sha256": model.sha256}
    table = describe(pipeline, file, agreement, commands, fixes, __version__)
    texts = {
        "pipeline.json": json.dumps(table, indent=1, ensure_ascii=True) + "\n",
        "pipeline.hpp": header(pipeline),
        "pipeline.cpp": source(pipeline),
        "CMakeLists.txt": cmake(pipeline),
        "main.cpp": main(pipeline),
    }
    for title, text in texts.items():
        (folder / title).write_text(text, encoding="ascii")
    notes = (*model.diagnostics, *agreement.diagnostics, *_waiting(cut))
    return {"pipeline": json.loads(texts["pipeline.json"]), "diagnostics": [asdict(d) for d in notes]}


def _empty(folder: Path) -> None:
    """Remove what an earlier round left."""
    import shutil

    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _shapes(request: BuildRequest) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The shapes of the network's inputs, and those of other tensors.

    A file that cannot be read keeps all of them: import says what is wrong with it.
    """
    import onnx

    if not request.model.is_file():  # opening a pipe would wait
        return dict(request.shapes), {}
    try:
        graph = onnx.load(str(request.model), load_external_data=False).graph
    except Exception:  # protobuf, onnx and the file system raise many kinds
        return dict(request.shapes), {}
    inner = {name for node in graph.node for name in node.output}
    promised = {name: shape for name, shape in request.shapes.items() if name in inner}
    return {name: shape for name, shape in request.shapes.items() if name not in promised}, promised


def _write(path: Path, proto: ModelProto) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _waiting(cut: Cut) -> list[Diagnostic]:
    """What the user could promise, so that less is left to the host."""
    return [
        Diagnostic(
            "DC788",
            f"nodes behind '{name}' are left to the host: only a run can tell its shape",
            tensor=name,
            got="x".join("?" if extent is None else str(extent) for extent in shape),
            need="the most there can be, if they are to run elsewhere",
            help=f"--shape {shlex.quote(name)}="
            + "x".join("100" if extent is None else str(extent) for extent in shape)
            + ", with the most that the app allows",
            severity="info",
            verdict="info",
        )
        for name, shape in cut.waiting
    ]


class _Cutter:
    """Lints the network and its parts until every part is taken where it is to run."""

    def __init__(
        self,
        request: BuildRequest,
        accelerator: LintTarget,
        cpu: LintTarget,
        trace: Trace,
        folder: Path,
        lint_cpu_parts: bool,
    ) -> None:
        self._request = request
        self._accelerator = accelerator
        self._cpu = cpu
        self._trace = trace
        self._folder = folder
        self._lint_cpu_parts = lint_cpu_parts

    def parts(self, model: Model, worlds: Any, refused: frozenset[str]) -> tuple[Cut, dict[int, Report]]:
        """The cut, its parts as they are to be written, and a report for each part of the accelerator.

        ``refused`` are nodes that the CPU's compiler did not take when they were built.

        Raises ``DeployccError`` (DC783) where lint refuses a part of the accelerator for no node of it.
        """
        from deploycc.splitting.cutting import Refused, cut

        bounded = model_of(worlds.bounded_model, model.sha256)
        if worlds.promised:
            from deploycc.simplifying import simplify

            folded = self._trace("simplify", simplify, bounded, self._request.limits, compiled=False)
            bounded = replace(folded, original=worlds.bounded_model)
            worlds.learn(bounded.proto)
        report = self._lint(bounded, self._accelerator)
        macs = {node.name: node.macs for node in report.nodes}
        known = Refused(self._not_taken(report), refused)
        if known.accelerator:
            known = replace(known, cpu=refused | self._refused_by_cpu(worlds.bounded_model))
        for _ in range(_ROUNDS):
            found = cut(worlds, known, macs)
            checked = [self._checked(part) for part in found.parts]
            more = Refused(
                known.accelerator.union(*(c.refused for c in checked if c.part.place == "accelerator")),
                known.cpu.union(*(c.refused for c in checked if c.part.place == "cpu")),
            )
            if more == known:
                reports = {c.part.number: c.report for c in checked if c.report is not None}
                return replace(found, parts=tuple(c.part for c in checked)), reports
            known = more
        raise AssertionError("cutting came to no end")

    def _lint(self, model: Model, target: LintTarget) -> Report:
        from deploycc.linting import lint

        return self._trace("lint", lint, model, target)

    @staticmethod
    def _not_taken(report: Report) -> frozenset[str]:
        errors = {d.node for d in report.diagnostics if d.severity == "error" and d.node}
        return frozenset(errors | {node.name for node in report.nodes if not node.taken})

    def _refused_by_cpu(self, proto: ModelProto) -> frozenset[str]:
        return self._not_taken(self._compiled_report(proto, "network"))

    def _compiled_report(self, proto: ModelProto, stem: str) -> Report:
        """What a build for the CPU says of a model: it goes the way of a build, from a file on."""
        path = self._folder / f".{stem}.onnx"
        _write(path, proto)
        try:
            request = lint_request(path, {}, self._request.limits)
            return self._lint(judged(request, self._trace, compiled=True), self._cpu)
        finally:
            path.unlink()

    def _checked(self, part: Part) -> _Checked:
        """The part, its report, and the nodes that keep it from running where it is to."""
        if part.place == "host" or (part.place == "cpu" and not self._lint_cpu_parts):
            return _Checked(part, None, frozenset())
        if part.place == "cpu":
            report = self._compiled_report(part.proto, part.stem)
        else:
            model = model_of(part.proto, "")
            if len(part.proto.graph.node) != len(part.nodes):
                from deploycc.simplifying import simplify

                folded = self._trace("simplify", simplify, model, self._request.limits, compiled=False)
                part = replace(part, proto=folded.proto)
                model = replace(folded, original=model.proto)
            report = self._lint(model, self._accelerator)
        not_taken = self._not_taken(report)
        refused = not_taken & set(part.nodes)
        errors = [d for d in report.diagnostics if d.severity == "error"]
        if part.place == "cpu":
            return _Checked(part, None, refused or (frozenset(part.nodes) if errors else frozenset()))
        if (errors or not_taken) and not refused:
            raise DeployccError(*errors, _left(part, self._accelerator, len(errors)))
        return _Checked(part, report, refused)


@dataclass(frozen=True)
class _Checked:
    part: Part
    report: Report | None
    refused: frozenset[str]


def _left(part: Part, target: LintTarget, count: int) -> Diagnostic:
    return Diagnostic(
        "DC783",
        f"the part {part.stem} does not lint clean for '{target.name}'",
        got=f"{count} errors above that are about none of its nodes",
        need="a part that the accelerator takes",
        help="the findings above say what to change in the model first",
    )
