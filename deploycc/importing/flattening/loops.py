"""``Loop`` and ``Scan``, one trip after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, NodeProto

from deploycc.importing.flattening.building import select, split_up, stack, without_axis
from deploycc.importing.flattening.values import Refused, Scope, Tensors, Value, at_run_time
from deploycc.importing.flattening.walker import Walker
from deploycc.onnx_editor import attribute
from deploycc.onnx_graph import attributes, tensor_type
from deploycc.types import Diagnostic


@dataclass
class _Trips:
    """A loop on its way: the states so far, what it gave for stacking, and whether it may have ended.

    ``active`` is the flat graph's name of the flag that it goes on, empty where that is known.
    """

    states: list[Value]
    stacks: list[list[str]]
    active: str = ""
    ended: bool = False
    done: int = 0
    kinds: list[str] = field(default_factory=list)


def loop(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """What ``Loop`` gives: as many trips as are known to be made.

    A condition that only a run tells (an early end) is followed by keeping the states of the trip in
    which it failed.  Then nothing can be stacked: how much would be there, only a run tells.
    """
    body = attributes(node)["body"].g
    states = list(inputs[2:])
    trips = _Trips(states, [[] for _ in body.output[1 + len(states) :]])
    limit = _trip_limit(walker, node, str(inputs[0]))
    if len(inputs) > 1 and inputs[1]:
        _go_on_if(walker, node, scope, trips, str(inputs[1]), limit)
    while not trips.ended and (limit is None or trips.done < limit):
        _one_trip(walker, node, scope, body, trips, limit)
    outputs = list(trips.states)
    infos = body.output[1 + len(states) :]
    for index, (rows, info) in enumerate(zip(trips.stacks, infos, strict=True)):
        if index + len(states) < len(node.output) and node.output[index + len(states)]:
            outputs.append(_stacked(walker, node, scope, rows, 0, body, info.name))
        else:
            outputs.append("")
    return outputs


def _trip_limit(walker: Walker, node: NodeProto, name: str) -> int | None:
    if not name:
        return None
    value = walker.known(name)
    if value is None:
        raise at_run_time(
            node,
            "how often a loop runs is computed at run time",
            f"a trip count that depends on the inputs ('{name}')",
            "a trip count that is constant, or follows from the shapes",
            "export with a fixed length, or let the app run the loop around a network of its body",
        )
    return int(value.reshape(-1)[0])


def _one_trip(
    walker: Walker, node: NodeProto, scope: Scope, body: GraphProto, trips: _Trips, limit: int | None
) -> None:
    number = walker.constant(np.array(trips.done, np.int64), f"{node.name}/trip")
    going = trips.active or walker.constant(np.array(True), f"{node.name}/going")
    where = f"{node.name}/{trips.done}"
    given: list[Value] = [number, going, *trips.states]
    if trips.active:
        with walker.guarded(node):
            results = walker.inline(body, scope, where, node, given)
    else:
        results = walker.inline(body, scope, where, node, given)
    count = len(trips.states)
    made = results[1 : 1 + count]
    if trips.active:
        made = [
            select(walker, scope, node, trips.active, new, old)
            for new, old in zip(made, trips.states, strict=True)
        ]
    trips.states = made
    for rows, value in zip(trips.stacks, results[1 + count :], strict=True):
        rows.append(str(value))
    trips.done += 1
    walker.one_more_trip(node)
    _go_on_if(walker, node, scope, trips, str(results[0]), limit)


def _go_on_if(
    walker: Walker, node: NodeProto, scope: Scope, trips: _Trips, condition: str, limit: int | None
) -> None:
    known = walker.boolean(condition)
    if known is not None:
        trips.ended = not known
        return
    if condition == trips.active or (limit is not None and trips.done >= limit):
        return
    if limit is None or trips.stacks:
        raise at_run_time(
            node,
            "a loop ends by a condition that is computed at run time",
            f"the condition '{condition}'"
            + (", and what every trip gives is stacked" if trips.stacks else ", and no limit"),
            "a condition that follows from constants and shapes"
            if trips.stacks
            else "a trip count (the first input of Loop) that limits it",
            "run to a fixed trip count and let the app stop early, or let the app run the loop",
        )
    if not trips.active:
        trips.active = condition
    else:
        trips.active = walker.add(scope, node, "And", trips.active, condition)[0]


def _stacked(
    walker: Walker, node: NodeProto, scope: Scope, rows: Sequence[str], axis: int, body: GraphProto, name: str
) -> str:
    if rows:
        shapes = {walker.shape(row) for row in rows}
        if len(shapes) > 1:
            raise at_run_time(
                node,
                f"the trips of {node.op_type} give results of different shapes for one stack",
                f"'{name}': {', '.join('x'.join(map(str, s)) if s is not None else '?' for s in shapes)}",
                "one shape for all trips",
                "return it as a state, or as several outputs",
            )
        return stack(walker, scope, node, rows, axis)
    kind = next((tensor_type(info) for info in body.output if info.name == name), None)
    if kind is None or not kind.static or kind.dtype not in np.sctypeDict or kind.shape is None:
        raise at_run_time(
            node,
            "a loop that makes no trip stacks results of an unknown size",
            f"'{name}' without a type in the body",
            "at least one trip, or a static type for the body's output",
            "take the loop out of the model",
        )
    shape = [dim or 0 for dim in kind.shape]
    shape.insert(axis % (len(shape) + 1), 0)
    return walker.constant(np.zeros(shape, kind.dtype), f"{node.name}/empty")


def scan(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """What ``Scan`` gives: as many trips as its inputs are long."""
    if walker.opset < 9:
        raise Refused(
            Diagnostic(
                "DC461",
                "Scan before opset 9 takes a batch of sequences of different lengths",
                node=node.name,
                op=node.op_type,
                got=f"opset {walker.opset}",
                need="opset 9 or newer",
                help="export the model again with a current exporter",
                verdict="unsupported",
            )
        )
    body = attributes(node)["body"].g
    scanned = int(attribute(node, "num_scan_inputs"))
    states = list(inputs[: len(inputs) - scanned])
    sources = [str(value) for value in inputs[len(states) :]]
    axes = list(attribute(node, "scan_input_axes", [0] * scanned))
    backward = list(attribute(node, "scan_input_directions", [0] * scanned))
    stacked = len(body.output) - len(states)
    out_axes = list(attribute(node, "scan_output_axes", [0] * stacked))
    out_backward = list(attribute(node, "scan_output_directions", [0] * stacked))
    parts = [
        _taken_apart(walker, node, scope, source, axis) for source, axis in zip(sources, axes, strict=True)
    ]
    lengths = {len(rows) for rows in parts}
    if len(lengths) != 1:
        raise at_run_time(
            node,
            "the inputs of Scan have different lengths",
            ", ".join(str(len(rows)) for rows in parts),
            "one length",
            "check the shapes given against the model",
        )
    parts = [rows[::-1] if reverse else rows for rows, reverse in zip(parts, backward, strict=True)]
    stacks: list[list[str]] = [[] for _ in range(stacked)]
    for trip, given in enumerate(zip(*parts, strict=True)):
        results = walker.inline(body, scope, f"{node.name}/{trip}", node, [*states, *given])
        states = results[: len(states)]
        for pile, value in zip(stacks, results[len(states) :], strict=True):
            pile.append(str(value))
        walker.one_more_trip(node)
    outputs: list[Value] = list(states)
    infos = body.output[len(states) :]
    for index, pile in enumerate(stacks):
        wanted = index + len(states) < len(node.output) and node.output[index + len(states)]
        rows = pile[::-1] if out_backward[index] else pile
        name = infos[index].name
        outputs.append(_stacked(walker, node, scope, rows, out_axes[index], body, name) if wanted else "")
    return outputs


def _taken_apart(walker: Walker, node: NodeProto, scope: Scope, source: str, axis: int) -> list[str]:
    shape = walker.shape(source)
    if shape is None:
        raise at_run_time(
            node,
            f"the length that {node.op_type} goes through is known at run time only",
            f"'{source}' has no static shape",
            "an input of static shape",
            "bind the open dimension with --shape, or cut the graph before the node that leaves it open",
        )
    length = shape[axis]
    walker.check_length(node, length)
    known = walker.known(source)
    if known is not None:
        rows = [np.take(known, index, axis=axis) for index in range(length)]
        return [walker.constant(row, f"{node.name}/{source}_{index}") for index, row in enumerate(rows)]
    pieces = split_up(walker, scope, node, source, [1] * length, axis)
    return [without_axis(walker, scope, node, piece, axis) for piece in pieces]


def over_sequence(walker: Walker, node: NodeProto, inputs: list[Value], scope: Scope) -> list[Value]:
    """What ``SequenceMap`` gives: its body for each tensor of the sequence."""
    body = attributes(node)["body"].g
    first = inputs[0]
    if not isinstance(first, Tensors):
        raise TypeError("SequenceMap reads what is no sequence")
    results: list[list[str]] = [[] for _ in body.output]
    for trip in range(len(first.items)):
        given: list[Value] = [value.items[trip] if isinstance(value, Tensors) else value for value in inputs]
        made = walker.inline(body, scope, f"{node.name}/{trip}", node, given)
        for rows, value in zip(results, made, strict=True):
            rows.append(str(value))
        walker.one_more_trip(node)
    kinds = [info.type.tensor_type.elem_type for info in body.output]
    return [Tensors(tuple(rows), kind) for rows, kind in zip(results, kinds, strict=True)]
