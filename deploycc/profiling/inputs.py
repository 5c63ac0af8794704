"""Which inputs a package is profiled on."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.running import Package
from deploycc.types import DeployccError, Diagnostic

Array = npt.NDArray[Any]


def chosen_inputs(package: Package, source: str | Path | Sequence[Array], seed: int = 0) -> list[Array]:
    """The package's inputs, in its order.

    ``source`` is ``golden`` (those in the package), ``random``, the arrays themselves, an ``.npz`` file with
    an array for each input under its ONNX name, its identifier or ``input_I``, or a folder with
    ``input_I.bin`` (raw, little-endian) or ``input_I.npy``.

    Raises ``DeployccError`` (DC841) where they cannot be read or are none of the package.
    """
    tensors = package.manifest["inputs"]
    if isinstance(source, str) and source == "golden":
        return package.golden("inputs")
    if isinstance(source, str) and source == "random":
        generator = np.random.default_rng(seed)
        return [_drawn(generator, tensor) for tensor in tensors]
    if not isinstance(source, str | Path):
        return _checked(list(source), tensors, "the arrays given")
    try:
        found = _folder(Path(source), tensors) if Path(source).is_dir() else _archive(Path(source), tensors)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _refused(f"the inputs {source} cannot be read", str(error)[:300], tensors) from None
    return _checked(found, tensors, str(source))


def _drawn(generator: np.random.Generator, tensor: Mapping[str, Any]) -> Array:
    dtype = np.dtype(tensor["dtype"])
    if dtype == np.bool_ or np.issubdtype(dtype, np.integer):
        # As an index these are in every table.
        return np.asarray(generator.integers(0, 2, tensor["shape"])).astype(dtype)
    return np.asarray(generator.standard_normal(tensor["shape"])).astype(dtype)


def _archive(path: Path, tensors: Sequence[Mapping[str, Any]]) -> list[Array]:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("one array without a name")
    with archive:
        found = []
        for number, tensor in enumerate(tensors):
            names = (tensor["name"], tensor["identifier"], f"input_{number}", f"arr_{number}")
            name = next((name for name in names if name in archive.files), None)
            if name is None:
                raise ValueError(f"no array '{tensor['name']}' among {', '.join(archive.files)}")
            found.append(archive[name])
    return found


def _folder(path: Path, tensors: Sequence[Mapping[str, Any]]) -> list[Array]:
    found = []
    for number, tensor in enumerate(tensors):
        raw = path / f"input_{number}.bin"
        if raw.is_file():
            dtype = np.dtype(tensor["dtype"])
            found.append(
                np.fromfile(raw, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tensor["shape"])
            )
        else:
            found.append(np.load(path / f"input_{number}.npy", allow_pickle=False))
    return found


def _checked(arrays: list[Array], tensors: Sequence[Mapping[str, Any]], source: str) -> list[Array]:
    got = [f"{array.dtype.name} {_extents(array.shape)}" for array in arrays]
    if got != [f"{tensor['dtype']} {_extents(tensor['shape'])}" for tensor in tensors]:
        raise _refused(f"{source} do not fit the package's inputs", ", ".join(got) or "none", tensors)
    return arrays


def _refused(message: str, got: str, tensors: Sequence[Mapping[str, Any]]) -> DeployccError:
    need = ", ".join(f"'{t['name']}' {t['dtype']} {_extents(t['shape'])}" for t in tensors) or "none"
    return DeployccError(Diagnostic("DC841", message, got=got, need=need))


def _extents(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
