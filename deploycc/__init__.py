"""deploycc: compiles trained networks into self-contained libraries that C++ programs link."""

from __future__ import annotations

from deploycc.build import InternalError, build
from deploycc.exporting import export
from deploycc.targets import load_target, target_names
from deploycc.types import DeployccError, Diagnostic, Limits, Package, Target

__all__ = [
    "DeployccError",
    "Diagnostic",
    "InternalError",
    "Limits",
    "Package",
    "Target",
    "__version__",
    "build",
    "export",
    "load_target",
    "target_names",
]
__version__ = "0.1.0"
