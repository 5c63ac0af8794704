"""Random operators without a seed get one: a package draws the same numbers at every run."""

from __future__ import annotations

from onnx import ModelProto, helper

from deploycc.graph_rewrites.random_numbers import SEEDED
from deploycc.onnx_graph import all_nodes, attributes
from deploycc.types import Diagnostic


def seed_random_nodes(proto: ModelProto) -> list[Diagnostic]:
    """Give every random operator without a seed the number of its node in the graph, in place.

    Returns DC149 for the first of them, empty if there is none.
    """
    seeded = []
    for index, node in enumerate(all_nodes(proto.graph)):
        if not node.domain and node.op_type in SEEDED and "seed" not in attributes(node):
            node.attribute.append(helper.make_attribute("seed", float(index)))
            seeded.append(node)
    if not seeded:
        return []
    first = seeded[0]
    return [
        Diagnostic(
            "DC149",
            "random numbers are drawn without a seed: each run of the package draws the same",
            node=first.name,
            op=first.op_type,
            got=f"{len(seeded)} of such nodes",
            help="give it a seed, or pass the numbers in as an input where each run needs fresh ones",
            severity="warning",
            verdict="info",
        )
    ]
