"""Fingerprints of findings: what they do not depend on, and what they tell apart."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from deploycc.lint_targets import load_lint_target
from deploycc.lint_types import LintTarget
from deploycc.linting import lint
from deploycc.linting.fingerprints import AFTER, BEFORE, surroundings, with_fingerprints
from deploycc.types import Diagnostic
from tests.linting.graphs import model, wrap

TARGET = load_lint_target("snpe:htp")
Prints = dict[str, str]


def drawn(seed: int) -> ModelProto:
    """A random graph over ``x`` of 1x4x6x6 with convolutions, sums, activations and a branch that ends."""
    rng = random.Random(seed)
    weights: list[TensorProto] = []
    nodes: list[NodeProto] = []
    made = ["x"]
    for index in range(rng.randint(3, 12)):
        out, name = f"t{index}", f"n{index}"
        source = rng.choice(made[-4:])
        match rng.choice(["Conv", "Add", "Relu", "Tanh", "Elu", "Concat"]):
            case "Conv":
                extent = rng.choice([1, 3])
                shape = (4, 4, extent, extent)
                weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), f"w{index}"))
                pads = [extent // 2] * 4
                nodes.append(helper.make_node("Conv", [source, f"w{index}"], [out], name, pads=pads))
            case "Add":
                nodes.append(helper.make_node("Add", [source, rng.choice(made)], [out], name))
            case "Concat":
                nodes.append(helper.make_node("Concat", [source, source], [f"{out}c"], f"{name}c", axis=2))
                nodes.append(helper.make_node("MaxPool", [f"{out}c"], [out], name,
                                              kernel_shape=[2, 1], strides=[2, 1]))  # fmt: skip
            case op:
                nodes.append(helper.make_node(op, [source], [out], name))
        made.append(out)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [value(made[-1], TensorProto.FLOAT, [1, 4, 6, 6])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def prints(proto: ModelProto, target: LintTarget = TARGET) -> Prints:
    """A fingerprint for a finding of one rule about every node, by the node's name."""
    findings = [
        Diagnostic("DC413", "m", node=node.name, op=node.op_type, rule="r") for node in proto.graph.node
    ]
    return {d.node: d.fingerprint for d in with_fingerprints(findings, surroundings(proto, proto), target)}


