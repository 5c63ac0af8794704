"""The stage as a whole: what it does, and what it falls back to when a step goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from deploycc.importing import load
from deploycc.lint_targets import load_lint_target
from deploycc.linting import lint
from deploycc.onnx_editor import Editor
from deploycc.op_support import converted_operators
from deploycc.simplifying import folding, pipeline, simplify
from deploycc.simplifying.folding import FoldingFailed
from deploycc.supervise import ChildCrashed
from deploycc.types import BuildRequest, DeployccError, Limits
from tests.simplifying.graphs import as_model, assert_same, build, operators

NOT_USED: Any = None

SHAPES = """g (float[2,3,4] x) => (float[2,12] y) <int64 z = {0}, int64[1] zero = {0}, int64[1] m = {-1}> {
    s = Shape(x) n = Gather<axis=0>(s, z) u = Unsqueeze(n, zero) t = Concat<axis=0>(u, m)
    r = Reshape(x, t) i = Identity(r) c = Clip(i, lo, hi) y = Dropout(c) }"""
BOUNDS = {"lo": np.array(0, np.float32), "hi": np.array(6, np.float32)}


def no_folding(*_: object) -> ModelProto:
    raise FoldingFailed("it hung")


def test_folds_cleans_and_rewrites() -> None:
    proto = build(SHAPES, weights=BOUNDS)
    done = simplify(as_model(proto), Limits())
    assert operators(done.proto) == {"Reshape": 1, "Relu": 1, "Min": 1}
    assert done.diagnostics == ()
    assert [(o.name, o.shape) for o in done.outputs] == [("y", (2, 12))]
    assert_same(proto, done.proto)


def test_without_onnxsim_own_folding_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "fold", no_folding)
    proto = build(SHAPES, weights=BOUNDS)
    done = simplify(as_model(proto), Limits())
    assert operators(done.proto) == {"Reshape": 1, "Relu": 1, "Min": 1}
    assert [(d.code, d.severity, d.got) for d in done.diagnostics] == [("DC151", "warning", "it hung")]
    assert done.diagnostics[0].message == "onnxsim could not simplify the model; it is built without that"
    assert_same(proto, done.proto)


def test_a_wrong_result_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(proto: ModelProto, _: Limits) -> ModelProto:
        other = ModelProto()
        other.CopyFrom(proto)
        next(node for node in other.graph.node if node.op_type == "Neg").op_type = "Abs"
        return other

    monkeypatch.setattr(pipeline, "fold", wrong)
    proto = build("g (float[4] x) => (float[4] y) { a = Neg(x) y = Relu(a) }")
    done = simplify(as_model(proto), Limits())
    assert operators(done.proto) == {"Neg": 1, "Relu": 1}
    assert {d.code for d in done.diagnostics} == {"DC152"}
    assert "output 'y': largest error" in done.diagnostics[0].got
    assert done.diagnostics[0].message == (
        "a simplified form of the model computes something else and was thrown away"
    )


def test_a_broken_result_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(proto: ModelProto, _: Limits) -> ModelProto:
        other = ModelProto()
        other.CopyFrom(proto)
        other.graph.node[0].input[0] = "nowhere"
        return other

    monkeypatch.setattr(pipeline, "fold", broken)
    proto = build("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    done = simplify(as_model(proto), Limits())
    assert_same(proto, done.proto)
    assert {d.code for d in done.diagnostics} == {"DC152"}


def test_growth_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = build(
        "g (float[1] x) => (float[64,64] y) <int64[2] s = {64, 64}> { w = Expand(k, s) y = Add(x, w) }",
        weights={"k": np.ones(1, np.float32)},
    )
    done = simplify(as_model(proto), Limits(folded_bytes=1000))
    assert sum(tensor.ByteSize() for tensor in done.proto.graph.initializer) < 1000
    assert_same(proto, done.proto)
    folded = simplify(as_model(proto), Limits())
    assert operators(folded.proto) == {"Add": 1}

    def blow_up(source: ModelProto, _: Limits) -> ModelProto:
        editor = Editor(source)
        name = editor.add_constant("big", np.ones(5000, np.float32))
        assert name == "big"
        return editor.write_back()

    monkeypatch.setattr(pipeline, "fold", blow_up)
    guarded = simplify(as_model(proto), Limits(folded_bytes=1000))
    found = [d for d in guarded.diagnostics if d.code == "DC153"]
    assert found[0].message == "folding constants would blow the model up; it is built unfolded"
    assert found[0].need == "at most 1000"


def test_a_model_no_reference_runs_is_not_compared() -> None:
    graph = "g (float[4] x) => (float[3,3] y) <int64[2] s = {3, 3}> { z = Reshape(x, s) y = Relu(z) }"
    proto = build(graph)
    done = simplify(as_model(proto), Limits())
    found = next(d for d in done.diagnostics if d.code == "DC154")
    assert found.message == "the model could not be run before simplifying, so nothing was compared"
    assert "Reshape" in found.got


# ---- onnxsim's own process ----


def hang(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    time.sleep(60)


def crash(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    import ctypes

    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("function", "seconds", "says"), [("hang", 12.0, "no result after 3 s"), ("crash", 240.0, "SIGSEGV")]
)
def test_a_child_that_goes_wrong(
    function: str, seconds: float, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = folding.run_child

    def child(entry: str, request: Any, limits: Limits) -> Any:
        return real(f"{__name__}:{function}", request, limits)

    monkeypatch.setattr(folding, "run_child", child)
    proto = build("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    with pytest.raises(FoldingFailed) as raised:
        folding.fold(proto, Limits(stage_seconds=seconds))
    assert says in str(raised.value)


def test_a_child_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(*_: object) -> Any:
        raise ChildCrashed("left with exit status 3", 3)

    monkeypatch.setattr(folding, "run_child", child)
    with pytest.raises(FoldingFailed, match="exit status 3"):
        folding.fold(build("g (float[4] x) => (float[4] y) { y = Relu(x) }"), Limits())


# ---- real networks ----


@pytest.mark.parametrize("name", ["mtcnn_pnet", "mtcnn_rnet", "ppocr_cls_v2", "espcn_bsd300_nnresize"])
def test_real_networks(network: Callable[[str], Path], name: str) -> None:
    from benchmarks.networks import networks

    check_network(network(name), dict(networks()[name].inputs))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "basic_pitch_nmp",
        "magika_v3_3",
        "mtcnn_onet",
        "ocra_orientation",
        "open_nsfw",
        "pplcnet_doc_orientation",
        "ppocrv4_det",
        "ppocrv4_rec_ch",
        "u2netp",
    ],
)
def test_all_real_networks(network: Callable[[str], Path], name: str) -> None:
    from benchmarks.networks import networks

    check_network(network(name), dict(networks()[name].inputs))


def check_network(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    request = BuildRequest(model=path, target=NOT_USED, output=path.parent, name="net", shapes=shapes)
    model = load(request)
    done = simplify(model, Limits())
    report = lint(done, load_lint_target("x86-64"))
    assert done.diagnostics == ()
    assert [d for d in report.diagnostics if d.severity != "info"] == []
    assert set(operators(done.proto)) <= converted_operators()
    assert not {"Identity", "Constant", "Shape", "Clip", "BatchNormalization"} & set(operators(done.proto))
    assert all(-1 not in info.shape for info in done.outputs)


def test_network_without_its_shape_says_what_to_pass(network: Callable[[str], Path]) -> None:
    path = network("mtcnn_pnet")
    with pytest.raises(DeployccError) as raised:
        load(BuildRequest(model=path, target=NOT_USED, output=path.parent, name="net"))
    assert raised.value.diagnostics[0].help == "pass --shape input=1x3x?x? with the ? filled in"
