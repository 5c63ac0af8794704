"""The data that flows along the compiler's straight line.

Every stage takes and returns the types of this module and nothing else; stages never
import one another.  All of them are frozen: a stage that changes something returns a
new value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deploycc.call_types import Buffer as Buffer
from deploycc.call_types import Call as Call
from deploycc.call_types import Origin as Origin
from deploycc.call_types import Result as Result
from deploycc.device_types import TO_DEVICE as TO_DEVICE
from deploycc.device_types import TO_HOST as TO_HOST
from deploycc.device_types import Image as Image
from deploycc.device_types import KernelFacts as KernelFacts
from deploycc.device_types import Launch as Launch
from deploycc.kernel_listing import Listing as Listing
from deploycc.memory_use import Arena, MemoryPlan
from deploycc.target_types import Cache as Cache
from deploycc.target_types import Gpu as Gpu
from deploycc.target_types import Linker as Linker
from deploycc.target_types import LLVMTarget as LLVMTarget
from deploycc.target_types import Peak as Peak
from deploycc.target_types import Precision as Precision
from deploycc.target_types import Simd as Simd
from deploycc.target_types import Target as Target

if TYPE_CHECKING:  # it takes half a second, and a command line's start should not
    import onnx

JOINED = "deploycc.joined"
"""Attribute of a PrimFunc whose result is its operands' bytes one behind the other: the planner needs no
kernel for it."""

ROUTINE_FILE, ROUTINE_TEXT = "deploycc.routine_file", "deploycc.routine_text"
"""Attributes of a PrimFunc that calls a C function: the C file it stands in, by name and as text."""

Severity = Literal["error", "warning", "info"]
Verdict = Literal["silently-wrong", "unsupported", "fallback", "slow", "info"]


@dataclass(frozen=True)
class Diagnostic:
    """One finding, complete enough to be acted on without reading our source.

    ``code`` is ``DCnnn`` (see ``deploycc.diagnostics.CATALOGUE``), ``node`` and ``op`` name
    the graph node it is about (empty where there is none), ``got`` is what was found,
    ``need`` what was needed and ``help`` how to fix it.

    ``rule`` is the name of the lint rule, or of the condition of an operator support table;
    ``tensor`` the tensor it is about where that is not the whole node; ``fix`` the name of the
    rewrite in ``deploycc.fixing`` that repairs it.  ``location`` is the line of Python that an
    export recorded, for reports only: it is never written into a package.  ``fingerprint`` is the
    same for the same finding after nodes were renamed or others added.  ``suppressed`` is the reason
    for which somebody decided to live with it, empty for none.
    """

    code: str
    message: str
    node: str = ""
    op: str = ""
    got: str = ""
    need: str = ""
    help: str = ""
    severity: Severity = "error"
    verdict: Verdict | None = None
    source: str = ""
    rule: str = ""
    tensor: str = ""
    fix: str = ""
    location: str = ""
    fingerprint: str = ""
    suppressed: str = ""


class DeployccError(Exception):
    """Bad input, told in one or more diagnostics.  Never raised for our own bugs."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in diagnostics))
        self.diagnostics: tuple[Diagnostic, ...] = diagnostics


@dataclass(frozen=True)
class Limits:
    """What one stage in the child process may use, and how large a model may be.

    ``stage_seconds`` is wall time, ``memory_bytes`` resident memory, which no tensor of the model may exceed.
    """

    stage_seconds: float = 600.0
    memory_bytes: int = 12 << 30
    folded_bytes: int = 512 << 20
    """How many bytes of constants folding may add to a model before it is undone."""
    nodes: int = 200_000
    """How many nodes a model may have, with its functions inlined and those of its branches and bodies."""


