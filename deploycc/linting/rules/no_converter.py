"""An operator that the importer has no converter for.

TVM's importer refuses a graph that holds one.  Function operators of the standard were
replaced by their bodies before, so what is left needs another form: the help names one where
it is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.onnx_graph import GraphView, all_nodes
from deploycc.op_support import converted_operators, table
from deploycc.types import Diagnostic

CODE = "DC400"


def check(view: GraphView) -> Iterator[Diagnostic]:
    """Every node, those of subgraphs included, whose operator is in no converter's name."""
    supported = converted_operators()
    advice = table()["missing"]
    for node in all_nodes(view.model.graph):
        if node.domain or node.op_type in supported or node.op_type == "If":
            continue
        yield Diagnostic(
            CODE,
            f"operator {node.op_type} cannot be converted",
            node=node.name,
            op=node.op_type,
            got=f"{node.op_type} (opset {view.opset})",
            need="operators with a converter",
            help=advice.get(
                node.op_type, "write it in other operators at export, or cut the graph around it"
            ),
            verdict="unsupported",
            source=f"{table()['engine']} {table()['version']}: not in its operator map",
        )
