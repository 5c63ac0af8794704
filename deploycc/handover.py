"""``deploycc build --target snpe:htp``: what the target's own converter needs, in a folder.

deploycc cannot compile for these targets and does not pretend to.  It checks the network against what
is known of the converter and the chip, folds and repairs it, and writes the ONNX file, the report and the
converter's command line.  Import, simplify, fixes and lint run in one child process, as in a build.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.build import explain_failure
from deploycc.identifiers import check_library_name, suggest_library_name
from deploycc.lint import LintResult, judged, lint_request
from deploycc.lint_targets import external, load_lint_target, not_compiled_for
from deploycc.lint_types import LintTarget, Report
from deploycc.op_support import support_table
from deploycc.request import (
    lint_target_from_json,
    lint_target_to_json,
    report_from_json,
    request_from_json,
    request_to_json,
)
from deploycc.staging import has_format, staging
from deploycc.supervise import ChildFailed, run_child
from deploycc.templates import fill
from deploycc.trace import Trace
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Limits, Model, TensorInfo

if TYPE_CHECKING:
    from onnx import ModelProto

Event = dict[str, Any]

FORMAT = "deploycc-handover"
SCHEMA_VERSION = 1
"""Goes up when a key of ``manifest.json`` changes its meaning or goes away."""

_SCRIPT = """\
#!/bin/sh
# Converts @FILE@ for @TARGET@; what is given to this script goes to the converter as well.
# Needs @TITLE@ on PATH.
set -eu
@NEEDS@cd "$(dirname "$0")"
@STEPS@"""

_GIVEN = {
    "{input_list}": ("INPUT_LIST", "a text file that names raw input files to calibrate with, one a line"),
    "{soc}": ("SOC", "the chip, such as sm8550"),
}
"""What the user has to give: a word of a command line, the variable for it, what it is."""

_README = """\
@NAME@ for @TARGET@

deploycc @VERSION@ checked this network, folded its constants@FIXED@ and wrote what
@TITLE@ needs.
It did not compile it: nothing in this folder was run on the target.

  @FILE@   the network: all shapes fixed, constants folded
  lint-report.txt   what is known to go wrong or to be slow there, with the source of each fact
  lint-report.json  the same for programs
  convert.sh        the converter's command line
  manifest.json     inputs, outputs, hashes

Inputs:
@INPUTS@Outputs:
@OUTPUTS@"""


@dataclass(frozen=True)
class HandOver:
    """A finished hand-over folder, its parsed ``manifest.json`` and the report on what is in it."""

    path: Path
    manifest: Mapping[str, Any]
    report: Report


def hand_over(
    model: str | Path,
    target: str | LintTarget,
    output: str | Path | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> HandOver:
    """Check an ONNX file against another compiler's target and write what its converter needs.

    ``output`` is ``./NAME-TARGET`` unless given; an older hand-over there is replaced, anything else is
    refused.  ``shapes`` gives static shapes to inputs by name.

    Raises ``DeployccError``: DC512 or DC786 for a target without a converter, everything that ``lint``
    refuses with DC780 behind it, what is wrong with the file or the folder; ``InternalError`` for faults of
    our own.  Nothing is left behind in either case.
    """
    resolved = with_converter(target)
    checked = library_name(model, name)
    place = Path(output or f"{checked}-{folder_word(resolved.name)}").absolute()
    request = replace(lint_request(model, shapes or {}, limits or Limits()), name=checked, output=place)
    command = shlex.join(["deploycc", "build", str(request.model), "--target", resolved.name])
    with staging(place, is_handover, "hand-over") as aside:
        message = {
            "request": request_to_json(request),
            "target": lint_target_to_json(resolved),
            "folder": str(aside.folder),
        }
        try:
            answer = run_child("deploycc.handover:hand_over_in_child", message, request.limits, on_event)
        except ChildFailed as error:
            raise explain_failure(error, request, command) from None
        aside.commit()
    return HandOver(place, answer["manifest"], report_from_json(answer["report"]))


def with_converter(target: str | LintTarget) -> LintTarget:
    """The target, if it is one that models can be handed over to.

    Raises ``DeployccError``: DC786 for one that deploycc compiles for itself, DC512 for one without a
    converter's command line.
    """
    resolved = target if isinstance(target, LintTarget) else load_lint_target(target)
    if resolved.compiled is not None:
        raise DeployccError(
            Diagnostic(
                "DC786",
                f"there is nothing to hand over for the target '{resolved.name}'",
                got="deploycc compiles for it itself",
                need="a target with a converter of its own, such as snpe",
                help=f"deploycc build --target {resolved.name} makes a package of the whole network",
            )
        )
    refusal = not_compiled_for(resolved.name)
    if refusal is not None:
        raise DeployccError(refusal)
    return resolved


def library_name(model: str | Path, name: str | None) -> str:
    """``name``, checked, or one made from the file's name."""
    if name is not None:
        check_library_name(name)
    return name or suggest_library_name(Path(model).stem)


