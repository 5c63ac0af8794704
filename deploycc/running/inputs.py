"""What a package is run on: its golden inputs, random ones, or those that a user brings.

The user's are an ``.npz`` file or a folder of tensors, ONNX's test data among them.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.running.session import Package
from deploycc.types import DeployccError, Diagnostic, TensorInfo

Array = npt.NDArray[Any]

_DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy raises for files that are damaged or hold Python objects."""


GOLDEN, RANDOM = "golden", "random"
"""Words in place of a path, for ``--inputs``."""


@dataclass(frozen=True)
class Given:
    """One set of inputs in the package's order, and the outputs that came with them, if any did."""

    inputs: list[Array]
    outputs: list[Array] | None = None


def inputs_of(
    package: Package, source: str | Path | Sequence[Array], seed: int = 0
) -> tuple[list[Array], str]:
    """One set of inputs in the package's order, and words for where they are from.

    ``source`` is ``golden``, ``random`` or ``random:SEED`` (``deploycc.reference.random_inputs``; without a
    number ``seed``), a path as ``read_samples`` takes it, of whose sets the first counts, or the arrays.

    Raises ``DeployccError``: DC812 for what cannot be read, DC813 for what is not its inputs.
    """
    if not isinstance(source, str | Path):
        return check_inputs(source, package.manifest, "the list of inputs"), "inputs given"
    word, _, number = str(source).partition(":")
    if source == GOLDEN:
        return package.golden("inputs"), f"golden inputs of {package.path.name}"
    if word == RANDOM and (not number or (number.isascii() and number.isdigit())):
        from deploycc.reference import random_inputs  # it loads ONNX Runtime

        seed = int(number or seed)
        infos = [TensorInfo(t["name"], t["dtype"], tuple(t["shape"])) for t in package.manifest["inputs"]]
        return random_inputs(infos, seed), f"random inputs, seed {seed}"
    return read_samples(Path(source), package.manifest)[0].inputs, str(source)


def read_samples(path: Path, manifest: Mapping[str, Any]) -> list[Given]:
    """The sets of inputs that lie at ``path``.

    An ``.npz`` file has an array an input under its ONNX name or its identifier (``manifest``), or all of
    them in order (``arr_0``, as ``numpy.savez`` names them).  A folder has ``NAME.npy``, ``input_I.npy``,
    ``input_I.bin`` (raw, little-endian) or ``input_I.pb`` (ONNX ``TensorProto``) for each input, or folders
    ``test_data_set_J`` with these.  Outputs beside them (``output_I...``, or by name) are the reference of
    a package without its model.

    Raises ``DeployccError``: DC812 for what cannot be read, DC813 for what is not its inputs.
    """
    if path.is_dir():
        sets = sorted(folder for folder in path.glob("test_data_set_*") if folder.is_dir())
        return [_sample(_Folder(folder), folder, manifest) for folder in sets or [path]]
    if not path.is_file():
        raise _unreadable(path, "no such file or folder")
    return [_sample(_archive(path), path, manifest)]


def check_inputs(arrays: Sequence[Array], manifest: Mapping[str, Any], source: str) -> list[Array]:
    """The arrays, which are all of the package's inputs in its order.  Raises DC813 where they are not."""
    if len(arrays) != len(manifest["inputs"]):
        raise DeployccError(
            Diagnostic(
                "DC813",
                f"{source} does not have the package's inputs",
                got=f"{len(arrays)} arrays",
                need=", ".join(_described(tensor) for tensor in manifest["inputs"]),
            )
        )
    findings = [
        finding
        for array, tensor in zip(arrays, manifest["inputs"], strict=True)
        for finding in _misfits(array, tensor, source, "input")
    ]
    if findings:
        raise DeployccError(*findings)
    return list(arrays)


