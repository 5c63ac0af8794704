"""From a path to a ``ModelProto`` that holds all its weights.

External data is read only from regular files inside the model's own folder: a model is
untrusted input and must not be able to pull other files of the machine into a package.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from onnx import GraphProto, ModelProto, TensorProto

from deploycc.onnx_graph import subgraphs
from deploycc.types import DeployccError, Diagnostic

MAX_BYTES = (2 << 30) - (1 << 20)
"""Protobuf cannot hold a message of 2 GiB; a little room is left for what the passes add."""


def read_model(path: Path) -> tuple[ModelProto, str]:
    """The model with external data embedded, and the SHA-256 (hex) of all bytes read.

    The hash covers the model file and then each external file once, in name order.

    Raises ``DeployccError``: DC100 missing, DC101 a folder, DC102 empty, DC103 not ONNX,
    DC104 truncated, DC105 too large, DC106 unreadable, DC120 external data outside the
    folder, DC121 external data missing or short.
    """
    data = _read_file(path)
    proto = _parse(path, data)
    digest = hashlib.sha256(data)
    _embed_external(proto, path, digest)
    return proto, digest.hexdigest()


def _read_file(path: Path) -> bytes:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DeployccError(_missing(path)) from None
    except (OSError, ValueError) as error:
        raise DeployccError(_unreadable(path, error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise DeployccError(
            Diagnostic(
                "DC101",
                "the model is a folder, not a file",
                got=str(path),
                need="the path of one .onnx file",
                help=_candidates(path),
            )
        )
    if not stat.S_ISREG(status.st_mode):
        raise DeployccError(
            Diagnostic(
                "DC106",
                "the model is not a regular file",
                got=str(path),
                need="a regular .onnx file",
            )
        )
    if status.st_size == 0:
        raise DeployccError(
            Diagnostic(
                "DC102",
                "the model file is empty",
                got=f"{path}: 0 bytes",
                need="an ONNX model",
            )
        )
    if status.st_size > MAX_BYTES:
        raise DeployccError(_too_large(status.st_size))
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeployccError(_unreadable(path, error)) from None


def _missing(path: Path) -> Diagnostic:
    hint = _candidates(path.parent) if path.parent.is_dir() else f"there is no folder {path.parent}"
    return Diagnostic(
        "DC100",
        "the model file does not exist",
        got=str(path),
        need="the path of a .onnx file",
        help=hint,
    )


def _candidates(folder: Path) -> str:
    try:
        found = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".onnx")
    except OSError:
        return ""
    if not found:
        return f"there is no .onnx file in {folder}"
    shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
    return f"in {folder} there is: {shown}"


def _unreadable(path: Path, error: Exception) -> Diagnostic:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Diagnostic(
        "DC106",
        "the model file cannot be read",
        got=f"{path}: {reason}",
        need="a readable file",
    )


def _too_large(size: int) -> Diagnostic:
    return Diagnostic(
        "DC105",
        "the model is too large",
        got=f"{size} bytes",
        need=f"at most {MAX_BYTES} bytes with its external data",
        help="store the weights in half precision, or split the model",
    )


def _parse(path: Path, data: bytes) -> ModelProto:
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise DeployccError(_not_onnx(path, data)) from None
    if not proto.HasField("graph") or (not proto.ir_version and not proto.opset_import):
        raise DeployccError(_not_onnx(path, data))
    if not _all_text(proto):
        raise DeployccError(_damaged(path, "a name in it is no UTF-8 text"))
    return proto


def _all_text(message: Message) -> bool:
    """Whether every string of a message is text; protobuf hands damaged ones over as bytes."""
    for field, value in message.ListFields():
        items = [value] if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_STRING and any(isinstance(item, bytes) for item in items):
            return False
        if field.type == field.TYPE_MESSAGE and not all(_all_text(item) for item in items):
            return False
    return True


def _damaged(path: Path, what: str) -> Diagnostic:
    return Diagnostic(
        "DC104",
        "the model file is truncated or damaged",
        got=f"{path}: {what}",
        need="the whole file",
        help="fetch or export it again and compare its size and hash with the source's",
    )


def _not_onnx(path: Path, data: bytes) -> Diagnostic:
    # An ONNX file opens with field 1 (ir_version): tag 0x08 and a small number.
    if data[0] == 0x08 and len(data) > 1 and 0 < data[1] < 64:
        return _damaged(path, f"{len(data)} bytes that begin as an ONNX model and then break off")
    kind = _known_format(data)
    return Diagnostic(
        "DC103",
        "the file is not an ONNX model",
        got=f"{path}: {kind}",
        need="an ONNX model (a serialised ModelProto)",
        help=_conversion_hint(kind),
    )


_FORMATS = (
    (b"PK\x03\x04", "a zip archive (PyTorch .pt/.pth files are zip archives)"),
    (b"\x80\x02", "a Python pickle (an old PyTorch checkpoint)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML file (OpenVINO IR?)"),
    (b"\x1f\x8b", "a gzip archive"),
)


def _known_format(data: bytes) -> str:
    for magic, name in _FORMATS:
        if data.startswith(magic):
            return name
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    return f"{len(data)} bytes that do not parse as one"


def _conversion_hint(kind: str) -> str:
    if "PyTorch" in kind:
        return "export the network: deploycc export FILE.py:FACTORY --shape … -o model.onnx"
    if "LFS" in kind:
        return "fetch the real file: git lfs pull"
    if "Keras" in kind or "TensorFlow" in kind:
        return "convert it with tf2onnx first"
    return "check that this is the file that was exported"


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every stored tensor: initializers and tensor attributes, subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from tensors(inner)


def _embed_external(proto: ModelProto, path: Path, digest: hashlib._Hash) -> None:
    stored = list(tensors(proto.graph))
    for function in proto.functions:
        for node in function.node:
            stored += [a.t for a in node.attribute if a.HasField("t")]
    outside = [t for t in stored if t.data_location == TensorProto.EXTERNAL]
    if not outside:
        return
    folder = path.resolve().parent
    faults: list[Diagnostic] = []
    files: dict[str, Path] = {}
    for tensor in outside:
        location = _entry(tensor, "location")
        if location in files:
            continue
        found = _inside(folder, location)
        if isinstance(found, Path):
            files[location] = found
        else:
            faults.append(_external_fault(*found, tensor, location))
    if faults:
        raise DeployccError(*faults)
    sizes = {location: file.stat().st_size for location, file in files.items()}
    total = sum(sizes.values())
    if total > MAX_BYTES:
        raise DeployccError(_too_large(total))
    contents: dict[str, bytes] = {}
    for location in sorted(files):
        try:
            contents[location] = files[location].read_bytes()
        except OSError as error:
            raise DeployccError(_unreadable(files[location], error)) from None
        digest.update(contents[location])
    for tensor in outside:
        fault = _fill(tensor, contents[_entry(tensor, "location")])
        if fault is not None:
            faults.append(fault)
    if faults:
        raise DeployccError(*faults)


def _entry(tensor: TensorProto, key: str) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), "")


def _inside(folder: Path, location: str) -> Path | tuple[str, str]:
    """The file ``location`` names inside ``folder``, or the code and the reason why it is refused."""
    if not location or "\0" in location:
        return "DC121", "it names no file"
    if os.path.isabs(location) or location.startswith("\\") or location[1:2] == ":":
        return "DC120", "its path is absolute"
    if ".." in location.replace("\\", "/").split("/"):
        return "DC120", "its path climbs out of the folder"
    try:
        resolved = (folder / location).resolve(strict=True)
    except (OSError, RuntimeError):
        return "DC121", "there is no such file"
    if not resolved.is_relative_to(folder):
        return "DC120", "it is a link that leaves the folder"
    if not resolved.is_file():
        return "DC121", "it is not a regular file"
    return resolved


def _external_fault(code: str, reason: str, tensor: TensorProto, location: str) -> Diagnostic:
    message = "external data outside the model's folder" if code == "DC120" else "external data is missing"
    return Diagnostic(
        code,
        f"{message}: {reason}",
        got=f"tensor '{tensor.name}' points to '{location}'",
        need="a regular file inside the model's folder, named relative to it",
        help="keep the .onnx file and its data file together as they were exported, "
        "or save the model with its weights inside",
    )


def _fill(tensor: TensorProto, content: bytes) -> Diagnostic | None:
    try:
        offset = int(_entry(tensor, "offset") or 0)
        length = int(_entry(tensor, "length") or len(content) - offset)
    except ValueError:
        offset, length = -1, -1
    if offset < 0 or length < 0 or offset + length > len(content):
        return Diagnostic(
            "DC121",
            "external data is shorter than the model says",
            got=f"tensor '{tensor.name}': offset {_entry(tensor, 'offset') or 0}, "
            f"length {_entry(tensor, 'length') or '?'} in a file of {len(content)} bytes",
            need="a range inside the file",
            help="the data file belongs to another export or is truncated; export both again",
        )
    tensor.raw_data = content[offset : offset + length]
    del tensor.external_data[:]
    tensor.data_location = TensorProto.DEFAULT
    return None
