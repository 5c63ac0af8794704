"""What both packages are run on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from deploycc.reference import random_inputs
from deploycc.running import Package
from deploycc.types import TensorInfo
from deploycc.verifying.inputs import check_inputs, read_samples

Array = npt.NDArray[Any]

GOLDEN = "golden"


def arrays_for(source: str | Path | Sequence[Array], package: Package) -> tuple[list[Array], str]:
    """Arrays in the order of the package's inputs, and words for where they are from.

    ``source`` is as ``deploycc.diff.diff`` has it; of several samples the first is taken.  Raises
    ``DeployccError``: DC812 for what cannot be read, DC813 for what does not fit.
    """
    if not isinstance(source, str | Path):
        return check_inputs(source, package.manifest, "what was given"), "inputs given"
    word, _, seed = str(source).partition(":")
    if str(source) == GOLDEN:
        return package.golden("inputs"), f"golden inputs of {package.path.name}"
    if word == "random" and (not seed or (seed.isascii() and seed.isdigit())):
        infos = [
            TensorInfo(tensor["name"], tensor["dtype"], tuple(tensor["shape"]))
            for tensor in package.manifest["inputs"]
        ]
        return random_inputs(infos, int(seed or 0)), f"random inputs, seed {int(seed or 0)}"
    return read_samples(Path(source), package.manifest)[0].inputs, str(source)