@dataclass(frozen=True)
class BuildRequest:
    """Everything that decides a package's bytes, and where it is written."""

    model: Path
    target: Target
    output: Path
    name: str
    """C identifier: prefix of all symbols, name of the library."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dump_dir: Path | None = None
    emit: Literal["shared", "static"] = "shared"
    runtime: Literal["private", "shared"] = "private"
    seed: int = 0
    limits: Limits = Limits()
    schedule_dirs: tuple[Path, ...] = ()
    op_dirs: tuple[Path, ...] = ()
    """Folders of files with the user's own operators (``deploycc.custom_operators``)."""
    records: tuple[Path, ...] = ()
    """Tuning databases over the ones that come with deploycc, later ones over earlier."""
    shipped_records: bool = True
    """Whether those that come with deploycc count."""
    keep_kernels: bool = False
    """Whether the package has its kernels as text (``Listing``)."""
    arena: Arena = "fast"
    max_memory: int | None = None
    """Most bytes that a handle may take, with as many threads as the target has cores."""
    profile: bool = False
    """Whether its library counts what each step takes."""
    debug_runtime: bool = False
    """Whether its runtime tells calls with handles that were destroyed."""
    max_counts: Mapping[str, int] = field(default_factory=dict)
    """Most rows of results whose size depends on data, by the tensor's or the node's name."""
    buckets: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """For each axis of an input the extents that it may have, where some axis has several."""


@dataclass(frozen=True)
class Counted:
    """Of an output with as many rows as the data says: the rows' ``axis``, and the output with their number.

    Rows beyond that number are zero.  A number above the axis' extent says that rows were left out.
    """

    axis: int
    output: str


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output: ONNX name, numpy dtype name, static shape (of a counted axis the most)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    counted: Counted | None = None


@dataclass(frozen=True)
class Extent:
    """A number of rows that depends on data: as many as ``source`` (a tensor) has, but at most ``taken``.

    Its tensors have ``cap`` rows where memory is laid out.  ``source`` is counted by the node that makes it.
    """

    source: str
    cap: int
    taken: int | None = None


@dataclass(frozen=True)
class Rows:
    """Where a tensor has such an extent.  Each row depends on the same row of what it is computed from."""

    axis: int
    extent: Extent


@dataclass(frozen=True)
class Counts:
    """What of a model has a size that depends on data (``deploycc.counting``).

    ``bounded`` is the model with the most rows as the extents of all such tensors, for memory to be laid out;
    the model itself keeps its open ones and so can still be run by ONNX Runtime.
    """

    bounded: onnx.ModelProto
    rows: Mapping[str, Rows]
    """By tensor."""
    faults: tuple[Diagnostic, ...] = ()
    """What cannot be computed on the most rows (DC231 to DC234)."""


@dataclass(frozen=True)
class PassCount:
    """What a pass over the graph did: in how many ``places``, or how many nodes fewer onnxsim left."""

    name: str
    places: int


@dataclass(frozen=True)
class Model:
    """A checked ONNX model, all shapes static, no weights among ``inputs``."""

    proto: onnx.ModelProto
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opset: int
    sha256: str
    """Of the model file as it was read, with its external data files in name order."""
    diagnostics: tuple[Diagnostic, ...] = ()
    original: onnx.ModelProto | None = None
    """The graph as it was read, with names, bound shapes and inferred types: rules about form read it."""
    passes: tuple[PassCount, ...] = ()
    """What simplifying did, in the order it did it."""
    max_counts: Mapping[str, int] = field(default_factory=dict)
    """The request's."""
    counts: Counts | None = None
    """Where sizes depend on data; then ``outputs`` has the numbers of rows behind the graph's own outputs."""

    @property
    def laid_out(self) -> onnx.ModelProto:
        """The graph with the shapes that its tensors have in memory."""
        return self.proto if self.counts is None else self.counts.bounded


@dataclass(frozen=True)
class Task:
    """One kernel to be scheduled: a tensor program and where it is used.

    ``func`` is a TensorIR ``PrimFunc`` (typed Any: only ``tvm_api`` imports tvm).
    ``operators`` are the ONNX/Relax operators fused in it, producer first.
    """

    symbol: str
    func: Any
    operators: tuple[str, ...]
    uses: int = 1


@dataclass(frozen=True)
class ModelTensor:
    """A tensor that the lowered graph computes: its ``name`` in the model, empty if the model has none such.

    ``node`` is the name of the model's node that it is part of.
    """

    name: str
    node: str


