"""Attention of the standard, by its function body, beside ONNX Runtime's kernel of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploycc.onnx_graph import tensor_info
from deploycc.reference import compare, random_inputs, run
from tests.importing.models import load_proto, text

HEADS = "<q_num_heads=4, kv_num_heads=2{}>"
FORMS = {
    # name: inputs, arguments, outputs, attributes
    "4d": ("float[2,4,3,8] q, float[2,4,5,8] k, float[2,4,5,6] v", "q, k, v", "float[2,4,3,6] y", ""),
    "4d causal, scaled": (
        "float[2,4,3,8] q, float[2,4,5,8] k, float[2,4,5,6] v",
        "q, k, v",
        "float[2,4,3,6] y",
        "<is_causal=1, scale=0.3>",
    ),
    "4d grouped, softcap": (
        "float[2,6,3,8] q, float[2,2,5,8] k, float[2,2,5,8] v",
        "q, k, v",
        "float[2,6,3,8] y",
        "<softcap=2.0>",
    ),
    "4d with a mask of floats": (
        "float[2,4,3,8] q, float[2,4,5,8] k, float[2,4,5,8] v, float[3,5] m",
        "q, k, v, m",
        "float[2,4,3,8] y",
        "",
    ),
    "4d with a mask of booleans and causal": (
        "float[2,4,5,8] q, float[2,4,5,8] k, float[2,4,5,8] v, bool[2,1,5,5] m",
        "q, k, v, m",
        "float[2,4,5,8] y",
        "<is_causal=1>",
    ),
    "4d with a past": (
        "float[2,4,3,8] q, float[2,4,3,8] k, float[2,4,3,8] v, float[2,4,2,8] pk, float[2,4,2,8] pv",
        "q, k, v, none, pk, pv",
        "float[2,4,3,8] y, float[2,4,5,8] nk, float[2,4,5,8] nv",
        "",
    ),
    "4d with a past, causal": (
        "float[2,4,3,8] q, float[2,4,3,8] k, float[2,4,3,8] v, float[2,4,2,8] pk, float[2,4,2,8] pv",
        "q, k, v, none, pk, pv",
        "float[2,4,3,8] y, float[2,4,5,8] nk, float[2,4,5,8] nv",
        "<is_causal=1>",
    ),
    "3d grouped": ("float[2,3,32] q, float[2,5,16] k, float[2,5,16] v", "q, k, v", "float[2,3,32] y", HEADS),
    "3d grouped, a mask, a past": (
        (
            "float[2,3,32] q, float[2,3,16] k, float[2,3,16] v, float[3,5] m, "
            "float[2,2,2,8] pk, float[2,2,2,8] pv"
        ),
        "q, k, v, m, pk, pv",
        "float[2,3,32] y, float[2,2,5,8] nk, float[2,2,5,8] nv",
        HEADS,
    ),
    **{
        f"scores of mode {mode}": (
            "float[2,4,3,8] q, float[2,4,5,8] k, float[2,4,5,8] v, float[3,5] m",
            "q, k, v, m",
            "float[2,4,3,8] y, float[2,4,5,8] nk, float[2,4,5,8] nv, float[2,4,3,5] s",
            f"<qk_matmul_output_mode={mode}, softcap=1.5>",
        )
        for mode in (0, 1, 2, 3)
    },
}


@pytest.mark.parametrize(
    ("name", "opset"), [*((name, 24) for name in FORMS), ("4d causal, scaled", 23), ("3d grouped", 23)]
)
def test_attention_computes_what_onnx_runtime_does(name: str, opset: int, tmp_path: Path) -> None:
    inputs, arguments, outputs, attributes = FORMS[name]
    results = ", ".join(part.split()[-1] for part in outputs.split(", "))
    if len(outputs.split(", ")) == 4:
        # The present keys and values are only given with past ones.
        outputs = ", ".join(part for part in outputs.split(", ") if part[-2:] not in ("nk", "nv"))
        results = "y, none, none, s"
    proto = text(
        f"g ({inputs}) => ({outputs}) {{ {results} = Attention{attributes.format('')}({arguments}) }}", opset
    )
    for side in (proto.graph.node[0].input, proto.graph.node[0].output):
        side[:] = ["" if found == "none" else found for found in side]
    proto.ir_version = 10
    model = load_proto(tmp_path, proto)
    assert "Attention" not in {node.op_type for node in model.proto.graph.node}
    values = random_inputs([tensor_info(info) for info in proto.graph.input], seed=opset)
    for value in values:
        if value.dtype == np.bool_:
            value[0, 0, 1] = False  # a query without any key
    expected, engine = run(proto, values)
    assert engine.startswith("onnxruntime")
    got, _ = run(model.proto, values)
    for want, have in zip(expected, got, strict=True):
        assert compare(want, have).ok, compare(want, have).reason
