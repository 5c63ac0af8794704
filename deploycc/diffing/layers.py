"""The steps of two packages beside each other: which belong together, and what became another for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from deploycc.chip_facts import runs_on
from deploycc.diffing.matching import match
from deploycc.diffing.types import Change, Layer, Step

_LAYOUTS = re.compile(r", (?:data|out)_layout='[^']*'")


def steps_of(manifest: Mapping[str, Any]) -> tuple[Step, ...]:
    """The plan of a package.  Older manifests have no nodes and tensors; nor have their steps then."""
    on_gpu = bool(manifest["target"].get("gpus"))
    return tuple(_step(number, call, on_gpu) for number, call in enumerate(manifest["calls"]))


def _step(number: int, call: Mapping[str, Any], on_gpu: bool) -> Step:
    named = [place for place in call.get("writes", ()) if "tensor" in place]
    return Step(
        number=number,
        nodes=tuple(call.get("nodes", ())),
        tensors=tuple(place["tensor"] for place in named),
        operators=tuple(call["operators"]),
        schedule=call["schedule"],
        knobs=dict(call["knobs"]),
        layouts=">".join(call.get("layouts", ())),
        memory=tuple(place["layout"] for place in named),
        operator=_LAYOUTS.sub("", call.get("operator", "")),
        flops=call.get("flops", 0),
        nbytes=sum(place["bytes"] for place in call.get("writes", ())),
        cycles=call.get("cycles"),
        runs_on=runs_on(call) if on_gpu else "",
        launches=len(call.get("launches", ())),
    )


def layers_of(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> tuple[tuple[Layer, ...], Literal["nodes", "order"]]:
    """The layers of two packages by their manifests, and what they were matched by."""
    steps_a, steps_b = steps_of(a), steps_of(b)
    groups, matched_by = match(steps_a, steps_b)
    layers = []
    for group in groups:
        of_a, of_b = tuple(steps_a[i] for i in group.a), tuple(steps_b[j] for j in group.b)
        changes = tuple(changes_of(of_a[0], of_b[0])) if group.kind == "same" else ()
        layers.append(Layer("changed" if changes else group.kind, of_a, of_b, changes))
    return tuple(layers), matched_by


def changes_of(a: Step, b: Step) -> Iterator[Change]:
    """What is another in ``b``.  Estimates of cycles are no change of their own: they follow from these."""
    yield from _if_other("operators", " ".join(a.operators), " ".join(b.operators))
    yield from _if_other("sizes", a.operator, b.operator)
    yield from _if_other("schedule", a.schedule or "copy", b.schedule or "copy")
    if a.schedule == b.schedule:
        for name in sorted({*a.knobs, *b.knobs}):
            yield from _if_other(name, str(a.knobs.get(name, "")), str(b.knobs.get(name, "")))
    yield from _if_other("layouts", a.layouts, b.layouts)
    yield from _if_other("on", a.runs_on, b.runs_on)
    yield from _if_other("launches", str(a.launches), str(b.launches))
    if a.tensors == b.tensors:
        yield from _if_other("result in memory", ", ".join(a.memory), ", ".join(b.memory))
    else:
        yield from _if_other("result", ", ".join(a.tensors), ", ".join(b.tensors))
    yield from _if_other("result bytes", str(a.nbytes), str(b.nbytes))


def _if_other(name: str, a: str, b: str) -> Iterator[Change]:
    if a != b:
        yield Change(name, a, b)


def name_of(layer: Layer) -> str:
    """The layer's nodes of the model, or what it does if it has none."""
    nodes = nodes_of((*layer.a, *layer.b))
    return " + ".join(nodes) or " ".join((layer.a or layer.b)[0].operators)


def nodes_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """The nodes of some steps, each once."""
    return tuple(dict.fromkeys(node for step in steps for node in step.nodes))
