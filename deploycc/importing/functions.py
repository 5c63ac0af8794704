"""Replaces function operators by their bodies, until only operators with a converter are left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, TypeProto, inliner

from deploycc.importing.limits import check_count
from deploycc.onnx_graph import all_nodes, infer_shapes, opset_of
from deploycc.op_support import converted_operators
from deploycc.types import DeployccError, Diagnostic, Limits

_PRIVATE_DOMAIN = "deploycc.inlined"
_KEPT = ("If", "Bernoulli")
"""Not inlined.  ONNX Runtime's Bernoulli gives 1 with probability 1 - p, its body in the standard with p."""
_MAX_ROUNDS = 8
"""Bodies may use function operators again; ONNX nests them three deep at most."""


def inline_local_functions(proto: ModelProto) -> ModelProto:
    """The model with its own functions inlined.

    Raises ``DeployccError`` DC143 where the inliner refuses one.
    """
    if not proto.functions:
        return proto
    try:
        inlined = inliner.inline_local_functions(proto, convert_version=True)
    except Exception as error:  # the native inliner raises RuntimeError with its own text
        raise DeployccError(_not_inlined(str(error))) from None
    left = [node for node in all_nodes(inlined.graph) if (node.domain, node.op_type) in _ids(proto)]
    if left:
        raise DeployccError(_not_inlined(f"calls are left: {', '.join(sorted({n.op_type for n in left}))}"))
    return inlined


def _ids(proto: ModelProto) -> set[tuple[str, str]]:
    return {(function.domain, function.name) for function in proto.functions}


def _not_inlined(reason: str) -> Diagnostic:
    return Diagnostic(
        "DC143",
        "the functions inside the model cannot be inlined",
        got=reason.strip()[:500],
        need="functions that the ONNX inliner accepts",
        help="export with inlined functions, or check that functions and model use the same opset",
    )


def inline_functions(proto: ModelProto, limits: Limits | None = None) -> ModelProto:
    """The model with every standard function operator that has no converter replaced by its body.

    An operator without a body stays; lint reports it.  ``CastLike`` goes as well: a ``Cast`` of a constant
    folds whatever gives the type.  Raises ``DeployccError`` DC161 for more than ``limits.nodes``.
    """
    supported = converted_operators() - {"CastLike"}
    for _ in range(_MAX_ROUNDS):
        proto = infer_shapes(proto)
        types = _types(proto)
        bodies: dict[int, FunctionProto] = {}
        for index, node in enumerate(proto.graph.node):
            if node.domain == "" and node.op_type not in supported and node.op_type not in _KEPT:
                body = body_of(node, opset_of(proto), types)
                if body is not None:
                    bodies[index] = body
        if not bodies:
            return proto
        proto = _inlined(proto, bodies)
        check_count(proto, limits or Limits())
    return proto


def _types(proto: ModelProto) -> dict[str, TypeProto]:
    graph = proto.graph
    types = {info.name: info.type for info in (*graph.value_info, *graph.output, *graph.input)}
    for tensor in graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    return types


def body_of(node: NodeProto, opset: int, types: Mapping[str, TypeProto]) -> FunctionProto | None:
    """The body of a standard function operator, ``None`` for another or where its inputs' types are open.

    ``types`` are those of the node's inputs, by name.
    """
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    body = FunctionProto()
    if schema.has_context_dependent_function:
        if any(name and name not in types for name in node.input):
            return None
        known = [types[name].SerializeToString() if name else b"" for name in node.input]
        text = schema.get_context_dependent_function(node.SerializeToString(), known)
        if not text:
            return None
        body.ParseFromString(text)
    elif schema.has_function:
        text = schema.function_body.SerializeToString()
        body.ParseFromString(text)
    else:
        return None
    return body if body.node else None


def with_attributes(node: NodeProto, body: FunctionProto, opset: int) -> list[NodeProto]:
    """The body's nodes with the values of ``node``'s attributes, or defaults, in place of references."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    given = {a.name: a.default_value for a in schema.attributes.values() if a.default_value.name}
    given |= {a.name: a for a in body.attribute_proto}
    given |= {a.name: a for a in node.attribute}
    nodes = []
    for part in body.node:
        copied = NodeProto()
        copied.CopyFrom(part)
        _fill_in(copied, given)
        nodes.append(copied)
    return nodes


def _fill_in(node: NodeProto, given: Mapping[str, AttributeProto]) -> None:
    kept = []
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in given:
                continue
            value = AttributeProto()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
            attribute = value
        for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            for part in inner.node:
                _fill_in(part, given)
        kept.append(attribute)
    copies = []
    for attribute in kept:
        copy = AttributeProto()
        copy.CopyFrom(attribute)
        copies.append(copy)
    del node.attribute[:]
    node.attribute.extend(copies)


def _inlined(proto: ModelProto, bodies: dict[int, FunctionProto]) -> ModelProto:
    """Make each body a function of the model under a private name and let onnx's inliner do the renaming."""
    changed = ModelProto()
    changed.CopyFrom(proto)
    for index, body in bodies.items():
        node = changed.graph.node[index]
        function = changed.functions.add()
        function.CopyFrom(body)
        function.domain, function.name = _PRIVATE_DOMAIN, f"body_{index}"
        del function.opset_import[:]
        function.opset_import.extend([onnx.helper.make_opsetid("", opset_of(proto))])
        # Attributes left at their defaults are not on the node; the body reads them by reference.
        given = {attribute.name for attribute in node.attribute}
        schema = onnx.defs.get_schema(node.op_type, opset_of(proto), "")
        for name, attribute in schema.attributes.items():
            if name not in given and attribute.default_value.name:
                node.attribute.append(attribute.default_value)
        declared = {*function.attribute, *(a.name for a in function.attribute_proto)}
        function.attribute.extend(a.name for a in node.attribute if a.name not in declared)
        node.domain, node.op_type = _PRIVATE_DOMAIN, function.name
    changed.opset_import.extend([onnx.helper.make_opsetid(_PRIVATE_DOMAIN, 1)])
    inlined = inliner.inline_local_functions(changed)
    kept = [entry for entry in inlined.opset_import if entry.domain != _PRIVATE_DOMAIN]
    del inlined.opset_import[:]
    inlined.opset_import.extend(kept)
    return inlined
