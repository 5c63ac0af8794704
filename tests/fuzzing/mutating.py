"""Changes to models: blind ones to any field of any message, and ones that know what a graph is.

Everything is drawn from the ``random.Random`` that is given, so a mutation can be made again.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import AttributeProto, ModelProto, TensorProto, helper

WHOLE = (
    *(0, 1, -1, 2, 3, 4, 5, 7, 8, 10, 16, 17, 64, 255, 256, 1000, 65536, -2, -5, 2**20, 2**31 - 1, 2**31),
    *(-(2**31), 2**32, 2**33, 2**40, 2**53, 2**61, 2**62, 2**63 - 1, -(2**63), 0x80, 0xFFFF),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e38, 1e-38, float("nan"), float("inf"), float("-inf"), 3.0e9)
TEXTS = (
    *("", "x", "y", "a b", "a.b", "a-b", "class", "int", "0", "ai.onnx", "com.microsoft", "../../etc/passwd"),
    *("*/", "??/", "\\", '"', "\n", "%s%n", "\u202e", "\x1b[31m", "</script>", "\U0001f600", "x" * 300, "\0"),
    *("weights.bin", "then_branch", "body", "value", "axis", "SAME_UPPER", "ij,jk->ik", "linear", "constant"),
)
OPERATORS = tuple(
    sorted({schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""})
)
_MOST_MESSAGES = 400

Change = Callable[[ModelProto, random.Random, Sequence[bytes]], None]


def mutate(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """One to four changes to ``proto``, in place; ``others`` are models that parts may be taken from."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        change = _blind if draw.random() < 0.45 else draw.choice(_CHANGES)
        change(proto, draw, others)


def _messages(message: Message, found: list[Message]) -> None:
    found.append(message)
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE and len(found) < _MOST_MESSAGES:
            for item in value if field.is_repeated else [value]:
                _messages(item, found)


def _blind(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """Any field of any message: set, emptied, repeated, shuffled."""
    found: list[Message] = []
    _messages(proto, found)
    message = draw.choice(found)
    fields = [field for field, _ in message.ListFields()] if draw.random() < 0.75 else []
    field = draw.choice(fields or list(message.DESCRIPTOR.fields))
    if not field.is_repeated:
        if draw.random() < 0.2:
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, _value(field, getattr(message, field.name), draw))
        return
    items = getattr(message, field.name)
    what = draw.randrange(5)
    if what == 0 and len(items):
        del items[draw.randrange(len(items))]
    elif what == 1 and len(items):
        del items[draw.randrange(len(items)) :]
    elif what == 2 and len(items):
        items.append(items[draw.randrange(len(items))])
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if len(items) > 1:
            kept = list(items)
            draw.shuffle(kept)
            copies = [_copy(item) for item in kept]
            del items[:]
            items.extend(copies)
        else:
            items.add()
    elif what == 3 and len(items):
        index = draw.randrange(len(items))
        items[index] = _value(field, items[index], draw)
    else:
        items.append(_value(field, None, draw))


def _copy(message: Any) -> Any:
    fresh = type(message)()
    fresh.CopyFrom(message)
    return fresh


