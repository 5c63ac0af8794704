"""``fix_model``: what is written and what never is, the second run, and errors instead of half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import deploycc.linting
from deploycc.fix import fix_in_child, fix_model, fix_text
from deploycc.fix_types import FixResult
from deploycc.lint_types import LintTarget, Report
from deploycc.op_support import support_table
from deploycc.simplifying import folding
from deploycc.types import DeployccError, Diagnostic, Limits, Model
from tests.fixing.cases import Case, drawn

NAMED = {
    "Mish": "mish-to-tanh",
    "Softmax": "softmax-last-axis",
    "Conv": "conv-pads-to-pad",
    "Where": "where-to-mul",
    "Gemm": "gemm-to-fully-connected",
    "Reshape": "pixel-shuffle-to-depth-to-space",
    "Resize": "resize-nearest-asymmetric-floor",
}
"""A table of a target that has a rewrite for each of these."""

BODY = "a = Conv<pads=[0,1,2,0]>(x, w) b = Mish(a) y = Softmax<axis=1>(b)"


def write(folder: Path, body: str = BODY, head: str = "float[1,4,5,7] x", **weights: np.ndarray) -> Path:
    path = folder / "model.onnx"
    proto = Case(f"g ({head}) => (float y) {{ {body} }}", {"w": drawn(6, 4, 3, 3), **weights}).build()
    for node in proto.graph.node:
        node.metadata_props.add(key="line", value=f"net.py:{node.op_type}")
    onnx.save(proto, path)
    return path


def codes(raised: pytest.ExceptionInfo[DeployccError]) -> list[str]:
    return [d.code for d in raised.value.diagnostics]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The children's functions are called in this process, which has imported what they need."""

    def run_child(
        entry: str, message: dict[str, Any], limits: Limits, on_event: object = None
    ) -> dict[str, Any]:
        assert entry == "deploycc.fix:fix_in_child"
        answer: dict[str, Any] = json.loads(json.dumps(fix_in_child(message, lambda event: None)))
        return answer

    def fold(model: onnx.ModelProto, limits: Limits, *, fuse: bool = True) -> onnx.ModelProto:
        skipped = [*folding.SKIPPED_OPTIMIZERS, *(() if fuse else folding.FUSING_OPTIMIZERS)]
        source, folded = tmp_path / "in.onnx", tmp_path / "out.onnx"
        onnx.save(model, source)
        request = {"source": source, "result": folded, "folded_bytes": 1 << 20, "skipped": skipped}
        folding.fold_in_child(request, lambda event: None)
        made = onnx.load(folded)
        source.unlink()
        folded.unlink()
        return made

    monkeypatch.setattr("deploycc.fix.run_child", run_child)
    monkeypatch.setattr("deploycc.simplifying.pipeline.fold", fold)


