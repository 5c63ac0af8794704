"""Kernels written in C: what is a loop over data, not over indices, and would be misery in TensorIR.

A routine is a C function ``int32_t NAME(const void *input, ..., void *output, ..., numbers...)``: one
pointer for each input and each output, then its numbers as ``int64_t`` and ``double``.  It allocates
nothing (scratch memory is one more output), touches nothing but its arguments, and returns 0.  The C file it
stands in becomes part of the package; its functions are ``static`` or begin with ``dcc_``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploycc.tvm_api import relax, te, tirx
from deploycc.types import ROUTINE_FILE, ROUTINE_TEXT

_OPAQUE = 8
"""``OpPatternKind::kOpaque`` of Relax: nothing is fused with it."""

FOLDER = Path(__file__).resolve().parent.parent / "routines"
"""Where the C files of our own routines lie."""

TensorKind = tuple[Sequence[int], str]
"""Extents and element type."""


def call_routine(
    bb: Any,
    source: Path,
    function: str,
    inputs: Sequence[Any],
    outputs: Sequence[TensorKind],
    numbers: Sequence[int | float] = (),
) -> Any:
    """A call of ``function``, which stands in the C file ``source``; a tuple where it has several outputs.

    ``inputs`` are tensor expressions of static shape.  A buffer is aligned to its element only.
    """
    placeholders = [
        te.placeholder([int(extent) for extent in value.ty.shape], str(value.ty.dtype), f"input_{index}")
        for index, value in enumerate(inputs)
    ]

    def call(ins: Any, outs: Any) -> Any:
        constants = [
            tirx.IntImm("int64", number) if isinstance(number, int) else tirx.FloatImm("float64", number)
            for number in numbers
        ]
        return tirx.call_extern("int32", function, *(buffer.data for buffer in (*ins, *outs)), *constants)

    shapes = [[int(extent) for extent in shape] for shape, _ in outputs]
    made = te.extern(shapes, placeholders, call, name=function, dtype=[dtype for _, dtype in outputs])
    results = list(made) if len(outputs) > 1 else [made]
    body = te.create_prim_func([*placeholders, *results]).without_attr("global_symbol")
    body = body.with_attrs(
        {
            "op_pattern": _OPAQUE,
            ROUTINE_FILE: source.name,
            ROUTINE_TEXT: source.read_text(encoding="utf-8"),
        }
    )
    kinds = [relax.TensorType(shape, dtype) for shape, (_, dtype) in zip(shapes, outputs, strict=True)]
    function_name = bb.add_func(body, function)
    return bb.normalize(relax.call_tir(function_name, list(inputs), kinds if len(kinds) > 1 else kinds[0]))
