"""Random inputs, the reference's outputs, and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper, parser

from deploycc import reference
from deploycc.double_precision import WITHOUT_DOUBLE, in_double
from deploycc.importing import load
from deploycc.onnx_graph import infer_shapes, opset_of, tensor_info
from deploycc.types import BuildRequest, DeployccError, Model, TensorInfo


def build(graph: str, opset: int = 18) -> ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{graph}')


def model(proto: ModelProto) -> Model:
    return Model(
        proto=proto,
        inputs=tuple(tensor_info(info) for info in proto.graph.input),
        outputs=tuple(tensor_info(info) for info in proto.graph.output),
        opset=opset_of(proto),
        sha256="",
    )


# ---- inputs ----


def test_inputs_depend_on_the_seed_alone() -> None:
    infos = [TensorInfo("a", "float32", (3, 5)), TensorInfo("b", "int64", (7,))]
    renamed = [TensorInfo("x", "float32", (3, 5)), TensorInfo("y", "int64", (7,))]
    first, again = reference.random_inputs(infos, 3), reference.random_inputs(renamed, 3)
    other = reference.random_inputs(infos, 4)
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, three)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_standard_normal(dtype: str) -> None:
    (value,) = reference.random_inputs([TensorInfo("a", dtype, (100, 100))], 0)
    assert value.dtype == np.dtype(dtype)
    assert abs(float(value.astype(np.float64).mean())) < 0.05
    assert abs(float(value.astype(np.float64).std()) - 1.0) < 0.05


@pytest.mark.parametrize(
    ("dtype", "values"),
    [("int64", {0, 1, 2, 3}), ("int8", {0, 1, 2, 3}), ("bool", {False, True}), ("uint8", set(range(256)))],
)
def test_integers_are_safe_indices(dtype: str, values: set[int]) -> None:
    (value,) = reference.random_inputs([TensorInfo("a", dtype, (10000,))], 0)
    assert value.dtype == np.dtype(dtype)
    assert set(value.tolist()) == values


def test_hints() -> None:
    infos = [
        TensorInfo("a", "int32", (1000,)),
        TensorInfo("b", "float32", (1000,)),
        TensorInfo("c", "bool", ()),
    ]
    a, b, c = reference.random_inputs(infos, 0, {"a": (5, 9), "b": (0.0, 1.0)})
    assert set(a.tolist()) == {5, 6, 7, 8, 9}
    assert 0.0 <= float(b.min()) < 0.1  # type: ignore[arg-type]
    assert 0.9 < float(b.max()) <= 1.0  # type: ignore[arg-type]
    assert c.shape == ()


# ---- running ----


def test_runs_on_one_thread_with_the_same_bytes(network: Callable[[str], Path]) -> None:
    request = BuildRequest(
        model=network("mtcnn_pnet"), target=_ANY, output=Path(), name="n", shapes={"input": (1, 3, 48, 64)}
    )
    net = load(request)
    first, second = reference.golden(net, 7), reference.golden(net, 7)
    assert first == second
    assert first.engine == f"onnxruntime {onnxruntime.__version__}"
    assert len(first.inputs[0]) == 4 * 3 * 48 * 64
    assert reference.golden(net, 8) != first


_ANY: Any = None


def test_newer_opsets_run_on_the_evaluator() -> None:
    proto = build("g (float[4] x) => (float[4] y) { y = Relu(x) }", 28)
    outputs, engine = reference.run(proto, [np.array([-1, 2, -3, 4], np.float32)])
    assert engine.startswith("onnx.reference ")
    np.testing.assert_array_equal(outputs[0], np.array([0, 2, 0, 4], np.float32))


def test_newer_ir_versions_are_lowered_not_changed() -> None:
    proto = build("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    proto.ir_version = 14
    _, engine = reference.run(proto, [np.zeros(4, np.float32)])
    assert engine.startswith("onnxruntime ")
    assert proto.ir_version == 14


def test_what_nobody_runs() -> None:
    proto = build("g (float[4] x) => (float[4] y) { y = Nonsense(x) }")
    with pytest.raises(reference.ReferenceFailed) as raised:
        reference.run(proto, [np.zeros(4, np.float32)])
    assert "onnxruntime: " in str(raised.value)
    assert "onnx.reference: " in str(raised.value)
    with pytest.raises(DeployccError) as refused:
        reference.golden(model(proto), 0)
    found = refused.value.diagnostics[0]
    assert found.code == "DC160"
    assert found.message == "the reference cannot run the model, so its results could not be checked"


def test_golden_is_little_endian_c_order() -> None:
    net = model(build("g (float[2,3] x) => (float[3,2] y) { y = Transpose<perm=[1,0]>(x) }"))
    golden = reference.golden(net, 0)
    x = np.frombuffer(golden.inputs[0], "<f4").reshape(2, 3)
    y = np.frombuffer(golden.outputs[0], "<f4").reshape(3, 2)
    np.testing.assert_array_equal(x.T, y)


def test_inputs_are_spread_until_the_reference_is_sharp(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = build("g (float[64] x) => (float[64] y) { y = Relu(x) }")
    real = reference._run_onnxruntime

    def blurred(proto: ModelProto, feeds: Any, optimise: str = "all") -> Any:
        outputs = real(proto, feeds)
        small = np.abs(feeds["x"]).max() < 10
        return outputs if optimise == "all" or not small else [value * np.float32(1.001) for value in outputs]

    monkeypatch.setattr(reference, "_run_onnxruntime", blurred)
    sample = reference.sharp_sample(proto, [tensor_info(proto.graph.input[0])], 0)
    plain = reference.random_inputs([tensor_info(proto.graph.input[0])], 0)
    np.testing.assert_array_equal(sample.inputs[0], plain[0] * np.float32(reference.SPREADS[0]))


def test_indices_are_drawn_smaller_where_the_model_wants_that() -> None:
    proto = build("g (int64[50] i) => (float[50] y) <float[2] t = {5, 6}> { y = Gather(t, i) }")
    taken = reference.sample(proto, [tensor_info(proto.graph.input[0])], 0)
    assert set(taken.inputs[0].tolist()) == {0, 1}
    assert set(taken.outputs[0].tolist()) == {5.0, 6.0}


# ---- comparing ----


def near(expected: list[float], got: list[float], dtype: str = "float32", slack: float = 1.0) -> bool:
    return reference.compare(np.array(expected, dtype), np.array(got, dtype), slack).ok


def test_tolerance_is_a_share_of_the_largest_value() -> None:
    assert near([100.0, 0.0], [100.0, 0.0099])
    assert not near([100.0, 0.0], [100.0, 0.0101])
    assert near([100.0, 0.0], [100.0, 0.0101], slack=2.0)
    assert near([1.0, 0.0], [1.0, 0.0099], "float16")
    assert not near([1.0, 0.0], [1.0, 0.0111], "float16")
    assert near([0.0, 0.0], [0.0, 0.0])
    assert not near([0.0], [1e-30])


def test_integers_must_be_equal() -> None:
    assert near([1, 2], [1, 2], "int64")
    result = reference.compare(np.array([1, 5, 9]), np.array([1, 7, 9]))
    assert (result.ok, result.max_abs_error, result.reason) == (False, 2.0, "1 of 3 values differ")
    assert not near([True], [False], "bool")


def test_nan_and_infinity() -> None:
    nan, inf = float("nan"), float("inf")
    assert near([nan, inf, -inf, 1.0], [nan, inf, -inf, 1.0])
    assert not near([nan], [1.0])
    assert not near([1.0], [nan])
    assert not near([inf], [-inf])
    assert not near([1.0], [inf])


def test_shape_and_type_must_be_equal() -> None:
    result = reference.compare(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32))
    assert not result.ok
    assert result.reason == "float32[3, 2] instead of float32[2, 3]"
    assert not reference.compare(np.zeros(2, np.float32), np.zeros(2, np.float64)).ok


def test_reason_names_the_figures() -> None:
    result = reference.compare(np.array([10.0], np.float32), np.array([10.5], np.float32))
    assert result.reason == "largest error 0.5, allowed 0.001 (0.0001 of 10)"
    assert (result.max_abs_error, result.bound) == (0.5, pytest.approx(0.001))


def test_empty_tensors_are_equal() -> None:
    assert near([], [])
    assert near([], [], "int32")


# ---- its own error ----


def test_what_single_precision_costs_shows_in_double() -> None:
    """A variance as the difference of two large means: ONNX Runtime alone agrees with itself."""
    proto = build("""
        g (float[1, 64] x) => (float[1, 1] y) {
            square = Mul(x, x)
            axes = Constant<value_ints = [1]>()
            mean_of_squares = ReduceMean(square, axes)
            mean = ReduceMean(x, axes)
            squared_mean = Mul(mean, mean)
            y = Sub(mean_of_squares, squared_mean)
        }""")
    x = (1000 + np.random.default_rng().standard_normal((1, 64))).astype(np.float32)
    outputs, _ = reference.run(proto, [x])
    [error] = reference.own_error(proto, [x], outputs)
    got, exact = float(outputs[0][0, 0]), float(np.var(x.astype(np.float64)))
    assert error == pytest.approx(abs(got - exact) / abs(got), abs=1e-6)


def test_operators_without_double_precision_are_computed_between_casts() -> None:
    proto = build("""
        g (float[1, 2, 5, 5] x, float[3, 2, 3, 3] w) => (float[1, 3] y, int64[1] n) {
            c = Conv(x, w)
            r = Relu(c)
            p = GlobalAveragePool(r)
            y = Flatten(p)
            axes = Constant<value_ints = [1]>()
            s = ReduceSum(y, axes)
            f = Flatten(s)
            a = ArgMax(f)
            shape = Constant<value_ints = [1]>()
            n = Reshape(a, shape)
        }""")
    generator = np.random.default_rng()
    inputs = [generator.standard_normal(shape).astype(np.float32) for shape in ((1, 2, 5, 5), (3, 2, 3, 3))]
    inferred = infer_shapes(proto)
    outputs, _ = reference.run(inferred, inputs)
    wide = in_double(inferred, WITHOUT_DOUBLE)
    assert wide is not None
    doubled, _ = reference.run(wide, [array.astype(np.float64) for array in inputs])
    assert doubled[0].dtype == np.float64
    np.testing.assert_allclose(doubled[0], outputs[0], rtol=1e-5, atol=1e-6)
    first, second = reference.own_error(inferred, inputs, outputs)
    assert first < 1e-5
    assert second == 0


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_lengths_of_sequences_are_such_as_a_layer_takes(steps: int) -> None:
    text = f"""g (float[{steps},40,2] x, int32[40] n) => (float[{steps},1,40,3] y)
        {{ y = RNN<hidden_size=3>(x, w, r, , n) }}"""
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]>\n{text}')
    for name, extents in (("w", (1, 3, 2)), ("r", (1, 3, 3))):
        values = np.ones(extents, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    infos = [tensor_info(info) for info in proto.graph.input]
    taken = reference.sample(proto, infos, int(np.random.default_rng().integers(1 << 30)))
    lengths = taken.inputs[1]
    assert taken.engine.startswith("onnxruntime")
    assert lengths.min() >= 1
    assert min(steps, 4) <= lengths.max() <= steps
