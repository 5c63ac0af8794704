"""Checks the CPU and the features of a target against what this LLVM knows.

LLVM itself only prints a warning for a name it does not know and compiles for a generic CPU.
"""

from __future__ import annotations

import difflib

from deploycc.tvm_api import llvm_target, tvm
from deploycc.types import DeployccError, Diagnostic, Target


def check_llvm_names(target: Target) -> None:
    """Raise ``DeployccError`` (DC509) for each CPU or feature name of ``target`` that LLVM does not know."""
    codegen = tvm.target.codegen
    findings = []
    architecture = target.llvm.triple.partition("-")[0]
    compiled = llvm_target(target)
    cpus = [str(name) for name in codegen.llvm_get_cpu_archlist(compiled)]
    if target.llvm.cpu and target.llvm.cpu not in cpus:
        near = difflib.get_close_matches(target.llvm.cpu, cpus, n=3)
        findings.append(
            Diagnostic(
                "DC509",
                f"target {target.name}: LLVM knows no {architecture} CPU '{target.llvm.cpu}'",
                need=f"one of the {len(cpus)} that it knows, such as {', '.join(near or cpus[:5])}",
                help="set llvm.cpu of the target",
            )
        )
    else:
        enabled = {str(name) for name in codegen.llvm_get_cpu_features(compiled)}
        findings += [
            Diagnostic(
                "DC509",
                f"target {target.name}: LLVM knows no {architecture} feature '{feature[1:]}'",
                help="set llvm.features of the target",
            )
            for feature in target.llvm.features
            if feature.startswith("+") and feature[1:] not in enabled
        ]
    if findings:
        raise DeployccError(*findings)
