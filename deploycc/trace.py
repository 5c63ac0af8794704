"""Times each stage of a build, tells of it, and dumps what it made."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from deploycc.diagnostics import render
from deploycc.lint_types import Report
from deploycc.types import (
    Choice,
    DeployccError,
    Diagnostic,
    Golden,
    LayoutChoice,
    Model,
    Package,
    Plan,
    Program,
)

P = ParamSpec("P")
R = TypeVar("R")

DUMPS = {
    "import": "10-import.onnx",
    "simplify": "20-simplify.onnx",
    "lint": "30-lint.txt",
    "lower": "40-lower.py",
    "layout": "45-layout.py",
    "schedule": "50-schedule.py",
    "plan": "60-plan.txt",
    "golden": "70-golden.txt",
    "package": "80-package.txt",
}
"""What each stage leaves in ``--dump-dir``.

The plan also leaves its object code, ``60-plan.o``, and every kernel as text in ``kernels/``.
"""


class Trace:
    """Calls the stages: ``trace("import", load, request)``.

    ``emit`` gets ``{"event": "stage", "name", "state": "start"}`` before a stage and the same with
    ``"end"`` and its wall ``"seconds"`` after it.  A stage that raises has no end.
    """

    def __init__(self, dump_dir: Path | None, emit: Callable[[dict[str, Any]], None]) -> None:
        self._dump_dir = dump_dir
        self._emit = emit
        if dump_dir is not None:
            with _dump_errors(dump_dir):
                dump_dir.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, stage: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one stage and return what it returns."""
        self._emit({"event": "stage", "name": name, "state": "start"})
        began = time.perf_counter()
        result = stage(*args, **kwargs)
        seconds = time.perf_counter() - began
        if self._dump_dir is not None:
            with _dump_errors(self._dump_dir):
                _dump(self._dump_dir / DUMPS[name], result)
        self._emit({"event": "stage", "name": name, "state": "end", "seconds": seconds})
        return result


@contextlib.contextmanager
def _dump_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeployccError(
            Diagnostic(
                "DC731",
                f"the dump folder {folder} cannot be written",
                got=error.strerror or str(error),
                help="choose another with --dump-dir",
            )
        ) from None


def _dump(path: Path, result: object) -> None:
    if isinstance(result, tuple):  # one for each variant
        for number, one in enumerate(result):
            place = path.parent / f"variant-{number}" if number else path.parent
            place.mkdir(exist_ok=True)
            _dump(place / path.name, one)
        return
    if isinstance(result, Model):
        path.write_bytes(result.proto.SerializeToString(deterministic=True))
        return
    if isinstance(result, Report):
        text = "\n".join(render(d) for d in result.diagnostics) or "no findings"
    elif isinstance(result, Program):
        notes = [_choice_line(choice) for choice in result.choices] or list(map(_layout_line, result.layouts))
        text = "\n".join([*(f"# {note}" for note in notes), result.module.script()])
    elif isinstance(result, Plan):
        text = _plan_text(result)
        path.with_suffix(".o").write_bytes(result.kernels)
        _dump_kernels(path.parent / "kernels", result)
    elif isinstance(result, Golden):
        sizes = [("input", result.inputs), ("output", result.outputs)]
        lines = [f"engine {result.engine}, seed {result.seed}"]
        lines += [
            f"{kind} {i}: {len(data)} bytes" for kind, tensors in sizes for i, data in enumerate(tensors)
        ]
        text = "\n".join(lines)
    elif isinstance(result, Package):
        files = sorted(file for file in result.path.rglob("*") if file.is_file())
        text = "\n".join(f"{file.stat().st_size:>12} {file.relative_to(result.path)}" for file in files)
    else:
        text = repr(result)
    path.write_text(text + "\n", encoding="utf-8")


def _dump_kernels(folder: Path, plan: Plan) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # an older dump's would be taken for this one's
    folder.mkdir()
    for listing in plan.listings:
        for name, text in listing.files().items():
            (folder / name).write_text(text, encoding="utf-8")


def _layout_line(choice: LayoutChoice) -> str:
    cycles = ", ".join(f"{layouts} {cycles:.3g}" for layouts, cycles in choice.cycles.items())
    return f"{choice.uses} x {choice.operator}: {choice.layouts} of {cycles or 'no schedule'} (cycles)"


def _choice_line(choice: Choice) -> str:
    knobs = " ".join(f"{key}={value}" for key, value in choice.knobs.items())
    skipped = "".join(f"\n#     not {name}: {why}" for name, why in choice.skipped.items())
    return f"{choice.task}: {choice.schedule} {knobs}{skipped}"


def _plan_text(plan: Plan) -> str:
    lines = [
        f"arena {plan.arena_bytes} bytes",
        f"workspace {plan.workspace_bytes} bytes and {plan.thread_workspace_bytes} bytes a worker",
        f"weights {len(plan.weights)} bytes of {plan.parameters} parameters",
        f"object code {len(plan.kernels)} bytes",
    ]
    for number, call in enumerate(plan.calls):
        arguments = ", ".join(
            f"{b.kind}[{b.index}]" if b.kind in ("input", "output") else f"{b.kind}+{b.offset}:{b.nbytes}"
            for b in call.arguments
        )
        lines.append(
            f"{number:>4} {call.symbol}({arguments})  # {' '.join(call.operators)} | {call.schedule}"
        )
    return "\n".join(lines)
