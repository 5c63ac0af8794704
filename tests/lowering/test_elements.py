"""Operators on elements, along an axis, of a seed or by a C function, beside the reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from deploycc.importing import load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.reference import run
from deploycc.simplifying import simplify
from deploycc.types import BuildRequest, DeployccError, Limits, Model, Target
from tests.planning.harness import ARM64, X86_64, find_emulator, run_plan
from tests.sweep.worker import compile_model

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng()


def network(
    nodes: list[NodeProto], feeds: Mapping[str, Array], weights: Mapping[str, Array], opset: int
) -> onnx.ModelProto:
    """A graph of these nodes whose outputs are all that no node reads."""
    read = {name for node in nodes for name in node.input}
    ends = [name for node in nodes for name in node.output if name and name not in read]
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kinds[name], feeds[name].shape) for name in feeds],
        [onnx.ValueInfoProto(name=name) for name in ends],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


def through(proto: onnx.ModelProto, folder: Path) -> Model:
    """What lowering gets, if lint lets it pass."""
    onnx.save(proto, folder / "net.onnx")
    request = BuildRequest(folder / "net.onnx", X86_64, folder / "out", "net")
    model = simplify(load(request), Limits())
    lint(model, compiled_lint_target(X86_64)).raise_if_errors()
    return model


def check(
    folder: Path,
    nodes: list[NodeProto],
    feeds: Mapping[str, Array],
    weights: Mapping[str, Array] | None = None,
    opset: int = 25,
    target: Target = X86_64,
    absolute: float = 1e-6,
) -> Model:
    """The nodes, as one network, give what the reference does; integers to the bit."""
    proto = network(nodes, feeds, weights or {}, opset)
    model = through(proto, folder)
    got = run_plan(compile_model(model, [""], target), list(feeds.values()), target)
    wanted, _ = run(proto, list(feeds.values()))
    for info, want, have in zip(proto.graph.output, wanted, got, strict=True):
        assert (have.dtype, have.shape) == (want.dtype, want.shape), info.name
        if want.dtype.kind == "f":
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=absolute, err_msg=info.name)
        else:
            np.testing.assert_array_equal(have, want, err_msg=info.name)
    return model


def refused(folder: Path, nodes: list[NodeProto], feeds: Mapping[str, Array], opset: int = 25) -> set[str]:
    with pytest.raises(DeployccError) as error:
        through(network(nodes, feeds, {}, opset), folder)
    return {d.rule or d.code for d in error.value.diagnostics}


def test_running_products_and_bits_under_another_type(tmp_path: Path) -> None:
    feeds = {
        "x": RNG.uniform(0.5, 1.5, (3, 7)).astype(np.float32),
        "i": RNG.integers(1, 4, (1, 5), np.int32),
        "d": RNG.standard_normal((2, 3)),
        "b": RNG.integers(0, 2, (4,)).astype(bool),
    }
    nodes = [
        helper.make_node("CumProd", ["x", "one"], ["forward"]),
        helper.make_node("CumProd", ["x", "minus"], ["backward"], reverse=1, exclusive=1),
        helper.make_node("CumProd", ["i", "one"], ["whole"], exclusive=1),
        helper.make_node("BitCast", ["x"], ["x_bits"], to=TensorProto.INT32),
        helper.make_node("BitCast", ["d"], ["d_bits"], to=TensorProto.UINT64),
        helper.make_node("BitCast", ["i"], ["i_float"], to=TensorProto.FLOAT),
        helper.make_node("BitCast", ["b"], ["b_byte"], to=TensorProto.UINT8),
    ]
    check(tmp_path, nodes, feeds, {"one": np.int64(1), "minus": np.int64(-2)}, opset=26)


def test_an_axis_of_running_products_that_is_computed_is_refused(tmp_path: Path) -> None:
    feeds = {"x": np.ones((2, 3), np.float32), "axis": np.array(1, np.int64)}
    assert refused(tmp_path, [helper.make_node("CumProd", ["x", "axis"], ["y"])], feeds, 26) == {
        "cumsum-axis"
    }


def test_powers_with_integers_on_either_side(tmp_path: Path) -> None:
    feeds = {
        "i": RNG.integers(-4, 5, (5, 3), np.int64),
        "s": RNG.integers(-4, 5, (5, 3), np.int32),
        "f": RNG.uniform(0, 3, (1, 3)).astype(np.float32),
        "n": RNG.integers(0, 5, (5, 1), np.int64),
    }
    pairs = [("i", "n"), ("i", "f"), ("f", "n"), ("s", "n"), ("f", "f")]
    nodes = [helper.make_node("Abs", ["i"], ["p"]), helper.make_node("Pow", ["p", "f"], ["pf"])]
    nodes += [helper.make_node("Pow", [a, b], [a + b]) for a, b in pairs if a + b != "if"]
    check(tmp_path, nodes, feeds)


def test_sequences_in_reverse(tmp_path: Path) -> None:
    feeds = {"x": RNG.standard_normal((7, 4, 3)).astype(np.float32), "n": np.array([1, 7, 3, 2], np.int64)}
    nodes = [
        helper.make_node("ReverseSequence", ["x", "n"], ["by_time"], time_axis=0, batch_axis=1),
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("ReverseSequence", ["t", "n"], ["by_batch"], time_axis=1, batch_axis=0),
    ]
    check(tmp_path, nodes, feeds)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_a_cache_that_is_written_into(tmp_path: Path, mode: str) -> None:
    feeds = {
        "past": RNG.standard_normal((3, 2, 5, 4)).astype(np.float32),
        "update": RNG.standard_normal((3, 2, 2, 4)).astype(np.float32),
        "at": np.array([0, 3, 4] if mode == "circular" else [0, 3, 2], np.int64),
    }
    nodes = [
        helper.make_node("TensorScatter", ["past", "update", "at"], ["now"], mode=mode),
        helper.make_node("TensorScatter", ["past", "update"], ["first"], mode=mode, axis=2),
    ]
    check(tmp_path, nodes, feeds)


@pytest.mark.parametrize("target", [X86_64, ARM64], ids=["x86-64", "arm64"])
def test_what_c_functions_compute(tmp_path: Path, target: Target) -> None:
    if target.emulator and find_emulator(target) is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    matrices = RNG.standard_normal((2, 3, 5, 5)).astype(np.float32)
    matrices[0, 1, 3] = matrices[0, 1, 2]  # singular
    feeds = {
        "m": matrices,
        "f": RNG.standard_normal((1, 1)).astype(np.float32),
        "words": RNG.integers(0, 5, (4, 11), np.int64),
        "row": RNG.integers(0, 5, 11, np.int32),
    }
    grams: dict[str, Any] = {
        "min_gram_length": 1,
        "max_gram_length": 3,
        "max_skip_count": 2,
        "ngram_counts": [0, 3, 9],
        "ngram_indexes": [0, 4, 2, 1, 3, 6, 5],
        "pool_int64s": [1, 2, 3, 1, 2, 0, 4, 2, 2, 1, 2, 3],
    }
    nodes = [
        helper.make_node("Det", ["m"], ["dets"]),
        helper.make_node("Det", ["f"], ["itself"]),
        helper.make_node("TfIdfVectorizer", ["words"], ["tf"], mode="TF", **grams),
        helper.make_node(
            "TfIdfVectorizer", ["row"], ["tfidf"], mode="TFIDF", weights=[1.5, 2, 3, 4, 5, 6, 7], **grams
        ),
        helper.make_node(
            "TfIdfVectorizer", ["words"], ["idf"], mode="IDF", **{**grams, "min_gram_length": 2}
        ),
    ]
    # ONNX Runtime has no Det of a newer opset, and eliminates in single precision: what nearly cancels out
    # keeps the error of its terms.
    model = check(tmp_path, nodes, feeds, opset=18, target=target, absolute=1e-3)
    assert len(model.outputs) == 5


def test_determinants_in_double_precision(tmp_path: Path) -> None:
    matrices = RNG.standard_normal((4, 7, 7))
    proto = network([helper.make_node("Det", ["m"], ["y"])], {"m": matrices}, {}, 18)
    (got,) = run_plan(compile_model(through(proto, tmp_path), [""], X86_64), [matrices], X86_64)
    np.testing.assert_allclose(got, np.linalg.det(matrices), rtol=1e-12)


def test_random_numbers_are_those_of_onnx_runtimes_first_run(tmp_path: Path) -> None:
    feeds = {"x": RNG.standard_normal((3, 5)).astype(np.float32)}
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["n"], seed=3.0, mean=1.0),
        helper.make_node("Add", ["x", "n"], ["noisy"]),
        helper.make_node(
            "RandomUniform", [], ["u"], seed=11.0, shape=[2, 3], low=-2.0, dtype=TensorProto.DOUBLE
        ),
        helper.make_node("Multinomial", ["x"], ["m"], seed=5.0, sample_size=40),
    ]
    model = check(tmp_path, nodes, feeds, opset=21)
    assert not model.diagnostics


def test_random_numbers_without_a_seed_are_told(tmp_path: Path) -> None:
    feeds = {"x": RNG.standard_normal((3, 5)).astype(np.float32)}
    nodes = [helper.make_node("RandomUniformLike", ["x"], ["u"], name="noise")]
    proto = network([*nodes, helper.make_node("Add", ["u", "x"], ["y"])], feeds, {}, 21)
    model = through(proto, tmp_path)
    assert [(d.code, d.node, d.severity) for d in model.diagnostics] == [("DC149", "noise", "warning")]
    plan = compile_model(model, [""], X86_64)
    first, again = (run_plan(plan, [feeds["x"]], X86_64)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert 0 <= (first - feeds["x"]).min() < (first - feeds["x"]).max() < 1.001


def test_forms_that_become_constants_or_comparisons(tmp_path: Path) -> None:
    feeds = {"x": RNG.integers(0, 9, (3, 4), np.int32), "f": RNG.standard_normal((2, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("EyeLike", ["x"], ["eye"], k=1, dtype=TensorProto.DOUBLE),
        helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT),
        helper.make_node("OneHot", ["xf", "depth", "values"], ["hot"], axis=1),
        helper.make_node("Dropout", ["f", "half"], ["same", "mask"]),
        helper.make_node("Dropout", ["f", "none", "yes"], ["kept"]),
    ]
    weights = {
        "depth": np.array(7, np.float32),
        "values": np.array([-1, 2], np.float32),
        "half": np.float32(0.5),
        "none": np.float32(0),
        "yes": np.bool_(True),
    }
    check(tmp_path, nodes, feeds, weights, opset=21)
    training = [helper.make_node("Dropout", ["f", "half", "yes"], ["kept"])]
    with pytest.raises(DeployccError) as error:
        through(network(training, {"f": feeds["f"]}, {k: weights[k] for k in ("half", "yes")}, 21), tmp_path)
    assert {d.rule for d in error.value.diagnostics} == {"dropout-training"}
