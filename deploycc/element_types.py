"""How tensor element types are spelled in C and C++."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deploycc.types import DeployccError, Diagnostic, TensorInfo


@dataclass(frozen=True)
class ElementType:
    """C and C++ spelling, enum constant (without prefix), its value, and bytes of one element."""

    c: str
    cpp: str
    constant: str
    value: int
    bytes: int


# The enum values are those of ONNX TensorProto.DataType, so that they never need renumbering.
ELEMENT_TYPES: dict[str, ElementType] = {
    "float32": ElementType("float", "float", "FLOAT32", 1, 4),
    "uint8": ElementType("uint8_t", "::std::uint8_t", "UINT8", 2, 1),
    "int8": ElementType("int8_t", "::std::int8_t", "INT8", 3, 1),
    "uint16": ElementType("uint16_t", "::std::uint16_t", "UINT16", 4, 2),
    "int16": ElementType("int16_t", "::std::int16_t", "INT16", 5, 2),
    "int32": ElementType("int32_t", "::std::int32_t", "INT32", 6, 4),
    "int64": ElementType("int64_t", "::std::int64_t", "INT64", 7, 8),
    "bool": ElementType("uint8_t", "::std::uint8_t", "BOOL", 9, 1),
    "float16": ElementType("uint16_t", "Float16", "FLOAT16", 10, 2),
    "float64": ElementType("double", "double", "FLOAT64", 11, 8),
    "uint32": ElementType("uint32_t", "::std::uint32_t", "UINT32", 12, 4),
    "uint64": ElementType("uint64_t", "::std::uint64_t", "UINT64", 13, 8),
    "bfloat16": ElementType("uint16_t", "BFloat16", "BFLOAT16", 16, 2),
}


def elements(tensor: TensorInfo) -> int:
    """Number of elements of a static shape; 1 for a scalar."""
    return math.prod(tensor.shape)


def nbytes(tensor: TensorInfo) -> int:
    """Bytes of the packed row-major tensor."""
    return elements(tensor) * ELEMENT_TYPES[tensor.dtype].bytes


def check_dtypes(tensors: tuple[TensorInfo, ...]) -> None:
    """Raise ``DeployccError`` with a DC705 for every tensor whose element type has no C type."""
    findings = [
        Diagnostic(
            "DC705",
            f"tensor '{tensor.name}' has element type {tensor.dtype}, which a C buffer cannot hold",
            got=tensor.dtype,
            need=", ".join(ELEMENT_TYPES),
            help="put a Cast to one of these types at the graph's edge",
        )
        for tensor in tensors
        if tensor.dtype not in ELEMENT_TYPES
    ]
    if findings:
        raise DeployccError(*findings)
