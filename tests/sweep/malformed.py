"""Model files that are damaged, hostile or merely odd, by name."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.sweep.graphs import Graph

_MODELS: dict[str, Callable[[], bytes]] = {}


def _net(opset: int = 18) -> onnx.ModelProto:
    g = Graph(opset)
    x = g.Relu(g.bn(g.conv(g.input(1, 3, 12, 12), 3, 8, strides=[2, 2]), 8))
    x = g.MaxPool(g.Add(x, g.conv(x, 8, 8)), kernel_shape=[2, 2], strides=[2, 2])
    return g.finish(g.Softmax(g.Gemm(g.Flatten(x), g.w(10, 72), g.w(10), transB=1), axis=1))


def _changed(name: str) -> Callable[[Callable[[onnx.ModelProto], None]], Callable[[onnx.ModelProto], None]]:
    def register(change: Callable[[onnx.ModelProto], None]) -> Callable[[onnx.ModelProto], None]:
        def made() -> bytes:
            proto = _net()
            change(proto)
            return proto.SerializeToString()

        _MODELS[name] = made
        return change

    return register


def _raw(name: str, make: Callable[[], bytes]) -> None:
    _MODELS[name] = make


_raw("empty", lambda: b"")
_raw("one_byte", lambda: b"\x08")
_raw("zeros", lambda: bytes(4096))
_raw("text", lambda: b"this is no model\n" * 50)
_raw("html", lambda: b"<!DOCTYPE html><html><body>404</body></html>")
_raw(
    "git_lfs_pointer",
    lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
)
_raw("zip", lambda: b"PK\x03\x04" + bytes(200))
_raw("twice", lambda: _net().SerializeToString() * 2)
_raw("tail_garbage", lambda: _net().SerializeToString() + b"\xff\xff\xff\xff")
for _share in (5, 30, 60, 90, 99):
    _raw(f"truncated_{_share}", lambda s=_share: (b := _net().SerializeToString())[: len(b) * s // 100])  # type: ignore[misc]


def flipped(seed: int, bits: int) -> bytes:
    """The net with random bits the other way round, half of them in its first kilobyte (its structure)."""
    rng = random.Random(seed)
    data = bytearray(_net().SerializeToString())
    for index in range(bits):
        at = rng.randrange(1024 if index % 2 else len(data))
        data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


for _seed in range(24):
    _raw(f"flipped_{_seed}", lambda s=_seed: flipped(s, 1 + s % 4))


@_changed("no_nodes")
def _no_nodes(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]


@_changed("no_graph")
def _no_graph(proto: onnx.ModelProto) -> None:
    proto.ClearField("graph")


@_changed("no_outputs")
def _no_outputs(proto: onnx.ModelProto) -> None:
    del proto.graph.output[:]


@_changed("no_inputs")
def _no_inputs(proto: onnx.ModelProto) -> None:
    del proto.graph.input[:]


@_changed("no_opset")
def _no_opset(proto: onnx.ModelProto) -> None:
    del proto.opset_import[:]


@_changed("opset_huge")
def _opset_huge(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 2**62


@_changed("opset_negative")
def _opset_negative(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = -3


@_changed("ir_huge")
def _ir_huge(proto: onnx.ModelProto) -> None:
    proto.ir_version = 2**40


@_changed("dim_huge")
def _dim_huge(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**40


@_changed("dim_overflow")
def _dim_overflow(proto: onnx.ModelProto) -> None:
    for dim in proto.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 2**62


@_changed("dim_two_billion")
def _dim_two_billion(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**31


@_changed("dim_negative")
def _dim_negative(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -5


@_changed("dim_zero")
def _dim_zero(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0


@_changed("cycle")
def _cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = proto.graph.node[-1].output[0]


@_changed("self_loop")
def _self_loop(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].input[0] = proto.graph.node[2].output[0]


@_changed("unsorted")
def _unsorted(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


@_changed("output_twice")
def _output_twice(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = proto.graph.node[0].output[0]


@_changed("output_listed_twice")
def _output_listed_twice(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(proto.graph.output[0])


@_changed("input_listed_twice")
def _input_listed_twice(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


@_changed("initializer_twice")
def _initializer_twice(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(proto.graph.initializer[0])


@_changed("initializer_missing")
def _initializer_missing(proto: onnx.ModelProto) -> None:
    del proto.graph.initializer[0]


@_changed("initializer_short")
def _initializer_short(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:7]


@_changed("initializer_no_data")
def _initializer_no_data(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].ClearField("raw_data")


@_changed("initializer_dims_wrong")
def _initializer_dims_wrong(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = 9


@_changed("initializer_dims_negative")
def _initializer_dims_negative(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = -8


@_changed("initializer_dims_huge")
def _initializer_dims_huge(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = 2**61


@_changed("initializer_type_wrong")
def _initializer_type_wrong(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = TensorProto.INT32


@_changed("initializer_type_unknown")
def _initializer_type_unknown(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = 99


@_changed("initializer_rank_wrong")
def _initializer_rank_wrong(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.zeros((8, 3), np.float32), proto.graph.initializer[0].name)
    )


@_changed("initializer_nan")
def _initializer_nan(proto: onnx.ModelProto) -> None:
    array = np.full((8, 3, 3, 3), np.nan, np.float32)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, proto.graph.initializer[0].name))


@_changed("external_outside")
def _external_outside(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../../../etc/passwd"), ("offset", "0"), ("length", "864")):
        tensor.external_data.add(key=key, value=value)


@_changed("external_odd_offset")
def _external_odd_offset(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "-1e9"), ("length", "many")):
        tensor.external_data.add(key=key, value=value)


@_changed("input_type_wrong")
def _input_type_wrong(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8


@_changed("input_type_unknown")
def _input_type_unknown(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = 77


@_changed("input_string")
def _input_string(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


@_changed("input_no_type")
def _input_no_type(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].ClearField("type")


@_changed("output_type_wrong")
def _output_type_wrong(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


@_changed("output_shape_wrong")
def _output_shape_wrong(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11


@_changed("output_no_type")
def _output_no_type(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].ClearField("type")


@_changed("output_missing")
def _output_missing(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "nobody makes this"


@_changed("value_info_wrong")
def _value_info_wrong(proto: onnx.ModelProto) -> None:
    info = helper.make_tensor_value_info(proto.graph.node[0].output[0], TensorProto.INT8, [7, 7])
    proto.graph.value_info.append(info)


@_changed("op_unknown")
def _op_unknown(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "Convolve\n\x1b[31m"


@_changed("op_empty")
def _op_empty(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = ""


@_changed("op_inputs_missing")
def _op_inputs_missing(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].input[1:]


@_changed("op_inputs_many")
def _op_inputs_many(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input.extend([proto.graph.node[0].input[1]] * 5)


@_changed("op_no_outputs")
def _op_no_outputs(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].output[:]


@_changed("attribute_type_wrong")
def _attribute_type_wrong(proto: onnx.ModelProto) -> None:
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "strides":
            attribute.CopyFrom(helper.make_attribute("strides", "two"))


@_changed("attribute_unknown")
def _attribute_unknown(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("flavour", 3))


@_changed("attribute_twice")
def _attribute_twice(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(proto.graph.node[0].attribute[0])


def _attribute(name: str, values: list[int], node: int = 0) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        for attribute in proto.graph.node[node].attribute:
            if attribute.name == name:
                attribute.CopyFrom(helper.make_attribute(name, values))

    return change


_changed("strides_zero")(_attribute("strides", [0, 0]))
_changed("strides_negative")(_attribute("strides", [-1, 2]))
_changed("strides_short")(_attribute("strides", [2]))
_changed("kernel_wrong")(_attribute("kernel_shape", [5, 5]))
_changed("kernel_huge")(_attribute("kernel_shape", [2**40, 3]))
_changed("pads_negative")(_attribute("pads", [-9, -9, -9, -9]))
_changed("pads_huge")(_attribute("pads", [2**33, 0, 0, 0]))
_changed("pads_short")(_attribute("pads", [1]))


@_changed("group_zero")
def _group_zero(proto: onnx.ModelProto) -> None:
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "group":
            attribute.i = 0


@_changed("names_odd")
def _names_odd(proto: onnx.ModelProto) -> None:
    _rename(
        proto,
        (
            'in"put\n*/ int x; /*\x1b]0;x\x07',
            "out\\put?>#include <a>",
            "node'; rm -rf $HOME `id` \u202e%s%n\x1b[31m",
        ),
    )


@_changed("names_unicode")
def _names_unicode(proto: onnx.ModelProto) -> None:
    _rename(proto, ("画像/入力:0", "выход", "层" * 300))


@_changed("names_keyword")
def _names_keyword(proto: onnx.ModelProto) -> None:
    _rename(proto, ("class", "int", "while"))


@_changed("names_like_ours")
def _names_like_ours(proto: onnx.ModelProto) -> None:
    _rename(proto, ("run", "destroy", "main"))


@_changed("names_collide")
def _names_collide(proto: onnx.ModelProto) -> None:
    _rename(proto, ("a.b", "a-b", "a b"))


@_changed("names_empty_nodes")
def _names_empty_nodes(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.name = ""
    proto.graph.name = ""


@_changed("names_same_nodes")
def _names_same_nodes(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.name = "n"


@_changed("name_is_kilobytes")
def _name_is_kilobytes(proto: onnx.ModelProto) -> None:
    _rename(proto, ("i" * 70000, "o", "n"))


def _rename(proto: onnx.ModelProto, names: tuple[str, str, str]) -> None:
    graph = proto.graph
    old_in, old_out = graph.input[0].name, graph.output[0].name
    graph.input[0].name, graph.output[0].name = names[0], names[1]
    for node in graph.node:
        node.name = names[2] + node.name
        node.input[:] = [names[0] if name == old_in else name for name in node.input]
        node.output[:] = [names[1] if name == old_out else name for name in node.output]


def _invalid_utf8() -> bytes:
    proto = _net()
    proto.graph.node[0].name = "XXXXXXXX"
    return proto.SerializeToString().replace(b"XXXXXXXX", b"\xff\xfe\x80abc\xc3\x28"[:8])


_raw("invalid_utf8_name", _invalid_utf8)


def _invalid_utf8_tensor() -> bytes:
    proto = _net()
    _rename(proto, ("YYYYYYYY", "o", "n"))
    return proto.SerializeToString().replace(b"YYYYYYYY", b"\xff\xfe\x80abc\xc3\x28"[:8])


_raw("invalid_utf8_tensor", _invalid_utf8_tensor)


def _deep_nesting(depth: int) -> bytes:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y0"])], "g", [], [helper.make_tensor_value_info("y0", 1, [1])]
    )
    for level in range(1, depth):
        node = helper.make_node("If", ["c"], [f"y{level}"], then_branch=inner, else_branch=inner)
        output = [helper.make_tensor_value_info(f"y{level}", 1, [1])]
        inner = helper.make_graph([node], f"g{level}", [], output)
    del inner.input[:]
    inner.input.extend(
        [helper.make_tensor_value_info("x", 1, [1]), helper.make_tensor_value_info("c", 9, [])]
    )
    return helper.make_model(
        inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()


_raw("nested_ifs", lambda: _deep_nesting(7))
_raw("nested_bytes", lambda: b"\x3a\x7f" * 3000)


def _nested_only(depth: int) -> bytes:
    """A chain of Ifs, each in the other's branch; protobuf stops at a depth of a hundred messages."""
    data = helper.make_graph([], "g", [], []).SerializeToString()

    def field(number: int, value: bytes) -> bytes:
        length, size = len(value), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return _varint(number << 3 | 2) + size + bytes([length]) + value

    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, data) + b"\xa0\x01\x05"
        data = field(1, field(4, b"If") + field(1, b"c") + field(2, b"y") + field(5, attribute))
    opset = field(8, b"\x10\x12")
    return b"\x08\x08" + opset + field(7, data)


