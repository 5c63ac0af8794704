"""The passes that clean a graph: what carries nothing goes, what carries something stays."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from deploycc.graph_rewrites import cleaning
from tests.simplifying.graphs import apply, assert_same, build, floats, operators, sizes


def between(constants: str, node: str, columns: int) -> ModelProto:
    """A network with ``node``, from ``r`` to ``n``, between two others."""
    image = f"float[2, 5, {columns}]"
    return build(f"g ({image} x) => ({image} y) <{constants}> {{ r = Relu(x) {node} y = Neg(n) }}")


def test_identities_go() -> None:
    proto = build(
        """g (float[4] x) => (float[4] y, float[4] z) <float r = {0.5}> {
            a = Identity(x) b = Dropout(a, r) c = Relu(b) d = Identity(c) y = Identity(d) z = Identity(x) }"""
    )
    count, after = apply(cleaning.drop_identities, proto)
    assert count == 4
    assert operators(after) == {"Relu": 1, "Identity": 1}
    assert_same(proto, after)


@pytest.mark.parametrize(
    ("constants", "node"),
    [
        ("int64[2] b = {0, -9}, int64[2] e = {2147483647, 7}, int64[2] a = {1, 2}", "n = Slice(r, b, e, a)"),
        ("int64[3] s = {-1, 5, 7}", "n = Reshape(r, s)"),
        ("int64[3] s = {1, 5, 1}", "n = Expand(r, s)"),
        ("int64[3] s = {1, 1, 1}", "n = Tile(r, s)"),
        ("int64[6] w = {0, 0, 0, 0, 0, 0}", "n = Pad(r, w)"),
        ("int64 one = {1}", "n = Transpose <perm = [0, 1, 2]> (r)"),
        ("int64 one = {1}", "n = Cast <to = 1> (r)"),
        ("int64 one = {1}", "n = Concat <axis = 1> (r)"),
        ("int64 one = {1}", "n = Sum(r)"),
    ],
)
def test_what_changes_nothing_goes(constants: str, node: str) -> None:
    proto = between(constants, node, 7)
    count, after = apply(cleaning.drop_identities, proto)
    assert count == 1
    assert operators(after) == {"Relu": 1, "Neg": 1}
    assert_same(proto, after)


@pytest.mark.parametrize(
    ("constants", "node"),
    [
        ("int64[1] b = {-1}, int64[1] e = {-9}, int64[1] a = {1}", "n = Slice(r, b, e, a, b)"),
        ("int64[6] w = {0, 1, 0, 0, -1, 0}", "n = Pad(r, w)"),
        ("int64 one = {1}", "n = Transpose <perm = [0, 2, 1]> (r)"),
        ("int64 one = {1}", "n = Sum(r, r)"),
    ],
)
def test_what_keeps_the_extents_and_changes_values_stays(constants: str, node: str) -> None:
    assert apply(cleaning.drop_identities, between(constants, node, 5))[0] == 0


def test_identity_between_two_outputs_stays() -> None:
    proto = build("g (float[4] x) => (float[4] y, float[4] z) { y = Relu(x) z = Identity(y) }")
    assert apply(cleaning.drop_identities, proto)[0] == 0


def test_dropout_with_mask_or_training_stays() -> None:
    mask = build("g (float[4] x) => (float[4] y, bool[4] m) <float r = {0.5}> { y, m = Dropout(x, r) }")
    assert apply(cleaning.drop_identities, mask)[0] == 0
    training = build(
        "g (float[4] x) => (float[4] y) <float r = {0.5}, bool t = {1}> { y = Dropout(x, r, t) }"
    )
    assert apply(cleaning.drop_identities, training)[0] == 0


def test_identity_captured_by_a_branch_stays() -> None:
    proto = build(
        """g (float[2] x, bool c) => (float[2] y) { k = Identity(x) y = If (c) <
            then_branch = a () => (float[2] t) { t = Neg(k) },
            else_branch = b () => (float[2] e) { e = Abs(k) }> }"""
    )
    count, after = apply(cleaning.drop_identities, proto)
    assert count == 0
    assert_same(proto, after)


def test_dead_nodes_and_initializers_go() -> None:
    proto = build(
        "g (float[4] x) => (float[4] y) { y = Relu(x) a = Neg(x) b = Add(a, w) }", weights={"w": floats(4)}
    )
    assert apply(cleaning.drop_dead_nodes, proto)[0] == 2
    _, after = apply(cleaning.drop_dead_nodes, proto)
    count, after = apply(cleaning.drop_unused_initializers, after)
    assert count == 1
    assert operators(after) == {"Relu": 1}
    assert not after.graph.initializer
    assert_same(proto, after)


def test_what_a_branch_captures_is_not_dead() -> None:
    proto = build(
        """g (float[2] x, bool c) => (float[2] y) { k = Abs(x) y = If (c) <
            then_branch = a () => (float[2] t) { t = Neg(k) },
            else_branch = b () => (float[2] e) { e = Add(k, w) }> }""",
        weights={"w": floats(2)},
    )
    assert apply(cleaning.drop_dead_nodes, proto)[0] == 0
    assert apply(cleaning.drop_unused_initializers, proto)[0] == 0


def test_constants_become_initializers() -> None:
    proto = build(
        """g (float[4] x) => (float[4] y, float z) {
            a = Constant<value_float=2.0>() b = Constant<value_ints=[1]>()
            c = Constant<value = float[1] {3.0}>() z = Constant<value_float=1.5>()
            d = Mul(x, a) e = Unsqueeze(d, b) f = Squeeze(e) y = Add(f, c) }"""
    )
    count, after = apply(cleaning.constants_to_initializers, proto)
    assert count == 3
    assert operators(after)["Constant"] == 1
    assert {tensor.name for tensor in after.graph.initializer} == {"a", "b", "c"}
    assert_same(proto, after)


def test_equal_initializers_merge() -> None:
    same = floats(4)
    proto = build(
        "g (float[4] x) => (float[4] y) { a = Add(x, v) b = Add(a, w) y = Mul(b, u) }",
        weights={"v": same, "w": same.copy(), "u": floats(4)},
    )
    count, after = apply(cleaning.merge_equal_initializers, proto)
    assert count == 1
    assert len(after.graph.initializer) == 2
    assert_same(proto, after)


def test_equal_bytes_of_other_types_do_not_merge() -> None:
    proto = build(
        "g (float[4] x) => (float[4] y, int32[1] z) { y = Add(x, v) z = Neg(w) }",
        weights={"v": np.zeros(1, np.float32), "w": np.zeros(1, np.int32)},
    )
    assert apply(cleaning.merge_equal_initializers, proto)[0] == 0


def test_unused_outputs_go() -> None:
    proto = build(
        "g (float[1,1,4,4] x) => (float[1,1,2,2] y) { y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }"
    )
    count, after = apply(cleaning.drop_unused_outputs, proto)
    assert count == 1
    assert list(after.graph.node[0].output) == ["y"]
    assert_same(proto, after)
    split = build("g (float[4] x) => (float[2] y) <int64[2] s = {2, 2}> { y, z = Split(x, s) }")
    assert apply(cleaning.drop_unused_outputs, split)[0] == 0


def test_constant_output_gets_a_producer() -> None:
    proto = build("g (float[4] x) => (float[4] w, float[4] y) { y = Add(x, w) }", weights={"w": floats(4)})
    count, after = apply(cleaning.give_outputs_producers, proto)
    assert count == 1
    assert operators(after) == {"Identity": 1, "Add": 1}
    assert_same(proto, after)


@pytest.mark.parametrize(("sizes_given", "left"), [((4, 0), {"Identity": 1}), ((2, 0, 2), {"Split": 1})])
def test_empty_parts_go(sizes_given: tuple[int, ...], left: dict[str, int]) -> None:
    names = ", ".join("abc"[: len(sizes_given)])
    proto = build(
        f"g (float[4,3] x) => (float[4,3] y) {{ {names} = Split<axis=0>(x, s) y = Concat<axis=0>({names}) }}",
        weights={"s": sizes(*sizes_given)},
    )
    count, after = apply(cleaning.drop_empty_parts, proto)
    assert count == 1
    assert operators(after) == {**left, "Concat": 1}
    assert_same(proto, after)


def test_empty_parts_that_are_read_stay() -> None:
    proto = build(
        "g (float[4] x) => (float[4] y, float[0] z) { y, a = Split(x, s) z = Neg(a) }",
        weights={"s": sizes(4, 0)},
    )
    assert apply(cleaning.drop_empty_parts, proto)[0] == 0
