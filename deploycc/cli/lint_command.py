"""``deploycc lint``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click

from deploycc.build import InternalError
from deploycc.cli.lint_fixing import Fixing, fixing_of, rewrite, unwanted_fixes
from deploycc.cli.lint_outputs import FormatOption, Output, outputs_of
from deploycc.cli.options import (
    limit_options,
    limits_of,
    max_option,
    op_dir_option,
    precision_option,
    shape_option,
)
from deploycc.cli.progress import Progress
from deploycc.cli.values import LintTargetOption, counts_of, shapes_of
from deploycc.diagnostics import exit_code as refusal_code
from deploycc.lint import LintResult, lint_model
from deploycc.lint_types import Report
from deploycc.policy.applying import Policy, apply_policy, baseline_of, exit_code
from deploycc.policy.baseline import read_baseline, write_baseline
from deploycc.policy.file import FAIL_LEVELS, FailLevel, PolicyFile, find_policy_file, load_policy_file
from deploycc.rule_names import unknown_rules
from deploycc.types import DeployccError, Diagnostic, Limits

_OUR_FAULT = 70
_DEFAULT_TARGETS = ("host",)


@dataclass(frozen=True)
class _Request:
    """What the command line says."""

    model: Path
    targets: tuple[str, ...]
    precision: str
    shapes: dict[str, tuple[int, ...]]
    max_counts: dict[str, int]
    outputs: tuple[Output, ...]
    colour: str
    verbose: bool
    fail_level: FailLevel | None
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    baseline: Path | None
    write_baseline: Path | None
    config: Path | None
    no_config: bool
    fixing: Fixing
    op_dirs: tuple[Path, ...]
    limits: Limits


@click.command(
    "lint",
    epilog="""\b
Examples:
  deploycc lint model.onnx --target arm64
  deploycc lint model.onnx --target snpe:htp --target arm64 --format html=lint.html
  deploycc lint model.onnx --target snpe:htp@2.10 --format sarif --output lint.sarif
  deploycc lint model.onnx --write-baseline lint-baseline.json
  deploycc lint model.onnx --baseline lint-baseline.json --fail-level warning
  deploycc lint model.onnx --target snpe:htp --fix -o fixed.onnx

--select and --ignore take codes (DC402), beginnings of codes (DC4), rules' names and patterns (snpe-*);
'deploycc explain NAME' says what each is. deploycc.toml is looked for in the model's folder and those
above it, as far as a folder with .git: docs/ci-lint.md.

