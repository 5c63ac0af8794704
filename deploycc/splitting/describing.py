"""``pipeline.json``: what was cut, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploycc.splitting.generate_app import recorded_file
from deploycc.splitting.parts import CutTensor, Part
from deploycc.splitting.pipeline import GOLDEN, Pipeline, interface_name
from deploycc.splitting.running import TOLERANCE, Agreement

FORMAT = "deploycc-pipeline"
SCHEMA_VERSION = 1
"""Goes up when a key changes its meaning or goes away; new keys leave it as it is."""


def describe(
    pipeline: Pipeline,
    model: Mapping[str, str],
    agreement: Agreement,
    commands: Mapping[int, list[list[str]]],
    fixes: Sequence[str],
    version: str,
) -> dict[str, Any]:
    """The pipeline as JSON-able values, no times and no paths of this machine.

    ``model`` has the file's name and SHA-256, ``commands`` the converter's command lines for each part
    of the accelerator by number, ``fixes`` are the rewrites made first, ``version`` is deploycc's.
    """
    cut = pipeline.cut
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "deploycc": version,
        "name": pipeline.name,
        "model": dict(model),
        "target": pipeline.target,
        "cpu_target": pipeline.cpu_target,
        "fixes": list(fixes),
        "inputs": [_tensor(pipeline, name) for name in cut.inputs],
        "outputs": [_tensor(pipeline, name) for name in cut.outputs],
        "tensors": [_tensor(pipeline, name, full=True) for name in cut.tensors],
        "parts": [_part(pipeline, part, commands) for part in cut.parts],
        "check": {
            "engine": agreement.engine,
            "samples": agreement.samples,
            "compared": agreement.compared,
            "exact": agreement.exact,
            "error": agreement.error,
            "tolerance": TOLERANCE,
        },
    }


def _tensor(pipeline: Pipeline, name: str, *, full: bool = False) -> dict[str, Any]:
    tensor = pipeline.tensor(name)
    entry: dict[str, Any] = {
        "name": name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape) if tensor.ranked else None,
        "kind": tensor.kind,
    }
    if full:
        entry["identifier"] = pipeline.identifiers[name]
        entry["open_axes"] = list(tensor.open_axes)
        entry["extents"] = _extents(tensor)
        entry["golden"] = [
            f"{GOLDEN}/{recorded_file(pipeline, name, exact=exact)}.bin"
            for exact in (True, False)
            if exact or pipeline.padded(name)
        ]
    return entry


def _extents(tensor: CutTensor) -> list[dict[str, Any]]:
    """True elements along an axis: the shape's, less ``factor`` for each one less than ``most``."""
    return [
        {"axis": axis, "of": row.tensor, "of_axis": row.axis, "factor": row.factor, "most": row.most}
        for axis, rows in (tensor.rows or {}).items()
        for row in rows
    ]


def _part(pipeline: Pipeline, part: Part, commands: Mapping[int, list[list[str]]]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "number": part.number,
        "place": part.place,
        "target": {"accelerator": pipeline.target, "cpu": pipeline.cpu_target, "host": ""}[part.place],
        "onnx": f"parts/{part.stem}.onnx",
        "node_names": list(part.nodes),
        "operators": sorted({node.op_type for node in part.proto.graph.node}),
        "macs": part.macs,
        "inputs": [_tensor(pipeline, name) for name in part.inputs],
        "outputs": [_tensor(pipeline, name) for name in part.outputs],
    }
    if part.place == "cpu":
        entry["package"] = f"packages/{pipeline.packages[part.number].name}"
    else:
        entry["interface"] = interface_name(part)
    if part.place == "accelerator":
        entry["handover"] = f"handover/{part.stem}"
        entry["commands"] = commands[part.number]
    return entry


def write_records(pipeline: Pipeline, agreement: Agreement, folder: Path) -> None:
    """Every tensor of the recorded run as little-endian bytes, with a ``.shape`` where that may differ."""
    folder.mkdir(parents=True)
    values = agreement.recorded
    for name, tensor in pipeline.cut.tensors.items():
        if name in values.exact:
            array, stem = values.exact[name], recorded_file(pipeline, name, exact=True)
            (folder / f"{stem}.bin").write_bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())
            if tensor.kind != "static":
                shape = " ".join(map(str, (array.ndim, *array.shape)))
                (folder / f"{stem}.shape").write_text(f"{shape}\n", encoding="ascii")
        if name in values.padded:
            array, stem = values.padded[name], recorded_file(pipeline, name, exact=False)
            (folder / f"{stem}.bin").write_bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())