def _varint(value: int) -> bytes:
    made = b""
    while value > 127:
        made, value = made + bytes([value & 127 | 128]), value >> 7
    return made + bytes([value])


_raw("nested_40", lambda: _nested_only(20))
_raw("nested_1000", lambda: _nested_only(1000))


def _many_nodes() -> bytes:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(3000)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("t0", 1, [4])],
        [helper.make_tensor_value_info("t3000", 1, [4])],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()


_raw("three_thousand_nodes", _many_nodes)


def _single(op: str, inputs: dict[str, np.ndarray | tuple[int, ...]], **attributes: object) -> bytes:  # type: ignore[type-arg]
    given = [helper.make_tensor_value_info(n, 1, v) for n, v in inputs.items() if isinstance(v, tuple)]
    weights = [numpy_helper.from_array(v, n) for n, v in inputs.items() if isinstance(v, np.ndarray)]
    node = helper.make_node(op, list(inputs), ["y"], **attributes)
    graph = helper.make_graph([node], "g", given, [helper.make_tensor_value_info("y", 1, None)], weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()


def _ints(*values: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(values, np.int64)


_raw("tile_huge", lambda: _single("Tile", {"x": (2,), "r": _ints(2**40)}))
_raw("expand_huge", lambda: _single("Expand", {"x": (1,), "s": _ints(2**20, 2**20)}))
_raw("constant_of_shape_huge", lambda: _single("ConstantOfShape", {"s": _ints(2**20, 2**20)}))


def _float(value: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(value, np.float32)


_raw("range_huge", lambda: _single("Range", {"a": _float(0), "b": _float(1e12), "c": _float(1)}))
_raw("range_step_zero", lambda: _single("Range", {"a": _float(0), "b": _float(9), "c": _float(0)}))
_raw("range_nan", lambda: _single("Range", {"a": _float(0), "b": _float(np.nan), "c": _float(1)}))
_raw("pad_huge", lambda: _single("Pad", {"x": (2,), "p": _ints(2**40, 0)}))
_raw("reshape_wrong", lambda: _single("Reshape", {"x": (2, 3), "s": _ints(4, 4)}))
_raw("reshape_two_minus_ones", lambda: _single("Reshape", {"x": (2, 3), "s": _ints(-1, -1)}))
_raw("transpose_perm_bad", lambda: _single("Transpose", {"x": (2, 3)}, perm=[0, 0]))
_raw("transpose_perm_out", lambda: _single("Transpose", {"x": (2, 3)}, perm=[0, 7]))
_raw("concat_axis_out", lambda: _single("Concat", {"x": (2, 3), "z": (2, 3)}, axis=9))
_raw("gather_out", lambda: _single("Gather", {"x": (2, 3), "i": _ints(17)}))
_raw("softmax_axis_out", lambda: _single("Softmax", {"x": (2, 3)}, axis=5))
_raw("matmul_mismatch", lambda: _single("MatMul", {"x": (2, 3), "z": (4, 5)}))
_raw("add_mismatch", lambda: _single("Add", {"x": (2, 3), "z": (4, 5)}))
_raw("split_mismatch", lambda: _single("Split", {"x": (2, 3), "s": _ints(9)}, axis=0))
_raw("einsum_bad", lambda: _single("Einsum", {"x": (2, 3)}, equation="ij->k->("))
_raw(
    "conv_kernel_larger", lambda: _single("Conv", {"x": (1, 1, 2, 2), "w": np.ones((1, 1, 5, 5), np.float32)})
)
_raw(
    "conv_group_bad",
    lambda: _single("Conv", {"x": (1, 4, 5, 5), "w": np.ones((3, 2, 3, 3), np.float32)}, group=2),
)
_raw("depth_to_space_bad", lambda: _single("DepthToSpace", {"x": (1, 5, 2, 2)}, blocksize=3))
_raw("depth_to_space_zero", lambda: _single("DepthToSpace", {"x": (1, 4, 2, 2)}, blocksize=0))
_raw("maxpool_zero_kernel", lambda: _single("MaxPool", {"x": (1, 4, 4, 4)}, kernel_shape=[0, 0]))
_raw(
    "resize_scale_zero",
    lambda: _single(
        "Resize", {"x": (1, 1, 4, 4), "r": np.zeros(0, np.float32), "s": np.array([1, 1, 0, 2], np.float32)}
    ),
)
_raw(
    "resize_scale_nan",
    lambda: _single(
        "Resize",
        {"x": (1, 1, 4, 4), "r": np.zeros(0, np.float32), "s": np.array([1, 1, np.nan, 2], np.float32)},
    ),
)
_raw(
    "resize_scale_huge",
    lambda: _single(
        "Resize",
        {"x": (1, 1, 4, 4), "r": np.zeros(0, np.float32), "s": np.array([1, 1, 1e12, 2], np.float32)},
    ),
)
_raw(
    "slice_step_zero",
    lambda: _single("Slice", {"x": (4,), "a": _ints(0), "b": _ints(4), "c": _ints(0), "d": _ints(0)}),
)
_raw("div_int_zero", lambda: _single("Relu", {"x": ()}))


def _int_division_by_zero() -> bytes:
    g = Graph(18)
    return g.finish(g.Div(g.input(4, dtype="int32"), g.c(np.array(0, np.int32)))).SerializeToString()


_raw("integer_division_by_zero", _int_division_by_zero)


@_changed("raw_and_typed")
def _raw_and_typed(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].float_data.extend([1.0] * 216)


@_changed("attribute_nan")
def _attribute_nan(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].attribute.append(helper.make_attribute("epsilon", float("nan")))


@_changed("attribute_gigantic")
def _attribute_gigantic(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("pads", [0] * 200_000))


@_changed("ir_zero")
def _ir_zero(proto: onnx.ModelProto) -> None:
    proto.ir_version = 0


@_changed("output_is_weight")
def _output_is_weight(proto: onnx.ModelProto) -> None:
    weight = proto.graph.initializer[0]
    proto.graph.output.append(helper.make_tensor_value_info(weight.name, 1, weight.dims))


@_changed("output_is_input")
def _output_is_input(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(proto.graph.input[0])


@_changed("weight_shadows_input")
def _weight_shadows_input(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(
        numpy_helper.from_array(np.zeros((1, 3, 12, 12), np.float32), proto.graph.input[0].name)
    )


@_changed("sparse_weight")
def _sparse_weight(proto: onnx.ModelProto) -> None:
    dense = proto.graph.initializer[1]
    sparse = proto.graph.sparse_initializer.add(dims=list(dense.dims))
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), dense.name))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([2**40], np.int64), "indices"))
    del proto.graph.initializer[1]


