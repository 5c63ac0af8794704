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


HALF_CPP = """\
/// IEEE 754 binary16 as its bits.
struct Float16 {
    ::std::uint16_t bits;
};

/// bfloat16, the upper half of a binary32, as its bits.
struct BFloat16 {
    ::std::uint16_t bits;
};

inline float to_float(BFloat16 value) noexcept {
    const ::std::uint32_t wide = static_cast<::std::uint32_t>(value.bits) << 16;
    float result;
    ::std::memcpy(&result, &wide, sizeof result);
    return result;
}

/// Exact.
inline float to_float(Float16 value) noexcept {
    const ::std::uint32_t sign = static_cast<::std::uint32_t>(value.bits & 0x8000u) << 16;
    ::std::uint32_t exponent = (value.bits >> 10) & 0x1fu;
    ::std::uint32_t fraction = value.bits & 0x3ffu;
    ::std::uint32_t wide = sign;
    if (exponent == 31) {
        wide |= 0x7f800000u | fraction << 13;
    } else if (exponent != 0) {
        wide |= (exponent + 112) << 23 | fraction << 13;
    } else if (fraction != 0) {
        exponent = 113;
        while ((fraction & 0x400u) == 0) {
            fraction <<= 1;
            --exponent;
        }
        wide |= exponent << 23 | (fraction & 0x3ffu) << 13;
    }
    float result;
    ::std::memcpy(&result, &wide, sizeof result);
    return result;
}

/// Rounds to nearest, ties to even; overflows to infinity.
inline Float16 to_float16(float value) noexcept {
    ::std::uint32_t wide;
    ::std::memcpy(&wide, &value, sizeof wide);
    const ::std::uint32_t sign = wide >> 16 & 0x8000u;
    const ::std::uint32_t magnitude = wide & 0x7fffffffu;
    ::std::uint32_t result;
    if (magnitude > 0x7f800000u) {
        result = 0x7e00u;
    } else if (magnitude >= 0x47800000u) {
        result = 0x7c00u;
    } else if (magnitude >= 0x38800000u) {
        const ::std::uint32_t shifted = magnitude - 0x38000000u;
        result = (shifted + 0xfffu + (shifted >> 13 & 1u)) >> 13;
    } else if (magnitude >= 0x33000000u) {
        const ::std::uint32_t shift = 126u - (magnitude >> 23);
        const ::std::uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
        const ::std::uint32_t half = 1u << (shift - 1u);
        result = (fraction + (half - 1u) + (fraction >> shift & 1u)) >> shift;
    } else {
        result = 0;
    }
    return Float16{static_cast<::std::uint16_t>(sign | result)};
}

"""
"""``Float16`` and ``BFloat16`` of ``ElementType.cpp``, and what converts them."""
