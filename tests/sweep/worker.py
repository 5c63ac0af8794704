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
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.planning import harness
from tests.planning.harness import X86_64
from tests.sweep.case import Array, load_arrays

ROOT = Path(__file__).resolve().parents[2]


def run_case(folder: Path) -> dict[str, Any]:
    """What became of the model in ``folder``: ``verdict``, ``stage`` and ``detail``."""
    from deploycc.importing import load
    from deploycc.layout import choose_layouts
    from deploycc.lint_targets import compiled_lint_target
    from deploycc.linting import lint
    from deploycc.lowering import lower
    from deploycc.planning import plan
    from deploycc.scheduling import choose, estimator
    from deploycc.simplifying import simplify
    from deploycc.types import BuildRequest, DeployccError, Limits

    inputs = load_arrays(folder / "inputs.npz")
    stage = "import"
    try:
        shapes = {name: value.shape for name, value in inputs.items()}
        dynamic = _dynamic(onnx.load(folder / "model.onnx"))
        request = BuildRequest(
            folder / "model.onnx",
            X86_64,
            folder / "out",
            "net",
            {k: v for k, v in shapes.items() if k in dynamic},
        )
        model = load(request)
        stage = "simplify"
        model = simplify(model, Limits())
        stage = "lint"
        lint(model, compiled_lint_target(X86_64)).raise_if_errors()
        stage = "lower"
        program = lower(model, X86_64)
        stage = "layout"
        program = choose_layouts(program, X86_64, estimator(X86_64, (ROOT / "schedules",)))
        stage = "schedule"
        program = choose(program, X86_64, (ROOT / "schedules",))
        stage = "plan"
        planned = plan(program, X86_64)
        stage = "run"
        got = harness.run_plan(planned, [inputs[info.name] for info in planned.inputs], X86_64)
    except DeployccError as error:
        codes = sorted({d.code for d in error.diagnostics})
        return {"verdict": "diagnostic", "stage": stage, "codes": codes, "detail": str(error)[:600]}
    except Exception as error:
        return {
            "verdict": "exception",
            "stage": stage,
            "detail": f"{type(error).__name__}: {str(error)[:700]}",
            "traceback": traceback.format_exc()[-3000:],
        }
    notes = [d.code for d in model.diagnostics]
    return {**_judge(folder, got, inputs), "notes": notes}


def _dynamic(proto: onnx.ModelProto) -> set[str]:
    return {
        info.name
        for info in proto.graph.input
        if any(dim.dim_value <= 0 and not _is_zero(dim) for dim in info.type.tensor_type.shape.dim)
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
    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in proto.graph.initializer)


def _link(plan: Any, target: Any, folder: Path, output: Path, *flags: str) -> None:
    """As the harness links, with the system's compiler: it starts in a tenth of the time."""
    (folder / "kernels.o").write_bytes(plan.kernels)
    (folder / "plan.c").write_text(harness.c_source(plan))
    command = ["cc", "-O0", "-w", "-fPIC", *flags, "-o", str(output), "plan.c", "kernels.o", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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


def main() -> None:
    """Answer folders until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from deploycc.simplifying import pipeline

    pipeline.fold = _fold
    if os.path.exists("/usr/bin/cc"):
        harness._link = _link
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run_case(Path(line.strip()))), file=answers, flush=True)


if __name__ == "__main__":
    main()