def renamed(proto: ModelProto, seed: int) -> ModelProto:
    """Other names for all nodes and tensors, initializers in another order, nodes in another valid order."""
    rng = random.Random(seed)
    other = ModelProto()
    other.CopyFrom(proto)
    names: dict[str, str] = {"": ""}

    def new(name: str) -> str:
        return names.setdefault(name, f"{rng.randint(0, 10**9)}_{len(names)}")

    left = list(other.graph.node)
    done = {"", "x", *(tensor.name for tensor in other.graph.initializer)}
    order = []
    while left:
        node = rng.choice([node for node in left if done.issuperset(node.input)])
        left.remove(node)
        done.update(node.output)
        order.append(node)
    nodes = []
    for node in order:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = f"renamed {node.name}"
        copy.input[:] = map(new, node.input)
        copy.output[:] = map(new, node.output)
        nodes.append(copy)
    for entry in (*other.graph.input, *other.graph.output, *other.graph.initializer):
        entry.name = new(entry.name)
    tensors = list(other.graph.initializer)
    rng.shuffle(tensors)
    kept = [TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del other.graph.node[:], other.graph.initializer[:]
    other.graph.node.extend(nodes)
    other.graph.initializer.extend(kept)
    onnx.checker.check_model(other)
    return other


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_names_and_order_do_not_matter(seed: int, other: int) -> None:
    """As a set, since alike nodes are only counted."""
    proto = drawn(seed)
    before = prints(proto)
    assert len(set(before.values())) == len(before)
    assert set(prints(renamed(proto, other)).values()) == set(before.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_unrelated_branch_keeps_all_others(seed: int, other: int) -> None:
    proto = drawn(seed)
    before = prints(proto)
    position = random.Random(other).randint(0, len(proto.graph.node))
    extra = [
        helper.make_node("Softplus", ["x"], ["u0"], "extra0"),
        helper.make_node("Erf", ["u0"], ["u1"], "extra1"),
    ]
    nodes = [*proto.graph.node[:position], *extra, *proto.graph.node[position:]]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.output.append(helper.make_tensor_value_info("u1", TensorProto.FLOAT, [1, 4, 6, 6]))
    after = prints(proto)
    assert {name: after[name] for name in before} == before


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_other_weights_are_the_same_network(seed: int) -> None:
    proto = drawn(seed)
    before = prints(proto)
    for tensor in proto.graph.initializer:
        values = np.random.default_rng(seed).standard_normal(tuple(tensor.dims)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert prints(proto) == before


CHAIN = "Relu Tanh Elu Sigmoid Softplus Erf Neg Abs Exp Sin Cos".split()


def chain(operators: list[str]) -> ModelProto:
    steps = [f"v{i + 1} = {op}(v{i})" for i, op in enumerate(operators)]
    body = " ".join(steps)
    return model(f"g (float[4] v0) => (float[4] v{len(operators)}) {{ {body} }}").proto


def test_a_change_reaches_as_far_as_the_depths_say() -> None:
    at = 4
    before = list(prints(chain(CHAIN)).values())
    after = list(prints(chain([*CHAIN[:at], "Sqrt", *CHAIN[at + 1 :]])).values())
    changed = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    assert changed == list(range(at - AFTER, at + BEFORE + 1))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y = Elu<alpha=1.0>(x)", "y = Elu<alpha=0.5>(x)"),
        ("y = Relu(x)", "y = Tanh(x)"),
        ("y = Sub(x, w)", "y = Sub(w, x)"),
        ("y = Sub(x, w)", "y = Sub(x, v)"),
        ("a = Relu(x) y = Sub(x, a)", "a = Relu(x) y = Sub(a, x)"),
        ("y = Sub(x, x)", "y = Sub(x, w)"),
    ],
)
def test_what_is_told_apart(one: str, other: str) -> None:
    def of(text: str) -> str:
        graph = f"g (float[2,2] x) => (float[2,2] y) <float[2] w = {{1, 2}}, float[1] v = {{1}}> {{ {text} }}"
        return list(prints(model(graph).proto).values())[-1]

    assert of(one) != of(other)


def test_a_constant_node_is_the_initializer_it_could_be() -> None:
    stored = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }").proto
    made = model(
        "g (float[2] x) => (float[2] y) { w = Constant<value_floats=[1.0, 2.0]>() y = Add(x, w) }"
    ).proto
    assert list(prints(stored).values())[-1] == list(prints(made).values())[-1]


def test_alike_nodes_are_counted() -> None:
    proto = model("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Relu(x) }").proto
    assert len(set(prints(proto).values())) == 2


def test_rule_family_and_unit_are_in_it_and_the_version_is_not() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Relu(x) }").proto
    found = {
        text: prints(proto, load_lint_target(text))["Relu_0"] for text in ("snpe:htp", "snpe:dsp", "arm64")
    }
    assert len(set(found.values())) == 3
    assert prints(proto, load_lint_target("snpe:htp@2.10"))["Relu_0"] == found["snpe:htp"]
    one, other = with_fingerprints(
        [Diagnostic("DC413", "m", node="Relu_0", rule=rule) for rule in "ab"],
        surroundings(proto, proto),
        TARGET,
    )
    assert one.fingerprint != other.fingerprint


def test_a_node_inside_a_branch_has_its_own() -> None:
    text = """g (float[2] x, bool c) => (float[2] y) {
        y = If (c) <
            then_branch = a () => (float[2] t) { t = Neg(x) },
            else_branch = b () => (float[2] e) { e = Abs(x) }
        >
    }"""
    proto = model(text).proto
    for index, graph in enumerate(attribute.g for attribute in proto.graph.node[0].attribute):
        graph.node[0].name = f"inner{index}"
    assert len({surroundings(proto, proto)[name] for name in ("If_0", "inner0", "inner1")}) == 3


def test_every_finding_of_lint_has_one() -> None:
    report = lint(
        model("g (float[2,2] x) => (float[2,2] y, float[2,2] z) { y = Bernoulli(x) z = Bernoulli(x) }"),
        TARGET,
    )
    assert report.diagnostics
    assert all(d.fingerprint for d in report.diagnostics)
    assert len({d.fingerprint for d in report.diagnostics}) == len(report.diagnostics)


def test_values_in_a_message_do_not_matter() -> None:
    """The graph around decides, not ``got``."""
    proto = wrap(drawn(3)).proto
    about = proto.graph.node[0].name
    one, other = (
        with_fingerprints([Diagnostic("DC413", "m", node=about, got=got)], surroundings(proto, proto), TARGET)
        for got in ("1", "2")
    )
    assert one[0].fingerprint == other[0].fingerprint
