"""What both packages are run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.reference import random_inputs
from deploycc.running import Package
from deploycc.types import DeployccError, Diagnostic, TensorInfo

Array = npt.NDArray[Any]

GOLDEN = "golden"


def arrays_for(source: str | Path | Sequence[Array], package: Package) -> tuple[list[Array], str]:
    """Arrays in the order of the package's inputs, and words for where they are from.

    ``source`` is as ``deploycc.diff.diff`` has it.  Raises ``DeployccError`` (DC862), with every input that
    does not fit.
    """
    wanted = [
        TensorInfo(tensor["name"], tensor["dtype"], tuple(tensor["shape"]))
        for tensor in package.manifest["inputs"]
    ]
    if not isinstance(source, str | Path):
        return _checked(dict(zip((i.name for i in wanted), source, strict=False)), wanted), "inputs given"
    word, _, seed = str(source).partition(":")
    if str(source) == GOLDEN:
        return package.golden("inputs"), f"golden inputs of {package.path.name}"
    if word == "random" and (seed.isascii() and seed.isdigit() or not seed):
        return random_inputs(wanted, int(seed or 0)), f"random inputs, seed {int(seed or 0)}"
    path = Path(source)
    return _checked(_read(path), wanted), str(path)


def _read(path: Path) -> Mapping[str, Array]:
    try:
        if path.is_dir():
            return {file.stem: np.load(file, allow_pickle=False) for file in sorted(path.glob("*.npy"))}
        with np.load(path, allow_pickle=False) as stored:
            if isinstance(stored, np.ndarray):
                raise ValueError("one array without a name: an .npz file has names")
            return dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise DeployccError(
            Diagnostic(
                "DC862",
                f"the inputs {path} cannot be read",
                got=(error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__,
                need="an .npz file with an array for each input by name, a folder with NAME.npy files, "
                "'golden', 'random' or 'random:SEED'",
            )
        ) from None


def _checked(arrays: Mapping[str, Array], wanted: Sequence[TensorInfo]) -> list[Array]:
    faults = [
        Diagnostic(
            "DC862",
            f"the input '{info.name}' does not fit",
            got=f"{got.dtype}{list(got.shape)}" if got is not None else f"only {sorted(arrays)}",
            need=f"{info.dtype}{list(info.shape)}",
        )
        for info in wanted
        for got in [arrays.get(info.name)]
        if got is None or got.dtype.name != info.dtype or got.shape != info.shape
    ]
    if faults:
        raise DeployccError(*faults)
    return [arrays[info.name] for info in wanted]