def _sample(found: Mapping[str, Array], path: Path, manifest: Mapping[str, Any]) -> Given:
    """Pick inputs and outputs by name; all that does not fit is told at once."""
    findings: list[Diagnostic] = []
    inputs: list[Array] = []
    for number, tensor in enumerate(manifest["inputs"]):
        array = _pick(found, tensor, f"input_{number}", *((f"arr_{number}",) if _ordered(found) else ()))
        if array is None:
            held = ", ".join(map(str, found)) or "nothing"
            findings.append(
                Diagnostic(
                    "DC813",
                    f"{path} has no input '{tensor['name']}'",
                    got=held[:300],
                    need=_described(tensor),
                    help=f"call it '{tensor['name']}' or 'input_{number}'",
                )
            )
            continue
        findings += _misfits(array, tensor, str(path), "input")
        inputs.append(array)
    outputs: list[Array] = []
    for number, tensor in enumerate(manifest["outputs"]):
        array = _pick(found, tensor, f"output_{number}")
        if array is not None:
            findings += _misfits(array, tensor, str(path), "output")
            outputs.append(array)
    if findings:
        raise DeployccError(*findings)
    return Given(inputs, outputs if len(outputs) == len(manifest["outputs"]) else None)


def _ordered(found: Mapping[str, Array]) -> bool:
    return all(name.startswith("arr_") for name in found)


def _pick(found: Mapping[str, Array], tensor: Mapping[str, Any], *others: str) -> Array | None:
    for name in (tensor["name"], tensor["identifier"], *others):
        if name in found:
            array = found[name]
            # Raw bytes have no shape of their own; those of the right length are taken to have the input's.
            if array.dtype == np.dtype("V1") and array.size == tensor["bytes"]:
                dtype = np.dtype(tensor["dtype"])
                values: Array = array.view(dtype.newbyteorder("<")).astype(dtype)
                return values.reshape(tensor["shape"])
            return array
    return None


def _misfits(array: Array, tensor: Mapping[str, Any], source: str, role: str) -> list[Diagnostic]:
    dtype, shape = str(tensor["dtype"]), list(tensor["shape"])
    raw = array.dtype == np.dtype("V1")
    if not raw and array.dtype.name == dtype and list(array.shape) == shape:
        return []
    got = f"{array.size} bytes" if raw else f"{array.dtype.name} {_extents(array.shape)}"
    need = f"{tensor['bytes']} bytes: {_described(tensor)}" if raw else f"{dtype} {_extents(shape)}"
    advice = "packages have static shapes: build another one with --shape for another"
    if not raw and list(array.shape) == shape:
        advice = f"convert it: array.astype(numpy.{dtype})"
    message = f"{source} has another {role} '{tensor['name']}' than the package"
    return [Diagnostic("DC813", message, got=got, need=need, help=advice)]


def _described(tensor: Mapping[str, Any]) -> str:
    return f"'{tensor['name']}' {tensor['dtype']} {_extents(tensor['shape'])}"


def _extents(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


# ---- files ----


def _archive(path: Path) -> dict[str, Array]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise _unreadable(path, "one array without a name")
        with archive:
            return {name: _native(archive[name]) for name in archive.files}
    except _DAMAGE as error:
        raise _unreadable(path, str(error)) from None


class _Folder(Mapping[str, Array]):
    """The tensors of a folder by their files' names; a file is read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.stem: path
            for ending in (".bin", ".pb", ".npy")
            for path in sorted(folder.glob(f"*{ending}"))
        }

    def __getitem__(self, name: str) -> Array:
        path = self._files[name]
        try:
            if path.suffix == ".npy":
                return _native(np.load(path, allow_pickle=False))
            if path.suffix == ".pb":
                return _protobuf(path)
            return np.fromfile(path, np.dtype("V1"))
        except _DAMAGE as error:
            raise _unreadable(path, str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _protobuf(path: Path) -> Array:
    import onnx  # it takes half a second, and most inputs are no protobuf
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        # External data could name any file of this machine.
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("a tensor whose data lie in another file")
        return np.asarray(numpy_helper.to_array(tensor))
    except (DecodeError, TypeError, KeyError) as error:
        raise ValueError(f"no ONNX tensor: {error}") from None


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _unreadable(path: Path, why: str) -> DeployccError:
    return DeployccError(
        Diagnostic(
            "DC812",
            f"the inputs {path} cannot be read",
            got=why[:300],
            need="an .npz file of numpy arrays, or a folder of .npy, .bin or .pb files",
        )
    )
