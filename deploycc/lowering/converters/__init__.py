"""Our own converters from ONNX to Relax, over those of TVM's importer; one file a family of operators.

A converter is a class with methods ``_impl_vN`` for the opset ``N`` from which on they hold (models that
reach it have opset 18 or more).  It gets the block builder, the inputs as Relax expressions (``None`` for
one left out), the attributes and the importer's own parameters, and returns the result, a ``relax.Tuple``
for several.  What Relax has no operators for is a tensor expression (``bb.call_te``), a TensorIR function
(``bb.call_tir``) or a C function (``deploycc.lowering.routines``).

What an operator may look like is lint's business: ``targets/op_support/tvm.toml`` lists every operator
with a converter and the forms that it does not take.
"""

from __future__ import annotations

from deploycc.lowering.converters import (
    c_functions,
    counted,
    elements,
    images,
    indices,
    integer_products,
    plain,
    quantising,
    recurrent,
    sampling,
    signal,
)

FAMILIES = (
    counted,
    c_functions,
    elements,
    images,
    indices,
    integer_products,
    plain,
    quantising,
    recurrent,
    sampling,
    signal,
)

CONVERTERS: dict[str, type] = {
    operator: converter for family in FAMILIES for operator, converter in family.CONVERTERS.items()
}
