"""What the generated code, its build files and ``pipeline.json`` agree on, worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploycc.element_types import ELEMENT_TYPES
from deploycc.identifiers import tensor_identifiers
from deploycc.splitting.parts import Cut, CutTensor, Part

GOLDEN = "golden"
"""The folder of recorded tensors."""


@dataclass(frozen=True)
class CpuPackage:
    """The package of a CPU part: its name, and the identifiers of its tensors by their names."""

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Pipeline:
    """A cut network with names for generated code.

    ``name`` is the C++ namespace, ``target`` and ``cpu_target`` are for reading, ``packages`` has the package
    of each CPU part by its number, ``numbers`` an identifier and ``files`` a file stem for each tensor.
    """

    name: str
    target: str
    cpu_target: str
    cut: Cut
    packages: Mapping[int, CpuPackage]
    identifiers: Mapping[str, str]
    files: Mapping[str, str]

    def tensor(self, name: str) -> CutTensor:
        """The tensor of that name."""
        return self.cut.tensors[name]

    def type(self, name: str) -> str:
        """The C++ type of an element, from the global namespace on."""
        spelled = ELEMENT_TYPES[self.tensor(name).dtype].cpp
        return f"::{self.name}::{spelled}" if "Float" in spelled else spelled

    def app_parts(self) -> tuple[Part, ...]:
        """The parts that the app implements."""
        return tuple(part for part in self.cut.parts if part.place != "cpu")

    def intermediate(self, name: str) -> bool:
        """Whether the tensor is neither an input nor an output of the pipeline."""
        return name not in self.cut.inputs and name not in self.cut.outputs

    def made_by(self, name: str) -> Part | None:
        """The part that computes a tensor, ``None`` for the pipeline's inputs."""
        return next((part for part in self.cut.parts if name in part.outputs), None)

    def padded(self, name: str) -> bool:
        """Whether some part has the bounded tensor at its largest shape."""
        static = (part for part in self.cut.parts if part.place != "host")
        bounded = self.tensor(name).kind == "bounded"
        return bounded and any(name in (*part.inputs, *part.outputs) for part in static)

    def exact(self, name: str) -> bool:
        """Whether some part or the app has the tensor with its true extents, known at run time only."""
        if self.tensor(name).kind == "static":
            return False
        host = (part for part in self.cut.parts if part.place == "host")
        return name in self.cut.outputs or any(name in (*part.inputs, *part.outputs) for part in host)


def interface_name(part: Part) -> str:
    """The class that the app implements: ``AcceleratorPart0``, ``HostPart1``."""
    return f"{part.place.capitalize()}Part{part.number}"


def package_name(name: str, part: Part) -> str:
    """The name of a CPU part's package: its C prefix and C++ namespace."""
    return f"{name}_part{part.number}"


def pipeline_of(name: str, target: str, cpu_target: str, cut: Cut) -> Pipeline:
    """Work out the names; ``name`` is a usable library name (``deploycc.identifiers``)."""
    names = list(cut.tensors)
    packages = {
        part.number: CpuPackage(
            package_name(name, part),
            dict(zip(part.inputs, tensor_identifiers(part.inputs, "input"), strict=True)),
            dict(zip(part.outputs, tensor_identifiers(part.outputs, "output"), strict=True)),
        )
        for part in cut.parts
        if part.place == "cpu"
    }
    return Pipeline(
        name=name,
        target=target,
        cpu_target=cpu_target,
        cut=cut,
        packages=packages,
        identifiers=dict(zip(names, tensor_identifiers(names, "tensor"), strict=True)),
        files={tensor: f"{number:02d}" for number, tensor in enumerate(names)},
    )
