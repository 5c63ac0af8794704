"""deploycc: compiles trained networks into self-contained libraries that C++ programs link."""

from __future__ import annotations

from deploycc.build import InternalError, build
from deploycc.exporting import export
from deploycc.handover import HandOver, hand_over
from deploycc.pipelines import BuiltPipeline, build_pipeline
from deploycc.result_types import Verification
from deploycc.split import Split, split
from deploycc.targets import load_target, target_names
from deploycc.types import DeployccError, Diagnostic, Limits, Package, Target
from deploycc.verify import verify

__all__ = [
    "BuiltPipeline",
    "DeployccError",
    "Diagnostic",
    "HandOver",
    "InternalError",
    "Limits",
    "Package",
    "Split",
    "Target",
    "Verification",
    "__version__",
    "build",
    "build_pipeline",
    "export",
    "hand_over",
    "load_target",
    "split",
    "target_names",
    "verify",
]
__version__ = "0.1.0"