@dataclass(frozen=True)
class Choice:
    """Which schedule a kernel gets, with which knobs, and why others were passed over.

    ``task`` is the kernel's name in the module, ``operators`` are the Relax operators fused in it,
    producer first.  ``operator`` is the convolution or matrix product it computes, as a record key
    (the ``repr`` of one of ``deploycc.operators``), empty for other kernels.  ``cycles`` is the static
    estimate for one core, ``measured_seconds`` what the tuning record that decided says, if one did.
    """

    task: str
    schedule: str
    knobs: Mapping[str, int]
    skipped: Mapping[str, str] = field(default_factory=dict)
    operators: tuple[str, ...] = ()
    operator: str = ""
    cycles: float = 0.0
    measured_seconds: float | None = None


@dataclass(frozen=True)
class LayoutChoice:
    """The layouts an operator got: ``layouts`` is ``"NCHW->NHWC"`` for one that reads NCHW and writes NHWC.

    ``operator`` is what it became, ``cycles`` the estimate for each combination that some schedule
    takes, ``uses`` how many of the network's operators are alike in all of this.
    """

    operator: str
    layouts: str
    cycles: Mapping[str, float]
    uses: int


@dataclass(frozen=True)
class Program:
    """A lowered network: a Relax module (``module``) and its tasks.

    ``tensors`` are numbered as the names of ``main``'s variables tell (``deploycc.tracing``).

    Once scheduled it also has the ``choices``, the ``unscheduled`` kernels (PrimFuncs by their name in
    the module) that the scheduled ones were made from, and the ``origins`` by variable of ``main``.
    """

    module: Any
    tasks: tuple[Task, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    tensors: tuple[ModelTensor, ...] = ()
    layouts: tuple[LayoutChoice, ...] = ()
    choices: tuple[Choice, ...] = ()
    unscheduled: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A network ready to be packaged: object code, call list, memory.

    ``kernels`` is a relocatable ELF object of the target.  ``workspace_bytes`` is what kernels
    of one call may take from ``TVMBackendAllocWorkspace`` on the calling thread at most,
    ``thread_workspace_bytes`` the same for one parallel worker.  ``listings`` are the distinct kernels as
    text where that was asked for.
    """

    kernels: bytes
    calls: tuple[Call, ...]
    weights: bytes
    arena_bytes: int
    workspace_bytes: int
    thread_workspace_bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    routines: Mapping[str, str] = field(default_factory=dict)
    """C files with functions that kernels call: their text by file name."""
    parameters: int = 0
    """Number of weight elements before packing and padding."""
    listings: tuple[Listing, ...] = ()
    memory: MemoryPlan = field(default_factory=MemoryPlan)
    gpu: Gpu | None = None
    """The chip that the calls with ``launches`` are for; then the arena is in the device's memory."""
    images: tuple[Image, ...] = ()
    """What the GPU runs, the best first: the same functions in each, with names of this plan alone."""
    host_bytes: int = 0
    """Size of the memory ``host`` of this plan's buffers."""
    kernel_facts: tuple[KernelFacts, ...] = ()


@dataclass(frozen=True)
class OutputError:
    """How far an output is off in a GPU's precision: at most, over its largest magnitude, root mean square.

    ``finite`` is whether NaN and infinities are where they should be.
    """

    max_abs: float = 0.0
    max_scaled: float = 0.0
    rms: float = 0.0
    finite: bool = True


@dataclass(frozen=True)
class Golden:
    """Reference inputs and outputs in the order of ``Model.inputs`` and ``Model.outputs``.

    Each is the tensor's raw little-endian C-order bytes; ``engine`` says what computed them, ``own_error``
    about how far its outputs may be from exact ones, as shares of their magnitudes, ``rounding`` what the
    target's precision costs each (empty where that is fp32, or was not measured).
    """

    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    engine: str
    seed: int
    own_error: tuple[float, ...] = ()
    rounding: tuple[OutputError, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A network at other input shapes than its package's first, with kernels and weights of that one."""

    plan: Plan
    golden: Golden


@dataclass(frozen=True)
class Package:
    """A finished package folder and its manifest (the parsed ``manifest.json``)."""

    path: Path
    manifest: Mapping[str, Any]
    diagnostics: tuple[Diagnostic, ...] = ()
