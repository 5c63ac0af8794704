"""What was lowered must give what the model promises, in shape and element type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploycc.tvm_api import ir, relax
from deploycc.types import DeployccError, Diagnostic, Model, TensorInfo


def check_interface(module: Any, model: Model) -> None:
    """Raise ``DeployccError`` (DC452) for every result of ``main`` that is not as the model declares it.

    The declaration can be wrong (a hand-edited model), and so can the importer's idea of an operator.
    """
    main = module["main"]
    kind = main.ret_ty
    results = list(kind.fields) if isinstance(kind, ir.TupleType) else [kind]
    parameters = [parameter.ty for parameter in main.params]
    findings = [
        *_differences("input", parameters, model.inputs),
        *_differences("output", results, model.outputs),
    ]
    if findings:
        raise DeployccError(*findings)


def _differences(role: str, found: Sequence[Any], declared: Sequence[TensorInfo]) -> list[Diagnostic]:
    return [
        Diagnostic(
            "DC452",
            f"{role} '{info.name}' is lowered to another shape or type than the model declares",
            got=_described(*have),
            need=_described(info.shape, info.dtype),
            help="correct the declared shape; if ONNX Runtime gives a result of that shape, report the model",
            verdict="unsupported",
        )
        for have, info in zip(map(_static, found), declared, strict=True)
        if have is not None and have != (info.shape, info.dtype)
    ]


def _static(kind: Any) -> tuple[tuple[int, ...], str] | None:
    if not isinstance(kind, relax.TensorType) or not isinstance(kind.shape, relax.ShapeExpr):
        return None  # the planner refuses a shape that depends on data
    try:
        return tuple(int(extent) for extent in kind.shape.values), str(kind.dtype)
    except TypeError:
        return None


def _described(shape: Sequence[int], dtype: str) -> str:
    return f"{dtype} {'x'.join(map(str, shape)) or 'scalar'}"