def folder_word(target: str) -> str:
    """``snpe-htp-2.10`` for ``snpe:htp@2.10``."""
    return target.replace(":", "-").replace("@", "-")


def is_handover(folder: Path) -> bool:
    """Whether ``hand_over`` wrote this folder."""
    return has_format(folder / "manifest.json", FORMAT)


def hand_over_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """From the file to the finished folder; runs in the child process only."""
    request = request_from_json(message["request"])
    target = lint_target_from_json(message["target"])
    trace = Trace(None, emit)
    model = judged(request, trace, compiled=False)
    Report(model.diagnostics).raise_if_errors()
    model, fixes = repaired(request, model, target, trace)

    from deploycc.linting import lint

    report = trace("lint", lint, model, target)
    report = replace(report, diagnostics=(*model.diagnostics, *report.diagnostics))
    refusals = [d for d in report.diagnostics if d.severity == "error"]
    if refusals:
        raise DeployccError(*refusals, _not_whole(request.model, target, len(refusals)))
    manifest = write_handover(Path(message["folder"]), request.name, model, report, target, fixes)
    return {"manifest": manifest, "report": asdict(report)}


def repaired(
    request: BuildRequest, model: Model, target: LintTarget, trace: Trace
) -> tuple[Model, tuple[str, ...]]:
    """The folded model after all exact rewrites that lint names for the target, and their names.

    The model itself where there are none, or where it cannot be run and they could not be checked.
    """
    from deploycc.fix import repaired as made_by_fixes
    from deploycc.linting import lint

    if not any(d.fix for d in trace("lint", lint, model, target).diagnostics):
        return model, ()
    try:
        _, made, _ = made_by_fixes(request, [target], trace)
    except DeployccError as error:
        if [d.code for d in error.diagnostics] != ["DC792"]:
            raise
        return model, ()
    names = tuple(dict.fromkeys(applied.fix for applied in made.applied if not applied.cleaned))
    if not names:
        return model, ()
    result = model_of(made.model, model.sha256)
    return replace(result, diagnostics=(*model.diagnostics, *made.diagnostics)), names


def model_of(proto: ModelProto, sha256: str) -> Model:
    """A part as lint takes it."""
    from deploycc.onnx_graph import infer_shapes, opset_of, tensor_info

    typed = infer_shapes(proto)
    return Model(
        proto=typed,
        inputs=tuple(tensor_info(info) for info in typed.graph.input),
        outputs=tuple(tensor_info(info) for info in typed.graph.output),
        opset=opset_of(typed),
        sha256=sha256,
    )


def _not_whole(model: Path, target: LintTarget, count: int) -> Diagnostic:
    return Diagnostic(
        "DC780",
        f"the network cannot be handed over to '{target.name}' whole",
        got=f"{count} {'error' if count == 1 else 'errors'} above",
        need="none",
        help="cut it into parts, of which the accelerator gets what it takes: "
        + shlex.join(["deploycc", "split", model.name, "--target", target.name]),
    )


