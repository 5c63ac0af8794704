"""Every operator of the model must exist in its domain at the model's opset."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache

import onnx
from onnx import ModelProto, NodeProto

from deploycc.custom_operators import installed
from deploycc.importing import contrib
from deploycc.onnx_graph import all_nodes, opset_of
from deploycc.types import DeployccError, Diagnostic

_SHOWN_NODES = 20

_OF_STRINGS = frozenset({"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"})
"""Not left to lint: onnx 1.23.2 crashes when it infers the result of a RegexFullMatch of no known type."""


def check_operators(proto: ModelProto) -> None:
    """Refuse unknown domains and operators, one diagnostic an operator with all its nodes.

    Raises ``DeployccError``: DC131 an operator on strings, DC140 unknown domain, DC141 unknown operator,
    DC142 an operator the model's opset does not have (yet, or any more), DC144 an operand left out.
    """
    local = {(function.domain, function.name) for function in proto.functions}
    nodes: dict[tuple[str, str], list[NodeProto]] = {}
    for node in _every_node(proto):
        if (node.domain, node.op_type) not in local:
            nodes.setdefault((node.domain, node.op_type), []).append(node)
    known_domains = _known_domains() | {domain for domain, _ in installed()}
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    faults = []
    for (domain, op), where in nodes.items():
        if (domain, op) in contrib.HANDLERS:
            continue
        if not domain and op in _OF_STRINGS:
            faults.append(_of_strings(op, where))
        elif domain not in known_domains:
            faults.append(_unknown_domain(domain, op, where))
        elif not _exists(domain, op, versions.get(domain, opset_of(proto) if not domain else 1)):
            faults.append(_unknown_operator(domain, op, where, versions.get(domain, 0)))
        else:
            version = versions.get(domain, opset_of(proto) if not domain else 1)
            faults += _left_out(onnx.defs.get_schema(op, version, domain), where)
    if faults:
        raise DeployccError(*faults)


def _left_out(schema: onnx.defs.OpSchema, nodes: list[NodeProto]) -> Iterable[Diagnostic]:
    """An empty name in a list of any length: onnx's checker lets it pass, and ONNX Runtime crashes on it.

    Other operands that have to be there are left out by exporters, and are found missing later (Resize's).
    """
    if not schema.inputs or schema.inputs[-1].option != schema.FormalParameterOption.Variadic:
        return
    parameter, first = schema.inputs[-1], len(schema.inputs) - 1
    for node in nodes:
        for index, name in enumerate(node.input):
            if not name and index >= first:
                yield Diagnostic(
                    "DC144",
                    f"operand '{parameter.name}' of {node.op_type} is left out",
                    node=node.name,
                    op=node.op_type,
                    got=f"an empty name for input {index}",
                    need="a tensor: only optional operands may be left out",
                    help="export the model again with a current exporter, or mend the graph that made it",
                )
                break


def sort_top_k(proto: ModelProto) -> None:
    """Have every ``TopK`` sort, in place: without ``sorted`` any order is right; this one can be compared."""
    for node in all_nodes(proto.graph):
        if node.op_type == "TopK" and not node.domain:
            for attribute in node.attribute:
                if attribute.name == "sorted":
                    attribute.i = 1


@cache
def _known_domains() -> frozenset[str]:
    return frozenset(schema.domain for schema in onnx.defs.get_all_schemas())


def _every_node(proto: ModelProto) -> Iterable[NodeProto]:
    yield from all_nodes(proto.graph)
    for function in proto.functions:
        yield from function.node


def _exists(domain: str, op: str, version: int) -> bool:
    if not 0 < version < 1 << 31:
        return False
    try:
        return not onnx.defs.get_schema(op, version, domain).deprecated
    except onnx.defs.SchemaError:
        return False


def _listed(nodes: list[NodeProto]) -> str:
    shown = ", ".join(_called(node) for node in nodes[:_SHOWN_NODES])
    more = f" and {len(nodes) - _SHOWN_NODES} more" if len(nodes) > _SHOWN_NODES else ""
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}: {shown}{more}"


def _called(node: NodeProto) -> str:
    return f"'{node.name}'" if node.name else f"the one that makes '{node.output[0] if node.output else ''}'"


def _of_strings(op: str, nodes: list[NodeProto]) -> Diagnostic:
    return Diagnostic(
        "DC131",
        f"operator '{op}' works on strings",
        node=nodes[0].name,
        op=op,
        got=_listed(nodes),
        need="numbers or booleans",
        help="do the text processing in the app and cut it off the graph",
        verdict="unsupported",
    )


def _unknown_domain(domain: str, op: str, nodes: list[NodeProto]) -> Diagnostic:
    return Diagnostic(
        "DC140",
        f"operator '{op}' comes from the domain '{domain}', which is not part of ONNX",
        node=nodes[0].name,
        op=op,
        got=_listed(nodes),
        need="operators of the ONNX standard, or a function of that name inside the model",
        help="save the model before ONNX Runtime optimises it: that fuses into operators of its own"
        if domain.startswith("com.microsoft")
        else "replace the custom operator by standard ones at export, write a converter for it (--op-dir), "
        "or cut the graph before it",
        verdict="unsupported",
    )


def _unknown_operator(domain: str, op: str, nodes: list[NodeProto], version: int) -> Diagnostic:
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == domain]
    ages = [s for s in schemas if s.name == op]
    if ages:
        first = min(s.since_version for s in ages)
        gone = [s.since_version for s in ages if s.deprecated]
        return Diagnostic(
            "DC142",
            f"operator '{op}' does not exist in opset {version}",
            node=nodes[0].name,
            op=op,
            got=_listed(nodes),
            need=f"opset {first} or newer"
            if version < first
            else f"an opset before {min(gone, default=first)}",
            help="export the model again with a matching opset",
            verdict="unsupported",
        )
    near = difflib.get_close_matches(op, sorted({s.name for s in schemas}), n=1)
    return Diagnostic(
        "DC141",
        f"operator '{op}' is not part of ONNX",
        node=nodes[0].name,
        op=op,
        got=_listed(nodes),
        need="operators of the ONNX standard, or a function of that name inside the model",
        help=f"did you mean '{near[0]}'?"
        if near
        else "replace the custom operator by standard ones at export",
        verdict="unsupported",
    )
