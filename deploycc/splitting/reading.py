"""``pipeline.json`` read again.  It is untrusted: every name, number and path in it is looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploycc.element_types import ELEMENT_TYPES
from deploycc.identifiers import check_library_name, comment_text
from deploycc.splitting.describing import FORMAT, SCHEMA_VERSION
from deploycc.splitting.parts import PLACES, Cut, CutTensor, Part, Row
from deploycc.splitting.pipeline import Pipeline, pipeline_of
from deploycc.types import DeployccError, Diagnostic

MOST_BYTES = 64 << 20
MOST_PARTS = 1000
MOST_ELEMENTS = 1 << 31
_MOST_AXES = 64
_INT64_MAX = (1 << 63) - 1


class _Broken(Exception):
    """What is wrong with the file, and where."""


def read_pipeline(path: Path, cpu_target: str) -> tuple[Pipeline, dict[str, Any]]:
    """The pipeline of a ``pipeline.json``, its CPU parts for ``cpu_target``, and the parsed file.

    The parts' ``proto`` has their operators only: the files are for those who build them.

    Raises ``DeployccError``: DC766 for a file that is no such, was written by a newer deploycc, contradicts
    itself, or names files outside its folder.
    """
    try:
        table = _table(path)
        name = _text(table, "name", "the file")
        check_library_name(name)
        tensors = {one.name: one for one in map(_tensor, _list(table, "tensors", "the file"))}
        rows = _list(table, "parts", "the file")
        if not 0 < len(rows) <= MOST_PARTS:
            raise _Broken(f"{len(rows)} parts, not 1 to {MOST_PARTS}")
        parts = tuple(_part(row, number, tensors, path.parent) for number, row in enumerate(rows))
        inputs = _names(table, "inputs", tensors, "the file")
        outputs = _names(table, "outputs", tensors, "the file")
        _check_order(inputs, outputs, parts)
        _check_rows(tensors)
    except _Broken as error:
        raise _refused(path, str(error)) from None
    except DeployccError as error:
        if error.diagnostics[0].code == "DC766":
            raise
        raise _refused(path, error.diagnostics[0].message) from None
    target = table.get("target")
    shown = comment_text(target)[:80] if isinstance(target, str) else "other places"
    return pipeline_of(name, shown, cpu_target, Cut(inputs, outputs, tensors, parts)), table


def _refused(path: Path, why: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC766",
            f"{path.name} is no usable pipeline",
            got=why[:300],
            need="the pipeline.json of a folder that 'deploycc split' wrote, with the folder as it was",
            help="run 'deploycc split' again",
        )
    )


def _table(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _Broken(f"{path.stat().st_size} bytes, more than {MOST_BYTES}")
        table = json.loads(path.read_bytes())
    except OSError as error:
        raise _Broken(f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise _Broken(f"no JSON: {error}") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise _Broken(f'no "format": "{FORMAT}"')
    if table.get("schema_version") != SCHEMA_VERSION:
        raise _Broken(f"schema version {table.get('schema_version')!r}, not {SCHEMA_VERSION}")
    return table


def _list(table: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    found = table.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _Broken(f'"{key}" of {where} is no list of objects')
    return found


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    found = table.get(key)
    if not isinstance(found, str) or not found:
        raise _Broken(f'"{key}" of {where} is no text')
    try:
        found.encode()
    except UnicodeEncodeError:
        raise _Broken(f'"{key}" of {where} is no valid Unicode') from None
    return found


def _number(table: Mapping[str, Any], key: str, where: str) -> int:
    found = table.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or not -1 <= found <= _INT64_MAX:
        raise _Broken(f'"{key}" of {where} is no number of the size that it may have')
    return found


def _tensor(row: Mapping[str, Any]) -> CutTensor:
    name = _text(row, "name", "a tensor")
    where = f"tensor '{name}'"
    dtype = _text(row, "dtype", where)
    if dtype not in ELEMENT_TYPES:
        raise _Broken(f"{where} has elements of type {dtype}")
    shape, open_axes = row.get("shape"), row.get("open_axes")
    ranked = shape is not None
    for key, numbers, least in (("shape", shape if ranked else [], -1), ("open_axes", open_axes, 0)):
        if (
            not isinstance(numbers, list)
            or len(numbers) > _MOST_AXES
            or any(not isinstance(n, int) or isinstance(n, bool) or n < least for n in numbers)
        ):
            raise _Broken(f'"{key}" of {where} is no list of extents')
    extents = tuple(shape or ())
    if math.prod(extent for extent in extents if extent > 0) > MOST_ELEMENTS:
        raise _Broken(f"{where} has more than {MOST_ELEMENTS} elements")
    axes = tuple(open_axes or ())
    if any(axis >= len(extents) for axis in axes) and ranked:
        raise _Broken(f"an open axis of {where} is none of its {len(extents)}")
    if any(extent < 0 and axis not in axes for axis, extent in enumerate(extents)):
        raise _Broken(f"an extent of {where} is open that is not among its open axes")
    rows: dict[int, tuple[Row, ...]] = {}
    for entry in _list(row, "extents", where):
        axis = _number(entry, "axis", where)
        of = Row(
            _text(entry, "of", where),
            _number(entry, "of_axis", where),
            _number(entry, "factor", where),
            _number(entry, "most", where),
        )
        if axis not in axes:
            raise _Broken(f"an extent of {where} is told for axis {axis}, which is not open")
        rows[axis] = (*rows.get(axis, ()), of)
    return CutTensor(name, dtype, extents, axes, rows or None, ranked)


def _names(
    table: Mapping[str, Any], key: str, tensors: Mapping[str, CutTensor], where: str
) -> tuple[str, ...]:
    names = tuple(_text(row, "name", where) for row in _list(table, key, where))
    for name in names:
        if name not in tensors:
            raise _Broken(f"'{name}' among the {key} of {where} is not among the tensors")
    if len(set(names)) < len(names):
        raise _Broken(f"the {key} of {where} name a tensor twice")
    return names


def _part(row: Mapping[str, Any], number: int, tensors: Mapping[str, CutTensor], folder: Path) -> Part:
    import onnx

    where = f"part {number}"
    if row.get("number") != number:
        raise _Broken(f"{where} has the number {row.get('number')!r}")
    place = next((known for known in PLACES if known == row.get("place")), None)
    if place is None:
        raise _Broken(f"{where} is to run on {row.get('place')!r}")
    words: dict[str, list[str]] = {}
    for key in ("node_names", "operators"):
        found = row.get(key)
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise _Broken(f'"{key}" of {where} is no list of names')
        words[key] = found
    if not all(one.isascii() and one.isidentifier() and len(one) <= 80 for one in words["operators"]):
        raise _Broken(f"{where} has operators of which some is no name")
    operators = [onnx.NodeProto(op_type=one) for one in words["operators"]]
    part = Part(
        number=number,
        place=place,
        nodes=tuple(words["node_names"]),
        inputs=_names(row, "inputs", tensors, where),
        outputs=_names(row, "outputs", tensors, where),
        macs=_number(row, "macs", where),
        proto=onnx.ModelProto(graph=onnx.GraphProto(node=operators)),
    )
    if row.get("onnx") != f"parts/{part.stem}.onnx":
        raise _Broken(f"the file of {where} is {row.get('onnx')!r}, not parts/{part.stem}.onnx")
    inside(folder, f"parts/{part.stem}.onnx")
    if place != "host":
        for name in (*part.inputs, *part.outputs):
            if tensors[name].kind == "open" or not tensors[name].ranked:
                raise _Broken(f"{where} runs on the {place} and has '{name}', whose shape is open")
    return part


def inside(folder: Path, name: str) -> Path:
    """A file below ``folder``, no link and not behind one.  Raises ``DeployccError`` (DC766)."""
    path = folder / name
    steps = [path, *(parent for parent in path.parents if folder in parent.parents)]
    linked = next((step for step in steps if step.is_symlink()), None)
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or linked is not None:
        raise _refused(folder / "pipeline.json", f"{name} leads out of the folder or is a link")
    if not path.is_file():
        raise _refused(folder / "pipeline.json", f"{name} is missing")
    return path


def _check_order(inputs: tuple[str, ...], outputs: tuple[str, ...], parts: tuple[Part, ...]) -> None:
    known = set(inputs)
    for part in parts:
        for name in part.inputs:
            if name not in known:
                raise _Broken(f"part {part.number} reads '{name}', which no part before it computes")
        for name in part.outputs:
            if name in known:
                raise _Broken(f"part {part.number} computes '{name}', which is there already")
            known.add(name)
    for name in outputs:
        if name not in known:
            raise _Broken(f"no part computes the output '{name}'")


def _check_rows(tensors: Mapping[str, CutTensor]) -> None:
    for tensor in tensors.values():
        for row in (row for rows in (tensor.rows or {}).values() for row in rows):
            other = tensors.get(row.tensor)
            if other is None or row.axis >= len(other.shape):
                raise _Broken(
                    f"the extents of '{tensor.name}' follow from '{row.tensor}', which has no such axis"
                )
