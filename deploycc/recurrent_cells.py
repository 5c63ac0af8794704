"""Recurrent layers as the stages hand them on: what a cell computes, by its numbers alone.

Equations, gate orders and defaults: the ONNX specification of LSTM, GRU and RNN.  Where ONNX Runtime has
another reading of it (what a length of 0 leaves as states, how ``activation_alpha`` is dealt out), its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

RECURRENT = "deploycc.recurrent"
"""Attribute of the PrimFunc that stands for a layer until its kernel is written: a ``Cell`` as text."""

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Gates of one unit, in ONNX's order: i, o, f, c; z, r, h."""

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""Activations of one direction: f, g, h."""

_PARAMETERS = {
    "affine": 2,
    "elu": 1,
    "hardsigmoid": 2,
    "leakyrelu": 1,
    "relu": 0,
    "scaledtanh": 2,
    "sigmoid": 0,
    "softplus": 0,
    "softsign": 0,
    "tanh": 0,
    "thresholdedrelu": 1,
}
"""How many of alpha and beta an activation has."""

_GIVEN = {"leakyrelu": (0.01, 0.0), "hardsigmoid": (0.2, 0.5), "elu": (1.0, 0.0)}
"""What they are where nothing is given, if ONNX and ONNX Runtime agree about it."""


@dataclass(frozen=True)
class Activation:
    """``name`` in lower case, and what its formula calls alpha and beta."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One recurrent layer of ``steps`` steps over ``batch`` rows, ``hidden`` units a direction.

    ``reverse`` says of each direction whether it runs from the end.  With ``batch_major`` tensors begin with
    the batch (ONNX's layout 1).  ``activations`` are f, g and h of each direction.  ``clip`` bounds what goes
    into the activations of gates.  ``coupled``: the forget gate is one less the input gate.  ``late_reset``:
    a GRU's reset gate multiplies the product, not the state.

    ``operands`` name what the layer reads behind its projected inputs ([T, B, D*G*H], biases added) and its
    recurrent weights ([D, G*H, H]), in order: ``bias`` [D, H] of the candidate's product (``late_reset``),
    ``peepholes`` [D, 3*H], ``hidden`` and ``cell`` [D, B, H], ``lengths`` [B].  ``results`` are those that
    are used of ``sequence``, ``hidden`` and ``cell``.
    """

    kind: str
    steps: int
    batch: int
    hidden: int
    reverse: tuple[bool, ...]
    activations: tuple[tuple[Activation, ...], ...]
    operands: tuple[str, ...]
    results: tuple[str, ...]
    batch_major: bool = False
    clip: float | None = None
    coupled: bool = False
    late_reset: bool = False

    @property
    def gates(self) -> int:
        """Gates of one unit."""
        return GATES[self.kind]

    @property
    def directions(self) -> int:
        """1 or 2."""
        return len(self.reverse)

    def shape(self, result: str) -> tuple[int, ...]:
        """The extents of one of ``results``."""
        if result == "sequence":
            if self.batch_major:
                return (self.batch, self.steps, self.directions, self.hidden)
            return (self.steps, self.directions, self.batch, self.hidden)
        if self.batch_major:
            return (self.batch, self.directions, self.hidden)
        return (self.directions, self.batch, self.hidden)

    def to_text(self) -> str:
        """The cell as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Cell:
        """The cell that ``to_text`` wrote."""
        values = json.loads(text)
        values["activations"] = tuple(
            tuple(Activation(**one) for one in direction) for direction in values["activations"]
        )
        for name in ("reverse", "operands", "results"):
            values[name] = tuple(values[name])
        return cls(**values)


def activations_of(
    kind: str,
    directions: int,
    names: Sequence[str] | None,
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
) -> tuple[tuple[Activation, ...], ...]:
    """The activations of each direction, from the attributes of a node (``None`` for one not given).

    Alpha and beta are dealt out to the activations that have them, one after the other.

    Raises ``ValueError`` for an unknown activation, another number of them, or alpha and beta left out where
    ONNX and ONNX Runtime do not agree what they are then.
    """
    count = len(DEFAULTS[kind])
    given = [name.lower() for name in names or DEFAULTS[kind] * directions]
    if kind == "RNN" and directions == 1:
        given = given[:1]  # both of ONNX's defaults are given by some exporters
    if len(given) != count * directions:
        raise ValueError(f"{len(given)} activations where {count * directions} are needed")
    dealt = [list(alphas or ()), list(betas or ())]
    found = []
    for name in given:
        if name not in _PARAMETERS:
            raise ValueError(f"the activation {name} is none that ONNX has for recurrent layers")
        values = [0.0, 0.0]
        for slot in range(_PARAMETERS[name]):
            if dealt[slot]:
                values[slot] = float(dealt[slot].pop(0))
            elif name in _GIVEN:
                values[slot] = _GIVEN[name][slot]
            else:
                raise ValueError(f"{name} without {('alpha', 'beta')[slot]}")
        found.append(Activation(name, *values))
    return tuple(tuple(found[number * count : (number + 1) * count]) for number in range(directions))
