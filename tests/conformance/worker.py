"""The worker of the conformance run: what lint says of a model, and what building and running it does.

A model that lint refuses is built all the same, to see whether lint is stricter than it need be.  Only
what import or simplify refuse cannot be tried: there is nothing to build.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from deploycc.graph_rewrites.random_numbers import DRAWING
from deploycc.onnx_graph import all_nodes
from deploycc.types import Target
from tests.planning import harness
from tests.planning.cuda.chips import SM_75, target_of
from tests.planning.harness import ARM64, X86_64
from tests.sweep.case import Array, load_arrays
from tests.sweep.worker import compile_model, request_for, serve

RELATIVE, ABSOLUTE = 1e-3, 1e-7
"""The tolerance of onnx's node tests, which have one for all."""

VALUES = "output "
"""How a difference in values begins, not one in shapes or types."""

HALF = 2.0**-8
"""For float16, of which ``RELATIVE`` is one unit in the last place: four, for operators that round inside."""


def judge(folder: Path, target: Target = X86_64, as_package: bool = False) -> dict[str, Any]:
    """``said`` (supported, refused) ``at`` a stage with ``codes`` and ``rules``; ``did`` at a ``stage``.

    ``did`` is matches, wrong, refused (a coded diagnostic after lint), failed (an exception) or untried.
    With ``as_package`` the library of a whole package runs, else the plan alone, which starts sooner.
    """
    from deploycc.importing import load
    from deploycc.lint_targets import compiled_lint_target
    from deploycc.linting import lint
    from deploycc.simplifying import simplify
    from deploycc.types import DeployccError, Limits

    inputs = load_arrays(folder / "inputs.npz")
    expected = load_arrays(folder / "expected.npz")
    request = replace(request_for(folder, inputs), target=target)
    said: dict[str, Any] = {"said": "supported", "at": "import", "codes": [], "rules": []}
    try:
        model = load(request)
        said["at"] = "simplify"
        model = simplify(model, Limits())
        said["at"] = "lint"
        lint(model, compiled_lint_target(target)).raise_if_errors()
    except DeployccError as error:
        said["said"] = "refused"
        said["codes"] = sorted({d.code for d in error.diagnostics})
        said["rules"] = sorted({f"{d.op}: {d.rule or d.code}" for d in error.diagnostics})
        if said["at"] != "lint":
            return {**said, "did": "untried", "stage": said["at"], "detail": str(error)[:300]}
    (folder / "so_far.json").write_text(json.dumps(said))
    stage = ["lower"]
    try:
        planned = compile_model(model, stage, target)
        feeds = [inputs[info.name] for info in planned.inputs]
        if as_package:
            stage.append("package")
            got = _run_package(planned, request, model, feeds)
        else:
            stage.append("run")
            got = harness.run_plan(planned, feeds, target)
    except DeployccError as error:
        codes = ", ".join(sorted({d.code for d in error.diagnostics}))
        return {**said, "did": "refused", "stage": stage[-1], "detail": f"{codes}: {error}"[:300]}
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return {**said, "did": "failed", "stage": stage[-1], "detail": text[-400:]}
    wrong = difference([expected[str(index)] for index in range(len(expected))], true_rows(got, planned))
    did = "wrong" if wrong else "matches"
    if wrong.startswith(VALUES) and _draws(folder):
        did = "drawn"
    return {**said, "did": did, "stage": stage[-1], "detail": wrong}


def true_rows(got: list[Array], planned: Any) -> list[Array]:
    """The model's own outputs: of those with a number of rows the true ones, and that number left out."""
    counted = {info.counted.output for info in planned.outputs if info.counted is not None}
    numbers = {i.name: int(value) for i, value in zip(planned.outputs, got, strict=True) if i.name in counted}
    return [
        value if info.counted is None else value.take(range(numbers[info.counted.output]), info.counted.axis)
        for info, value in zip(planned.outputs, got, strict=True)
        if info.name not in counted
    ]


def difference(expected: list[Array], got: list[Array]) -> str:
    """How ``got`` differs from what the test expects, by the comparison of onnx's own test runner."""
    if len(expected) != len(got):
        return f"{len(got)} outputs, not {len(expected)}"
    for index, (want, have) in enumerate(zip(expected, got, strict=True)):
        if want.shape != have.shape or want.dtype != have.dtype:
            return (
                f"form of output {index}: {have.dtype}{list(have.shape)}, not {want.dtype}{list(want.shape)}"
            )
        try:
            if want.dtype == np.float16:
                have, want = have.astype(np.float32), want.astype(np.float32)
                np.testing.assert_allclose(have, want, rtol=HALF, atol=ABSOLUTE)
            else:
                np.testing.assert_allclose(have, want, rtol=RELATIVE, atol=max(ABSOLUTE, _unit(want)))
        except AssertionError as error:
            return f"{VALUES}{index}: {' '.join(str(error).split())}"[:400]
    return ""


def _unit(want: Array) -> float:
    """One unit in the last place of the largest float32 value: a sum of such values is not known better.

    The expected values of Fourier transforms have that much noise where the result is zero.
    """
    finite = np.abs(want[np.isfinite(want)]) if want.dtype == np.float32 else np.zeros(0)
    return float(np.finfo(np.float32).eps) * float(finite.max(initial=0.0))


def _run_package(planned: Any, request: Any, model: Any, feeds: list[Array]) -> list[Array]:
    """The results of the library of a real package, through its C interface."""
    from benchmarks.library import PackageLibrary
    from deploycc.packaging import package
    from deploycc.reference import golden

    with tempfile.TemporaryDirectory() as folder:
        package(planned, request, model, golden(model, request.seed), Path(folder))
        library = PackageLibrary(Path(folder))
        try:
            return library.bind(feeds)
        finally:
            library.close()


def _draws(folder: Path) -> bool:
    """Whether the model has random numbers: its own results are one draw of many."""
    graph = onnx.load(folder / "model.onnx").graph
    return any(node.op_type in DRAWING for node in all_nodes(graph))


HOW: dict[str, Callable[[Path], dict[str, Any]]] = {
    "plan": judge,
    "package": partial(judge, as_package=True),
    "arm64": partial(judge, target=ARM64),
    "cuda": partial(judge, target=target_of(SM_75)),
}
"""How a worker runs its models: the plan alone, a whole package, or the plan under an emulator."""

if __name__ == "__main__":
    serve(HOW[sys.argv[1] if len(sys.argv) > 1 else "plan"])