Exit codes: 0 nothing of --fail-level or graver, 1 findings, 2 wrong usage or broken input, 70 a fault of
deploycc.""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    *("--target", "targets"),
    type=LintTargetOption(),
    multiple=True,
    metavar="T[:UNIT][@VERSION]",
    help="What to check against, once for each target; host unless given here or in deploycc.toml.",
)
@precision_option
@shape_option()
@max_option()
@click.option(
    *("--format", "formats"),
    type=FormatOption(),
    multiple=True,
    metavar="FORMAT[=FILE]",
    help="text (unless given), json, sarif, junit, github, markdown or html; several with a file each.",
)
@click.option(
    *("--output", "files"),
    type=click.Path(path_type=Path, allow_dash=True),
    multiple=True,
    metavar="FILE",
    help="File of a --format that has none; as many as there are such formats, in their order.",
)
@click.option(
    *("--colour", "--color", "colour"),
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours in text; auto is on a terminal without NO_COLOR.",
)
@click.option(
    "--fail-level",
    type=click.Choice(FAIL_LEVELS),
    help="The mildest finding that makes the exit code 1; error unless given.",
)
@click.option("--select", multiple=True, metavar="RULE,...", help="Only these findings count.")
@click.option("--ignore", multiple=True, metavar="RULE,...", help="These findings do not count.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Findings that --write-baseline wrote here do not count.",
)
@click.option(
    "--write-baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write all that counts now; only what is new will count then.",
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Instead of a deploycc.toml.")
@click.option("--no-config", is_flag=True, help="Read no deploycc.toml.")
@click.option(
    "--fix", is_flag=True, help="Make the rewrites that are exact, check them, and lint the result."
)
@click.option(
    "--fix-unsafe", is_flag=True, help="Also those that change the numbers or, in some cases, more."
)
@click.option("--diff", is_flag=True, help="Show what --fix changes; without --fix nothing is written.")
@click.option(
    *("-o", "--fixed-output"),
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model that --fix writes; MODEL.fixed.onnx unless given.",
)
@op_dir_option
@click.option("--verbose", "-v", is_flag=True, help="Also findings for information, and the stages.")
@limit_options()
def lint_command(
    model: Path,
    targets: tuple[str, ...],
    precision: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    max_counts: tuple[tuple[str, int], ...],
    formats: tuple[Output, ...],
    files: tuple[Path, ...],
    colour: str,
    fail_level: FailLevel | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    baseline: Path | None,
    write_baseline: Path | None,
    config: Path | None,
    no_config: bool,
    fix: bool,
    fix_unsafe: bool,
    diff: bool,
    fixed_output: Path | None,
    op_dirs: tuple[Path, ...],
    verbose: bool,
    stage_seconds: float,
    memory_mib: int,
) -> None:
    """Say whether MODEL (an ONNX file) can run on targets, and what to write instead where it cannot."""
    if config is not None and no_config:
        raise click.UsageError("--config and --no-config exclude each other")
    request = _Request(
        model=model,
        targets=targets,
        precision=precision,
        shapes=shapes_of(shapes),
        max_counts=counts_of(max_counts),
        outputs=outputs_of(formats, files),
        colour=colour,
        verbose=verbose,
        fail_level=fail_level,
        select=_listed(select),
        ignore=_listed(ignore),
        baseline=baseline,
        write_baseline=write_baseline,
        config=config,
        no_config=no_config,
        fixing=fixing_of(model, fix, fix_unsafe, diff, fixed_output),
        op_dirs=op_dirs,
        limits=limits_of(stage_seconds, memory_mib),
    )
    try:
        file = _policy_file(request)
        request = replace(request, targets=targets or (file.targets if file else ()) or _DEFAULT_TARGETS)
        found, policy = _lint(request, file)
    except DeployccError as error:
        _write_refusal(request, error.diagnostics, refusal_code(error.diagnostics))
        raise
    except InternalError as error:
        _write_refusal(request, (error.diagnostic,), _OUR_FAULT)
        raise
    code = exit_code(found, policy.fail_level)
    _write(request, request.outputs, found, policy.fail_level, code)
    sys.exit(code)


def _lint(request: _Request, file: PolicyFile | None) -> tuple[LintResult, Policy]:
    """What was found, with what does not count suppressed, and the policy in force."""
    policy, path = _policy(request, file)
    progress = Progress(quiet=not request.verbose)

    def lint(model: Path) -> LintResult:
        return lint_model(
            model,
            request.targets,
            precision=request.precision,
            shapes=request.shapes,
            max_counts=request.max_counts,
            limits=request.limits,
            op_dirs=request.op_dirs,
            on_event=progress,
        )

    try:
        model = request.model
        if request.fixing.wanted:
            chosen = policy.select or policy.ignore or policy.ignores
            model = rewrite(
                model,
                request.targets,
                request.fixing,
                shapes=request.shapes,
                limits=request.limits,
                on_event=progress,
                unwanted=unwanted_fixes(apply_policy(lint(model), policy)) if chosen else (),
                to_stderr=any(o.path is None and o.format != "text" for o in request.outputs),
            )
        result = lint(model)
    finally:
        progress.close()
    # One that is written now need not be there before.
    if path is not None and (request.write_baseline is None or path.exists()):
        policy = replace(policy, baseline=read_baseline(path))
    # An ignore for a model is for what --fix makes of it too.
    name = request.model.name
    found = apply_policy(result, policy, name)
    if request.write_baseline is not None:
        entries = tuple(baseline_of(found))
        count = write_baseline(request.write_baseline, entries)
        click.echo(f"{request.write_baseline}: {count} finding{'' if count == 1 else 's'}", err=True)
        policy = replace(policy, baseline=entries, baseline_path=request.write_baseline)
        found = apply_policy(result, policy, name)
    return found, policy


def _policy_file(request: _Request) -> PolicyFile | None:
    if request.no_config:
        return None
    path = request.config or find_policy_file(request.model)
    return None if path is None else load_policy_file(path)


def _policy(request: _Request, file: PolicyFile | None) -> tuple[Policy, Path | None]:
    """The policy without its baseline, and where that is.  The command line goes before the file."""
    faults = [*unknown_rules(request.select, "--select"), *unknown_rules(request.ignore, "--ignore")]
    if faults:
        raise DeployccError(*faults)
    path = request.baseline or (file.baseline if file else None)
    policy = Policy(
        fail_level=request.fail_level or (file.fail_level if file else None) or "error",
        select=request.select or (file.select if file else ()),
        ignore=request.ignore,
        ignores=file.ignores if file else (),
        baseline_path=path,
    )
    return policy, path


def _listed(values: tuple[str, ...]) -> tuple[str, ...]:
    """The items of options that may be given several times and hold several items each."""
    return tuple(item.strip() for value in values for item in value.split(",") if item.strip())


def _write(
    request: _Request, outputs: tuple[Output, ...], result: LintResult, level: FailLevel, code: int
) -> None:
    from deploycc.explaining.answers import rule_help
    from deploycc.reporting import render

    for output in outputs:
        output.write(
            lambda kind, coloured: render(
                kind,
                result,
                colour=coloured,
                verbose=request.verbose,
                fail_level=level,
                exit_code=code,
                rule_help=rule_help,
            ),
            request.colour,
        )


def _write_refusal(request: _Request, diagnostics: tuple[Diagnostic, ...], code: int) -> None:
    """A report that carries the refusal, for whatever reads reports; text has it on standard error alone."""
    outputs = tuple(o for o in request.outputs if o.format != "text" or o.path is not None)
    targets = request.targets or _DEFAULT_TARGETS
    reports = tuple(Report(diagnostics, target=target) for target in targets)
    if outputs:
        refused = LintResult(request.model, "", reports)
        _write(request, outputs, refused, request.fail_level or "error", code)
