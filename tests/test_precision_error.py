"""What a precision costs is what numpy says it costs, and tolerances follow from it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploycc.packaging.manifest import precision_table
from deploycc.precision_error import findings, measured, rounding_like
from deploycc.reference import golden, precision_error
from deploycc.tolerances import precision_text, precision_tolerance
from deploycc.types import Golden, OutputError, Precision
from deploycc.verifying.tolerances import output_tolerances
from tests.scheduling.graphs import SEED, Case, Graph, build, reference

STORED = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def chain(g: Graph) -> str:
    """Two products with a function between."""
    hidden = g.add("Tanh", g.add("MatMul", g.input(5, 40), g.weight(40, 30)))
    return str(g.add("MatMul", hidden, g.weight(30, 7)))


def stored(values: np.ndarray, precision: str) -> np.ndarray:
    return np.asarray(values.astype(STORED[precision]).astype(np.float32))


def as_factor(values: np.ndarray) -> np.ndarray:
    """Rounded to 11 significant bits, by arithmetic of its own."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    return np.asarray(np.ldexp(np.rint(fraction * 2**11) / 2**11, exponent)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_stored_tensors_are_rounded(precision: Precision) -> None:
    built = build([Case("chain", chain)])
    copy = rounding_like(built.model.proto, precision)
    assert copy is not None
    (got,) = reference(copy, built.feeds)
    (x,) = built.feeds.values()
    first, second = (stored(numpy_helper.to_array(t), precision) for t in built.model.proto.graph.initializer)
    hidden = stored(np.tanh(stored(x @ first, precision)), precision)
    # A rounding of a sum in another order may fall to the other side: one unit of one tensor.
    unit = np.finfo(np.float16).eps if precision == "fp16" else float(ml_dtypes.finfo("bfloat16").eps)
    np.testing.assert_allclose(got, hidden @ second, atol=float(unit) * np.abs(second).max())


def test_factors_of_products_are_rounded_to_tf32() -> None:
    built = build([Case("chain", chain)])
    copy = rounding_like(built.model.proto, "tf32")
    assert copy is not None
    (got,) = reference(copy, built.feeds)
    (x,) = built.feeds.values()
    first, second = (as_factor(numpy_helper.to_array(t)) for t in built.model.proto.graph.initializer)
    hidden = np.tanh(as_factor(x) @ first)
    np.testing.assert_allclose(got, as_factor(hidden) @ second, atol=2.0**-11 * np.abs(second).max())
    (exact,) = reference(built.model.proto, built.feeds)
    assert np.abs(got - exact).max() > 1e-5 * np.abs(exact).max()


def test_nothing_is_rounded_that_is_no_float() -> None:
    def graph(g: Graph) -> str:
        scores = g.add("Cast", g.add("Mul", g.input(3, 5), g.weight(3, 5)), to=onnx.TensorProto.INT32)
        return str(g.add("Add", scores, g.constant(np.full((3, 5), 1 << 20, np.int32))))

    built = build([Case("integers", graph)])
    copy = rounding_like(built.model.proto, "fp16")
    assert copy is not None
    onnx.checker.check_model(copy)
    (got,) = reference(copy, built.feeds)
    assert got.dtype == np.int32
    assert got.min() > 1000000


def test_a_model_with_subgraphs_is_not_measured() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "branch",
        [],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    proto = helper.make_model(helper.make_graph([node], "g", [], []))
    assert rounding_like(proto, "fp16") is None


def test_an_output_that_overflows() -> None:
    def graph(g: Graph) -> str:
        large = g.add("Mul", g.input(2, 3), g.constant(np.float32(1e6)))
        return str(g.add("Mul", g.add("Add", large, large), g.constant(np.float32(1e-6))))

    built = build([Case("large", graph)])
    values, expected = list(built.feeds.values()), reference(built.model.proto, built.feeds)
    (error,) = precision_error(built.model.proto, values, expected, "fp16")
    assert not error.finite
    (finite,) = precision_error(built.model.proto, values, expected, "bf16")
    assert finite.finite
    assert finite.max_scaled < 0.02
    (told,) = findings(Golden((), (), "", 0, rounding=(error,)), ["out"], "fp16")
    assert (told.code, told.severity) == ("DC526", "warning")
    assert "out" in told.message
    assert not findings(Golden((), (), "", 0, rounding=(finite,)), ["out"], "bf16")
    (much,) = findings(Golden((), (), "", 0, rounding=(OutputError(1.0, 0.2, 0.1),)), ["out"], "fp16")
    assert "0.2" in much.got


def test_the_measures_of_an_error() -> None:
    want = np.array([4.0, -2.0, np.inf, 0.0], np.float32)
    got = np.array([3.0, -2.0, np.inf, 0.0], np.float32)
    (error,) = measured([want], [got])
    assert (error.max_abs, error.max_scaled, error.finite) == (1.0, 0.25, True)
    assert error.rms == pytest.approx((1 / 3) ** 0.5)
    assert measured([np.array([1, 2])], [np.array([1, 3])]) == (OutputError(),)


def test_a_golden_run_measures_its_precision() -> None:
    built = build([Case("chain", chain)])
    made = {precision: golden(built.model, SEED % 100, precision) for precision in ("fp32", "fp16", "bf16")}
    assert made["fp32"].rounding == ()
    assert made["fp16"].outputs == made["fp32"].outputs
    errors = [made[precision].rounding[0].max_scaled for precision in ("fp16", "bf16")]
    assert 0 < errors[0] < errors[1] < 0.05


def test_tolerances_follow_from_what_was_measured() -> None:
    assert precision_tolerance("fp16", 1e-5) == 1e-3
    assert precision_tolerance("fp16", 3e-3) == pytest.approx(1.2e-2)
    assert precision_tolerance("bf16", 1e-4) == 8e-3
    made = Golden((), (), "", 0, rounding=(OutputError(0.5, 2e-3, 0.1), OutputError()))
    outputs = [{"name": "a", "dtype": "float32"}, {"name": "n", "dtype": "int64"}]
    manifest = {"outputs": outputs, "calls": []}
    plain = output_tolerances(manifest, {})
    rounded = output_tolerances({**manifest, "precision": precision_table("fp16", made)}, {})
    assert rounded[0] == pytest.approx(plain[0] + 8e-3)
    assert rounded[1] == plain[1] == 0.0
    assert output_tolerances({**manifest, "precision": precision_table("fp32", made)}, {}) == plain


def test_what_a_build_says() -> None:
    def text(*errors: OutputError, precision: Precision = "fp16") -> str:
        made = Golden((), (), "", 0, rounding=errors)
        return precision_text({"precision": precision_table(precision, made)})

    said = text(OutputError(1.0, 3.1e-3, 0.1), OutputError(0.1, 1e-4, 0.1))
    assert said == "fp16: error at most 0.0031 of an output's largest magnitude"
    assert "NaN" in text(OutputError(finite=False))
    assert "not measured" in text()
    assert text(precision="fp32") == precision_text({}) == ""
    table = precision_table("tf32", Golden((), (), "", 0))
    assert (table["products"], table["storage"]) == ("tf32", "float32")
