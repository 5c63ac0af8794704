"""What two packages compute on the same inputs: outputs, and every tensor between that both have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.diffing.types import TensorPair
from deploycc.running import Dump, Measured, Orders, Package, Place, run
from deploycc.tolerances import RELATIVE_TOLERANCE
from deploycc.verifying.numbers import difference

Array = npt.NDArray[Any]

_PLAIN = {1: "uint8", 2: "float16", 4: "float32", 8: "float64"}
"""What an element of so many bytes most likely is, in a package of a deploycc that did not write it down."""


class Written:
    """Tensors of the model that a package's steps leave in memory, each where it is first whole."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.places: dict[str, tuple[int, Mapping[str, Any]]] = {}
        for step, call in enumerate(package.manifest["calls"]):
            for place in call.get("writes", ()):
                if "tensor" in place and place["kind"] in ("arena", "output"):
                    self.places.setdefault(place["tensor"], (step, place))

    def nodes(self, tensor: str) -> tuple[str, ...]:
        """The nodes of the step that writes ``tensor``."""
        return tuple(self.package.manifest["calls"][self.places[tensor][0]].get("nodes", ()))

    def dump(self, tensor: str) -> Dump:
        """The order to copy ``tensor``."""
        step, place = self.places[tensor]
        return Dump(step, place["kind"], place.get("index", 0), place["offset"], place["bytes"])

    def value(self, tensor: str, measured: Measured, dtype: str) -> Array:
        """``tensor`` with its axes in the model's order; ``dtype`` where the manifest has none."""
        place = self.places[tensor][1]
        data = measured.dumps[self.dump(tensor)]
        count = int(np.prod(place["shape"], dtype=np.int64))
        kind = np.dtype(place.get("dtype") or dtype or _PLAIN[len(data) // max(count, 1)])
        array = np.frombuffer(data, kind.newbyteorder("<")).astype(kind).reshape(place["shape"])
        return np.moveaxis(array, -1, 1) if place["layout"] == "channels last" else array


def compare(
    packages: tuple[Package, Package],
    places: tuple[Place, Place],
    inputs: Sequence[Array],
    tolerance: float | None,
    model: Mapping[str, Array],
    threads: int = 1,
) -> tuple[tuple[TensorPair, ...], tuple[TensorPair, ...]]:
    """Outputs and tensors between of both packages on ``inputs``, which both take.

    ``tolerance`` is the largest error as a share of A's largest magnitude, by dtype where it is ``None``.
    ``model`` has values of the model's own by tensor.  Raises ``DeployccError`` as ``run`` does.
    """
    written = (Written(packages[0]), Written(packages[1]))
    shared = [name for name in written[0].places if name in written[1].places]
    measured = tuple(
        run(package, place, inputs, Orders(threads=threads, dumps=tuple(map(of.dump, shared))))
        for package, place, of in zip(packages, places, written, strict=True)
    )
    shown = tuple(
        {tensor["name"]: array for tensor, array in zip(package.manifest["outputs"], m.outputs, strict=True)}
        for package, m in zip(packages, measured, strict=True)
    )
    outputs = [
        _pair(name, (shown[0][name], shown[1][name]), written, tolerance, model)
        for name in shown[0]
        if name in shown[1]
    ]
    between = [name for name in shared if name not in shown[0] or name not in shown[1]]
    tensors = [
        _pair(name, values, written, tolerance, model)
        for name, values in _values(between, written, (measured[0], measured[1]), model)
    ]
    return tuple(outputs), tuple(tensors)


def _values(
    names: Sequence[str],
    written: tuple[Written, Written],
    measured: tuple[Measured, Measured],
    model: Mapping[str, Array],
) -> Iterator[tuple[str, tuple[Array, Array]]]:
    for name in names:
        dtype = model[name].dtype.name if name in model else ""
        a, b = (of.value(name, m, dtype) for of, m in zip(written, measured, strict=True))
        # A shape in memory may have more or fewer extents of 1 than the model's.
        if name in model and model[name].size == a.size:
            a = a.reshape(model[name].shape)
        yield name, (a, b.reshape(a.shape) if a.size == b.size else b)


def _pair(
    name: str,
    values: tuple[Array, Array],
    written: tuple[Written, Written],
    tolerance: float | None,
    model: Mapping[str, Array],
) -> TensorPair:
    a, b = values
    allowed = RELATIVE_TOLERANCE.get(a.dtype.name, 0.0) if tolerance is None else tolerance
    known = model.get(name)
    return TensorPair(
        nodes=next((of.nodes(name) for of in written if name in of.places), ()),
        step_a=written[0].places[name][0] if name in written[0].places else None,
        step_b=written[1].places[name][0] if name in written[1].places else None,
        bitwise=(a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()),
        difference=difference(name, a, b, allowed),
        from_model=None
        if known is None
        else (difference(name, known, a, allowed), difference(name, known, b, allowed)),
    )
