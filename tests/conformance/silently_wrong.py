"""What became of the forms that TVM's importer converts wrongly without a word (``silently_wrong.toml``)."""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import parser
from onnx.reference import ReferenceEvaluator

from deploycc.op_support import examples
from deploycc.reference import ReferenceFailed, run
from tests.linting.cases import text
from tests.sweep.case import Case, random_inputs

LIST = Path(__file__).with_name("silently_wrong.toml")
UNKNOWN_EXTENT = 3


@dataclass(frozen=True)
class Form:
    """A form of operators: ``became`` refused (with one of ``codes``) or right, by ``how``.

    ``later`` forms were not among the 45: a run found them.  ``judge`` says what is right: ``onnxruntime``
    (or the evaluator where that does not run the graph) or onnx's evaluator, ``onnx``.
    """

    condition: str
    operators: tuple[str, ...]
    became: str
    codes: tuple[str, ...]
    how: str
    opset: int
    graph: str
    later: bool
    judge: str


def forms() -> list[Form]:
    """Every form of the list."""
    with LIST.open("rb") as file:
        rows: dict[str, Any] = tomllib.load(file)
    return [_form(name, row) for name, row in rows.items()]


def _form(name: str, row: Mapping[str, Any]) -> Form:
    example = row if "graph" in row else examples()[name]["fires"]
    return Form(
        condition=name,
        operators=tuple(row["operators"]),
        became=row["became"],
        codes=tuple(row.get("codes", ())),
        how=row["how"],
        opset=example["opset"],
        graph=example["graph"],
        later=row.get("later", False),
        judge=row.get("judge", "onnxruntime"),
    )


def cases() -> dict[str, tuple[Form, Case]]:
    """For every form and operator, by ``condition/operator``, its graph with random inputs.

    The expected outputs are those of ONNX Runtime or onnx's evaluator, none where neither runs the graph.
    """
    return {
        f"{form.condition}/{operator}": (form, _case(form, operator))
        for form in forms()
        for operator in form.operators
    }


def _case(form: Form, operator: str) -> Case:
    graph = text((form.opset, form.graph), operator)
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {form.opset}]>\n{graph}')
    name = f"{form.condition}/{operator}"
    shapes = {
        info.name: [dim.dim_value or UNKNOWN_EXTENT for dim in info.type.tensor_type.shape.dim]
        for info in proto.graph.input
    }
    inputs = random_inputs(proto, zlib.crc32(name.encode()), shapes)
    try:
        if form.judge == "onnx":
            expected = list(map(np.asarray, ReferenceEvaluator(proto).run(None, dict(inputs))))
        else:
            expected, _ = run(proto, [inputs[info.name] for info in proto.graph.input])
    except ReferenceFailed:
        expected = []
    # Files hold no Python objects, which strings are.
    return Case(name, proto, inputs, [v.astype(str) if v.dtype == np.object_ else v for v in expected])
