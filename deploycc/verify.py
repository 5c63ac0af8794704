"""``deploycc verify``: a package's outputs beside the reference's, wherever the package runs.

The package runs in a process of its own (``deploycc.running``), the reference in another
(``deploycc.verifying.expected``); here their outputs meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.result_types import TensorDifference, Verification
from deploycc.running import (
    Orders,
    Package,
    Place,
    chips_to_run,
    is_emulated,
    open_package,
    place_for,
    place_of,
    run,
    variants_of,
)
from deploycc.running.chips import is_for_gpus
from deploycc.running.inputs import GOLDEN, RANDOM, Given, check_inputs, read_samples
from deploycc.running.session import Measured
from deploycc.trace import Trace
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Limits
from deploycc.verifying import difference
from deploycc.verifying.tolerances import check_overrides, output_tolerances

Array = npt.NDArray[Any]
Event = dict[str, Any]


@dataclass(frozen=True)
class Verified:
    """A verification, the set of ``inputs`` on which it was farthest off, and what else is to be said."""

    verification: Verification
    inputs: list[Array]
    diagnostics: tuple[Diagnostic, ...] = ()


def verify(
    package: str | Path,
    model: str | Path | None = None,
    inputs: str | Path | Sequence[Array] | None = None,
    runner: str | None = None,
    *,
    seed: int = 0,
    samples: int = 1,
    tolerance: float | Mapping[str, float] | None = None,
    threads: int = 1,
    op_dirs: Sequence[str | Path] = (),
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
    chip: str | None = None,
) -> Verification:
    """Run a package and compare its outputs with the reference's.

    ``inputs`` are ``"golden"`` (those of the package), ``"random"`` (``samples`` sets drawn from ``seed``
    on), an ``.npz`` file or a folder (``deploycc.running.inputs``), or arrays in the package's order;
    golden without ``model``, random with it.  The reference is ONNX Runtime on ``model``; without a model
    the golden outputs, or those that came with the inputs.  ``runner`` is where it runs
    (``deploycc.running.place_for``), ``threads`` counts the calling thread; ``op_dirs`` are for the model.

    A package for GPUs runs twice, on the host's memory and on the GPU's, and the worse counts.  ``chip`` is
    the one of its chips to emulate; without a GPU and without it all are, and the worst is returned.

    ``tolerance`` is for all outputs, or by an output's name; without it by dtype and depth
    (``deploycc.verifying.tolerances``).  Errors are shares of the output's largest magnitude.

    Raises ``DeployccError`` for what cannot be compared: DC812 to DC814, DC816, DC817, and what opening the
    package (DC700-DC703), running it (DC800-DC805) and the reference (DC160) raise.  An output that is too
    far off is no exception: see ``Verification.ok`` and ``failures``.
    """
    opened = open_package(package)
    found = [
        verify_package(
            opened,
            model,
            inputs,
            runner,
            seed=seed,
            samples=samples,
            tolerance=tolerance,
            threads=threads,
            op_dirs=op_dirs,
            limits=limits,
            on_event=on_event,
            chip=one,
        ).verification
        for one in chips_to_run(opened, runner, chip)
    ]
    return max(found, key=lambda one: max(map(_badness, one.outputs)))


def verify_package(
    package: Package,
    model: str | Path | None = None,
    inputs: str | Path | Sequence[Array] | None = None,
    runner: str | None = None,
    *,
    seed: int = 0,
    samples: int = 1,
    tolerance: float | Mapping[str, float] | None = None,
    threads: int = 1,
    op_dirs: Sequence[str | Path] = (),
    limits: Limits | None = None,
    on_event: Callable[[Event], None] | None = None,
    chip: str | None = None,
) -> Verified:
    """As ``verify``, for an open package and one chip, with the inputs and what else is to be said."""
    overrides = dict(tolerance) if isinstance(tolerance, Mapping) else {}
    if isinstance(tolerance, (int, float)):
        overrides[""] = float(tolerance)
    check_overrides(overrides, package.manifest)
    limits = limits or Limits()
    package, place = place_for(package, runner, chip)
    told, given = _given(package, inputs, RANDOM if model else GOLDEN, seed, samples)
    sets: list[list[Array]]
    diagnostics: tuple[Diagnostic, ...] = ()
    if model is None:
        if given is None or any(one.outputs is None for one in given):
            raise _no_reference(told)
        sets = [one.inputs for one in given]
        expected = [one.outputs or [] for one in given]
        golden = told == _told_golden(package)
        engine = str(package.manifest["golden"]["engine"]) if golden else "the outputs beside the inputs"
        # Packages of earlier builds do not have it.
        own_error = package.manifest["golden"].get("own_error", ()) if golden else ()
        allowed = [output_tolerances(package.manifest, overrides, own_error)] * len(sets)
    else:
        from deploycc.verifying.expected import expected_of  # what a model needs takes a while to load

        of_model = expected_of(
            Path(model),
            package.manifest,
            None if given is None else [one.inputs for one in given],
            seed=seed,
            samples=samples,
            op_dirs=op_dirs,
            limits=limits,
            on_event=on_event,
        )
        sets, expected, engine = of_model.inputs, of_model.outputs, of_model.engine
        diagnostics = of_model.diagnostics
        allowed = [
            output_tolerances(package.manifest, overrides, own_error, of_model.computed_in)
            for own_error in of_model.own_error
        ]
    trace = Trace(None, on_event or (lambda event: None))
    modes = [Orders(threads=threads)]
    if is_for_gpus(package.manifest):
        modes.append(Orders(threads=threads, device=True))
        told = f"{told}; in the host's memory and in the GPU's"
    runs = trace("run", _runs, package, place, sets, modes, limits.stage_seconds)
    names = [str(tensor["name"]) for tensor in package.manifest["outputs"]]
    compared = [
        [
            max((difference(name, want, got, bound) for got in found), key=_badness)
            for name, want, *found, bound in zip(
                names, wanted, *(one.outputs for one in ways), bounds, strict=True
            )
        ]
        for wanted, ways, bounds in zip(expected, runs, allowed, strict=True)
    ]
    worst = tuple(max(of_sets, key=_badness) for of_sets in zip(*compared, strict=True))
    shown = package.name if package.variant is None else f"{package.name}@{package.variant}"
    gpu = "" if is_emulated(place) else runs[0][0].gpu
    where = f"{place.shown}, {gpu}" if gpu else place.shown
    found = Verification(shown, where, engine, told, len(sets), worst)
    farthest = max(range(len(sets)), key=lambda number: max(map(_badness, compared[number])))
    return Verified(found, sets[farthest], diagnostics)


def _runs(
    package: Package, place: Place, sets: Sequence[Sequence[Array]], modes: Sequence[Orders], limit: float
) -> list[list[Measured]]:
    """For each set of inputs the run in each mode."""
    return [[run(package, place, inputs, orders, limit) for orders in modes] for inputs in sets]


def _given(
    package: Package,
    inputs: str | Path | Sequence[Array] | None,
    usual: str,
    seed: int,
    samples: int,
) -> tuple[str, list[Given] | None]:
    """What the inputs are, in words, and the sets; ``None`` for those that the reference draws."""
    inputs = usual if inputs is None else inputs
    if isinstance(inputs, Path):
        return str(inputs), read_samples(inputs, package.manifest)
    if not isinstance(inputs, str):
        arrays = [np.asarray(array) for array in inputs]
        return "arrays", [Given(check_inputs(arrays, package.manifest, "the list of inputs"))]
    if inputs == GOLDEN:
        return _told_golden(package), [Given(package.golden("inputs"), package.golden("outputs"))]
    if inputs == RANDOM:
        seeds = f"seed {seed}" if samples == 1 else f"seeds {seed} to {seed + samples - 1}"
        return f"random, {seeds}", None
    return inputs, read_samples(Path(inputs), package.manifest)


def _told_golden(package: Package) -> str:
    return f"golden, seed {package.manifest['golden']['seed']}"


def _no_reference(told: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC814",
            "there is nothing to compare with: these inputs have no outputs of a reference",
            got=f"inputs: {told}; no --model",
            need="the model, or inputs with their outputs",
            help="give --model model.onnx, or --inputs golden",
        )
    )


def _badness(one: TensorDifference) -> tuple[bool, int, float]:
    """What fails is worse than what passes, then what is farther off."""
    return not one.ok, one.unexpected, one.max_scaled


def failures(verification: Verification) -> tuple[Diagnostic, ...]:
    """DC810 for each output beyond its tolerance, DC811 where it is NaN or infinite and must not be."""
    return tuple(
        Diagnostic(
            "DC811" if output.unexpected else "DC810",
            f"output '{output.tensor}' of {verification.package} is not what the model computes",
            tensor=output.tensor,
            got=f"{output.reason}; worst at {list(output.worst_index)}: {output.worst_got:.7g} "
            f"instead of {output.worst_expected:.7g}",
            need=f"an error of at most {output.tolerance:.3g} of the largest magnitude",
            help="--bisect finds the first node that is wrong",
        )
        for output in verification.outputs
        if not output.ok
    )


# ---- build --verify ----


def check_runnable(request: BuildRequest) -> None:
    """Before a build with ``--verify``: that its package could run here.

    Raises ``DeployccError`` as ``place_of`` does, and DC802 for a target without a linker.
    """
    linker = request.target.linker
    if linker.toolchain == "none":
        raise DeployccError(
            Diagnostic(
                "DC802",
                f"packages for {request.target.name} have no library to run: the app's toolchain builds it",
                got=f"--verify, target {request.target.name}, which has no linker",
                help="leave --verify out, and verify a package for a target of that processor with a linker",
            )
        )
    manifest = {
        "target": {"llvm_triple": request.target.llvm.triple, "libc": linker.libc},
        "interface": {"emit": request.emit},
    }
    try:
        place_of(None, manifest)
    except DeployccError as error:
        instead = "or build without --verify, and verify the package with --runner 'ssh HOST'"
        raise DeployccError(
            *(replace(one, help=f"{one.help.partition(', or')[0]}, {instead}") for one in error.diagnostics)
        ) from None


def verify_staged(folder: Path, limits: Limits, on_event: Callable[[Event], None] | None = None) -> None:
    """A package not yet in its place, on its golden inputs.  Raises DC810, DC811 where it is wrong."""
    trace = Trace(None, on_event or (lambda event: None))

    def all_failures() -> list[Diagnostic]:
        return [
            wrong
            for package in variants_of(folder)
            for chip in chips_to_run(package)
            for wrong in failures(verify_package(package, limits=limits, chip=chip).verification)
        ]

    wrong = trace("verify", all_failures)
    if wrong:
        raise DeployccError(
            *(
                replace(one, help="no package was written; build without --verify to look at it")
                for one in wrong
            )
        )