@pytest.fixture
def named(inside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lint names a rewrite for every node of ``NAMED``."""
    real = deploycc.linting.lint

    def lint(model: Model, target: LintTarget) -> Report:
        report = real(model, target)
        found = tuple(
            Diagnostic(
                "DC402", "m", node=n.name, op=n.op_type, rule="row", fix=NAMED[n.op_type], severity="warning"
            )
            for n in model.proto.graph.node
            if n.op_type in NAMED
        )
        return replace(report, diagnostics=(*(d for d in report.diagnostics if not d.fix), *found))

    monkeypatch.setattr(deploycc.linting, "lint", lint)


@pytest.mark.usefixtures("named")
def test_rewrites_are_made_once(tmp_path: Path) -> None:
    model, fixed = write(tmp_path), tmp_path / "fixed.onnx"
    before = model.read_bytes()
    result = fix_model(model, ["snpe:htp"], fixed)
    assert {a.fix for a in result.applied} == {"conv-pads-to-pad", "mish-to-tanh", "softmax-last-axis"}
    assert result.output == fixed
    assert result.errors[0].share <= 1e-5
    assert model.read_bytes() == before
    proto = onnx.load(fixed)
    onnx.checker.check_model(proto)
    assert {"Mish"}.isdisjoint(node.op_type for node in proto.graph.node)
    origins = {node.op_type: node.metadata_props[0].value for node in proto.graph.node}
    assert origins["Conv"] == origins["Pad"] == "net.py:Conv"
    assert origins["Tanh"] == "net.py:Mish"

    again = fix_model(fixed, ["snpe:htp"], tmp_path / "again.onnx")
    assert again.applied == ()
    assert again.output is None
    assert again.diff == ()
    assert not (tmp_path / "again.onnx").exists()
    assert fix_text(again)[-3] == "nothing was rewritten, so no model was written"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fixed.onnx", "model.onnx"]


@pytest.mark.usefixtures("named")
def test_text(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    body = "b = Mish(x) c = Where(m, b, x) y = Softmax(c)"
    model = write(tmp_path, body, "float[1,4,5,7] x, bool[7] m")
    result = fix_model(model, ["snpe:htp"], tmp_path / "fixed.onnx")
    exact = tuple(replace(e, max_abs_error=1e-7, share=2e-7) for e in result.errors)
    shown = replace(result, output=Path("fixed.onnx"), errors=exact, reports=())
    golden("fix.txt", "\n".join(fix_text(shown)) + "\n")
    assert result.diff[0] == f"--- {model}"
    assert sum(line.startswith("+b: ") for line in result.diff) == 1


@pytest.mark.usefixtures("named")
def test_targets_that_are_compiled_for_see_their_own_graph(tmp_path: Path) -> None:
    """Lint for them reads the lifted and lowered graph; the node that is rewritten is the original's."""
    model = write(tmp_path, "y = Softmax<axis=1>(x)")
    result = fix_model(model, ["arm64"], tmp_path / "fixed.onnx")
    assert [(a.fix, a.node, a.target) for a in result.applied] == [
        ("softmax-last-axis", "Softmax_0", "arm64")
    ]
    assert [report.target for report in result.reports] == ["arm64"]


@pytest.mark.usefixtures("named")
def test_unsafe_and_selected(tmp_path: Path) -> None:
    model = write(tmp_path, "b = Mish(x) y = Where(m, b, x)", "float[1,4,5,7] x, bool[7] m")
    kept = fix_model(model, ["snpe"], tmp_path / "a.onnx", select=["where-to-mul"])
    assert (kept.applied, kept.output) == ((), None)
    assert {r.fix for r in kept.refused} == {"where-to-mul", "mish-to-tanh"}
    made = fix_model(model, ["snpe"], tmp_path / "a.onnx", select=["where-to-mul"], unsafe=True)
    assert [a.fix for a in made.applied] == ["where-to-mul"]


def test_nothing_to_do_is_written_only_when_asked(tmp_path: Path) -> None:
    model, fixed = write(tmp_path, "y = Relu(x)"), tmp_path / "fixed.onnx"
    result = fix_model(model, ["snpe:htp"], fixed)
    assert (result.applied, result.output, fixed.exists()) == ((), None, False)
    result = fix_model(model, ["snpe:htp"], fixed, write_unchanged=True)
    assert result.output == fixed
    assert [node.op_type for node in onnx.load(fixed).graph.node] == ["Relu"]
    umask = os.umask(0)
    os.umask(umask)
    assert fixed.stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_model_itself_is_never_replaced(tmp_path: Path) -> None:
    model = write(tmp_path, "y = Relu(x)")
    before = model.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    for output in (model, link, tmp_path / "." / "model.onnx"):
        with pytest.raises(DeployccError) as raised:
            fix_model(model, ["snpe"], output, write_unchanged=True)
        assert codes(raised) == ["DC791"]
        found = raised.value.diagnostics[0]
        assert found.message == "the repaired model would replace the model that it was made from"
        assert "model.fixed.onnx" in found.help
    assert model.read_bytes() == before


@pytest.mark.usefixtures("inside")
def test_an_older_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    model, fixed = write(tmp_path, "y = Relu(x)"), tmp_path / "fixed.onnx"
    fixed.write_bytes(b"older")
    fix_model(model, ["snpe"], fixed, write_unchanged=True)
    onnx.checker.check_model(onnx.load(fixed))


@pytest.mark.usefixtures("inside")
def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    model = write(tmp_path, "y = Relu(x)")
    for output in (tmp_path / "nosuch" / "fixed.onnx", tmp_path):
        with pytest.raises(DeployccError) as raised:
            fix_model(model, ["snpe"], output, write_unchanged=True)
        assert codes(raised) == ["DC795"]
        assert raised.value.diagnostics[0].message == f"the repaired model cannot be written to {output}"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_names_of_rewrites(tmp_path: Path) -> None:
    with pytest.raises(DeployccError) as raised:
        fix_model(write(tmp_path), ["snpe"], tmp_path / "f.onnx", select=["mish-to-tan", "mish-to-tanh", "%"])
    assert codes(raised) == ["DC794", "DC794"]
    assert raised.value.diagnostics[0].message == "no rewrite is called 'mish-to-tan'"
    assert raised.value.diagnostics[0].help == "did you mean mish-to-tanh?"


@pytest.mark.usefixtures("inside")
def test_open_dimensions_need_a_shape(tmp_path: Path) -> None:
    model = write(tmp_path, "y = Relu(x)", "float[n,4] x")
    with pytest.raises(DeployccError) as raised:
        fix_model(model, ["snpe"], tmp_path / "fixed.onnx")
    assert codes(raised) == ["DC200"]
    result = fix_model(model, ["snpe"], tmp_path / "fixed.onnx", shapes={"x": [3, 4]}, write_unchanged=True)
    assert result.output is not None


@pytest.mark.usefixtures("inside")
def test_a_model_that_cannot_be_run(tmp_path: Path) -> None:
    model = write(tmp_path, "y = Gather(x, i)", i=np.array([99], np.int64))
    with pytest.raises(DeployccError) as raised:
        fix_model(model, ["snpe"], tmp_path / "fixed.onnx")
    assert codes(raised) == ["DC792"]
    assert not (tmp_path / "fixed.onnx").exists()


def test_on_a_table_that_comes_with_deploycc(tmp_path: Path) -> None:
    """From the row of an operator to the file, through the child process."""
    row = support_table("snpe").missing.get("Mish")
    if getattr(row, "fix", "") != "mish-to-tanh":
        pytest.skip("the table of snpe names no rewrite for Mish")
    model = write(tmp_path, "b = Mish(x) y = PRelu(b, s)", s=drawn(4, 1, 1))
    result: FixResult = fix_model(model, ["snpe:htp", "arm64"], tmp_path / "fixed.onnx")
    assert "mish-to-tanh" in {a.fix for a in result.applied}
    assert result.errors[0].share <= 1e-5
    again = fix_model(tmp_path / "fixed.onnx", ["snpe:htp", "arm64"], tmp_path / "again.onnx")
    assert again.applied == ()
