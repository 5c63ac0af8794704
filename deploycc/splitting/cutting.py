"""Which part every node goes to, and the parts as models of their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from deploycc.onnx_graph import NEWEST_IR, all_nodes, used_names
from deploycc.partition import parts_by_place
from deploycc.splitting.parts import PLACES, Cut, CutTensor, Part, Place
from deploycc.splitting.worlds import Worlds, with_shape

SMALL_SHARE = 0.01
"""A part with less than this share of the multiply-adds is not worth two hand-overs."""

GLUE_ELEMENTS = 64
"""Integers and conditions, at most so many, are shapes and indices between two nodes of the host."""

MOST_TRIED = 32
"""So many tensors are tried before it is given up to tell what the app could promise."""

_TRIED = 7
"""An extent for that; any will do that is not 1, which broadcasts."""


@dataclass(frozen=True)
class Refused:
    """Names of nodes that the accelerator and that the CPU's compiler do not take."""

    accelerator: frozenset[str]
    cpu: frozenset[str]


def cut(worlds: Worlds, refused: Refused, macs: Mapping[str, int]) -> Cut:
    """The fewest parts, each node in the first of ``PLACES`` that takes it.

    Some parts go elsewhere where that makes fewer parts: from the accelerator to the CPU, if that takes
    them, those with less than ``SMALL_SHARE`` of ``macs`` (by node name); to the host those that only make
    shapes and indices from its results.

    A node with a shape that only a run can tell stays with the host.

    Raises ``DeployccError``: DC781 where something else than a plain tensor would cross between parts.
    """
    places = {index: _place(worlds, index, refused) for index in range(len(worlds.nodes))}
    order = [index for index in places if index not in worlds.free]
    parts = _without_small(worlds, order, {i: places[i] for i in order}, refused, macs)
    return _as_models(worlds, parts, macs, refused)


def _place(worlds: Worlds, index: int, refused: Refused) -> Place:
    node = worlds.nodes[index]
    if not _has_static_shapes(worlds, index):
        return "host"
    if node.name not in refused.accelerator:
        return "accelerator"
    return "cpu" if node.name not in refused.cpu else "host"


def _has_static_shapes(worlds: Worlds, index: int) -> bool:
    node = worlds.nodes[index]
    written = [name for name in node.output if name in worlds.view.consumers or name in worlds.outputs]
    return all(worlds.static(name) for name in (*worlds.reads(index, static=True), *written))


def _dependencies(worlds: Worlds, order: Sequence[int], *, static: bool) -> dict[int, set[int]]:
    """For every node the nodes whose results it reads in a part with static shapes, or in one of the host."""
    return {
        index: {
            worlds.producer[name] for name in worlds.reads(index, static=static) if name in worlds.producer
        }
        for index in order
    }


def _without_small(
    worlds: Worlds,
    order: Sequence[int],
    places: dict[int, Place],
    refused: Refused,
    macs: Mapping[str, int],
) -> list[tuple[Place, list[int]]]:
    """The fewest parts, after small ones went to where that makes fewer."""
    total = sum(macs.get(worlds.nodes[index].name, 0) for index in order)
    static_reads, host_reads = (_dependencies(worlds, order, static=static) for static in (True, False))

    def work(nodes: Sequence[int]) -> int:
        return sum(macs.get(worlds.nodes[index].name, 0) for index in nodes)

    def parts(places: Mapping[int, Place]) -> list[tuple[Place, list[int]]]:
        reads = {i: host_reads[i] if place == "host" else static_reads[i] for i, place in places.items()}
        return parts_by_place(order, reads, places, PLACES)

    def others(place: Place, nodes: Sequence[int]) -> list[Place]:
        found: list[Place] = []
        small = work(nodes) < SMALL_SHARE * total
        if place == "accelerator" and small and all(worlds.nodes[i].name not in refused.cpu for i in nodes):
            found.append("cpu")
        if place != "host" and all(index in behind and _is_glue(worlds, index) for index in nodes):
            found.append("host")
        return found

    behind = _behind_host(order, places, host_reads)
    best = parts(places)
    before = len(best) + 1
    while len(best) < before:
        before = len(best)
        for place, nodes in sorted(best, key=lambda part: work(part[1])):
            for other in others(place, nodes):
                tried: dict[int, Place] = {**places, **dict.fromkeys(nodes, other)}
                fewer = parts(tried)
                if len(fewer) < len(best):
                    places, best = tried, fewer
                    break
    return best


