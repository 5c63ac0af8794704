"""The data of lint: what a model is checked against, and what was found.

As in ``deploycc.types`` everything is frozen and stages pass nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deploycc.types import DeployccError, Diagnostic, Peak, Target, Verdict


@dataclass(frozen=True)
class LintTarget:
    """What a model is checked against: ``snpe:htp@2.10``, or a target that packages are built for.

    ``name`` is the whole of it, ``family`` what stands before the colon, ``unit`` the part of the
    chip (empty: the converter alone), ``version`` the SDK's (empty: the newest known).  ``engine``
    is the operator support table that decides, ``hints`` are tables that are shown beside it.
    ``fallback`` is the unit on which the runtime runs what ``unit`` does not take (empty: none).
    ``compiled`` is the target that packages are built for; ``None`` where another compiler takes over.
    ``note`` is what a reader of the report has to know of the target, empty for nothing.
    """

    name: str
    family: str
    unit: str
    version: str
    engine: str
    hints: tuple[str, ...] = ()
    fallback: str = ""
    compiled: Target | None = None
    peak: Peak | None = None
    memory_bytes: int | None = None
    note: str = ""

    @property
    def beside_gpu(self) -> bool:
        """Whether a package for it has a part for a GPU, and one for the processor beside that."""
        return self.compiled is not None and bool(self.compiled.gpus)


@dataclass(frozen=True)
class NodeReport:
    """One node of the graph that lint judged, under its original name.

    ``inputs`` and ``outputs`` are tensor names without weights, ``shape`` and ``dtype`` those of the
    first output (an extent that is not known is -1).  ``macs`` are multiply-adds, ``bytes_moved`` what
    it reads and writes once.  ``seconds`` is the larger of both over the target's peak; ``None`` where
    that is not known.  ``verdict`` is the worst of its findings, empty for none; ``taken`` whether the
    target itself runs it.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    macs: int
    bytes_moved: int
    seconds: float | None
    verdict: Verdict | Literal[""]
    taken: bool


@dataclass(frozen=True)
class HintColumn:
    """What another library would take of the graph: a hint, no verdict.

    ``refused`` has for each operator that it does not take, or not always, how many nodes and why.
    """

    engine: str
    title: str
    nodes: int
    taken: int
    macs: int
    taken_macs: int
    refused: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class Coverage:
    """What a deployer asks first.

    ``runs``: the whole network; in ``parts`` (that many stretches, on and off the target in turn); or
    not.  ``nodes``, ``macs`` and those of them that the target takes; ``unknown`` nodes of whose
    operator no source tells.  ``replace`` are the operators that stand in the way and how many nodes
    have them.  ``peak_bytes`` are the most activations alive at once, ``seconds`` the sum over the nodes.
    """

    runs: Literal["whole", "parts", "not"]
    parts: int
    nodes: int
    taken: int
    unknown: int
    macs: int
    taken_macs: int
    replace: tuple[tuple[str, int], ...]
    weight_bytes: int
    peak_bytes: int
    seconds: float | None


@dataclass(frozen=True)
class Report:
    """What lint found for one target, all at once, in graph order; ``note`` is the target's."""

    diagnostics: tuple[Diagnostic, ...]
    target: str = ""
    nodes: tuple[NodeReport, ...] = ()
    coverage: Coverage | None = None
    hints: tuple[HintColumn, ...] = ()
    note: str = ""

    def raise_if_errors(self) -> None:
        """Raise ``DeployccError`` with every finding of severity ``error``, if there is one."""
        errors = [d for d in self.diagnostics if d.severity == "error"]
        if errors:
            raise DeployccError(*errors)
