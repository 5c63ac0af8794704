"""What the user's model computes, by the reference, in a child process."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.build import explain_failure
from deploycc.request import request_from_json, request_to_json
from deploycc.supervise import ChildFailed, run_child
from deploycc.targets import load_target
from deploycc.trace import Trace
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Limits, Model
from deploycc.verifying.tolerances import UNIT_ROUNDOFF

Array = npt.NDArray[Any]
Event = dict[str, Any]

_ANY_TARGET = "x86-64"
"""A request carries model and shapes into the child; its target plays no part."""

_OTHER_INTERFACE = ("DC201", "DC202", "DC203", "DC205")


@dataclass(frozen=True)
class Expected:
    """Inputs and the reference's outputs, set by set, in the package's order.

    ``own_error`` is by set and output how far the reference may be off (``deploycc.reference.own_error``);
    ``computed_in`` the coarsest float type in which a node of the model computes, ``engine`` what computed.
    """

    inputs: list[list[Array]]
    outputs: list[list[Array]]
    engine: str
    own_error: tuple[tuple[float, ...], ...] = ()
    computed_in: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()


def expected_of(
    model: Path,
    manifest: Mapping[str, Any],
    given: Sequence[Sequence[Array]] | None,
    *,
    seed: int,
    samples: int,
    op_dirs: Sequence[str | Path] = (),
    limits: Limits,
    on_event: Callable[[Event], None] | None = None,
) -> Expected:
    """Run ``model``, its shapes bound as the package's, on ``given`` sets of inputs.

    Without them ``samples`` sets are drawn, from ``seed`` on, as golden inputs are
    (``deploycc.reference.sharp_sample``).  A DC815 warns of a model that is not the package's.

    Raises ``DeployccError``: DC816 for a model with other inputs or outputs, DC160 where no reference runs
    it, what reading a model raises; and ``InternalError`` for faults of our own.
    """
    shapes = {tensor["name"]: tuple(tensor["shape"]) for tensor in manifest["inputs"]}
    request = BuildRequest(
        model=model.absolute(),
        target=load_target(_ANY_TARGET),
        output=Path(),
        name="verify",
        shapes=shapes,
        op_dirs=tuple(Path(folder).absolute() for folder in op_dirs),
        limits=limits,
    )
    with tempfile.TemporaryDirectory(prefix="deploycc-verify-") as folder:
        for number, arrays in enumerate(given or ()):
            _save(Path(folder), f"given_{number}", arrays)
        message = {
            "request": request_to_json(request),
            "inputs": manifest["inputs"],
            "outputs": manifest["outputs"],
            "folder": folder,
            "given": len(given or ()),
            "seeds": [] if given is not None else list(range(seed, seed + samples)),
        }
        command = shlex.join(["deploycc", "verify", "PACKAGE", "--model", str(model), "--seed", str(seed)])
        try:
            answer = run_child("deploycc.verifying.expected:run_in_child", message, limits, on_event)
        except ChildFailed as error:
            raise explain_failure(error, request, command) from None
        sets = range(len(given) if given is not None else samples)
        return Expected(
            inputs=[_load(Path(folder), f"inputs_{n}", len(manifest["inputs"])) for n in sets],
            outputs=[_load(Path(folder), f"outputs_{n}", len(manifest["outputs"])) for n in sets],
            engine=answer["engine"],
            own_error=tuple(tuple(errors) for errors in answer["own_error"]),
            computed_in=answer["computed_in"],
            diagnostics=_other_model(model, answer["sha256"], manifest),
        )


def _save(folder: Path, name: str, arrays: Sequence[Array]) -> None:
    for number, array in enumerate(arrays):
        np.save(folder / f"{name}_{number}.npy", array)


def _load(folder: Path, name: str, count: int) -> list[Array]:
    return [np.load(folder / f"{name}_{number}.npy", allow_pickle=False) for number in range(count)]


def _other_model(model: Path, sha256: str, manifest: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
    if sha256 == manifest["model"]["sha256"]:
        return ()
    return (
        Diagnostic(
            "DC815",
            f"{model} is not the model that the package was built from",
            got=f"SHA-256 {sha256[:16]}...",
            need=f"SHA-256 {manifest['model']['sha256'][:16]}...",
            help="differences may be the models'; leave --model out to compare with the golden outputs",
            severity="warning",
        ),
    )


# ---- the child ----


def run_in_child(message: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    """Load the model and run the reference; runs in the child process only."""
    request = request_from_json(message["request"])
    trace = Trace(None, emit)

    from deploycc.importing import load
    from deploycc.operator_files import install

    install(request.op_dirs)
    try:
        model = trace("import", load, request)
    except DeployccError as error:
        if any(diagnostic.code in _OTHER_INTERFACE for diagnostic in error.diagnostics):
            got = "; ".join(diagnostic.message for diagnostic in error.diagnostics)
            raise _other_interface(request.model, got) from None
        raise
    order = _orders(model, message, request.model)
    engine, own_error = trace("reference", _compute, model, message, order)
    return {
        "engine": engine,
        "own_error": own_error,
        "computed_in": _coarsest(model),
        "sha256": model.sha256,
    }


def _orders(model: Model, message: Mapping[str, Any], path: Path) -> dict[str, list[int]]:
    """Where in the model each input and output of the package is.  Raises DC816."""
    orders: dict[str, list[int]] = {}
    for role, infos in (("inputs", model.inputs), ("outputs", model.outputs)):
        at = {info.name: number for number, info in enumerate(infos)}
        numbers = {tensor["counted"]["output"] for tensor in message[role] if "counted" in tensor}
        ours = {tensor["name"]: tensor for tensor in message[role] if tensor["name"] not in numbers}
        got = [
            f"no {role[:-1]} '{name}'"
            if name not in at
            else f"{role[:-1]} '{name}' {infos[at[name]].dtype} {list(infos[at[name]].shape)}"
            for name, tensor in ours.items()
            if name not in at or not _same(asdict(infos[at[name]]), tensor)
        ]
        got += [f"also {role[:-1]} '{name}'" for name in at if name not in ours and role == "inputs"]
        if got:
            raise _other_interface(path, "; ".join(got))
        orders[role] = [at[name] for name in ours]
    return orders


def _same(info: Mapping[str, Any], tensor: Mapping[str, Any]) -> bool:
    """An extent of -1 is one that only folding constants would tell."""
    extents = list(info["shape"])
    fits = len(extents) == len(tensor["shape"]) and all(
        a in (-1, b) for a, b in zip(extents, tensor["shape"], strict=True)
    )
    return bool(info["dtype"] == tensor["dtype"] and (fits or -1 in extents))


def _other_interface(path: Path, got: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC816",
            f"{path} has other inputs or outputs than the package",
            got=got[:500],
            need="the model that the package was built from",
            help="'deploycc inspect PACKAGE' shows the package's inputs and outputs",
        )
    )


def _compute(
    model: Model, message: Mapping[str, Any], order: Mapping[str, Sequence[int]]
) -> tuple[str, list[list[float]]]:
    """Write ``inputs_N`` and ``outputs_N`` of each set; the engine and its own error on each."""
    from deploycc import reference
    from deploycc.counting.padding import padded, tensor_from_manifest

    folder = Path(message["folder"])
    engine, own_error = "", []
    try:
        for number in range(message["given"] or len(message["seeds"])):
            if message["given"]:
                ours = _load(folder, f"given_{number}", len(message["inputs"]))
                inputs = [ours[order["inputs"].index(at)] for at in range(len(ours))]
                outputs, engine = reference.run(model.proto, inputs)
            else:
                drawn = reference.sharp_sample(model.proto, model.inputs, message["seeds"][number])
                inputs, outputs, engine = drawn.inputs, drawn.outputs, drawn.engine
            errors = [0.0] * len(outputs)
            if engine.startswith("onnxruntime"):
                errors = reference.own_error(model.proto, inputs, outputs)
            given = [tensor_from_manifest(tensor) for tensor in message["outputs"]]
            found = padded([outputs[at] for at in order["outputs"]], given)
            own = [errors[at] for at in order["outputs"]]
            own_error.append([*own, *[0.0] * (len(found) - len(own))])
            _save(folder, f"inputs_{number}", [inputs[at] for at in order["inputs"]])
            _save(folder, f"outputs_{number}", found)
    except reference.ReferenceFailed as error:
        raise DeployccError(
            Diagnostic(
                "DC160",
                "the reference cannot run the model on these inputs",
                got=str(error)[:500],
                need="a model and inputs that ONNX Runtime or onnx.reference runs",
            )
        ) from None
    return engine, own_error


def _coarsest(model: Model) -> str:
    """The coarsest float type that a node computes in; a Cast computes nothing."""
    from deploycc.onnx_graph import tensor_info

    graph = model.proto.graph
    types = {info.name: tensor_info(info).dtype for info in (*graph.value_info, *graph.output)}
    kinds = {
        types.get(name, "")
        for node in graph.node
        if node.op_type not in ("Cast", "Constant", "Identity")
        for name in node.output
    }
    floats = [kind for kind in kinds if kind in UNIT_ROUNDOFF]
    return max(floats, key=lambda kind: UNIT_ROUNDOFF[kind], default="")