def _is_glue(worlds: Worlds, index: int) -> bool:
    """Whether a node only makes shapes, indices and conditions."""
    for name in worlds.nodes[index].output:
        kind = worlds.most.get(name)
        extents = kind.shape if kind is not None else None
        if extents is None or kind is None or "float" in kind.dtype:
            return False
        if math.prod(int(dim or 0) for dim in extents) > GLUE_ELEMENTS:
            return False
    return True


def _behind_host(
    order: Sequence[int], places: Mapping[int, Place], reads: Mapping[int, Set[int]]
) -> set[int]:
    """Nodes that need a result of the host, however far back."""
    found: set[int] = set()
    for index in order:
        if any(places[i] == "host" or i in found for i in reads[index]):
            found.add(index)
    return found


def _as_models(
    worlds: Worlds, parts: Sequence[tuple[Place, list[int]]], macs: Mapping[str, int], refused: Refused
) -> Cut:
    part_of = {index: number for number, (_, nodes) in enumerate(parts) for index in nodes}
    read_by: dict[str, set[int]] = {}
    for number, (place, nodes) in enumerate(parts):
        for index in nodes:
            for name in worlds.reads(index, static=place != "host"):
                read_by.setdefault(name, set()).add(number)
    crossing = {
        name
        for name, made_by in worlds.producer.items()
        if made_by in part_of and (name in worlds.outputs or read_by.get(name, set()) - {part_of[made_by]})
    }
    tensors: dict[str, CutTensor] = {}
    for name in (*worlds.inputs, *worlds.producer):
        if name in crossing or name in worlds.inputs:
            tensors[name] = worlds.tensor(name)
    made = [
        _part(worlds, number, place, nodes, crossing, sum(macs.get(worlds.nodes[i].name, 0) for i in nodes))
        for number, (place, nodes) in enumerate(parts)
    ]
    return Cut(worlds.inputs, worlds.outputs, tensors, tuple(made), _waiting(worlds, refused))


def _waiting(worlds: Worlds, refused: Refused) -> tuple[tuple[str, tuple[int | None, ...]], ...]:
    """The tensor behind which most of the work would have static shapes if it were promised."""
    stuck = [
        index
        for index, node in enumerate(worlds.nodes)
        if _is_work(worlds, index)
        and not (node.name in refused.accelerator and node.name in refused.cpu)
        and not _has_static_shapes(worlds, index)
    ]
    best: tuple[int, tuple[tuple[str, tuple[int | None, ...]], ...]] = (0, ())
    for name in _candidates(worlds, stuck):
        shape = worlds.exact[name].shape or ()
        promise = {name: tuple(_TRIED if extent is None else extent for extent in shape)}
        tried = Worlds(worlds.without_weights, {**worlds.promised, **promise})
        freed = sum(_has_static_shapes(tried, index) for index in stuck)
        if freed and freed >= best[0]:
            best = (freed, ((name, shape),))
    return best[1]


def _candidates(worlds: Worlds, stuck: Sequence[int]) -> list[str]:
    """Open tensors of known rank in front of nodes, the nearest ones last."""
    found: dict[str, int] = {}
    left = [(index, 0) for index in stuck[:1]]
    while left and len(found) < MOST_TRIED:
        index, distance = left.pop(0)
        for name in sorted(worlds.reads(index, static=True)):
            made_by = worlds.producer.get(name)
            if made_by is None or worlds.static(name) or name in found:
                continue
            if worlds.exact[name].shape is not None:
                found[name] = distance
            left.append((made_by, distance + 1))
    return sorted(found, key=lambda name: -found[name])


