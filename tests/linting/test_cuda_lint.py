"""NVIDIA GPUs: what TensorRT and ONNX Runtime take of a network, each a target and a hint of our own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from deploycc import build
from deploycc.lint import lint_model
from deploycc.lint_targets import external, load_lint_target
from deploycc.linting import lint
from deploycc.linting.table import EFFECTS, Condition, conditions
from deploycc.onnx_graph import dtype_name
from deploycc.op_support import support_table, version_in
from deploycc.types import DeployccError, Diagnostic
from tests.linting.cases import cases
from tests.linting.found import found, rows
from tests.linting.graphs import model
from tests.models import write_small_net

NOTE = "deploycc compiles for these GPUs itself: --target cuda"
ENGINES = ("tensorrt", "onnxruntime-cuda")
ROWS = rows("tensorrt")
IDS = [f"{condition.id}-{operator}" for _, condition, operator in ROWS]


@pytest.mark.parametrize(("engine", "condition", "operator"), ROWS, ids=IDS)
def test_condition_fires_and_is_silent(engine: str, condition: Condition, operator: str) -> None:
    fires, silent = cases(engine)[condition.id]
    first = found(engine, fires, condition, operator)[0]
    assert first.code == EFFECTS[condition.effect].code
    assert all((first.node, first.got, first.need, first.help, first.source))
    assert "?" not in first.got + first.need, "a fact in the message is not known"
    assert not found(engine, silent, condition, operator)


def test_tables_are_whole() -> None:
    assert set(cases("tensorrt")) == {condition.id for condition in conditions("tensorrt")}
    standard = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and not s.deprecated}
    types = {dtype_name(number) for number in onnx.TensorProto.DataType.values()}
    history = onnx.defs.get_all_schemas_with_history()
    forms = {(s.name, s.since_version) for s in history if s.domain == ""}
    for engine in ENGINES:
        known = support_table(engine)
        assert not set(known.operators) & set(known.missing)
        # What came after the lists were written is not known.
        new = {"BitCast", "CausalConvWithState", "CumProd", "LinearAttention", "SwiGLU", "Swish"}
        assert standard - set(known.operators) - set(known.missing) == new
        for name, row in known.operators.items():
            assert known.source(row.source)
            assert set(row.types) <= types, name
            assert all((name, form) in forms for form in row.opsets), name
        assert all(row.help and known.source(row.source) for row in known.missing.values())


@pytest.mark.parametrize(
    ("text", "engine", "hints", "fallback"),
    [
        ("tensorrt", "tensorrt", ("onnxruntime-cuda",), ""),
        ("tensorrt@10.15", "tensorrt", ("onnxruntime-cuda",), ""),
        ("onnxruntime-cuda", "onnxruntime-cuda", ("tensorrt",), "cpu"),
    ],
)
def test_targets(text: str, engine: str, hints: tuple[str, ...], fallback: str) -> None:
    target = load_lint_target(text)
    assert (target.engine, target.hints, target.fallback) == (engine, hints, fallback)
    assert target.compiled is None
    assert target.note == external(target.family).note == NOTE


def test_the_note_is_in_the_report(tmp_path: Path) -> None:
    write_small_net(tmp_path / "model.onnx")
    other, host = lint_model(tmp_path / "model.onnx", ["tensorrt", "x86-64"]).reports
    assert other.note == NOTE
    assert host.note == ""
    assert [(column.engine, column.taken) for column in other.hints] == [("onnxruntime-cuda", 2)]


def test_our_own_target_shows_both_beside_it(tmp_path: Path) -> None:
    write_small_net(tmp_path / "model.onnx")
    (ours,) = lint_model(tmp_path / "model.onnx", ["cuda:sm_90"]).reports
    assert (ours.target, ours.note) == ("cuda:sm_90", "")
    assert [(column.engine, column.taken) for column in ours.hints] == [
        ("tensorrt", 2),
        ("onnxruntime-cuda", 2),
    ]


@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime-cuda", "tensorrt@11"])
def test_build_says_who_compiles(target: str, tmp_path: Path) -> None:
    write_small_net(tmp_path / "model.onnx")
    command = [sys.executable, "-m", "deploycc", "build", "model.onnx", "--target", target]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    name = target.partition("@")[0]
    assert f"error[DC512]: deploycc does not compile for '{name}'" in done.stderr
    assert f"deploycc lint --target {name}'" in done.stderr
    assert NOTE in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_build_says_so_with_what_else_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DeployccError) as raised:
        build(tmp_path / "model.onnx", "tensorrt", name="no name")
    assert [d.code for d in raised.value.diagnostics][-1] == "DC512"
    assert len(raised.value.diagnostics) == 2


def diagnostics(graph: str, target: str, opset: int = 18) -> list[Diagnostic]:
    return list(lint(model(graph, opset), load_lint_target(target)).diagnostics)


def test_opsets_of_a_release() -> None:
    table = support_table("tensorrt")
    for version, newest in (("10.15", 24), ("11", 25), ("", 25)):
        limit = table.limit("opsets", "tensorrt", version)
        assert limit is not None
        assert version_in(str(newest), limit.value)
        assert not version_in(str(newest + 1), limit.value)
        assert not version_in("8", limit.value)


def test_double_is_computed_in_single_precision() -> None:
    found = diagnostics("g (double[2] x) => (double[2] y) { y = Exp(x) }", "tensorrt")
    (one,) = [d for d in found if d.rule == "operator-types"]
    assert (one.code, one.verdict, one.severity) == ("DC417", "info", "info")
    assert one.message == "Exp computes in float32 instead of float64"


def test_onnxruntime_moves_a_type_to_the_cpu() -> None:
    graph = "g (bfloat16[2] x) => (bfloat16[2] y) { y = Ceil(x) }"
    (one,) = diagnostics(graph, "onnxruntime-cuda")
    assert (one.code, one.verdict, one.severity) == ("DC417", "fallback", "warning")
    assert one.got == "bfloat16 in 'x'"


def test_types_are_those_of_the_newest_form() -> None:
    graph = "g (int32[2] x) => (int32[2] y) { y = Neg(x) }"
    assert not diagnostics(graph, "onnxruntime-cuda")
    unsigned = "g (uint64[2] x) => (uint64[2] y) { y = Neg(x) }"
    assert [d.code for d in diagnostics(unsigned, "onnxruntime-cuda")] == ["DC417"]
    assert not diagnostics(unsigned, "onnxruntime-cuda", opset=12)


@pytest.mark.parametrize(
    "graph",
    [
        "g (bool[2] c, float[2] a, float[2] b) => (float[2] y) { y = Where(c, a, b) }",
        "g (float[2,3] x) => (int64[2] y) { y = ArgMax<axis=1, keepdims=0>(x) }",
        "g (float[4,3] x, int32[2] i) => (float[2,3] y) { y = Gather(x, i) }",
        "g (float[2] a, float[2] b) => (bool[2] y) { y = Less(a, b) }",
        "g (int64[1] s) => (float[n] y) { y = ConstantOfShape(s) }",
        "g (int32 s) => (float[n] y) { y = HannWindow(s) }",
    ],
)
def test_types_are_of_the_data_alone(graph: str) -> None:
    assert not [d for d in diagnostics(graph, "tensorrt") if d.code == "DC417"]


def test_what_has_no_kernel() -> None:
    graph = "g (float[2] x) => (float[2] y) { y = Acos(x) }"
    (one,) = diagnostics(graph, "onnxruntime-cuda")
    assert (one.code, one.verdict) == ("DC416", "fallback")
    assert "moves it to cpu" in one.help
    assert not diagnostics(graph, "tensorrt")
    (two,) = diagnostics("g (float[2,2] x) => (float[2,2] y) { y = Bernoulli(x) }", "tensorrt")
    assert (two.code, two.verdict) == ("DC400", "unsupported")


def test_a_form_without_a_kernel_runs_elsewhere() -> None:
    graph = "g (float[1,1,4,4] x) => (float[1,1,1,1] y) { y = GlobalAveragePool(x) }"
    (one,) = diagnostics(graph, "onnxruntime-cuda", opset=22)
    assert (one.code, one.verdict, one.severity) == ("DC415", "fallback", "warning")
    assert one.help.startswith("the runtime moves it to cpu")
    assert not diagnostics(graph, "onnxruntime-cuda", opset=21)


def test_a_column_counts_kernels_of_the_gpu_alone() -> None:
    graph = "g (float[2] x) => (float[2] y) { a = Acos(x) b = Mish(a) c = Relu(b) y = vendor.Relu(c) }"
    (column,) = lint(model(graph, 18), load_lint_target("tensorrt")).hints
    assert (column.nodes, column.taken) == (4, 1)
    assert set(column.refused) == {
        ("Acos", 1, "not taken"),
        ("Mish", 1, "not taken"),
        ("Relu", 1, "not in its lists"),
    }


def test_a_column_knows_the_forms() -> None:
    graph = "g (float[1,1,4,4] x) => (float[1,1,1,1] y) { y = GlobalAveragePool(x) }"
    for opset, refused in (
        (21, ()),
        (22, (("GlobalAveragePool", 1, "this form of it is not in its lists"),)),
    ):
        (column,) = lint(model(graph, opset), load_lint_target("tensorrt")).hints
        assert column.refused == refused
