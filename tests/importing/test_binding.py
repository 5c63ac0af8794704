"""Dynamic dimensions, and --shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.importing.models import load_proto, refused, text

DYNAMIC = "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }"


def inputs(folder: Path, graph: str, **shapes: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [info.shape for info in load_proto(folder, text(graph), shapes).inputs]


def test_bound(tmp_path: Path) -> None:
    model = load_proto(tmp_path, text(DYNAMIC), {"x": (1, 3, 8, 9)})
    assert model.inputs[0].shape == (1, 3, 8, 9)
    assert model.outputs[0].shape == (1, 3, 8, 9)


def test_static_needs_nothing_and_takes_its_own_shape(tmp_path: Path) -> None:
    graph = "g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"
    assert inputs(tmp_path, graph) == [(1, 4)]
    assert inputs(tmp_path, graph, x=(1, 4)) == [(1, 4)]


def test_scalar_input(tmp_path: Path) -> None:
    assert inputs(tmp_path, "g (float x) => (float y) { y = Relu(x) }") == [()]


def test_unbound_shows_the_flag(tmp_path: Path) -> None:
    found = refused(tmp_path, text(DYNAMIC))
    assert len(found) == 1
    assert (found[0].code, found[0].message) == ("DC200", "input 'x' has dynamic dimensions: 'N', 'H', 'W'")
    assert found[0].got == "float32 Nx3xHxW"
    assert found[0].help == "pass --shape x=1x3x?x? with the ? filled in"


def test_unbound_batch_alone_is_a_whole_flag(tmp_path: Path) -> None:
    found = refused(tmp_path, text("g (float[batch,3,8,8] x) => (float[batch,3,8,8] y) { y = Relu(x) }"))
    assert found[0].help == "pass --shape x=1x3x8x8"


def test_all_unbound_inputs_in_one_go(tmp_path: Path) -> None:
    graph = "g (float[N,4] a, float[M,4] b, float[2,4] c) => (float[p,4] y) { y = Concat<axis=0>(a, b, c) }"
    found = refused(tmp_path, text(graph))
    assert [d.message for d in found] == [
        "input 'a' has dynamic dimensions: 'N'",
        "input 'b' has dynamic dimensions: 'M'",
    ]
    assert {d.help for d in found} == {"pass --shape a=1x4 --shape b=1x4"}


@pytest.mark.parametrize("dims", ["?,3,4", ",3,4"])
def test_unnamed_dimensions(tmp_path: Path, dims: str) -> None:
    proto = text("g (float[K,3,4] x) => (float[K,3,4] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = dims.partition(",")[0]
    found = refused(tmp_path, proto)
    assert found[0].message == "input 'x' has dynamic dimensions"
    assert found[0].got == "float32 ?x3x4"
    assert load_proto(tmp_path, proto, {"x": (2, 3, 4)}).outputs[0].shape == (2, 3, 4)


@pytest.mark.parametrize("value", [-1, 0])
def test_literal_unknowns(tmp_path: Path, value: int) -> None:
    proto = text("g (float[1,3,4] x) => (float[1,3,4] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = value
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = value
    assert refused(tmp_path, proto)[0].code == "DC200"
    assert load_proto(tmp_path, proto, {"x": (2, 3, 4)}).outputs[0].shape == (2, 3, 4)


def test_unknown_rank(tmp_path: Path) -> None:
    proto = text("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    found = refused(tmp_path, proto)
    assert found[0].message == "input 'x' has no shape at all in the model"
    assert found[0].got == "float32 of unknown rank"
    assert load_proto(tmp_path, proto, {"x": (2, 5)}).outputs[0].shape == (2, 5)


def test_one_name_binds_everywhere(tmp_path: Path) -> None:
    graph = "g (float[N,4] a, float[N,4] b) => (float[N,4] y) { y = Add(a, b) }"
    assert inputs(tmp_path, graph, a=(3, 4)) == [(3, 4), (3, 4)]


def test_one_name_two_extents(tmp_path: Path) -> None:
    graph = "g (float[N,4] a, float[N,4] b) => (float[N,4] y) { y = Add(a, b) }"
    found = refused(tmp_path, text(graph), {"a": (3, 4), "b": (5, 4)})
    assert [(d.code, d.message) for d in found] == [("DC205", "dimension 'N' is given two extents")]
    assert found[0].got == "3 from --shape a=3x4 and 5 from --shape b=5x4"


def test_no_such_input(tmp_path: Path) -> None:
    proto = text(DYNAMIC.replace(" x)", " image)").replace("(x)", "(image)"))
    found = refused(tmp_path, proto, {"imag": (1, 3, 8, 8)})
    assert [(d.code, d.message) for d in found] == [
        ("DC201", "--shape imag: the model has no input of that name")
    ]
    assert found[0].need == "one of 'image'"
    assert found[0].help == "did you mean 'image'?"


def test_other_rank(tmp_path: Path) -> None:
    found = refused(tmp_path, text(DYNAMIC), {"x": (3, 8, 8)})
    assert [(d.code, d.message) for d in found] == [
        ("DC202", "--shape x: the model's input has 4 dimensions, not 3")
    ]
    assert (found[0].got, found[0].need, found[0].help) == ("3x8x8", "Nx3xHxW", "--shape x=1x3x?x?")


def test_fixed_dimension(tmp_path: Path) -> None:
    found = refused(tmp_path, text(DYNAMIC), {"x": (1, 4, 8, 8)})
    assert [(d.code, d.message) for d in found] == [("DC203", "--shape x: dimension 1 is fixed in the model")]
    assert (found[0].got, found[0].need) == ("1x4x8x8", "Nx3xHxW")


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (-1, 3, 8, 8), (1, 3, 1 << 33, 1), (1, 3, 1 << 16, 1 << 16)])
def test_out_of_range(tmp_path: Path, shape: tuple[int, ...]) -> None:
    found = refused(tmp_path, text(DYNAMIC), {"x": shape})
    assert [(d.code, d.message) for d in found] == [("DC204", "--shape x: an extent is out of range")]


def test_static_input_out_of_range(tmp_path: Path) -> None:
    found = refused(tmp_path, text("g (float[1,8589934592] x) => (float[1,8589934592] y) { y = Relu(x) }"))
    assert [(d.code, d.message) for d in found] == [("DC204", "input 'x' is too large")]


def test_several_faults_at_once(tmp_path: Path) -> None:
    found = refused(tmp_path, text(DYNAMIC), {"x": (1, 4, 8), "q": (1,)})
    assert [d.code for d in found] == ["DC202", "DC201"]


@pytest.mark.parametrize(
    ("body", "weights", "op", "got"),
    [
        ("y = Reshape(x, s)", "int64[2] s = {1, 5}", "Reshape", "1x3x4x4 cannot become 1x5"),
        ("y = Conv(x, w)", "float[1,2,1,1] w = {1, 2}", "Conv", "3 channels where the weights take 2"),
        (
            "y = ConvTranspose(x, w)",
            "float[2,1,1,1] w = {1, 2}",
            "ConvTranspose",
            "3 channels where the weights take 2",
        ),
        ("y = Add(x, w)", "float[2] w = {1, 2}", "Add", "Incompatible dimensions"),
    ],
)
def test_shapes_that_do_not_fit_through(tmp_path: Path, body: str, weights: str, op: str, got: str) -> None:
    proto = text(f"g (float[N,C,4,4] x) => (float[n,c,h,w0] y) <{weights}> {{ {body} }}")
    proto.graph.node[0].name = "here"
    found = refused(tmp_path, proto, {"x": (1, 3, 4, 4)})
    assert [(d.code, d.message, d.op, d.node) for d in found] == [
        ("DC206", "the shapes do not fit through the network", op, "here")
    ]
    assert found[0].got.startswith(got)
    assert found[0].got.endswith("(inputs x=1x3x4x4)")
    assert "check the --shape" in found[0].help


def test_exporters_shapes_inside_are_forgotten(tmp_path: Path) -> None:
    proto = text("g (float[N,3] x) => (float[7,3] y) <float[N,3] a> { a = Relu(x) y = Neg(a) }")
    model = load_proto(tmp_path, proto, {"x": (2, 3)})
    assert model.outputs[0].shape == (2, 3)
    (info,) = model.proto.graph.value_info
    assert [d.dim_value for d in info.type.tensor_type.shape.dim] == [2, 3]


def test_shape_arithmetic_is_followed(tmp_path: Path) -> None:
    graph = """g (float[N,3,4] x) => (float[a,b] y) <int64[1] m = {-1}, int64 z = {0}, int64[1] zero = {0}> {
        s = Shape(x) n = Gather<axis=0>(s, z) u = Unsqueeze(n, zero)
        t = Concat<axis=0>(u, m) y = Reshape(x, t) }"""
    assert load_proto(tmp_path, text(graph), {"x": (2, 3, 4)}).outputs[0].shape == (2, 12)


@pytest.mark.parametrize(
    ("call", "opset"),
    [
        ("GroupNormalization<num_groups=2>(x, s, s)", 21),
        ("MeanVarianceNormalization(x)", 13),
    ],
)
def test_operators_onnx_infers_no_shape_for(tmp_path: Path, call: str, opset: int) -> None:
    graph = f"g (float[N,4,3,3] x, float[4] s) => (float[N,4,3,3] y) {{ a = {call} y = Relu(a) }}"
    model = load_proto(tmp_path, text(graph, opset), {"x": (2, 4, 3, 3)})
    assert model.outputs[0].shape == (2, 4, 3, 3)
