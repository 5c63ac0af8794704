"""The worker of the sweep: runs the straight line on one model after another, in this process.

``python -m tests.sweep.worker`` reads folders (``Case.save``), one a line, and answers each with one
line of JSON.  A model that crashes or hangs it costs the sweep this process and nothing more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from deploycc.types import BuildRequest, Model, Plan, Target
from tests.planning import harness
from tests.planning.harness import X86_64
from tests.sweep.case import Array, load_arrays

ROOT = Path(__file__).resolve().parents[2]


def run_case(folder: Path) -> dict[str, Any]:
    """What became of the model in ``folder``: ``verdict``, ``stage`` and ``detail``."""
    from deploycc.importing import load
    from deploycc.lint_targets import compiled_lint_target
    from deploycc.linting import lint
    from deploycc.simplifying import simplify
    from deploycc.types import DeployccError, Limits

    inputs = load_arrays(folder / "inputs.npz")
    stage = ["import"]
    try:
        model = load(request_for(folder, inputs))
        stage.append("simplify")
        model = simplify(model, Limits())
        stage.append("lint")
        lint(model, compiled_lint_target(X86_64)).raise_if_errors()
        planned = compile_model(model, stage)
        stage.append("run")
        got = harness.run_plan(planned, [inputs[info.name] for info in planned.inputs], X86_64)
    except DeployccError as error:
        codes = sorted({d.code for d in error.diagnostics})
        return {"verdict": "diagnostic", "stage": stage[-1], "codes": codes, "detail": str(error)[:600]}
    except Exception as error:
        return {
            "verdict": "exception",
            "stage": stage[-1],
            "detail": f"{type(error).__name__}: {str(error)[:700]}",
            "traceback": traceback.format_exc()[-3000:],
        }
    notes = [d.code for d in model.diagnostics]
    return {**_judge(folder, got, inputs), "notes": notes}


def request_for(folder: Path, inputs: dict[str, Array]) -> BuildRequest:
    """A request to build the model in ``folder``, open dimensions bound by the inputs' shapes."""
    dynamic = _dynamic(onnx.load(folder / "model.onnx"))
    shapes = {name: value.shape for name, value in inputs.items() if name in dynamic}
    return BuildRequest(folder / "model.onnx", X86_64, folder / "out", "net", shapes)


def compile_model(model: Model, stage: list[str], target: Target = X86_64) -> Plan:
    """The line from behind lint to the plan; each stage is appended to ``stage`` as it begins."""
    from deploycc.layout import choose_layouts
    from deploycc.lowering import lower
    from deploycc.planning import plan, plan_chips
    from deploycc.scheduling import choose, estimator

    schedules = (ROOT / "schedules",)
    stage.append("lower")
    program = lower(model, target)
    stage.append("layout")
    program = choose_layouts(program, target, estimator(target, schedules))
    stage.append("schedule")
    program = choose(program, target, schedules)
    stage.append("plan")
    return plan_chips((program,), target)[0] if target.gpus else plan(program, target)


def _dynamic(proto: onnx.ModelProto) -> set[str]:
    return {
        info.name
        for info in proto.graph.input
        if not info.type.tensor_type.HasField("shape")
        or any(dim.dim_value <= 0 and not _is_zero(dim) for dim in info.type.tensor_type.shape.dim)
    }


def _is_zero(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return dim.HasField("dim_value") and dim.dim_value == 0


def _judge(folder: Path, got: list[Array], inputs: dict[str, Array]) -> dict[str, Any]:
    from deploycc.reference import ReferenceFailed, compare, run

    known = load_arrays(folder / "expected.npz")
    oracles: list[tuple[str, list[Array]]] = []
    if known:
        oracles.append(("onnx's test data", [known[str(i)] for i in range(len(known))]))
    proto = onnx.load(folder / "model.onnx")
    weights = {tensor.name for tensor in proto.graph.initializer}
    while any(info.name in weights for info in proto.graph.input):
        proto.graph.input.remove(next(info for info in proto.graph.input if info.name in weights))
    try:
        outputs, engine = run(proto, [inputs[info.name] for info in proto.graph.input])
        oracles.insert(0, (engine, outputs))
    except ReferenceFailed as error:
        if not oracles:
            return {"verdict": "unjudged", "stage": "run", "detail": str(error)[:300]}
    # Where a network rounds inside (to float16, to 8 bits), two right answers differ by that rounding.
    text = proto.SerializePartialToString()
    slack = 100.0 if b"QuantizeLinear" in text or _has_half(proto) else 1.0
    reasons = []
    for engine, outputs in oracles:
        wrong = [
            f"output {i}: {result.reason}"
            for i, (want, have) in enumerate(zip(outputs, got, strict=True))
            if not (result := compare(np.asarray(want), have, slack=slack)).ok
        ]
        if not wrong:
            return {"verdict": "pass", "stage": "run", "detail": ""}
        reasons.append(f"{engine}: {'; '.join(wrong)[:1200]}")
    return {"verdict": "wrong", "stage": "run", "detail": " | ".join(reasons)}


def _has_half(proto: onnx.ModelProto) -> bool:
    kinds = [tensor.data_type for tensor in proto.graph.initializer]
    kinds += [info.type.tensor_type.elem_type for info in proto.graph.input]
    return onnx.TensorProto.FLOAT16 in kinds


def _link_here(by_zig: Callable[..., None]) -> Callable[..., None]:
    """As the harness links; for this machine with the system's compiler, which starts ten times as fast."""

    def link(plan: Any, target: Any, folder: Path, output: Path, *flags: str) -> None:
        if target.emulator:
            by_zig(plan, target, folder, output, *flags)
            return
        (folder / "kernels.o").write_bytes(plan.kernels)
        (folder / "plan.c").write_text(harness.c_source(plan))
        for file, text in plan.routines.items():
            (folder / file).write_text(text)
        files = ["plan.c", *plan.routines, "kernels.o"]
        command = ["cc", "-O0", "-w", "-fPIC", *flags, "-o", str(output), *files, "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return link


def _fold(model: onnx.ModelProto, limits: Any, *, fuse: bool = True) -> onnx.ModelProto:
    from deploycc.simplifying import folding

    try:
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder, "in.onnx"), Path(folder, "out.onnx")
            source.write_bytes(model.SerializeToString())
            request = {
                "source": str(source),
                "result": str(result),
                "folded_bytes": limits.folded_bytes,
                "skipped": [*folding.SKIPPED_OPTIMIZERS, *(() if fuse else folding.FUSING_OPTIMIZERS)],
            }
            folding.fold_in_child(request, lambda event: None)
            return onnx.load(result)
    except Exception as error:
        raise folding.FoldingFailed(str(error)) from error


def serve(answer: Callable[[Path], dict[str, Any]]) -> None:
    """Answer folders until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from deploycc.simplifying import pipeline

    pipeline.fold = _fold
    if os.path.exists("/usr/bin/cc"):
        harness._link = _link_here(harness._link)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(Path(line.strip()))), file=answers, flush=True)


if __name__ == "__main__":
    serve(run_case)
