"""How many of ONNX's node tests a package passes, how many ONNX Runtime does, and why the others do not.

What counts is an ordinary deployer's: the tests of the standard's own domain on numbers, without strings, and
without the operators of ``ai.onnx.ml``, of previews and of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort

from tests.conformance.report import Outcome
from tests.conformance.worker import difference
from tests.sweep.case import Case

_LEFT_OUT = ("ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")
_NAMES_SHOWN = 6


@dataclass(frozen=True)
class Standing:
    """Of ``cases`` the names that pass as a ``package`` and in ``onnxruntime``, and the outcome of each."""

    cases: tuple[str, ...]
    package: frozenset[str]
    onnxruntime: frozenset[str]
    outcomes: Mapping[str, Outcome]


def counted(cases: Sequence[Case]) -> list[Case]:
    """Those that count."""
    return [case for case in cases if not _strings(case) and not _elsewhere(case.proto)]


def _elsewhere(proto: onnx.ModelProto) -> bool:
    """Whether it, or the function that it is the body of, belongs to one of the domains left out."""
    return any(entry.domain in _LEFT_OUT for entry in proto.opset_import)


def _strings(case: Case) -> bool:
    arrays = [*case.inputs.values(), *case.expected]
    constants = [tensor.data_type for tensor in case.proto.graph.initializer]
    return any(array.dtype.kind in "USO" for array in arrays) or onnx.TensorProto.STRING in constants


def standing(cases: Sequence[Case], outcomes: Mapping[str, Outcome]) -> Standing:
    """Of the cases that count; ONNX Runtime is run on each of them here."""
    those = counted(cases)
    passed = {c.name for c in those if (o := outcomes[c.name]).said == "supported" and o.did == "matches"}
    return Standing(
        cases=tuple(case.name for case in those),
        package=frozenset(passed),
        onnxruntime=frozenset(case.name for case in those if _onnxruntime_passes(case)),
        outcomes={case.name: outcomes[case.name] for case in those},
    )


def _onnxruntime_passes(case: Case) -> bool:
    ort.set_default_logger_severity(4)
    try:
        session = ort.InferenceSession(case.proto.SerializeToString(), providers=["CPUExecutionProvider"])
        got = session.run(None, case.inputs)
    except Exception:  # it raises many bare classes of its own C++ exceptions
        return False
    return not difference(case.expected, [np.asarray(value) for value in got])


def summary(found: Standing) -> str:
    """The figures, in Markdown."""
    both = found.package & found.onnxruntime
    rows = [
        ("tests that count", len(found.cases)),
        ("pass as a package", len(found.package)),
        ("pass in ONNX Runtime", len(found.onnxruntime)),
        ("pass in both", len(both)),
        ("pass in ONNX Runtime, not as a package", len(found.onnxruntime - found.package)),
        ("pass as a package, not in ONNX Runtime", len(found.package - found.onnxruntime)),
    ]
    return "\n".join(["| | |", "|---|--:|", *(f"| {title} | {number} |" for title, number in rows)])


def left(found: Standing) -> str:
    """What does not pass, by what stands in its way: the conditions and codes that refuse it."""
    groups: dict[str, list[str]] = {}
    for name in found.cases:
        if name not in found.package:
            groups.setdefault(_reason(found.outcomes[name]), []).append(name)
    lines = [
        "| what stands in the way | tests | of them ONNX Runtime passes | |",
        "|---|--:|--:|---|",
    ]
    for reason, names in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = ", ".join(name.removeprefix("test_") for name in names[:_NAMES_SHOWN])
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        both = sum(name in found.onnxruntime for name in names)
        lines.append(f"| {reason} | {len(names)} | {both} | {shown}{more} |")
    return "\n".join(lines)


def _reason(outcome: Outcome) -> str:
    if outcome.said == "refused":
        rules = outcome.why.split(" | ", 1)[0]
        return rules.replace(": ", " ", 1).strip() if rules.startswith(": ") else rules
    if outcome.did == "drawn":
        return "random numbers, which the test draws otherwise"
    return f"a later stage: {outcome.did}"