@_changed("weight_of_strings")
def _weight_of_strings(proto: onnx.ModelProto) -> None:
    name = proto.graph.initializer[0].name
    proto.graph.initializer[0].CopyFrom(helper.make_tensor(name, TensorProto.STRING, [1], [b"\xff\xfe"]))


@_changed("branch_shadows")
def _branch_shadows(proto: onnx.ModelProto) -> None:
    """A branch that defines a name of the graph around it anew."""
    first = proto.graph.node[0]
    result = helper.make_tensor_value_info(first.output[0], 1, None)
    inner = helper.make_node("Relu", [proto.graph.input[0].name], [first.output[0]])
    branch = helper.make_graph([inner], "branch", [], [result])
    proto.graph.initializer.append(helper.make_tensor("so", TensorProto.BOOL, [], [1]))
    proto.graph.node.append(helper.make_node("If", ["so"], ["z"], then_branch=branch, else_branch=branch))
    proto.graph.output.append(helper.make_tensor_value_info("z", 1, None))


@_changed("domain_odd")
def _domain_odd(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].domain = "\u202e<script>"
    proto.opset_import.append(helper.make_opsetid("\u202e<script>", 2**62))


@_changed("function_of_itself")
def _function_of_itself(proto: onnx.ModelProto) -> None:
    function = proto.functions.add(name="f", domain="d", input=["a"], output=["b"])
    function.opset_import.append(helper.make_opsetid("d", 1))
    function.node.add(op_type="f", domain="d", input=["a"], output=["b"])
    proto.opset_import.append(helper.make_opsetid("d", 1))
    proto.graph.node[2].op_type, proto.graph.node[2].domain = "f", "d"


def malformed_models() -> dict[str, Callable[[], bytes]]:
    """Makers of every file, by name."""
    return dict(_MODELS)
