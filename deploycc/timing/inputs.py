"""What the contestants are given: the golden inputs, random ones, or the user's."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.running import Package
from deploycc.timing.peers import Array
from deploycc.types import DeployccError, Diagnostic, TensorInfo

RANDOM_SEED = 1


def inputs_for(package: Package, source: str) -> list[Array]:
    """The inputs that ``source`` names, in the package's order.

    ``golden``, ``random``, an ``.npz`` file with an array by each input's name, or a folder with ``NAME.npy``
    or raw little-endian ``NAME.bin``; ``NAME`` may also be the input's identifier or ``input_I``.

    Raises ``DeployccError`` (DC839).
    """
    tensors = package.manifest["inputs"]
    if source == "golden":
        return package.golden("inputs")
    if source == "random":
        from deploycc.reference import random_inputs

        infos = [TensorInfo(t["name"], t["dtype"], tuple(t["shape"])) for t in tensors]
        return random_inputs(infos, RANDOM_SEED)
    path = Path(source)
    if not path.exists():
        raise _unfit(f"{source} does not exist", "", "golden, random, an .npz file or a folder")
    found = [_find(path, number, tensor) for number, tensor in enumerate(tensors)]
    faults = [_fault(array, tensor) for array, tensor in zip(found, tensors, strict=True)]
    told = [fault for fault in faults if fault is not None]
    if told:
        raise DeployccError(*told)
    return [array for array in found if array is not None]


def _find(path: Path, number: int, tensor: Mapping[str, Any]) -> Array | None:
    names = (tensor["name"], tensor["identifier"], f"input_{number}")
    try:
        if not path.is_dir():
            arrays = np.load(path, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise ValueError("a single array, not an .npz file")
            with arrays:
                return next((np.asarray(arrays[name]) for name in names if name in arrays.files), None)
        for name in names:
            # A tensor's name may hold anything; only a file of this folder is meant.
            if Path(name).name != name:
                continue
            if (path / f"{name}.npy").is_file():
                return np.asarray(np.load(path / f"{name}.npy", allow_pickle=False))
            if (path / f"{name}.bin").is_file():
                dtype = np.dtype(tensor["dtype"])
                data = np.fromfile(path / f"{name}.bin", dtype.newbyteorder("<"))
                return data.astype(dtype, copy=False).reshape(tensor["shape"])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unfit(f"input '{tensor['name']}' cannot be read from {path}", str(error)[:200], "") from None
    return None


def _fault(array: Array | None, tensor: Mapping[str, Any]) -> Diagnostic | None:
    need = f"{tensor['dtype']}{tensor['shape']}"
    if array is None:
        return _unfit(f"there is no input '{tensor['name']}'", "", need).diagnostics[0]
    if array.dtype.name != tensor["dtype"] or list(array.shape) != list(tensor["shape"]):
        got = f"{array.dtype}{list(array.shape)}"
        return _unfit(f"input '{tensor['name']}' does not fit the package", got, need).diagnostics[0]
    return None


def _unfit(message: str, got: str, need: str) -> DeployccError:
    return DeployccError(
        Diagnostic("DC839", message, got=got, need=need, help="'deploycc inspect' shows names and shapes")
    )
