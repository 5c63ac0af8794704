"""The straight line from an ONNX model to a package.

The parent process resolves the request, owns the staging folder and the final rename, and turns
what goes wrong into diagnostics.  All stages run in one child process (``supervise``), because
they run native code on the user's model.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from deploycc.gpu_targets import with_precision
from deploycc.identifiers import check_library_name, suggest_library_name
from deploycc.lint_targets import compiled_lint_target, not_compiled_for
from deploycc.lint_types import Report
from deploycc.memory_use import Arena
from deploycc.nvrtc import find_compiler
from deploycc.ranges import Extent, several_at_once, split_ranges
from deploycc.records import databases
from deploycc.request import reproduce_command, request_from_json, request_to_json
from deploycc.resources import data_dir
from deploycc.staging import disk_full, staging
from deploycc.supervise import (
    ChildCrashed,
    ChildFailed,
    ChildOutOfMemory,
    ChildRaised,
    ChildTimedOut,
    run_child,
)
from deploycc.targets import load_target
from deploycc.trace import Trace
from deploycc.types import (
    BuildRequest,
    DeployccError,
    Diagnostic,
    Limits,
    Model,
    Package,
    Program,
    Target,
    Variant,
)

Event = dict[str, Any]


class InternalError(Exception):
    """A fault of deploycc itself: ``diagnostic`` (DC757 or DC758), ``stage``, ``node`` and ``details``."""

    def __init__(self, diagnostic: Diagnostic, *, stage: str, details: str) -> None:
        super().__init__(f"{diagnostic.code}: {diagnostic.message}")
        self.diagnostic = diagnostic
        self.stage = stage
        self.node = diagnostic.node
        self.details = details
        """The child's traceback, or the last it printed."""


