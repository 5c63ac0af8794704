"""What a comparison of two packages found.  A is the package before, B the one after.

All are frozen and go through JSON with ``dataclasses.asdict``; ``result_types.from_json`` brings them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deploycc.result_types import TensorDifference

Kind = Literal["same", "changed", "added", "removed", "merged", "split", "regrouped"]

Verdict = Literal["faster", "slower", "no difference seen"]


@dataclass(frozen=True)
class Change:
    """One fact that is another in B: ``name`` says which, ``a`` and ``b`` are empty where it is not there."""

    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Fact:
    """One fact of both packages, in a ``section`` (interface, target, versions, model)."""

    section: str
    name: str
    a: str
    b: str

    @property
    def same(self) -> bool:
        """Whether it is the same in both."""
        return self.a == self.b


@dataclass(frozen=True)
class Size:
    """A size in bytes, ``None`` in a package that has no such; ``section`` is ``sizes`` or ``files``.

    ``same`` says of a file that it has the same bytes, of anything else that it has as many.
    """

    section: str
    name: str
    a: int | None
    b: int | None
    same: bool


@dataclass(frozen=True)
class Step:
    """One step of a package's plan, as its manifest has it.

    ``nodes`` are those of the model, ``tensors`` the model's that it writes, ``memory`` their layouts
    (``row-major``, ``channels last``), ``layouts`` a convolution's (``NCHW>NHWC``).  ``operator`` is the
    product's sizes, empty for other kernels.  ``nbytes`` is what it writes, ``cycles`` the static estimate
    for one core, ``None`` where there is none.  Of a package for GPUs ``runs_on`` is ``gpu``, ``processor``
    or ``copy``, and ``launches`` counts kernels.
    """

    number: int
    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    operators: tuple[str, ...]
    schedule: str
    knobs: Mapping[str, int]
    layouts: str
    memory: tuple[str, ...]
    operator: str
    flops: int
    nbytes: int
    cycles: float | None
    runs_on: str = ""
    launches: int = 0


@dataclass(frozen=True)
class LayerTimes:
    """A layer's time in both: microseconds, medians over launches, 0 where it has no step.

    ``ratio`` is A's over B's; it and the ``verdict`` about B are ``None`` unless both have steps.
    """

    a_us: float
    b_us: float
    ratio: float | None
    verdict: Verdict | None


@dataclass(frozen=True)
class Layer:
    """Steps of A and B that compute the same nodes of the model.

    ``merged``: several steps of A are one in B; ``split``: the reverse; ``regrouped``: several are several
    others.  ``changes`` are those between two single steps.
    """

    kind: Kind
    a: tuple[Step, ...]
    b: tuple[Step, ...]
    changes: tuple[Change, ...] = ()
    times: LayerTimes | None = None


@dataclass(frozen=True)
class TensorPair:
    """One tensor of the model in both packages: ``difference`` takes A's as the reference.

    ``step_a`` and ``step_b`` write it, ``None`` for an output whose steps are not known.  ``bitwise``: the
    bytes are the same.  ``from_model`` has how far A's and B's are from the model's own, if that was asked.
    """

    nodes: tuple[str, ...]
    step_a: int | None
    step_b: int | None
    bitwise: bool
    difference: TensorDifference
    from_model: tuple[TensorDifference, TensorDifference] | None = None


@dataclass(frozen=True)
class Numbers:
    """Both packages on the same ``inputs``, at their places.

    ``outputs`` are compared by name; ``tensors`` are those between that both write, in the order of A's
    steps.  ``engine`` computed the model's own values, empty where the model was not given.
    """

    place_a: str
    place_b: str
    inputs: str
    engine: str
    outputs: tuple[TensorPair, ...]
    tensors: tuple[TensorPair, ...]

    @property
    def ok(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(pair.difference.ok for pair in self.outputs)

    @property
    def first_different(self) -> TensorPair | None:
        """The first tensor whose bytes are not the same, an output if no other is."""
        return next((pair for pair in (*self.tensors, *self.outputs) if not pair.bitwise), None)

    @property
    def first_wrong(self) -> TensorPair | None:
        """The first tensor that differs by more than its tolerance."""
        return next((pair for pair in (*self.tensors, *self.outputs) if not pair.difference.ok), None)


@dataclass(frozen=True)
class Times:
    """Both packages in turns at one place.  Microseconds; ``ratio`` is A's time over B's: above 1, B wins.

    ``launches`` are fresh pairs of processes, ``runs`` those timed of each package.  ``low`` and ``high``
    bound the ratio, ``verdict`` is about B, by the test that ``test`` describes.
    """

    place: str
    threads: int
    launches: int
    runs: int
    a_us: float
    b_us: float
    ratio: float
    low: float
    high: float
    verdict: Verdict
    test: str


@dataclass(frozen=True)
class Difference:
    """Two packages beside each other.  ``left_out`` says what was not compared, and why."""

    a: str
    b: str
    target_a: str
    target_b: str
    matched_by: Literal["nodes", "order"]
    facts: tuple[Fact, ...]
    sizes: tuple[Size, ...]
    layers: tuple[Layer, ...]
    numbers: Numbers | None = None
    times: Times | None = None
    left_out: tuple[str, ...] = ()

    @property
    def alike(self) -> bool:
        """Whether nothing that was compared differs, times aside."""
        return (
            all(fact.same for fact in self.facts)
            and all(size.same for size in self.sizes)
            and all(layer.kind == "same" for layer in self.layers)
            and (self.numbers is None or self.numbers.first_different is None)
        )