def write_handover(
    folder: Path, name: str, model: Model, report: Report, target: LintTarget, fixes: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the files of a hand-over into an empty folder; the manifest."""
    from deploycc import __version__

    table, family = support_table(target.engine), external(target.family)
    file = f"{name}.onnx"
    commands = [command_line(words, name, model) for words in family.commands(target.unit)]
    (folder / file).write_bytes(shareable(model.proto).SerializeToString(deterministic=True))
    write_report(folder, file, model.sha256, report)
    words = {
        "NAME": name,
        "FILE": file,
        "TARGET": target.name,
        "TITLE": family.description.partition(":")[0],
        "VERSION": __version__,
        "FIXED": f", rewrote what it does not take ({', '.join(fixes)})" if fixes else "",
        "STEPS": "".join(_steps(commands)),
        "NEEDS": "".join(_needs(commands)),
        "INPUTS": _lines(model.inputs),
        "OUTPUTS": _lines(model.outputs),
    }
    script = folder / "convert.sh"
    script.write_text(fill(_SCRIPT, words), encoding="utf-8")
    script.chmod(0o755)
    (folder / "README.txt").write_text(fill(_README, words), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "deploycc": __version__,
        "name": name,
        "target": {"name": target.name, "table": table.title, "table_version": table.version},
        "model": {"file": file, "sha256": model.sha256, "opset": model.opset},
        "inputs": [_described(tensor) for tensor in model.inputs],
        "outputs": [_described(tensor) for tensor in model.outputs],
        "commands": [list(command) for command in commands],
        "fixes": list(fixes),
        "findings": {
            severity: sum(d.severity == severity for d in report.diagnostics)
            for severity in ("error", "warning", "info")
        },
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in sorted(folder.iterdir())
        },
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=True)
    (folder / "manifest.json").write_text(f"{text}\n", encoding="ascii")
    return json.loads(text)  # type: ignore[no-any-return]


def write_report(folder: Path, model: str, sha256: str, report: Report) -> None:
    """``lint-report.txt`` and ``.json``, without the lines of Python that an export recorded."""
    from deploycc.reporting import render

    told = replace(report, diagnostics=tuple(replace(d, location="") for d in report.diagnostics))
    result = LintResult(Path(model), sha256, (told,))
    for form, ending in (("text", "txt"), ("json", "json")):
        text = render(form, result, verbose=form == "text")
        (folder / f"lint-report.{ending}").write_text(text, encoding="utf-8")


def _steps(commands: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of the script; the first step, the conversion, gets the script's own arguments."""
    for number, command in enumerate(commands):
        words = [f'"${_GIVEN[word][0]}"' if word in _GIVEN else shlex.quote(word) for word in command]
        yield " ".join([*words, *(['"$@"'] if number == 0 else [])]) + "\n"


def _needs(commands: Sequence[Sequence[str]]) -> Iterator[str]:
    for word in _GIVEN:
        if any(word in command for command in commands):
            variable, what = _GIVEN[word]
            yield f': "${{{variable}:?is {what}}}"\n'
            if word == "{input_list}":  # a file, named from where the script is called
                yield f'case "${variable}" in /*) ;; *) {variable}="$PWD/${variable}" ;; esac\n'


def command_line(words: Sequence[str], name: str, model: Model) -> tuple[str, ...]:
    """One command line of the converter for ``NAME.onnx``.

    Words may hold ``{model}``, ``{name}``; ``{input_list}`` and ``{soc}`` stay, as the user has to give them;
    an option with ``{input_name}``, ``{input_shape}`` (extents with
    commas), ``{output_name}`` among its values is there once for each input or output.
    """
    options: list[list[str]] = []
    for word in words:
        if not options or word.startswith("-"):
            options.append([])
        options[-1].append(word)
    result: list[str] = []
    for option in options:
        text = " ".join(option)
        tensors = model.inputs if "{input_" in text else model.outputs if "{output_" in text else (None,)
        for tensor in tensors:
            values = {"model": f"{name}.onnx", "name": name}
            if tensor is not None:
                role = "input" if "{input_" in text else "output"
                values |= {f"{role}_name": tensor.name, f"{role}_shape": ",".join(map(str, tensor.shape))}
            result += [word if word in _GIVEN else _filled(word, values) for word in option]
    return tuple(result)


def _filled(word: str, values: Mapping[str, str]) -> str:
    # Not str.format: names come from the model and may hold braces, and a table may hold a typing error.
    pieces = word.replace("}", "{").split("{")
    return "".join(values[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def shareable(proto: ModelProto) -> ModelProto:
    """A copy without what an exporter noted about the machine it ran on."""
    from onnx import ModelProto as Proto

    from deploycc.onnx_graph import all_nodes

    result = Proto()
    result.CopyFrom(proto)
    result.doc_string = ""
    result.graph.doc_string = ""
    del result.metadata_props[:], result.graph.metadata_props[:]
    for node in all_nodes(result.graph):
        node.doc_string = ""
        del node.metadata_props[:]
    return result


def _described(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape}


def _lines(tensors: Sequence[Any]) -> str:
    return "".join(
        f"  {_printable(t.name)} {t.dtype} {'x'.join(map(str, t.shape)) or 'scalar'}\n" for t in tensors
    )


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
