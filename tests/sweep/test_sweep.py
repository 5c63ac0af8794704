"""Every graph through the whole line: a right result or a coded refusal, nothing else.

onnx's node tests go the same way in ``tests/conformance``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.sweep.case import Case
from tests.sweep.graphs import graph_cases
from tests.sweep.sweep import BAD, sweep

QUICK = (
    # Each was found wrong, hanging or crashing once.
    "graph_divide_by_zero",
    "graph_act_mish",  # nested transcendental functions compiled for minutes
    "graph_long_chain",
    "graph_scatters",  # loops written by hand have no root block
    "graph_transcendental",  # sinh and cosh have no LLVM code in TVM
    "graph_reduce_logsum",  # a reduction over no axes still takes the logarithm
    "graph_reduce_sumsquare",
    "graph_pieces_float64",  # LayerNormalization of doubles
    "graph_pool_max_ceil_pad",  # the declared shape is not the computed one
    "graph_cumsum_forms",
    "graph_reduce_infinities",  # a maximum of nothing but -inf is -inf
    "graph_attention_masked",
    "graph_detection_decode",
    "graph_roi_align_of_scaled_boxes",  # half a pixel comes off after scaling
    "graph_net_float16",
    "graph_reversed_behind_a_reshape",  # TVM's simplifier lost a constant
    "graph_output_is_an_input",
)


def check(cases: Sequence[Case]) -> None:
    results = sweep(cases)
    bad = {name: r for name, r in results.items() if r["verdict"] in BAD}
    assert not bad, "\n".join(
        f"{name}: {r['verdict']} at {r['stage']}: {r['detail']}" for name, r in bad.items()
    )
    assert any(r["verdict"] == "pass" for r in results.values())


def test_quick_graphs() -> None:
    cases = {case.name: case for case in graph_cases()}
    check([cases[name] for name in QUICK])


@pytest.mark.slow
def test_all_graphs() -> None:
    check(graph_cases())
