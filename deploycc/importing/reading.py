"""From a path to a ``ModelProto`` that holds all its weights.

External data is read only from regular files inside the model's own folder, and through no links: a model
is untrusted input and must not be able to pull other files of the machine into a package.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, TensorProto

from deploycc.importing.stored import tensors
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
        # Not to wait for a writer, should it have become a pipe since.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(status.st_size)
    except OSError as error:
        raise DeployccError(_unreadable(path, error)) from None
    if len(data) < status.st_size:
        raise DeployccError(_damaged(path, f"{len(data)} bytes where there were {status.st_size}"))
    return data


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


def _embed_external(proto: ModelProto, path: Path, digest: hashlib._Hash) -> None:
    outside = [t for t in tensors(proto) if t.data_location == TensorProto.EXTERNAL]
    if not outside:
        return
    folder = path.resolve().parent
    faults: list[Diagnostic] = []
    wanted = sum(_number(_entry(tensor, "length") or "0") for tensor in outside)
    if wanted > MAX_BYTES:
        raise DeployccError(_too_large(wanted))
    contents: dict[str, bytes] = {}
    first = {_entry(tensor, "location"): tensor for tensor in reversed(outside)}
    for location in sorted(first):
        found = _data_file(folder, location, MAX_BYTES - sum(map(len, contents.values())))
        if isinstance(found, bytes):
            contents[location] = found
            digest.update(found)
        else:
            faults.append(_external_fault(*found, first[location], location))
    if faults:
        raise DeployccError(*faults)
    room = MAX_BYTES
    for tensor in outside:
        fault = _fill(tensor, contents[_entry(tensor, "location")])
        if fault is not None:
            faults.append(fault)
        room -= len(tensor.raw_data)
        if room < 0:  # a thousand tensors may all be the same gigabyte
            raise DeployccError(_too_large(MAX_BYTES - room))
    if faults:
        raise DeployccError(*faults)


def _entry(tensor: TensorProto, key: str) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), "")


def _number(text: str) -> int:
    """A count of bytes as the format has them: decimal digits and nothing else; -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def _data_file(folder: Path, location: str, most: int) -> bytes | tuple[str, str]:
    """What is in the file that ``location`` names inside ``folder``, or the code and reason of a refusal.

    Each step of the path is opened from the one before and none may be a link, so that nothing can be put in
    the way between looking and reading.  Raises ``DeployccError`` DC105 for more than ``most`` bytes.
    """
    if not location or "\0" in location:
        return "DC121", "it names no file"
    if os.path.isabs(location) or location.startswith("\\") or location[1:2] == ":":
        return "DC120", "its path is absolute"
    steps = [step for step in location.split("/") if step not in ("", ".")]
    if ".." in location.replace("\\", "/").split("/"):
        return "DC120", "its path climbs out of the folder"
    if not steps:
        return "DC121", "it names no file"
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, step in enumerate(steps):
            if stat.S_ISLNK(os.stat(step, dir_fd=at, follow_symlinks=False).st_mode):
                return "DC120", "it is a link, or a folder on its way is one"
            kind = os.O_DIRECTORY if number < len(steps) - 1 else os.O_NONBLOCK
            inner = os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=at)
            os.close(at)
            at = inner
        status = os.fstat(at)
        if not stat.S_ISREG(status.st_mode):
            return "DC121", "it is not a regular file"
        if status.st_size > most:
            raise DeployccError(_too_large(status.st_size + MAX_BYTES - most))
        with open(at, "rb", closefd=False) as file:
            return file.read(status.st_size)
    except (FileNotFoundError, NotADirectoryError, UnicodeError):
        return "DC121", "there is no such file"
    except OSError as error:
        return "DC121", f"it cannot be read: {os.strerror(error.errno or 0)}"
    finally:
        os.close(at)


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
    offset = _number(_entry(tensor, "offset") or "0")
    length = _number(_entry(tensor, "length") or str(max(len(content) - offset, 0)))
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
