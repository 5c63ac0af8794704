"""What the search for a wrong layer gives: plain data, for texts, files and whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from deploycc.result_types import TensorDifference

Kind = Literal[
    "wrong values",
    "not finite",
    "layout transform",
    "not deterministic",
    "only with several threads",
    "overwritten",
    "simplification",
]
"""What is wrong: ``layout transform`` for a step that only moves a tensor into another order; ``overwritten``
for one that writes where another's result lies; ``simplification`` for the model's nodes, before any step."""

Certainty = Literal["shown by a build", "told by its values", "the only node", "most likely"]
"""How the node among those of its step is known."""


@dataclass(frozen=True)
class Suspect:
    """The first step whose own error exceeds what its inputs explain.

    ``node`` is the most likely of ``nodes``, all those of the simplified model that the step computes.
    ``step`` is its number in the manifest's ``calls``, -1 for a fault in simplification.  ``own`` compares
    what it wrote with what ONNX Runtime makes of what it read.  ``reason`` is a sentence for people.
    """

    kind: Kind
    node: str
    op: str
    certainty: Certainty
    step: int
    symbol: str
    schedule: str
    knobs: Mapping[str, int]
    nodes: tuple[str, ...]
    tensor: str
    own: TensorDifference | None
    reason: str


def at_its_step(suspect: Suspect, steps: Sequence[int], calls: Sequence[Mapping[str, Any]]) -> Suspect:
    """The suspect at the one of ``steps``, judged together, that computes its node, if there is one."""
    for step in steps:
        call = calls[step]
        if suspect.node in call["nodes"]:
            return replace(
                suspect,
                step=step,
                symbol=str(call["symbol"]),
                schedule=str(call["schedule"]),
                knobs=dict(call["knobs"]),
            )
    return suspect


@dataclass(frozen=True)
class Link:
    """One tensor on the way from the suspect to an output.

    ``own`` is the error that its step added to what it read, ``total`` the error against the model run as a
    whole, both over the largest magnitude of the reference (infinite for NaN where there should be none).
    """

    step: int
    tensor: str
    nodes: tuple[str, ...]
    own: float
    total: float


@dataclass(frozen=True)
class Reduction:
    """The smallest model found that still shows the fault: ``model.onnx`` and ``inputs.npz`` in ``folder``.

    ``shown`` is its worst output, from a package built of it with the same compiler; ``None`` if it was not
    tried or matches: then ``reason`` says why.
    """

    folder: str
    nodes: tuple[str, ...]
    command: str
    builds: int
    shown: TensorDifference | None
    reason: str = ""


@dataclass(frozen=True)
class Bisection:
    """What became of the search.  ``also`` are later steps with an error of their own, by their numbers.

    ``compared`` steps of ``steps`` were compared; the others leave nothing that the model has a name for, and
    were compared together with the steps that read them.  ``outputs`` are the package's beside the model's.
    """

    package: str
    place: str
    steps: int
    compared: int
    outputs: tuple[TensorDifference, ...]
    suspect: Suspect | None
    chain: tuple[Link, ...]
    also: tuple[int, ...]
    reduction: Reduction | None
    notes: tuple[str, ...]