def _value(field: Any, old: Any, draw: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return draw.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        data = bytearray(old or b"")
        what = draw.randrange(4)
        if what == 0 or not data:
            return draw.choice(TEXTS).encode()
        if what == 1:
            return bytes(data[: draw.randrange(len(data))])
        if what == 2:
            return bytes(data) * 2 if len(data) < 4096 else b""
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return bytes(data)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return draw.choice(FLOATS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return draw.choice([value.number for value in field.enum_type.values])
    bits = {
        FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    }
    low, high = bits.get(field.cpp_type, (-(2**63), 2**63 - 1))
    nudged = (old or 0) + draw.choice((-1, 1, 2, -2))
    value = nudged if draw.random() < 0.4 else draw.choice(WHOLE)
    return min(max(value, low), high)


def _node(proto: ModelProto, draw: random.Random) -> onnx.NodeProto | None:
    graph = proto.graph
    if proto.functions and draw.random() < 0.3:
        function = draw.choice(proto.functions)
        return draw.choice(function.node) if function.node else None
    for _ in range(draw.choice((0, 0, 1, 3))):
        inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
        if inner:
            graph = draw.choice(inner)
    return draw.choice(graph.node) if graph.node else None


def _names(proto: ModelProto) -> list[str]:
    graph = proto.graph
    names = [info.name for info in (*graph.input, *graph.output)] + [t.name for t in graph.initializer]
    return [*names, *(name for node in graph.node for name in (*node.input, *node.output))] or [""]


def _rewire(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    node = _node(proto, draw)
    if node is not None:
        ends = draw.choice((node.input, node.input, node.output))
        if ends and draw.random() < 0.8:
            ends[draw.randrange(len(ends))] = draw.choice([*_names(proto), ""])
        else:
            ends.append(draw.choice(_names(proto)))


def _other_operator(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    node = _node(proto, draw)
    if node is not None:
        node.op_type = draw.choice(OPERATORS)


def _attribute(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """An attribute that the operator has, of its type and with another value, or of another type."""
    node = _node(proto, draw)
    if node is None:
        return
    names = [attribute.name for attribute in node.attribute]
    with contextlib.suppress(onnx.defs.SchemaError):
        names += list(onnx.defs.get_schema(node.op_type, 26, node.domain).attributes)
    name = draw.choice(names or ["axis"])
    several = [draw.choice(WHOLE) for _ in range(draw.randrange(6))]
    small = [draw.randrange(-3, 5) for _ in range(draw.randrange(6))]
    value: Any = draw.choice(
        (
            *(draw.choice(WHOLE), draw.randrange(-3, 6), draw.choice(FLOATS), draw.choice(TEXTS)),
            *(several or [0], small or [1], [draw.choice(FLOATS)], [draw.choice(TEXTS)]),
        )
    )
    for index, attribute in enumerate(node.attribute):
        if attribute.name == name and draw.random() < 0.9:
            del node.attribute[index]
            break
    node.attribute.append(helper.make_attribute(name, value))


def _weight(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    held = [a.t for node in proto.graph.node for a in node.attribute if a.HasField("t")]
    tensors = [*proto.graph.initializer, *held]
    if not tensors:
        return
    tensor = draw.choice(tensors)
    what = draw.randrange(8)
    if what == 0 and tensor.dims:
        tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(WHOLE)
    elif what == 1:
        tensor.data_type = draw.choice((*TensorProto.DataType.values(), 99, -1))
    elif what == 2:
        tensor.raw_data = tensor.raw_data[: draw.randrange(len(tensor.raw_data) + 1)]
    elif what == 3:
        tensor.float_data.append(draw.choice(FLOATS))
    elif what == 4:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=draw.choice(TEXTS))
        tensor.external_data.add(key="offset", value=str(draw.choice(WHOLE)))
    elif what == 5:
        count = len(tensor.raw_data) // 8
        values = [draw.choice(WHOLE) for _ in range(count)]
        tensor.raw_data = b"".join(value.to_bytes(8, "little", signed=True) for value in values)
    elif what == 6:
        tensor.dims.append(draw.choice((0, 1, 1, 2, -1)))
    elif tensor.raw_data:
        data = bytearray(tensor.raw_data)
        data[draw.randrange(len(data))] = draw.randrange(256)
        tensor.raw_data = bytes(data)


def _extent(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    infos = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    dims = [dim for info in infos for dim in info.type.tensor_type.shape.dim]
    if dims:
        dim = draw.choice(dims)
        if draw.random() < 0.2:
            dim.dim_param = draw.choice(TEXTS)
        else:
            dim.dim_value = draw.choice(WHOLE) if draw.random() < 0.4 else draw.randrange(0, 9)


def _element_type(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    infos = [*proto.graph.input, *proto.graph.output]
    if infos:
        draw.choice(infos).type.tensor_type.elem_type = draw.choice((*TensorProto.DataType.values(), 77))


def _becomes_constant(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """An input gets a stored value of its name, of whole numbers, which folds what reads it."""
    graph = proto.graph
    if not graph.input:
        return
    info = draw.choice(graph.input)
    shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    if any(not 0 <= extent <= 64 for extent in shape):
        return
    count = 1
    for extent in shape:
        count *= extent
    if count > 4096:
        return
    tensor = graph.initializer.add(name=info.name, dims=shape, data_type=info.type.tensor_type.elem_type)
    if tensor.data_type in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.DOUBLE):
        field = {1: tensor.float_data, 7: tensor.int64_data, 6: tensor.int32_data, 11: tensor.double_data}
        values = [draw.choice(WHOLE[:12]) for _ in range(count)]
        field[tensor.data_type].extend(values)
    if draw.random() < 0.7:
        graph.input.remove(info)


def _versions(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    if proto.opset_import and draw.random() < 0.8:
        proto.opset_import[0].version = draw.choice((*range(1, 30), *WHOLE))
    else:
        proto.ir_version = draw.choice((*range(15), *WHOLE))


def _splice(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """Nodes and weights of another model, the first reading what is here."""
    if not others:
        return
    other = ModelProto.FromString(draw.choice(others))
    if not other.graph.node:
        return
    names = _names(proto)
    for info in other.graph.input:
        wanted = draw.choice(names)
        for node in other.graph.node:
            node.input[:] = [wanted if name == info.name else name for name in node.input]
    proto.graph.node.extend(other.graph.node)
    proto.graph.initializer.extend(other.graph.initializer)
    if draw.random() < 0.7:
        proto.graph.output.extend(other.graph.output)


def _behind(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """One more operator behind an output, which then is the output."""
    graph = proto.graph
    if not graph.output:
        return
    info = draw.choice(graph.output)
    inside = f"{info.name}_{draw.randrange(1000)}"
    for node in graph.node:
        node.output[:] = [inside if name == info.name else name for name in node.output]
        node.input[:] = [inside if name == info.name else name for name in node.input]
    operator = draw.choice(OPERATORS)
    graph.node.append(helper.make_node(operator, [inside] * draw.choice((1, 1, 1, 2, 3)), [info.name]))
    info.type.tensor_type.ClearField("shape")


def _into_branch(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """A node goes into a branch of an If, or the body of a Loop."""
    graph = proto.graph
    if not graph.node:
        return
    index = draw.randrange(len(graph.node))
    node = _copy(graph.node[index])
    outputs = [name for name in node.output if name]
    infos = [helper.make_tensor_value_info(f"{name}_inner", 1, None) for name in outputs]
    node.output[:] = [f"{name}_inner" if name else "" for name in node.output]
    if draw.random() < 0.7:
        body = helper.make_graph([node], "branch", [], infos)
        outer = helper.make_node("If", ["condition"], outputs, then_branch=body, else_branch=body)
    else:
        count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
        going = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
        still = helper.make_node("Identity", ["c"], ["c_out"])
        going_out = helper.make_tensor_value_info("c_out", TensorProto.BOOL, [])
        body = helper.make_graph([node, still], "body", [count, going], [going_out, *infos])
        outer = helper.make_node("Loop", ["trips", "condition"], outputs, body=body)
        trips = draw.choice((0, 1, 3))
        graph.initializer.append(helper.make_tensor("trips", TensorProto.INT64, [], [trips]))
    if draw.random() < 0.7:
        graph.initializer.append(helper.make_tensor("condition", TensorProto.BOOL, [], [1]))
    else:
        graph.input.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    graph.node[index].CopyFrom(outer)


def _into_function(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    """A node becomes a call of a function of the model, which may call itself."""
    graph = proto.graph
    if not graph.node:
        return
    node = draw.choice(graph.node)
    inner = _copy(node)
    name = f"f{draw.randrange(3)}"
    function = proto.functions.add(name=name, domain="local")
    function.input.extend(dict.fromkeys(n for n in node.input if n))
    function.output.extend(dict.fromkeys(n for n in node.output if n))
    function.node.append(inner)
    function.opset_import.extend(proto.opset_import)
    if draw.random() < 0.3:
        function.node[0].op_type, function.node[0].domain = f"f{draw.randrange(3)}", "local"
        function.opset_import.append(helper.make_opsetid("local", 1))
    node.domain, node.op_type = "local", name
    del node.attribute[:]
    node.input[:] = list(function.input)
    if all(entry.domain != "local" for entry in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid("local", 1))


def _reference_attribute(proto: ModelProto, draw: random.Random, others: Sequence[bytes]) -> None:
    node = _node(proto, draw)
    if node is not None and node.attribute:
        attribute = draw.choice(node.attribute)
        attribute.ref_attr_name = draw.choice(("axis", "alpha", ""))
        if draw.random() < 0.5:
            attribute.type = draw.choice(AttributeProto.AttributeType.values())


_CHANGES: tuple[Change, ...] = (
    *(_rewire, _other_operator, _attribute, _attribute, _weight, _weight, _extent, _extent, _element_type),
    *(_becomes_constant, _versions, _splice, _behind, _behind, _into_branch, _into_function),
    _reference_attribute,
)
