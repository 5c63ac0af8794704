"""What a package's header, source, build files and manifest agree on, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycc.element_types import ELEMENT_TYPES, ElementType, check_dtypes, elements, nbytes
from deploycc.identifiers import check_library_name, tensor_identifiers
from deploycc.ranges import text_of
from deploycc.types import BuildRequest, Gpu, Plan, Precision, TensorInfo

ABI_VERSION = 2
"""Of the generated C interface and of the runtime behind it (``DCC_ABI`` in ``deploycc_rt.h``)."""

API_FUNCTIONS = (
    "abi_version",
    "create",
    "destroy",
    "input_count",
    "input_info",
    "last_error",
    "memory_bytes",
    "observe",
    "output_count",
    "output_info",
    "run",
    "status_text",
    "step_count",
    "step_name",
    "threads",
)
"""The functions a library exports, without their ``NAME_`` prefix; sorted."""

PROFILE_FUNCTIONS = ("profile", "profile_reset")
"""What one with timers (``build --profile``) exports besides."""


VARIANT_FUNCTIONS = (
    "find_variant",
    "select",
    "selected",
    "set_shapes",
    "variant_count",
    "variant_input_info",
    "variant_output_info",
    "variant_step_count",
)
"""What one for several shapes exports besides."""

GPU_FUNCTIONS = (
    "chip",
    "chip_count",
    "chip_name",
    "chip_step_count",
    "chip_step_name",
    "copy_from_device",
    "copy_to_device",
    "device_count",
    "device_free",
    "device_info",
    "device_malloc",
    "run_async",
    "stream",
    "stream_create",
    "stream_destroy",
    "stream_synchronize",
    "synchronize",
)
"""What one for GPUs exports besides."""

ARENA_FUNCTIONS = ("arena_create", "arena_destroy", "create_in")
"""What one with the shared runtime exports besides."""


@dataclass(frozen=True)
class Tensor:
    """A graph input or output as generated code sees it; ``bytes`` of the packed tensor."""

    info: TensorInfo
    identifier: str
    type: ElementType
    elements: int
    bytes: int

    @property
    def dimensions(self) -> str:
        """``1x3x224x224``, or ``scalar``."""
        return "x".join(str(d) for d in self.info.shape) or "scalar"


def count_of(tensor: Tensor, outputs: tuple[Tensor, ...]) -> tuple[int, int] | None:
    """Of one whose number of rows depends on data: their axis, and which output holds their number."""
    counted = tensor.info.counted
    if counted is None:
        return None
    return counted.axis, [output.info.name for output in outputs].index(counted.output)


@dataclass(frozen=True)
class Interface:
    """A package's name, its tensors, and which form its code has.

    ``emit``, ``runtime``, ``profile`` and ``debug_runtime`` are the request's; ``linked`` is false where the
    target has no linker (``toolchain = "none"``) and the app's own toolchain builds the library.
    ``variants`` has inputs and outputs of each variant where there are several, the first one's too;
    ``declared`` tells their shapes.  ``gpus`` are the chips that there is code for, none for a package that
    runs on the processor alone, and ``precision`` is how those compute.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    emit: str
    runtime: str
    linked: bool
    profile: bool = False
    debug_runtime: bool = False
    variants: tuple[tuple[tuple[Tensor, ...], tuple[Tensor, ...]], ...] = ()
    declared: str = ""
    gpus: tuple[Gpu, ...] = ()
    precision: Precision = "fp32"
    rounding: tuple[float, ...] = ()
    """What that costs each output, as a share of its magnitude, where it was measured."""

    @property
    def arena(self) -> bool:
        """Whether its handles can share an arena with those of other networks."""
        return self.runtime == "shared" and self.linked

    @property
    def symbols(self) -> tuple[str, ...]:
        """Exactly what the library exports."""
        functions = (
            *API_FUNCTIONS,
            *(PROFILE_FUNCTIONS if self.profile else ()),
            *(VARIANT_FUNCTIONS if self.variants else ()),
            *(ARENA_FUNCTIONS if self.arena else ()),
            *(GPU_FUNCTIONS if self.gpus else ()),
        )
        return tuple(f"{self.name}_{function}" for function in sorted(functions))


def interface_of(
    plan: Plan, request: BuildRequest, others: Sequence[Plan] = (), chips: Sequence[Plan] = ()
) -> Interface:
    """Work out names and sizes.

    ``others`` are the plans of the variants but the first, ``chips`` those of the chips but the first.
    Raises ``DeployccError``: DC704 for an unusable package name, DC705 for element types without
    a C type.
    """
    check_library_name(request.name)
    check_dtypes(plan.inputs + plan.outputs)

    def tensors(infos: tuple[TensorInfo, ...], role: str) -> tuple[Tensor, ...]:
        identifiers = tensor_identifiers((info.name for info in infos), role)
        return tuple(
            Tensor(info, identifier, ELEMENT_TYPES[info.dtype], elements(info), nbytes(info))
            for info, identifier in zip(infos, identifiers, strict=True)
        )

    plans = (plan, *others)
    variants = tuple((tensors(one.inputs, "input"), tensors(one.outputs, "output")) for one in plans)
    return Interface(
        name=request.name,
        inputs=variants[0][0],
        outputs=variants[0][1],
        emit=request.emit,
        runtime=request.runtime,
        linked=request.target.linker.toolchain != "none",
        profile=request.profile,
        debug_runtime=request.debug_runtime,
        variants=variants if others else (),
        declared=", ".join(f"{name}={text_of(axes)}" for name, axes in request.buckets.items()),
        gpus=tuple(one.gpu for one in (plan, *chips) if one.gpu is not None),
        precision=request.target.precision,
    )
