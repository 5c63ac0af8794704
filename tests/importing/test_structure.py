"""Graphs that are not well formed, and odd forms that are put right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.importing.models import load_proto, names, refused, text

RELU = "g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"


def codes(folder: Path, proto: ModelProto) -> list[str]:
    return [d.code for d in refused(folder, proto)]


def test_no_nodes(tmp_path: Path) -> None:
    found = refused(tmp_path, text("g (float[1] x) => (float[1] x) { }"))
    assert found[0].code == "DC111"
    assert found[0].message == "the model has no nodes"


def test_no_outputs(tmp_path: Path) -> None:
    proto = text(RELU)
    del proto.graph.output[:]
    found = refused(tmp_path, proto)
    assert [(d.code, d.message) for d in found] == [("DC117", "the model has no outputs")]


def test_duplicate_names(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Relu(x) y = Neg(x) }")
    proto.graph.node[1].name = "second"
    found = refused(tmp_path, proto)
    assert [(d.code, d.message) for d in found] == [("DC112", "tensor 'y' is defined twice")]
    assert found[0].got == "by Relu '' and by Neg 'second'"


def test_duplicate_initializer(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Add(x, w) }")
    for _ in range(2):
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "w"))
    assert codes(tmp_path, proto) == ["DC112"]


def test_cycle(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { a = Add(x, b) b = Relu(a) y = Neg(b) }")
    found = refused(tmp_path, proto)
    assert [(d.code, d.message, d.op) for d in found] == [("DC113", "the graph has a cycle", "Add")]


def test_a_node_that_reads_itself(tmp_path: Path) -> None:
    assert codes(tmp_path, text("g (float[4] x) => (float[4] y) { y = Add(x, y) }")) == ["DC113"]


def test_undefined_tensor(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y, float[4] q) { y = Add(x, nowhere) }")
    found = refused(tmp_path, proto)
    assert [(d.code, d.message) for d in found] == [
        ("DC114", "tensor 'nowhere' is read and never produced"),
        ("DC114", "graph output 'q' is never produced"),
    ]


@pytest.mark.parametrize(("opset", "word"), [(6, "too old"), (1, "too old"), (29, "newer"), (1000, "newer")])
def test_opset_out_of_range(tmp_path: Path, opset: int, word: str) -> None:
    found = refused(tmp_path, text(RELU, opset))
    assert found[0].code == "DC115"
    assert word in found[0].message
    assert found[0].need == "opset 7 to 28"


def test_no_opset(tmp_path: Path) -> None:
    proto = text(RELU)
    del proto.opset_import[:]
    found = refused(tmp_path, proto)
    assert [(d.code, d.message) for d in found] == [
        ("DC116", "the model names no version of the standard operators")
    ]


def test_a_model_of_another_domain_alone_needs_no_standard_opset(tmp_path: Path) -> None:
    proto = text("g (float[3] x) => (float[3] y) { y = ai.onnx.ml.Binarizer(x) }")
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    model = load_proto(tmp_path, proto)
    assert (model.opset, [node.op_type for node in model.proto.graph.node]) == (18, ["Binarizer"])


@pytest.mark.parametrize("opset", range(7, 29))
def test_every_opset_is_taken(tmp_path: Path, opset: int) -> None:
    model = load_proto(tmp_path, text(RELU, opset))
    assert model.opset == max(opset, 18)
    assert model.diagnostics == ()


def test_sequence_and_optional_and_sparse_inputs(tmp_path: Path) -> None:
    proto = text(RELU)
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [4]))
    proto.graph.input.append(helper.make_value_info("s", sequence))
    proto.graph.input.append(helper.make_value_info("o", helper.make_optional_type_proto(sequence)))
    proto.graph.input.append(
        helper.make_value_info("p", helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [4]))
    )
    found = refused(tmp_path, proto)
    assert [(d.code, d.message, d.got) for d in found] == [
        ("DC130", "input 's' is not a dense tensor", "sequence"),
        ("DC130", "input 'o' is not a dense tensor", "optional"),
        ("DC130", "input 'p' is not a dense tensor", "sparse tensor"),
    ]


def test_string_input(tmp_path: Path) -> None:
    found = refused(tmp_path, text("g (string[4] x) => (bool[4] y) { y = Equal(x, x) }", 19))
    assert [(d.code, d.message) for d in found] == [("DC131", "input 'x' holds strings")]


@pytest.mark.parametrize(
    ("number", "name"), [(14, "complex64"), (16, "bfloat16"), (17, "float8e4m3fn"), (22, "int4")]
)
def test_element_types_without_c_type(tmp_path: Path, number: int, name: str) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Identity(x) }", 23)
    proto.graph.input[0].type.tensor_type.elem_type = number
    proto.graph.output[0].type.tensor_type.elem_type = number
    found = refused(tmp_path, proto)
    assert [(d.code, d.got) for d in found] == [("DC300", name)] * 2
    assert "input 'x' has an element type" in found[0].message


@pytest.mark.parametrize("dtype", ["float16", "double", "int64", "bool", "uint8", "int8", "int32", "uint64"])
def test_element_types_that_are_taken(tmp_path: Path, dtype: str) -> None:
    model = load_proto(tmp_path, text(f"g ({dtype}[4] x) => ({dtype}[4] y) {{ y = Identity(x) }}"))
    assert model.inputs[0].dtype == ("float64" if dtype == "double" else dtype)


def test_checker(tmp_path: Path) -> None:
    found = refused(tmp_path, text("g (float[4] x) => (float[4] y) { y = Relu<nosuch=1>(x) }"))
    assert [(d.code, d.message) for d in found] == [("DC110", "the model does not pass the ONNX checker")]
    assert "nosuch" in found[0].got


def test_weights_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    proto = text("g (float[4] x, float[4] w) => (float[4] y) { y = Add(x, w) }", 8)
    proto.ir_version = 3
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    model = load_proto(tmp_path, proto)
    assert [info.name for info in model.inputs] == ["x"]


def test_unused_domains_go_and_ai_onnx_is_the_default_one(tmp_path: Path) -> None:
    proto = text(RELU, head=', "ai.onnx.ml": 3, "com.example": 1')
    proto.opset_import[0].domain = "ai.onnx"
    proto.graph.node[0].domain = "ai.onnx"
    model = load_proto(tmp_path, proto)
    assert [(entry.domain, entry.version) for entry in model.proto.opset_import] == [("", 18)]
    assert model.proto.graph.node[0].domain == ""


def test_unsorted_graph_is_sorted(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Neg(b) b = Relu(a) a = Abs(x) }")
    assert names(load_proto(tmp_path, proto)) == ["Abs", "Relu", "Neg"]


def test_nodes_get_names_of_their_own(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { a = Relu(x) b = Relu(a) c = Relu(b) y = Neg(c) }")
    for node, name in zip(proto.graph.node, ["", "twin", "twin", ""], strict=True):
        node.name = name
    model = load_proto(tmp_path, proto)
    assert [node.name for node in model.proto.graph.node] == ["Relu_0", "twin", "twin_2", "Neg_3"]


def test_training_graphs_are_left_out(tmp_path: Path) -> None:
    proto = text(RELU)
    proto.training_info.add()
    model = load_proto(tmp_path, proto)
    assert not model.proto.training_info
    assert [(d.code, d.severity) for d in model.diagnostics] == [("DC118", "info")]


def test_ir_version_is_one_the_reference_loads(tmp_path: Path) -> None:
    proto = text(RELU, 28)
    proto.ir_version = 14
    assert load_proto(tmp_path, proto).proto.ir_version == 13


def test_a_model_is_loaded_the_same_twice(tmp_path: Path) -> None:
    proto = text(RELU, 11)
    first, second = load_proto(tmp_path, proto), load_proto(tmp_path, proto)
    assert first.proto.SerializeToString(deterministic=True) == second.proto.SerializeToString(
        deterministic=True
    )


# ---- operators ----


def test_unknown_operators_and_domains_all_at_once(tmp_path: Path) -> None:
    proto = text(
        """g (float[4] x) => (float[4] y) {
            a = Reluu(x) b = com.example.Magic(a) c = Reluu(b)
            d = com.microsoft.Inverse(c) y = Relu(d) }""",
        head=', "com.example": 1, "com.microsoft": 1',
    )
    for index, node in enumerate(proto.graph.node):
        node.name = f"n{index}" if index != 2 else ""
    found = refused(tmp_path, proto)
    assert [(d.code, d.op) for d in found] == [("DC141", "Reluu"), ("DC140", "Magic"), ("DC140", "Inverse")]
    assert found[0].message == "operator 'Reluu' is not part of ONNX"
    assert found[0].got == "2 nodes: 'n0', the one that makes 'c'"
    assert found[0].help == "did you mean 'Relu'?"
    assert (
        found[1].message == "operator 'Magic' comes from the domain 'com.example', which is not part of ONNX"
    )
    assert "before ONNX Runtime optimises it" in found[2].help


def test_an_operand_left_out_of_a_list(tmp_path: Path) -> None:
    """onnx's checker accepts it, and ONNX Runtime 1.31.1 ends in a segmentation fault."""
    proto = text("g (float[4] x) => (float[4] y) { y = Max(x) }")
    proto.graph.node[0].input.append("")
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.op, found.got) == ("DC144", "Max", "an empty name for input 1")


