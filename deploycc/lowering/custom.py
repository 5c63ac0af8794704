"""Converters of a user's own operators (``deploycc.custom_operators``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from deploycc.custom_operators import CFunction, CustomOperator, TensorKind, installed
from deploycc.lowering.routines import call_routine
from deploycc.relax_graph import static_shape
from deploycc.tvm_api import OnnxOpConverter, relax
from deploycc.types import DeployccError, Diagnostic


def custom_converters() -> dict[str, type]:
    """Converter classes by the names that ``with_own_names`` gives."""
    return {
        _name(*key): _held_to(operator, _of_c(operator, operator.lowering))
        if isinstance(operator.lowering, CFunction)
        else _held_to(operator, operator.lowering)
        for key, operator in installed().items()
    }


def with_own_names(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` with custom operators under names with their domain: the importer goes by names alone."""
    if not any(domain for domain, _ in installed()):
        return proto
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    for node in result.graph.node:
        if node.domain and (node.domain, node.op_type) in installed():
            node.op_type = _name(node.domain, node.op_type)
    return result


def _name(domain: str, operator: str) -> str:
    return f"{domain}::{operator}" if domain else operator


def _kinds(expressions: Any) -> list[TensorKind]:
    return [TensorKind(tuple(static_shape(value)), str(value.ty.dtype)) for value in expressions]


def _attributes(operator: CustomOperator, attr: Any) -> dict[str, Any]:
    given = {name: value for name, value in dict(attr).items() if name in operator.attributes}
    plain = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in given.items()
    }
    return operator.values(plain)


def _of_c(operator: CustomOperator, function: CFunction) -> type:
    class Called(OnnxOpConverter):  # type: ignore[misc]
        @classmethod
        def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            tensors = [value for value in inputs if value is not None]
            kinds, attributes = _kinds(tensors), _attributes(operator, attr)
            outputs = [(kind.shape, kind.dtype) for kind in operator.outputs(kinds, attributes)]
            numbers = list(function.numbers(kinds, attributes))
            return call_routine(bb, function.file, function.function, tensors, outputs, numbers)

    return Called


def _held_to(operator: CustomOperator, converter: type) -> type:
    """The converter with its results held to what ``outputs`` says, and its failures told as the user's."""

    def guard(version: str) -> Any:
        convert: Callable[..., Any] = getattr(converter, version)

        def converted(cls: Any, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            try:
                result = bb.normalize(convert(bb, inputs, attr, params))
                if isinstance(result, relax.Call):
                    result = bb.emit(result)
                tensors = [value for value in inputs if value is not None]
                promised = operator.outputs(_kinds(tensors), _attributes(operator, attr))
                made = _made(result)
            except DeployccError:
                raise
            except Exception as error:  # a user's converter may raise anything
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                raise DeployccError(
                    _fault(operator, f"{type(error).__name__}: {(lines or [''])[-1][:300]}", "a converter")
                ) from error
            if list(promised) != made:
                raise DeployccError(_fault(operator, f"results {made}", f"{list(promised)}, as outputs says"))
            return result

        return classmethod(converted)

    versions = [name for name in dir(converter) if name.startswith("_impl_v")]
    return type(operator.name, (converter,), {version: guard(version) for version in versions})


def _made(result: Any) -> list[TensorKind]:
    fields = getattr(result.ty, "fields", None)
    kinds = [result.ty] if fields is None else list(fields)
    return [TensorKind(tuple(int(extent) for extent in k.shape), str(k.dtype)) for k in kinds]


def _fault(operator: CustomOperator, got: str, need: str) -> Diagnostic:
    return Diagnostic(
        "DC472",
        f"the converter of the custom operator {operator.name} failed",
        op=operator.name,
        got=got,
        need=need,
        help="docs/new-operator.md shows two whole ones",
    )