def build(
    model: str | Path,
    target: str | Path | Target = "host",
    output: str | Path | None = None,
    *,
    precision: str | None = None,
    shapes: Mapping[str, Sequence[Extent]] | None = None,
    max_counts: Mapping[str, int] | None = None,
    name: str | None = None,
    dump_dir: str | Path | None = None,
    emit: Literal["shared", "static"] = "shared",
    runtime: Literal["private", "shared"] = "private",
    seed: int = 0,
    limits: Limits | None = None,
    schedule_dirs: Sequence[str | Path] = (),
    op_dirs: Sequence[str | Path] = (),
    keep_kernels: bool = False,
    arena: Arena = "fast",
    max_memory: int | None = None,
    profile: bool = False,
    debug_runtime: bool = False,
    records: Sequence[str | Path] = (),
    shipped_records: bool = True,
    tune: str | None = None,
    verify: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> Package:
    """Compile an ONNX file into a package folder and return it.

    ``target`` is a name (``deploycc.target_names()``), the path of a TOML file or a ``Target``.
    ``precision`` (``fp32``, ``tf32``, ``fp16``, ``bf16``) is for targets with a GPU (docs/cuda.md); a
    ``Target``'s own unless given.
    ``shapes`` gives static shapes to inputs by name.  An extent may be several (``range(1, 9)``,
    ``"1,2,4"``): the package then has a variant for each shape, and picks at run time (docs/variants.md).
    ``max_counts`` are the most rows of results whose size depends on data, by the name of tensor or node
    (docs/counted.md).
    ``output`` is ``./NAME-TARGET`` (``-PRECISION`` but for fp32) unless given; an older package there is
    replaced, anything else is left alone and refused.  ``name`` must be a C identifier; without it the file
    name is made into one.  ``seed`` is that of the golden inputs.  ``keep_kernels`` puts every kernel as text
    into the package, for ``deploycc inspect --kernel``; ``profile`` timers into its library
    (docs/profile.md); ``debug_runtime`` has it tell calls with handles that were destroyed
    (docs/runtime-errors.md).

    ``op_dirs`` are folders of files with operators of your own (docs/new-operator.md).
    ``arena`` is ``smallest`` for as little memory as possible at some cost in speed, with the same results to
    the bit.  ``max_memory`` is the most bytes that a handle may take with as many threads as the target has
    cores (arena and workspaces; not the weights, which are mapped from the file, nor the caller's buffers).

    ``records`` are tuning databases over the ones that come with deploycc, later ones over earlier; with
    ``shipped_records`` false those alone count.
    ``tune`` is a budget (``60s``, ``500trials``): the network's operators are tuned first, into the last of
    ``records`` or the default database, and what is found is used unless the network comes out slower with
    it.  Without either a build depends on its arguments alone.
    With ``verify`` the package is run on its golden inputs before it appears (natively, or under the emulator
    of its processor), and a build whose outputs are beyond the tolerance fails.  ``on_event`` gets the stages
    as they pass (see ``Trace``), and of tuning (``deploycc.tuning``), in the calling thread.

    Raises ``DeployccError`` for everything that is wrong with the input, the target or the
    machine, and ``InternalError`` for faults of our own.  Nothing is left behind in either case.
    """
    request = resolve_request(
        model,
        target,
        output,
        precision=precision,
        shapes=shapes,
        max_counts=max_counts,
        name=name,
        dump_dir=dump_dir,
        emit=emit,
        runtime=runtime,
        seed=seed,
        limits=limits,
        schedule_dirs=schedule_dirs,
        op_dirs=op_dirs,
        keep_kernels=keep_kernels,
        arena=arena,
        max_memory=max_memory,
        profile=profile,
        debug_runtime=debug_runtime,
        # The database that is tuned into need not be there yet.
        records=records if tune is None else records[:-1],
        shipped_records=shipped_records,
    )
    if verify:
        from deploycc.verify import check_runnable, verify_staged

        check_runnable(request)
    found: tuple[Diagnostic, ...] = ()
    if tune is not None and request.buckets:
        raise DeployccError(several_at_once("--tune", request.buckets))
    if tune is not None:
        request, found = _tuned(request, target, tune, records[-1] if records else None, on_event)
    with staging(request.output) as place:
        answer = _run(request, reproduce_command(request, target), place.folder, on_event)
        if verify:
            verify_staged(place.folder, request.limits, on_event)
        place.commit()
    return Package(
        path=request.output,
        manifest=answer["manifest"],
        diagnostics=(*found, *(Diagnostic(**d) for d in answer["diagnostics"])),
    )


def resolve_request(
    model: str | Path,
    target: str | Path | Target = "host",
    output: str | Path | None = None,
    *,
    precision: str | None = None,
    shapes: Mapping[str, Sequence[Extent]] | None = None,
    max_counts: Mapping[str, int] | None = None,
    name: str | None = None,
    dump_dir: str | Path | None = None,
    emit: Literal["shared", "static"] = "shared",
    runtime: Literal["private", "shared"] = "private",
    seed: int = 0,
    limits: Limits | None = None,
    schedule_dirs: Sequence[str | Path] = (),
    op_dirs: Sequence[str | Path] = (),
    keep_kernels: bool = False,
    arena: Arena = "fast",
    max_memory: int | None = None,
    profile: bool = False,
    debug_runtime: bool = False,
    records: Sequence[str | Path] = (),
    shipped_records: bool = True,
) -> BuildRequest:
    """The request that ``build`` makes of its arguments, with every path absolute."""
    findings: list[Diagnostic] = []
    first_shapes, buckets = split_ranges(shapes or {})
    if buckets and profile:
        findings.append(several_at_once("--profile", buckets))
    model_path = Path(model).absolute()
    resolved_name = suggest_library_name(model_path.stem)
    if name is not None:
        try:
            check_library_name(name)
            resolved_name = name
        except DeployccError as error:
            findings.extend(error.diagnostics)
    resolved_target = target if isinstance(target, Target) else None
    refusal = None if isinstance(target, Target) else not_compiled_for(str(target))
    if refusal is not None:
        findings.append(refusal)
    else:
        try:
            resolved_target = resolved_target or load_target(str(target))
            resolved_target = with_precision(resolved_target, precision or resolved_target.precision)
        except DeployccError as error:
            findings.extend(error.diagnostics)
    for path in map(Path, records):
        if not path.is_file():
            findings.append(Diagnostic("DC601", f"the tuning database {path} cannot be read", got="no file"))
    if findings or resolved_target is None:
        raise DeployccError(*findings)
    if resolved_target.gpus:
        find_compiler()  # before a minute of work
    if output is None:
        rounded = "" if resolved_target.precision == "fp32" else f"-{resolved_target.precision}"
        output = f"{resolved_name}-{resolved_target.name}{rounded}"
    return BuildRequest(
        model=model_path,
        target=resolved_target,
        output=Path(output).absolute(),
        name=resolved_name,
        shapes=first_shapes,
        max_counts={key: int(count) for key, count in (max_counts or {}).items()},
        dump_dir=None if dump_dir is None else Path(dump_dir).absolute(),
        emit=emit,
        runtime=runtime,
        seed=seed,
        limits=limits or Limits(),
        schedule_dirs=tuple(Path(folder).absolute() for folder in schedule_dirs),
        op_dirs=tuple(Path(folder).absolute() for folder in op_dirs),
        keep_kernels=keep_kernels,
        arena=arena,
        max_memory=max_memory,
        profile=profile,
        debug_runtime=debug_runtime,
        records=tuple(Path(path).absolute() for path in records),
        shipped_records=shipped_records,
        buckets=buckets,
    )


def check_target(target: str | Path | Target) -> Target:
    """The target that packages are to be built for.  Raises ``DeployccError`` if it is none (DC500-DC519)."""
    if isinstance(target, Target):
        return target
    refusal = not_compiled_for(str(target))
    if refusal is not None:
        raise DeployccError(refusal)
    return load_target(str(target))


def _tuned(
    request: BuildRequest,
    target: str | Path | Target,
    budget: str,
    database: str | Path | None,
    on_event: Callable[[Event], None] | None,
) -> tuple[BuildRequest, tuple[Diagnostic, ...]]:
    """The request with the records of a tuning session, and what the session has to say."""
    from deploycc.tuning import tune  # it loads TVM, which is otherwise left to the child process

    result = tune(
        request.model,
        target,
        budget,
        precision=request.target.precision,
        shapes=request.shapes,
        max_counts=request.max_counts,
        database=database,
        schedule_dirs=request.schedule_dirs,
        op_dirs=request.op_dirs,
        limits=request.limits,
        shipped_records=request.shipped_records,
        on_event=on_event,
    )
    worth = all(diagnostic.code != "DC606" for diagnostic in result.diagnostics)
    if worth and result.database.is_file():
        request = replace(request, records=(*request.records, result.database))
    return request, result.diagnostics


def _run(request: BuildRequest, command: str, folder: Path, on_event: Callable[[Event], None] | None) -> Any:
    message = {"request": request_to_json(request), "staging": str(folder)}
    try:
        return run_child("deploycc.build:build_in_child", message, request.limits, on_event)
    except ChildFailed as error:
        raise explain_failure(error, request, command) from None


def explain_failure(error: ChildFailed, request: BuildRequest, command: str) -> Exception:
    """What the caller is told when the child gave no answer."""
    stage = error.stage or "start"
    if isinstance(error, ChildTimedOut):
        return DeployccError(
            Diagnostic(
                "DC755",
                f"the stage '{stage}' was stopped: {error}",
                node=error.node,
                need=f"at most {request.limits.stage_seconds:g} s a stage",
                help="a dimension may be far too large; or allow more with --stage-seconds",
            )
        )
    killed_by_kernel = isinstance(error, ChildCrashed) and error.exit_status == -9
    if isinstance(error, ChildOutOfMemory) or killed_by_kernel:
        return DeployccError(
            Diagnostic(
                "DC756",
                f"the stage '{stage}' was stopped: {error}",
                node=error.node,
                need=f"at most {request.limits.memory_bytes >> 20} MiB",
                help="a dimension may be far too large; or allow more with --memory-mib",
            )
        )
    code = "DC757" if isinstance(error, ChildCrashed) else "DC758"
    return InternalError(
        Diagnostic(
            code,
            f"the stage '{stage}' failed: {error}",
            node=error.node,
            help=f"this is a fault of deploycc; to reproduce it: {command}",
        ),
        stage=stage,
        details=error.traceback if isinstance(error, ChildRaised) else error.tail,
    )


def tasks_of(request: BuildRequest, trace: Trace) -> tuple[Model, Report, Program]:
    """The first half of the line: from the file to a program whose tasks are to be scheduled.

    For a target with GPUs it has no layouts yet (``laid_out``): each chip has its own.

    Each stage is imported when its turn comes: some take seconds with their native libraries, and a
    model that the first one refuses need not wait for the last.
    """
    from deploycc.importing import load
    from deploycc.operator_files import install

    def read(request: BuildRequest) -> Model:
        install(request.op_dirs)
        return load(request)

    model = trace("import", read, request)

    from deploycc.simplifying import simplify

    model = trace("simplify", simplify, model, request.limits)

    from deploycc.linting import lint

    report = trace("lint", lint, model, compiled_lint_target(request.target))
    report.raise_if_errors()

    from deploycc.llvm_names import check_llvm_names

    check_llvm_names(request.target)

    from deploycc.lowering import lower

    program = trace("lower", lower, model, request.target)

    if request.target.gpus:  # each chip has layouts of its own
        return model, report, program
    return model, report, laid_out(program, request, request.target, trace)


def laid_out(program: Program, request: BuildRequest, target: Target, trace: Trace) -> Program:
    """The program with layouts chosen for ``target``, of one chip at most."""
    from deploycc.layout import choose_layouts
    from deploycc.scheduling import estimator

    directories = (data_dir("schedules"), *request.schedule_dirs)

    def layout(program: Program) -> Program:
        # Within the stage: schedule files are loaded here, and users' may hang.
        return choose_layouts(program, target, estimator(target, directories, databases(request)))

    return trace("layout", layout, program)


def build_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """The whole line, up to the schedules once for each variant; runs in the child process only."""
    request = request_from_json(message["request"])
    try:
        from deploycc.lines import lines_of

        model, report, program, others = lines_of(request, emit)
        trace = Trace(request.dump_dir, emit)

        from deploycc.planning import plan, plan_chips, plan_variants

        how: dict[str, Any] = {
            "listings": request.keep_kernels or request.dump_dir is not None,
            "arena": request.arena,
            "max_memory": request.max_memory,
        }
        programs = (program, *(one.program for one in others))
        if request.target.gpus:
            plans = trace("plan", plan_chips, programs, request.target, listings=how["listings"])
        elif others:
            plans = trace("plan", plan_variants, programs, request.target, **how)
        else:
            plans = (trace("plan", plan, program, request.target, **how),)

        from deploycc.precision_error import findings
        from deploycc.reference import golden

        precision = request.target.precision
        reference = trace("golden", golden, model, request.seed, precision)
        costly = findings(reference, [info.name for info in model.outputs], precision)

        from deploycc.facts import gather
        from deploycc.packaging import package
        from deploycc.report import pages_of

        pages = pages_of(gather(request, model, report, program))
        parts: dict[str, Any] = {"chips": plans[1:]}
        if not request.target.gpus:
            made = zip(plans[1:], others, strict=True)
            parts = {"variants": tuple(Variant(plan, one.golden) for plan, one in made if one.golden)}
        folder = Path(message["staging"])
        result = trace("package", package, plans[0], request, model, reference, folder, pages, **parts)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(request.output) from None
        raise
    diagnostics = (*model.diagnostics, *report.diagnostics, *result.diagnostics, *costly)
    if others:  # most of what there is to say of one variant holds for all
        more = (note for one in others for note in one.diagnostics)
        diagnostics = tuple(dict.fromkeys((*diagnostics, *more)))
    return {
        "manifest": json.loads(json.dumps(dict(result.manifest))),
        "diagnostics": [asdict(d) for d in diagnostics],
    }
