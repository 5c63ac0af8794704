"""What verifying, profiling and timing a package give: plain data that reports, files and comparisons share.

All are frozen and go through JSON with ``dataclasses.asdict``; ``from_json`` brings them back.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class TensorDifference:
    """How far a tensor is from its reference.

    ``max_abs`` is in the tensor's own unit; ``max_rel`` the largest error over its own reference value;
    ``max_scaled`` the largest error over the reference's largest finite magnitude, which ``tolerance``
    bounds and which is therefore also the tightest tolerance that passes.  ``max_ulp`` counts representable
    values of the dtype in between.  ``cosine`` and ``sqnr_db`` (signal to error power, decibels) are ``None``
    where they are not defined (a reference of zeros, no error, integers).  ``histogram`` has pairs of an
    upper bound of the scaled error and the number of elements below it that are in no earlier pair.
    ``unexpected`` counts elements that are NaN or infinite in only one of the two, or infinities of
    different sign.
    """

    tensor: str
    dtype: str
    elements: int
    ok: bool
    tolerance: float
    max_abs: float
    max_rel: float
    max_scaled: float
    max_ulp: int
    cosine: float | None
    sqnr_db: float | None
    histogram: tuple[tuple[float, int], ...]
    nan: int
    infinite: int
    unexpected: int
    worst_index: tuple[int, ...]
    worst_expected: float
    worst_got: float
    reason: str = ""


@dataclass(frozen=True)
class Verification:
    """A package's outputs beside the reference's: ``runs`` sets of inputs, the worst of them for each output.

    ``place`` says where it ran, ``engine`` what computed the reference, ``inputs`` what the inputs were.
    """

    package: str
    place: str
    engine: str
    inputs: str
    runs: int
    outputs: tuple[TensorDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(output.ok for output in self.outputs)


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do at most: ``gflops`` (two a multiply-add) and ``gbs`` (10^9 bytes a second).

    For the number of threads of the profile it belongs to; ``source`` says where from: measured, or the
    target's description.  ``gbs`` is that of all memory a run passes through (weights and arena); ``levels``,
    where they were measured, are bytes of a buffer for each thread and the bandwidth of reading it, smallest
    first: what stays in a near cache moves faster.
    """

    gflops: float
    gbs: float
    source: str
    levels: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Layer:
    """One step of a package at work.  Times in microseconds, medians over runs; ``share`` of all steps' time.

    ``nodes`` are those of the model, ``operators`` the fused Relax operators, ``layout`` as ``NCHW>NHWC`` or
    empty.  ``flops`` (two a multiply-add) is 0 where it is not counted.  ``nbytes`` is what it reads and
    writes, each tensor once.  ``low_us`` and ``high_us`` are the quartiles.  ``roofline`` is the share of
    what the ceilings allow, ``None`` where unknown; ``operator`` the convolution or product as the manifest
    has it.

    Of a package for GPUs ``runs_on`` is ``gpu``, ``processor`` or ``copy`` (between the two), and
    ``launches`` counts kernels.  With ``estimated`` nothing was timed: the time is what the ceilings allow at
    best, 0 of what does not run on the GPU.
    """

    step: int
    symbol: str
    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    schedule: str
    knobs: Mapping[str, int]
    layout: str
    flops: int
    nbytes: int
    time_us: float
    low_us: float
    high_us: float
    share: float
    roofline: float | None
    operator: str = ""
    runs_on: str = ""
    launches: int = 0
    estimated: bool = False


@dataclass(frozen=True)
class Profile:
    """A package's layers by step.

    ``whole_us`` is the median of runs as an app makes them, ``timed_us`` of those whose steps were timed.
    ``method`` says how: ``observer``, or ``timers`` inside the package (of a GPU's: events of the driver);
    ``estimates`` where the kernels of a GPU run on the processor: no run is timed, ``runs`` is 0 then.
    ``chip`` is the architecture whose steps these are, empty without a GPU.
    """

    package: str
    place: str
    threads: int
    runs: int
    method: str
    whole_us: float
    timed_us: float
    ceilings: Ceilings | None
    layers: tuple[Layer, ...]
    chip: str = ""


@dataclass(frozen=True)
class Timed:
    """One contestant of a benchmark: medians in microseconds with a confidence interval, memory in KiB.

    ``name`` is ``deploycc`` or the peer's, ``version`` its version.  ``cold_us`` is the first run,
    ``load_us`` loading the library or importing the engine, ``create_us`` making a handle or a session.
    ``runs`` counts the timed ones of all launches, ``launch_us`` has each launch's own median.
    """

    name: str
    version: str
    median_us: float
    low_us: float
    high_us: float
    cold_us: float
    load_us: float
    create_us: float
    peak_kib: int
    runs: int
    launch_us: tuple[float, ...] = ()


@dataclass(frozen=True)
class Contest:
    """The package beside one peer: ``ratio`` is the peer's time over ours (above 1: we are faster).

    ``verdict`` is ``faster``, ``slower`` or ``no difference seen`` by the test that ``test`` names;
    ``launch_ratios`` are the ratios in each launch, which it judges.
    """

    peer: str
    ratio: float
    low: float
    high: float
    verdict: str
    test: str
    launch_ratios: tuple[float, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A package's times on ``place`` with ``threads``, and beside its peers.

    ``machine`` is the kind of machine, ``inputs`` what the inputs were.
    """

    package: str
    place: str
    threads: int
    pinned: bool
    ours: Timed
    peers: tuple[Timed, ...]
    contests: tuple[Contest, ...]
    machine: str = ""
    inputs: str = ""


def from_json(kind: type[Kind], table: Mapping[str, Any]) -> Kind:
    """The dataclass whose ``dataclasses.asdict`` went through JSON.

    What an earlier version had not gets its default.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` where the table is none.
    """
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for one in fields:
        if one.default is dataclasses.MISSING or one.name in table:
            given[one.name] = _value(hints[one.name], table[one.name])
    return kind(**given)


def _value(hint: Any, value: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType) or origin is typing.Union:
        return (
            None if value is None else _value(next(part for part in parts if part is not type(None)), value)
        )
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if origin is tuple:
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(_value(part, item) for part, item in zip(kinds, value, strict=True))
    if hint is float:
        return float(value)  # JSON has no infinity: files have it as text
    if origin is typing.Literal:
        if value not in parts:
            raise ValueError(f"{value!r:.60} is none of {', '.join(map(repr, parts))}")
        return value
    wanted: Any = {Mapping: dict}.get(origin, origin or hint)
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{value!r:.60} is no {getattr(hint, '__name__', hint)}")
    return value
