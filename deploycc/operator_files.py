"""Loads the files of an ``--op-dir`` and makes their operators known to onnx.

Operators are registered with onnx, so that checker, shape inference and evaluator know them like the
standard's.  That is for the whole process: the child process of a build, of lint, of a tuning session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper
from onnx.reference.op_run import OpRun

from deploycc.custom_operators import (
    Array,
    Attributes,
    CFunction,
    CustomOperator,
    TensorKind,
    installed,
    keep,
)
from deploycc.element_types import ELEMENT_TYPES
from deploycc.types import DeployccError, Diagnostic
from deploycc.user_files import load_file, told

_REFERENCES: dict[tuple[str, str], type[OpRun]] = {}


def references() -> list[type[OpRun]]:
    """Their classes for onnx's evaluator."""
    return list(_REFERENCES.values())


def install(folders: Sequence[Path]) -> None:
    """Load every file of the folders, and make their operators known to onnx.

    Raises ``DeployccError``: DC470 for a folder or file that cannot be used, DC471 for an operator that is
    there already.
    """
    found: dict[tuple[str, str], tuple[CustomOperator, Path]] = {}
    faults: list[Diagnostic] = []
    for path in _files(folders, faults):
        try:
            for operator in _operators(path):
                if operator.key in found:
                    faults.append(_twice(operator, path, found[operator.key][1]))
                found.setdefault(operator.key, (operator, path))
        except DeployccError as error:
            faults.extend(error.diagnostics)
    if faults:
        raise DeployccError(*faults)
    for operator, path in found.values():
        _register(operator, path)


def _files(folders: Sequence[Path], faults: list[Diagnostic]) -> Iterator[Path]:
    for folder in folders:
        if not folder.is_dir():
            faults.append(
                Diagnostic("DC470", f"no folder of operators {folder}", need="a folder of Python files")
            )
        yield from sorted(path for path in folder.glob("*.py") if path.stem != "__init__")


def _operators(path: Path) -> Sequence[CustomOperator]:
    listed = getattr(_load(path), "OPERATORS", None)
    if not isinstance(listed, list | tuple) or not all(isinstance(o, CustomOperator) for o in listed):
        raise DeployccError(_fault(path, "OPERATORS is no list of deploycc.custom_operators.CustomOperator"))
    for operator in listed:
        if not re.fullmatch(r"[A-Za-z_]\w*", operator.name):
            raise DeployccError(_fault(path, f"'{operator.name}' is no name of an operator"))
        if not operator.domain and not defs.has(operator.name):
            raise DeployccError(_fault(path, f"{operator.name} has no domain and is not in the standard"))
        lowering = operator.lowering
        if isinstance(lowering, CFunction) and not lowering.file.is_file():
            raise DeployccError(_fault(path, f"no C file {lowering.file}"))
        if not isinstance(lowering, CFunction | type):
            raise DeployccError(_fault(path, f"lowering of {operator.name} is neither class nor CFunction"))
    return listed


def _load(path: Path) -> ModuleType:
    try:
        return load_file(path, f"deploycc_operators_{path.stem}")
    except Exception as error:  # a user's file may raise anything
        raise DeployccError(_fault(path, told(path, error))) from error


def _fault(path: Path, what: str) -> Diagnostic:
    return Diagnostic(
        "DC470",
        f"the operators of {path.name} cannot be used",
        got=what,
        need="a Python file with a list OPERATORS of CustomOperator",
        help="docs/new-operator.md shows two whole ones",
        source=str(path),
    )


def _twice(operator: CustomOperator, path: Path, other: Path) -> Diagnostic:
    return Diagnostic(
        "DC471",
        f"operator {operator.name} is defined twice",
        op=operator.name,
        got=f"{path} and {other}",
        need="one definition of each operator",
        help="rename one of them, or give it another domain",
        source=str(path),
    )


def _register(operator: CustomOperator, path: Path) -> None:
    before = installed().get(operator.key)
    if before is not None and operator.domain:
        defs.deregister_schema(operator.name, 1, operator.domain)
    if operator.domain:
        defs.register_schema(_schema(operator, path))
    keep(operator)
    _REFERENCES[operator.key] = _reference(operator)


def _schema(operator: CustomOperator, path: Path) -> defs.OpSchema:
    schema, many = defs.OpSchema, defs.OpSchema.FormalParameterOption.Variadic
    kinds = [f"tensor({_onnx_name(dtype)})" for dtype in ELEMENT_TYPES]

    def parameter(name: str, kind: str) -> defs.OpSchema.FormalParameter:
        return schema.FormalParameter(name, kind, param_option=many, is_homogeneous=False, min_arity=0)

    made = schema(
        operator.name,
        operator.domain,
        1,
        inputs=[parameter("inputs", "I")],
        outputs=[parameter("outputs", "O")],
        type_constraints=[("I", kinds, ""), ("O", kinds, "")],
        attributes=[
            schema.Attribute(name, helper.make_attribute(name, default))
            for name, default in operator.attributes.items()
        ],
    )

    def infer(context: Any) -> None:
        inputs = [_kind(context.get_input_type(index)) for index in range(context.get_num_inputs())]
        if any(kind is None for kind in inputs):
            return
        given = {
            name: helper.get_attribute_value(attribute)
            for name in operator.attributes
            if (attribute := context.get_attribute(name)) is not None
        }
        try:
            outputs = operator.outputs([kind for kind in inputs if kind], operator.values(_decoded(given)))
            for index, kind in enumerate(outputs[: context.get_num_outputs()]):
                context.set_output_type(index, _type(kind))
        except Exception as error:  # a user's function may raise anything
            raise onnx.shape_inference.InferenceError(
                f"outputs of the custom operator {operator.name}: {told(path, error)}"
            ) from None

    inferring: Any = made  # onnx's stubs have it return nothing
    schema_with_types: defs.OpSchema = inferring.set_type_and_shape_inference_function(infer)
    return schema_with_types


def _onnx_name(dtype: str) -> str:
    return {"float32": "float", "float64": "double"}.get(dtype, dtype)


def _decoded(given: Attributes) -> dict[str, Any]:
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in given.items()
    }


def _kind(given: onnx.TypeProto | None) -> TensorKind | None:
    if given is None or not given.HasField("tensor_type") or not given.tensor_type.HasField("shape"):
        return None
    tensor = given.tensor_type
    if not all(extent.HasField("dim_value") for extent in tensor.shape.dim):
        return None
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return TensorKind(tuple(extent.dim_value for extent in tensor.shape.dim), dtype)


def _type(kind: TensorKind) -> onnx.TypeProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind.dtype))
    return helper.make_tensor_type_proto(element, [int(extent) for extent in kind.shape])


def _reference(operator: CustomOperator) -> type[OpRun]:
    def _run(self: Any, *inputs: Array, **attributes: Any) -> tuple[Array, ...]:
        given = {name: value for name, value in attributes.items() if value is not None}
        return tuple(
            np.asarray(value) for value in operator.compute(inputs, operator.values(_decoded(given)))
        )

    return type(operator.name, (OpRun,), {"op_domain": operator.domain, "_run": _run})
