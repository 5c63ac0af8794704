"""What fuzzing starts from: onnx's node tests, the sweep's graphs, damaged files, and pieces of networks."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import onnx

from deploycc.onnx_graph import infer_shapes, used_names

LARGEST = 12 << 10
"""Bytes of a seed: what is slow to read is changed seldom."""
PIECES = 40
"""Pieces of each network."""


def write_seeds(folder: Path, networks: list[Path]) -> int:
    """Write every seed into ``folder``, each under the name of its hash; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for data in _seeds(networks):
        if len(data) <= LARGEST:
            (folder / hashlib.sha256(data).hexdigest()[:24]).write_bytes(data)
            count += 1
    return count


def _seeds(networks: list[Path]) -> Iterator[bytes]:
    from tests.conformance.node_cases import deployer_cases
    from tests.sweep.graphs import graph_cases
    from tests.sweep.malformed import malformed_models

    for case in (*deployer_cases(), *graph_cases()):
        yield case.proto.SerializeToString()
    for make in malformed_models().values():
        yield make()
    for path in networks:
        yield from pieces(onnx.load(path), random.Random(path.name))


def pieces(network: onnx.ModelProto, draw: random.Random) -> Iterator[bytes]:
    """Runs of a few nodes of a network, with the weights they read; what else they read are inputs."""
    for info in network.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if dim.WhichOneof("value") != "dim_value" or dim.dim_value < 1:
                dim.dim_value = 8
    inferred = infer_shapes(network)
    graph = inferred.graph
    types = {info.name: info for info in (*graph.value_info, *graph.input, *graph.output)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for _ in range(PIECES):
        first = draw.randrange(len(graph.node))
        nodes = graph.node[first : first + draw.randint(1, 8)]
        made = onnx.ModelProto(ir_version=network.ir_version, opset_import=network.opset_import)
        made.functions.extend(network.functions)
        made.graph.name = "piece"
        made.graph.node.extend(nodes)
        produced = {name for node in nodes for name in node.output}
        read = {name for node in nodes for name in used_names(node)} - produced
        made.graph.initializer.extend(weights[name] for name in sorted(read & set(weights)))
        made.graph.input.extend(types[name] for name in sorted(read - set(weights)) if name in types)
        used = {name for node in nodes for name in used_names(node)}
        made.graph.output.extend(types[name] for name in sorted(produced - used) if name in types)
        yield made.SerializeToString()
