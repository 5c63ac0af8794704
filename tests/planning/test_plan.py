"""Call lists, outputs, constants and refusals of the planner."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import numpy as np
import pytest

from deploycc.diagnostics import CATALOGUE, render
from deploycc.lowering import frontend
from deploycc.planning import plan
from deploycc.planning.arena import place
from deploycc.planning.constants import lay_out
from deploycc.planning.network import read_network
from deploycc.tvm_api import ir, relax, te, tirx, tvm
from deploycc.types import Buffer, Choice, DeployccError, Program, Task, TensorInfo
from tests.planning.graphs import GRAPHS, F, lower_plainly, model, node
from tests.planning.harness import X86_64, run_plan

# ---- outputs, inputs and constants ---------------------------------------------------------------


def test_outputs_are_written_in_place_or_copied_once() -> None:
    result = plan(lower_plainly(GRAPHS["aliased_outputs"]()), X86_64)
    names = [info.name for info in result.outputs]
    copies = {names[c.arguments[0].index]: c.arguments[1] for c in result.calls if c.symbol == "memcpy"}
    kernels = [c for c in result.calls if c.symbol != "memcpy"]
    assert copies["same"].kind == copies["flat_input"].kind == "input"
    assert copies["fixed"].kind == "constant"
    # relu is written straight into 'r'; its view and its twin are copied from there
    assert kernels[0].arguments == (Buffer("input", 0, 0, 96), Buffer("output", names.index("r"), 0, 96))
    assert copies["flat"] == copies["again"] == Buffer("output", names.index("r"), 0, 96)
    assert "n" not in copies
    assert kernels[1].arguments[1] == Buffer("output", names.index("n"), 0, 96)
    assert result.arena_bytes == 0
    assert result.calls[len(kernels) :] == tuple(c for c in result.calls if c.symbol == "memcpy")


def test_inputs_are_read_from_the_caller() -> None:
    result = plan(lower_plainly(GRAPHS["gemm_softmax"]()), X86_64)
    assert result.calls[0].arguments[0] == Buffer("input", 0, 0, 3 * 17 * 4)


def test_constants_are_aligned_and_shared() -> None:
    a, b = np.arange(5, dtype=F), np.arange(3, dtype=np.int64)
    weights = lay_out([a, b, a.copy(), np.zeros(0, F), a.view(np.int32).copy(), np.array(7, np.uint8)])
    assert weights.offsets == (0, 64, 0, 0, 0, 128)
    assert len(weights.blob) == 192
    assert weights.blob[:20] == a.tobytes()
    assert weights.blob[64:88] == b.tobytes()
    assert weights.blob[128:] == b"\x07" + bytes(63)
    assert weights.elements == 5 + 3 + 1


def test_equal_layers_share_weights_and_code() -> None:
    result = plan(lower_plainly(GRAPHS["residual"]()), X86_64)
    convolutions = [c for c in result.calls if "conv2d" in c.symbol]
    # the first has no addition fused, the other four are the same kernel on the same weights
    assert len(convolutions) == 5
    assert len({c.symbol for c in convolutions}) == 2
    assert len({a for c in convolutions for a in c.arguments if a.kind == "constant"}) == 1
    assert result.parameters == 4 * 4 * 3 * 3 + 9 * 9


def test_every_plan_of_the_graphs_keeps_live_buffers_apart() -> None:
    for build in GRAPHS.values():
        network = read_network(lower_plainly(build()).module, {})
        places, layout = place(network)
        assert layout.lower_bound <= layout.arena_bytes
        living: dict[int, dict[Buffer, object]] = {}
        last = {view.storage: len(network.steps) for view in network.outputs}
        for call, step in reversed(list(enumerate(network.steps))):
            for view in step.reads:
                last.setdefault(view.storage, call)
        for call, step in enumerate(network.steps):
            for storage in (view.storage for view in step.writes):
                for at in range(call, last.get(storage, call) + 1):
                    living.setdefault(at, {})[places[storage]] = storage
        for buffers in living.values():
            arena = sorted((b.offset, b.offset + b.nbytes) for b in buffers if b.kind == "arena")
            assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(arena))


def test_schedule_and_operators_are_told() -> None:
    program = lower_plainly(GRAPHS["gemm_softmax"]())
    name = program.tasks[0].symbol
    tasks = (Task(name, program.tasks[0].func, ("Gemm", "Relu")), *program.tasks[1:])
    choice = Choice(name, "matmul_rows", {"tile": 4})
    result = plan(dataclasses.replace(program, tasks=tasks, choices=(choice,)), X86_64)
    call = next(c for c in result.calls if name in c.symbol)
    assert (call.operators, call.schedule, call.knobs) == (("Gemm", "Relu"), "matmul_rows", {"tile": 4})


def test_tuple_results_and_views_at_an_offset() -> None:
    a = te.placeholder((6,), F, name="a")
    results = [te.compute((6,), lambda i: a[i] + 1, name="p"), te.compute((6,), lambda i: a[i] * 2, name="q")]
    func = te.create_prim_func([a, *results])
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((6,), F))
    with builder.function("main", [x]):
        tensor = relax.TensorType((6,), F)
        both = builder.emit(
            relax.call_tir(builder.add_func(func, "both"), relax.Tuple([x]), [tensor, tensor])
        )
        second = builder.emit(relax.TupleGetItem(both, 1))
        tail = builder.emit(relax.op.memory.view(second, (3,), F, 12))
        builder.emit_func_output(relax.Tuple([tail, relax.TupleGetItem(both, 0), second]))
    infos = (TensorInfo("tail", F, (3,)), TensorInfo("p", F, (6,)), TensorInfo("q", F, (6,)))
    program = Program(builder.get(), (), (TensorInfo("x", F, (6,)),), infos)
    data = np.arange(6, dtype=F)
    tail_out, p, q = run_plan(plan(program, X86_64), [data])
    np.testing.assert_array_equal(p, data + 1)
    np.testing.assert_array_equal(q, data * 2)
    np.testing.assert_array_equal(tail_out, (data * 2)[3:])


# ---- refusals ------------------------------------------------------------------------------------


def program_of(body: Any) -> Program:
    """A program whose ``main`` applies ``body(builder, x)`` to a float32 vector of 8."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((8,), F))
    with builder.function("main", [x]):
        builder.emit_func_output(body(builder, x))
    info = TensorInfo("x", F, (8,))
    return Program(builder.get(), (), (info,), (info,))


