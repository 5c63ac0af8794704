"""Models with control flow and fused operators, from the file to compiled kernels beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import numpy_helper

from deploycc.importing import load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.onnx_graph import tensor_info
from deploycc.reference import compare, random_inputs, run
from deploycc.simplifying import simplify
from deploycc.types import BuildRequest, Limits
from tests.importing.models import text
from tests.planning.harness import X86_64, run_plan
from tests.sweep.worker import compile_model

GRAPH = """g (float[4,7] x, float limit, bool c) => (float[7] y, float[7] z, float[4,7] all, bool[7] b,
        float[2,14] s) <int64 n = {3}, bool go = {1}> {
    zero = Constant<value = float[7] {0, 0, 0, 0, 0, 0, 0}>()
    no = Constant<value = bool[7] {0, 0, 0, 0, 0, 0, 0}>()
    last, all = Scan<num_scan_inputs=1, scan_input_directions=[1],
        body = b1 (float[7] h, float[7] e) => (float[7] i, float[7] o) {
            p = Add(h, e) i = Tanh(p) o = Mul(i, e)
        }>(zero, x)
    y, b = Loop (n, go, last, no) <body = b2 (int64 k, bool go_in, float[7] t, bool[7] f)
            => (bool on, float[7] u, bool[7] g) {
        half = Constant<value_float = 0.5>() u = Mul(t, half) g = Greater(u, half)
        a = ReduceL1<keepdims=0>(u) on = Greater(a, limit)
    }>
    z = If (c) <
        then_branch = a1 () => (float[7] v) { v = Exp(y) },
        else_branch = a2 () => (float[7] w) { q = ReduceMean<keepdims=0>(x, axis) w = Sub(q, y) }
    >
    pieces = SplitToSequence<axis=1>(x, sizes)
    first = Constant<value_int=0>() third = Constant<value_int=2>()
    p0 = SequenceAt(pieces, first) p2 = SequenceAt(pieces, third)
    r = Concat<axis=1>(p2, p0, p2)
    m = Reshape(r, two)
    s = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(m, weights)
}"""


def test_kernels_of_a_flattened_model(tmp_path: Path) -> None:
    """A scan, a loop that ends early, a branch of the run, a sequence, an operator of ONNX Runtime's own."""
    proto = text(GRAPH, head=', "com.microsoft": 1')
    generator = np.random.default_rng(8)
    weights = {
        "axis": np.array([0], np.int64),
        "sizes": np.array([3, 1, 3], np.int64),
        "two": np.array([2, 18], np.int64),
        "weights": generator.standard_normal((14, 18)).astype(np.float32),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in weights.items())
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    model = simplify(load(BuildRequest(path, X86_64, tmp_path / "out", "net", {})), Limits())
    assert [d.code for d in model.diagnostics] == []
    report = lint(model, compiled_lint_target(X86_64))
    told = {(d.code, d.op, d.severity) for d in report.diagnostics if d.rule == "control-flow"}
    assert told == {("DC407", "If", "warning"), ("DC407", "Loop", "warning")}
    report.raise_if_errors()
    plan = compile_model(model, [])
    infos = [tensor_info(info) for info in proto.graph.input]
    for seed, limit, flag in ((1, 0.0, True), (2, 1.3, False), (3, 9.0, True)):
        inputs = [random_inputs(infos, seed)[0], np.array(limit, np.float32), np.array(flag)]
        expected, engine = run(proto, inputs)
        assert engine.startswith("onnxruntime")
        for want, have in zip(expected, run_plan(plan, inputs), strict=True):
            assert compare(want, have).ok
