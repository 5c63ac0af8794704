"""What goes into a convolution or product instead of being a kernel: normalisation in front, padding."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.graph_rewrites import cleaning, normalising
from deploycc.onnx_graph import Array
from deploycc.simplifying.passes import padding
from tests.simplifying.graphs import apply, assert_same, build, operators

RNG = np.random.default_rng(5)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


NORM = {"s": floats(4), "b": floats(4), "m": floats(4), "v": np.abs(floats(4)) + 0.1}


@pytest.mark.parametrize(
    ("reader", "weights"),
    [
        ("Conv(a, w)", {"w": floats(5, 4, 3, 3)}),
        ("Conv(a, w, c)", {"w": floats(5, 4, 2, 3), "c": floats(5)}),
        ("Conv<group=2, strides=[2, 1]>(a, w, c)", {"w": floats(6, 2, 3, 1), "c": floats(6)}),
        ("Conv<group=4, auto_pad='VALID'>(a, w)", {"w": floats(8, 1, 3, 3)}),
    ],
)
def test_batch_norm_goes_into_the_convolution_behind_it(reader: str, weights: dict[str, Array]) -> None:
    proto = build(
        f"g (float[2,4,5,7] x) => (float[2,k,h,q] y)"
        f" {{ a = BatchNormalization(x, s, b, m, v) y = {reader} }}".replace("'", '"'),
        weights={**NORM, **weights},
    )
    count, after = apply(normalising.fold_batch_norm, proto)
    assert count == 1
    assert operators(after) == {"Conv": 1}
    assert_same(proto, after, rtol=1e-5)


@pytest.mark.parametrize(
    ("reader", "weights"),
    [
        ("Gemm(a, w)", {"w": floats(4, 3)}),
        ("Gemm(a, w, c)", {"w": floats(4, 3), "c": floats(3)}),
        ("Gemm<transB=1>(a, w, c)", {"w": floats(3, 4), "c": floats(2, 3)}),
    ],
)
def test_batch_norm_goes_into_the_product_behind_it(reader: str, weights: dict[str, Array]) -> None:
    proto = build(
        f"g (float[2,4] x) => (float[2,3] y) {{ a = BatchNormalization(x, s, b, m, v) y = {reader} }}",
        weights={**NORM, **weights},
    )
    count, after = apply(normalising.fold_batch_norm, proto)
    assert count == 1
    assert operators(after) == {"Gemm": 1}
    assert_same(proto, after, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        # The padding would have to be -offset / factor of each channel.
        "y = Conv<pads=[0, 0, 1, 0]>(a, k)",
        'y = Conv<auto_pad="SAME_UPPER">(a, k)',
        "c = Relu(a) d = Conv(a, k) y = Add(c, d)",
        "y = ConvTranspose(a, k)",
        "y = Relu(a)",
        "y = GlobalAveragePool(a)",
    ],
)
def test_batch_norm_stays_in_front_of(text: str) -> None:
    proto = build(
        f"g (float[1,4,5,5] x) => (float[1,4,h,q] y) {{ a = BatchNormalization(x, s, b, m, v) {text} }}",
        weights={**NORM, "k": floats(4, 4, 1, 1)},
    )
    count, after = apply(normalising.fold_batch_norm, proto)
    assert count == 1
    assert operators(after)["Mul"] == 1
    assert_same(proto, after)


def test_batch_norm_without_offset_goes_into_a_padded_convolution() -> None:
    zeros = {"b": np.zeros(4, np.float32), "m": np.zeros(4, np.float32)}
    proto = build(
        "g (float[1,4,5,5] x) => (float[1,4,h,q] y)"
        " { a = BatchNormalization(x, s, b, m, v) y = Conv<pads=[1, 1, 1, 1]>(a, k) }",
        weights={**NORM, **zeros, "k": floats(4, 4, 3, 3)},
    )
    count, after = apply(normalising.fold_batch_norm, proto)
    assert (count, operators(after)) == (1, {"Conv": 1})
    assert_same(proto, after, rtol=1e-5)


# ---- padding ----

PAD = {"k": floats(3, 2, 3, 2), "p": np.array([0, 0, 1, 2, 0, 0, 0, 3]), "z": np.zeros((), np.float32)}


@pytest.mark.parametrize(
    ("pad", "convolution"),
    [
        ("Pad(x, p)", "Conv(a, k)"),
        ("Pad(x, p, z)", "Conv<pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]>(a, k)"),
        ('Pad<mode="constant">(x, q, z, r)', 'Conv<auto_pad="VALID">(a, k)'),
    ],
)
def test_pad_goes_into_the_convolution(pad: str, convolution: str) -> None:
    proto = build(
        f"g (float[1,2,7,6] x) => (float[1,3,h,w] y) {{ a = {pad} y = {convolution} }}",
        weights={**PAD, "q": np.array([2, 1, 0, 4]), "r": np.array([-1, 2])},
    )
    count, after = apply(padding.fold_pad_into_convolution, proto)
    after = apply(cleaning.drop_dead_nodes, after)[1]
    assert (count, operators(after)) == (1, {"Conv": 1})
    assert_same(proto, after)


def test_pad_stays_for_other_readers() -> None:
    proto = build(
        "g (float[1,2,7,6] x) => (float[1,3,h,w] y, float[1,2,i,j] r)"
        " { a = Pad(x, p) y = Conv(a, k) r = Relu(a) }",
        weights=PAD,
    )
    count, after = apply(padding.fold_pad_into_convolution, proto)
    assert (count, operators(after)) == (1, {"Pad": 1, "Conv": 1, "Relu": 1})
    assert_same(proto, after)


@pytest.mark.parametrize(
    "text",
    [
        "a = Pad(x, p, one) y = Conv(a, k)",
        'a = Pad<mode="reflect">(x, p) y = Conv(a, k)',
        "a = Pad(x, cut) y = Conv(a, k)",
        'a = Pad(x, p) y = Conv<auto_pad="SAME_LOWER">(a, k)',
        "a = Pad(x, p, run) y = Conv(a, k)",
    ],
)
def test_pad_is_left(text: str) -> None:
    proto = build(
        f"g (float[1,2,7,6] x, float run) => (float[1,3,h,w] y) {{ {text} }}",
        weights={**PAD, "one": np.ones((), np.float32), "cut": np.array([0, 0, -1, 2, 0, 0, 0, 3])},
    )
    assert apply(padding.fold_pad_into_convolution, proto)[0] == 0


def test_padded_channels_are_left() -> None:
    proto = build(
        "g (float[1,2,7,6] x) => (float[1,3,h,w] y) { a = Pad(x, p) y = Conv(a, k) }",
        weights={"p": np.array([0, 1, 1, 2, 0, 0, 0, 3]), "k": floats(3, 3, 3, 2)},
    )
    assert apply(padding.fold_pad_into_convolution, proto)[0] == 0
