"""Limits of size, and what is stored: told before anything is done with a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from deploycc.importing import limits, load
from deploycc.types import DeployccError, Limits
from tests.importing.models import load_proto, refused, request, text

GRAPH = "g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"


def laughs(levels: int, width: int) -> ModelProto:
    """Functions that each call the next ``width`` times: ``width ** levels`` nodes in a few kilobytes."""
    proto = text("g (float[4] x) => (float[4] y) { y = d.f0(x) }", head=', "d": 1')
    for level in range(levels):
        function = proto.functions.add(name=f"f{level}", domain="d", input=["a"], output=["b"])
        function.opset_import.extend(proto.opset_import)
        last = level == levels - 1
        for step in range(width):
            inner = function.node.add(op_type="Relu" if last else f"f{level + 1}", domain="" if last else "d")
            inner.input.append("a" if step == 0 else f"t{step}")
            inner.output.append("b" if step == width - 1 else f"t{step + 1}")
    return proto


def test_functions_that_call_functions_are_counted_and_not_written_out(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, laughs(30, 10))
    assert (found.code, found.got) == ("DC161", f"{10**30} nodes, 1 before its functions are inlined")
    assert found.need == "at most 200000"
    assert len(load_proto(tmp_path, laughs(3, 4)).proto.graph.node) == 4**3


def test_how_many_nodes_is_the_callers_to_say(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(laughs(2, 10).SerializeToString())
    assert load(replace(request(path), limits=Limits(nodes=100))).outputs
    with pytest.raises(DeployccError) as raised:
        load(replace(request(path), limits=Limits(nodes=99)))
    assert [d.code for d in raised.value.diagnostics] == ["DC161"]


def test_bodies_of_standard_functions_count(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Celu(x) }", opset=12)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    grown = len(load(request(path)).proto.graph.node)
    assert grown > 1
    with pytest.raises(DeployccError) as raised:
        load(replace(request(path), limits=Limits(nodes=grown - 1)))
    assert [d.code for d in raised.value.diagnostics] == ["DC161"]


@pytest.mark.parametrize("through", [1, 2, 5])
def test_functions_that_call_themselves(tmp_path: Path, through: int) -> None:
    proto = laughs(through, 1)
    proto.functions[through - 1].node[0].op_type, proto.functions[through - 1].node[0].domain = "f0", "d"
    (found,) = refused(tmp_path, proto)
    assert found.code == "DC163"
    assert found.op in {f"f{level}" for level in range(through)}


def test_a_function_may_call_another_of_its_name() -> None:
    proto = laughs(2, 3)
    for function in proto.functions:
        function.name, function.overload = "f", function.name
    for node in (proto.graph.node[0], *proto.functions[0].node):
        node.op_type, node.overload = "f", node.op_type
    limits.check_size(proto, Limits(nodes=9))
    with pytest.raises(DeployccError, match="DC161"):
        limits.check_size(proto, Limits(nodes=8))


def test_recursion_inside_a_branch_of_a_function(tmp_path: Path) -> None:
    proto = laughs(1, 1)
    branch = helper.make_graph(
        [helper.make_node("f0", ["a"], ["c"], domain="d")], "branch", [], [onnx.ValueInfoProto(name="c")]
    )
    node = helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
    proto.functions[0].node[0].CopyFrom(node)
    assert [found.code for found in refused(tmp_path, proto)] == ["DC163"]


def nested(depth: int) -> ModelProto:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["z0"])], "g", [], [])
    graph.output.append(helper.make_tensor_value_info("z0", 1, [4]))
    for level in range(1, depth + 1):
        node = helper.make_node("If", ["c"], [f"z{level}"], then_branch=graph, else_branch=graph)
        slim = [attribute for attribute in node.attribute if attribute.name == "then_branch"]
        del node.attribute[:]
        node.attribute.extend(slim)
        graph = helper.make_graph([node], f"g{level}", [], [])
        graph.output.append(helper.make_tensor_value_info(f"z{level}", 1, [4]))
    graph.input.append(helper.make_tensor_value_info("x", 1, [4]))
    graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return made


def test_depth_of_branches(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, nested(limits.DEEPEST + 1))
    assert (found.code, found.message) == ("DC162", "branches and bodies are nested 25 deep")
    assert refused(tmp_path, nested(limits.DEEPEST))[0].code != "DC162"  # that each If lacks a branch


def test_long_names(tmp_path: Path) -> None:
    proto = text(GRAPH)
    proto.doc_string = proto.graph.doc_string = "d" * 100_000
    proto.metadata_props.add(key="k", value="v" * 100_000)
    proto.graph.node[0].name = "é" * 2000
    assert load_proto(tmp_path, proto).outputs
    proto.graph.node[0].name += "e"
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.need) == ("DC165", "at most 4000 bytes")
    assert found.got.startswith("4001 bytes: 'ééé")


def test_names_that_would_end_early_in_c(tmp_path: Path) -> None:
    proto = text(GRAPH)
    proto.graph.node[0].name = "a\0b"
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.got) == ("DC167", r"'a\x00b'")


def test_attributes_of_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Reshape(x, s) }")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["s"], value_ints=[4]))
    assert load_proto(tmp_path, proto).outputs
    monkeypatch.setattr(limits, "MOST_VALUES", 0)
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.op, found.got) == ("DC168", "Constant", "1 values")


def test_tensors_that_no_memory_holds(tmp_path: Path) -> None:
    proto = text("g (float[4,1] x) => (float[4,n] y) { y = Expand(x, s) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([4, 2**40], np.int64), "s"))
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.tensor, found.op) == ("DC164", "y", "Expand")
    assert found.got == f"4x{2**40}, {2**44} bytes"
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([4, 2], np.int64), "s"))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    assert load(request(path)).outputs
    with pytest.raises(DeployccError) as raised:
        load(replace(request(path), limits=Limits(memory_bytes=31)))
    assert [d.code for d in raised.value.diagnostics] == ["DC164"]


def test_tensors_of_many_dimensions(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[n] y) { y = Reshape(x, s) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([4] + [1] * 39, np.int64), "s"))
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.got) == ("DC164", "40 dimensions")


def stored(dtype: int, dims: list[int], **data: object) -> ModelProto:
    proto = text("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    proto.graph.initializer.append(TensorProto(name="w", data_type=dtype, dims=dims, **data))
    return proto


@pytest.mark.parametrize(
    ("proto", "code", "got"),
    [
        (stored(1, [2, 2], raw_data=bytes(15)), "DC166", "15 bytes for float32 2x2"),
        (stored(1, [2, 2], raw_data=bytes(20)), "DC166", "20 bytes for float32 2x2"),
        (stored(1, [0], raw_data=bytes(4)), "DC166", "4 bytes for float32 0"),
        (stored(1, [], float_data=[1, 2]), "DC166", "2 numbers for float32 scalar"),
        (stored(7, [2**15, 2**15], int64_data=[1]), "DC166", "1 numbers for int64 32768x32768"),
        (stored(TensorProto.INT4, [3], raw_data=bytes(3)), "DC166", "3 bytes for int4 3"),
        (stored(TensorProto.FLOAT16, [2], int32_data=[1]), "DC166", "1 numbers for float16 2"),
        (stored(TensorProto.STRING, [2], string_data=[b"a"]), "DC166", "1 texts for string 2"),
        (stored(1, [2**40, 2**40], raw_data=bytes(4)), "DC164", f"{2**40}x{2**40}"),
        (stored(1, [-1, -4], raw_data=bytes(16)), "DC164", "-1x-4"),
        (stored(1, [1] * 40, raw_data=bytes(4)), "DC164", "x".join("1" * 40)),
        (
            stored(1, [1], raw_data=bytes(4), segment=TensorProto.Segment(begin=0, end=1)),
            "DC166",
            "a segment of the data for float32 1",
        ),
        (stored(99, [1], raw_data=bytes(4)), "DC110", "data_type 99"),
    ],
)
def test_stored_data(tmp_path: Path, proto: ModelProto, code: str, got: str) -> None:
    found = refused(tmp_path, proto)[0]
    assert (found.code, found.got) == (code, got)


def test_stored_data_that_is_right(tmp_path: Path) -> None:
    for proto in (
        stored(1, [2, 2], raw_data=bytes(16)),
        stored(1, [2], float_data=[1, 2]),
        stored(TensorProto.INT4, [3], raw_data=bytes(2)),
        stored(TensorProto.BOOL, [2], int32_data=[0, 1]),
        stored(TensorProto.UINT64, [1], uint64_data=[2**64 - 1]),
    ):
        assert load_proto(tmp_path, proto).outputs


def test_stored_data_in_branches_and_lists_is_looked_at(tmp_path: Path) -> None:
    bad = TensorProto(name="bad", data_type=1, dims=[3], raw_data=bytes(5))
    proto = nested(1)
    branch = proto.graph.node[0].attribute[0].g
    proto.graph.node[0].attribute.append(
        AttributeProto(name="else_branch", type=AttributeProto.GRAPH, g=branch)
    )
    assert load_proto(tmp_path, proto).outputs
    branch.initializer.append(bad)
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.tensor) == ("DC166", "bad")


def test_a_parameter_of_no_function(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = LeakyRelu<alpha = 0.5>(x) }")
    proto.graph.node[0].attribute[0].ClearField("f")
    proto.graph.node[0].attribute[0].ref_attr_name = "slope"
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.op, found.got) == ("DC169", "LeakyRelu", "ref_attr_name 'slope'")


def test_many_like_names_and_weights_among_the_inputs(tmp_path: Path) -> None:
    count = 3000
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name="n") for i in range(count)]
    weights = [numpy_helper.from_array(np.zeros(1, np.float32), f"w{i}") for i in range(count)]
    infos = [helper.make_tensor_value_info(f"w{i}", 1, [1]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("t0", 1, [4]), *infos],
        [helper.make_tensor_value_info(f"t{count}", 1, [4])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model = load_proto(tmp_path, proto)
    assert [node.name for node in model.proto.graph.node[:3]] == ["n", "n_2", "n_3"]
    assert len({node.name for node in model.proto.graph.node}) == count
    assert [info.name for info in model.inputs] == ["t0"]


def test_an_output_may_be_an_input_or_a_weight(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y, float[4] x, float[2] w) { y = Relu(x) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "w"))
    assert [info.shape for info in load_proto(tmp_path, proto).outputs] == [(4,), (4,), (2,)]