def refusal(program: Program) -> list[str]:
    with pytest.raises(DeployccError) as caught:
        plan(program, X86_64)
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.code in CATALOGUE
        assert diagnostic.help
    return [render(d) for d in caught.value.diagnostics]


def test_packed_call_inside_a_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    converters = {name: one for name, one in frontend.CONVERTERS.items() if name != "TopK"}
    monkeypatch.setattr(frontend, "CONVERTERS", converters)  # TVM's own sorts in its runtime
    proto = model(
        [node("TopK", "x k", "v i", axis=0)],
        {"x": (F, (8,))},
        {"v": (F, (3,)), "i": ("int64", (3,))},
        {"k": np.array([3], np.int64)},
    )
    program = lower_plainly(proto)
    named = tuple(dataclasses.replace(task, operators=("TopK",)) for task in program.tasks)
    (text,) = refusal(dataclasses.replace(program, tasks=named))
    assert text.startswith("error[DC520]: TopK cannot be compiled into a kernel of its own")
    assert "tvm.contrib.sort.topk" in text
    assert "split the model" in text


def test_packed_call_in_the_graph_is_refused() -> None:
    def body(builder: Any, x: Any) -> Any:
        called = relax.call_dps_packed("vendor.magic", relax.Tuple([x]), out_ty=relax.TensorType((8,), F))
        return builder.emit(called, "magic")

    (text,) = refusal(program_of(body))
    assert text.startswith("error[DC520]: call_dps_packed cannot be compiled")
    assert "'vendor.magic'" in text


def test_data_dependent_shape_is_refused() -> None:
    (text,) = refusal(program_of(lambda builder, x: builder.emit(relax.op.nonzero(x))))
    assert text.startswith("error[DC521]: the shape of the result of nonzero is not known before run time")
    assert "cut the model before this operator" in text


def test_unbound_dimension_is_refused() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("image", relax.TensorType((tirx.Var("n", "int64"), 3), F))
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    info = TensorInfo("image", F, (1, 3))
    (text,) = refusal(Program(builder.get(), (), (info,), (info,)))
    assert text.startswith("error[DC521]")
    assert "'image'" in text
    assert "--shape" in text


def test_control_flow_is_refused() -> None:
    flag = relax.Var("flag", relax.TensorType((), "bool"))
    x = relax.Var("x", relax.TensorType((8,), F))
    result = relax.Var("y", relax.TensorType((8,), F))
    branch = relax.If(flag, relax.SeqExpr([], x), relax.SeqExpr([], x))
    body = relax.SeqExpr([relax.BindingBlock([relax.VarBinding(result, branch)])], result)
    module = tvm.IRModule({ir.GlobalVar("main"): relax.Function([flag, x], body, relax.TensorType((8,), F))})
    infos = (TensorInfo("flag", "bool", ()), TensorInfo("x", F, (8,)))
    (text,) = refusal(Program(module, (), infos, infos[1:]))
    assert text.startswith("error[DC522]: control flow is left in the graph")


def test_a_program_that_is_not_what_it_promises_is_our_bug() -> None:
    program = lower_plainly(GRAPHS["scalars"]())
    with pytest.raises(ValueError, match=r"main has tensors of \[4\] bytes where \[\] have \[\]"):
        plan(dataclasses.replace(program, inputs=()), X86_64)
    with pytest.raises(ValueError, match=r"main has tensors of \[4, 4\] bytes where \['m'\] have \[4\]"):
        plan(dataclasses.replace(program, outputs=program.outputs[:1]), X86_64)


def test_all_findings_come_at_once() -> None:
    def body(builder: Any, x: Any) -> Any:
        tensor = relax.TensorType((8,), F)
        first = builder.emit(relax.call_dps_packed("vendor.one", relax.Tuple([x]), out_ty=tensor))
        second = builder.emit(relax.call_dps_packed("vendor.two", relax.Tuple([first]), out_ty=tensor))
        return builder.emit(relax.op.nonzero(second))

    texts = refusal(program_of(body))
    assert [re.search(r"DC\d+", text).group() for text in texts] == ["DC520", "DC520", "DC521"]  # type: ignore[union-attr]