def _is_work(worlds: Worlds, index: int) -> bool:
    """Whether a node has weights, or takes pieces out of images: what one would not want to write by hand."""
    if worlds.nodes[index].op_type in ("RoiAlign", "MaxRoiPool", "GridSample"):
        return True
    return any(
        len(worlds.view.initializers[name].dims) >= 2
        for name in used_names(worlds.nodes[index])
        if name in worlds.view.initializers
    )


def _part(
    worlds: Worlds, number: int, place: Place, nodes: Sequence[int], crossing: Collection[str], macs: int
) -> Part:
    static = place != "host"
    own = {name for index in nodes for name in worlds.nodes[index].output if name}
    read = {name for index in nodes for name in worlds.reads(index, static=static)} - own
    inputs = tuple(name for name in (*worlds.inputs, *worlds.producer) if name in read)
    outputs = tuple(name for index in nodes for name in worlds.nodes[index].output if name in crossing)
    proto = _model(worlds, nodes, inputs, outputs, static=static)
    proto.graph.name = f"{worlds.proto.graph.name or 'network'}/{number:02d}-{place}"
    names = tuple(worlds.nodes[index].name for index in nodes)
    return Part(number, place, names, inputs, outputs, macs, proto)


def _model(
    worlds: Worlds, nodes: Sequence[int], inputs: Sequence[str], outputs: Sequence[str], *, static: bool
) -> ModelProto:
    """The nodes, the free ones that they need and their weights as a model; tensors keep their names."""
    needed, values = _with_free(worlds, nodes, static=static)
    result = ModelProto(ir_version=min(worlds.proto.ir_version, NEWEST_IR), producer_name="deploycc")
    graph = result.graph
    graph.node.extend(worlds.nodes[index] for index in sorted(needed))
    read = {name for node in graph.node for name in used_names(node)}
    graph.initializer.extend(t for name, t in worlds.view.initializers.items() if name in read)
    graph.initializer.extend(tensor for name, tensor in values.items() if name in read)
    graph.input.extend(_info(worlds, name, static=static) for name in inputs)
    graph.output.extend(_info(worlds, name, static=static) for name in outputs)
    inner = {name for index in sorted(needed) for name in worlds.nodes[index].output} - set(outputs)
    graph.value_info.extend(
        _info(worlds, name, static=static) for name in sorted(inner & worlds.infos.keys())
    )
    domains = {node.domain for node in all_nodes(graph)}
    result.opset_import.extend(
        entry for entry in worlds.proto.opset_import if entry.domain in domains or not entry.domain
    )
    return result


def _with_free(
    worlds: Worlds, nodes: Sequence[int], *, static: bool
) -> tuple[Set[int], dict[str, TensorProto]]:
    """The nodes with the free ones in front of them, and what ``Shape`` and ``Size`` give as constants."""
    needed = set(nodes)
    values: dict[str, TensorProto] = {}
    left = list(nodes)
    while left:
        for name in used_names(worlds.nodes[left.pop()]):
            made_by = worlds.producer.get(name, -1)
            if made_by not in worlds.free or made_by in needed:
                continue
            value = worlds.shape_value(made_by, static=static)
            if value is not None:
                dims = [len(value)] if isinstance(value, list) else []
                flat = value if isinstance(value, list) else [value]
                values[name] = helper.make_tensor(name, TensorProto.INT64, dims, flat)
            else:
                needed.add(made_by)
                left.append(made_by)
    return needed, values


def _info(worlds: Worlds, name: str, *, static: bool) -> ValueInfoProto:
    info = worlds.infos[name]
    kind = worlds.most.get(name)
    if static and kind is not None and kind.static:
        return with_shape(info, name, kind)
    return info
