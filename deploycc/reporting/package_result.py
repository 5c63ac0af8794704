"""A package as a report sees it: its manifest, what its build told, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from deploycc.facts import Facts
from deploycc.records import Record
from deploycc.reporting.arena import Flow, flow_of
from deploycc.result_types import Benchmark, Layer, Profile, Verification


@dataclass(frozen=True)
class Library:
    """What the library's file says of itself; ``soname`` and ``machine`` are empty where it says nothing."""

    machine: str = ""
    soname: str = ""
    bits: int = 0


@dataclass(frozen=True)
class PackageResult:
    """``facts`` are ``None`` for a package of an older deploycc; ``unmeasured`` says why it is missing.

    ``records`` are tuning records of the package's operators beside those in ``facts``.
    """

    manifest: Mapping[str, Any]
    facts: Facts | None = None
    library: Library = Library()
    verification: Verification | None = None
    profile: Profile | None = None
    benchmark: Benchmark | None = None
    records: tuple[Record, ...] = ()
    unmeasured: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether the layers' times were measured; else they are shares of the static estimate."""
        return self.profile is not None

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """A layer a step: as profiled, or with its share of the estimated cycles and no time."""
        calls = self.manifest["calls"]
        timed = {} if self.profile is None else {layer.step: layer for layer in self.profile.layers}
        total = sum(call.get("cycles", 0) for call in calls)
        return tuple(timed.get(step) or _estimated(step, call, total) for step, call in enumerate(calls))

    @cached_property
    def slowest(self) -> tuple[Layer, ...]:
        """The layers, that with the largest share first."""
        return tuple(sorted(self.layers, key=lambda layer: (-layer.share, layer.step)))

    @cached_property
    def flow(self) -> Flow:
        """Which tensors the steps hand one another, and how long each lies in the arena."""
        return flow_of(self.manifest["calls"])

    def cycles(self, layer: Layer) -> float:
        """The static estimate for a layer's step; 0 where there is none."""
        return float(self.manifest["calls"][layer.step].get("cycles", 0))


def _estimated(step: int, call: Mapping[str, Any], total: float) -> Layer:
    places = {(b["kind"], b.get("index"), b["offset"], b["bytes"]) for b in (*call["reads"], *call["writes"])}
    return Layer(
        step=step,
        symbol=call["symbol"],
        nodes=tuple(call["nodes"]),
        operators=tuple(call["operators"]),
        schedule=call["schedule"],
        knobs=call["knobs"],
        layout=">".join(call.get("layouts", ())),
        flops=int(call.get("flops", 0)),
        nbytes=sum(place[3] for place in places),
        time_us=0.0,
        low_us=0.0,
        high_us=0.0,
        share=call.get("cycles", 0) / total if total else 0.0,
        roofline=None,
        operator=call.get("operator", ""),
    )