def test_many_nodes_are_counted(tmp_path: Path) -> None:
    body = " ".join(f"a{i + 1} = Magic(a{i})" for i in range(30))
    found = refused(tmp_path, text(f"g (float[4] a0) => (float[4] a30) {{ {body} }}"))
    assert found[0].got.startswith("30 nodes: ")
    assert found[0].got.endswith(" and 10 more")


@pytest.mark.parametrize(
    ("graph", "opset", "need"),
    [
        ("g (float[4] x) => (float[4] y) { y = Gelu(x) }", 19, "opset 20 or newer"),
        (
            "g (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1, 1, 2, 2}> { y = Upsample(x, s) }",
            11,
            "an opset before 10",
        ),
    ],
)
def test_operator_of_another_opset(tmp_path: Path, graph: str, opset: int, need: str) -> None:
    found = refused(tmp_path, text(graph, opset))
    assert [(d.code, d.need) for d in found] == [("DC142", need)]
    assert f"does not exist in opset {opset}" in found[0].message


def test_unknown_operator_inside_a_branch(tmp_path: Path) -> None:
    proto = text(
        """g (float[2] x, bool c) => (float[2] y) { y = If (c) <
            then_branch = a () => (float[2] t) { t = Magic(x) },
            else_branch = b () => (float[2] e) { e = Abs(x) }> }"""
    )
    assert codes(tmp_path, proto) == ["DC141"]


@pytest.mark.parametrize("branch", [False, True])
def test_operators_on_strings(tmp_path: Path, branch: bool) -> None:
    """In a branch and of no known type onnx's inference crashes on this one."""
    proto = text("g (float[4] x, bool c) => (float[4] y) { y = Relu(x) }", opset=20)
    node = onnx.helper.make_node("RegexFullMatch", ["x"], ["m"], name="r", pattern="a")
    inner = onnx.helper.make_graph([node], "branch", [], [onnx.helper.make_tensor_value_info("m", 1, None)])
    outer = onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    proto.graph.node.append(outer if branch else node)
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.op, found.node) == ("DC131", "RegexFullMatch", "r")
    assert found.message == "operator 'RegexFullMatch' works on strings"


def test_a_split_that_counts_wrong(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[2] y) { y, z = Split<axis = 0, num_outputs = 2>(x) }")
    assert load_proto(tmp_path, proto).outputs
    del proto.graph.node[0].output[1:]
    (found,) = refused(tmp_path, proto)
    assert (found.code, found.op, found.got) == ("DC110", "Split", "num_outputs 2, 1 outputs")
