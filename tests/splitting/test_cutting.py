"""Cutting a graph: where nodes go, what crosses, and that the parts in order are the whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from deploycc.linting import costs
from deploycc.onnx_graph import Array, GraphView, checker_complaint, used_names
from deploycc.splitting.cutting import Refused, cut
from deploycc.splitting.parts import Cut, Place
from deploycc.splitting.running import check, run_in_order
from deploycc.splitting.worlds import Worlds
from deploycc.types import DeployccError, Model
from tests.splitting.networks import TWO_STAGE, model_of, two_stage, with_weights, yolo


def cut_by_operator(
    model: Model,
    accelerator: Collection[str],
    cpu: Collection[str],
    promised: Mapping[str, tuple[int, ...]] | None = None,
    macs: Mapping[str, int] | None = None,
) -> Cut:
    """The cut where the accelerator and the CPU take these operators."""
    nodes = model.proto.graph.node
    refused = Refused(
        frozenset(node.name for node in nodes if node.op_type not in accelerator),
        frozenset(node.name for node in nodes if node.op_type not in cpu),
    )
    worlds = Worlds(model.proto, promised or {})
    view = GraphView(worlds.bounded_model)
    return cut(worlds, refused, macs or {node.name: costs.macs(node, view) for node in nodes})


def places(found: Cut) -> list[Place]:
    return [part.place for part in found.parts]


def checked(found: Cut, model: Model) -> Cut:
    """The same cut, after its parts were held to what every cut must be."""
    made: set[str] = set(found.inputs)
    for part in found.parts:
        assert checker_complaint(part.proto) == ""
        onnx.checker.check_model(part.proto, full_check=True)
        assert set(part.inputs) <= made
        made |= set(part.outputs)
        assert tuple(info.name for info in part.proto.graph.input) == part.inputs
        assert tuple(info.name for info in part.proto.graph.output) == part.outputs
        read = {name for node in part.proto.graph.node for name in used_names(node)}
        assert {tensor.name for tensor in part.proto.graph.initializer} <= read, "an unused weight"
        if part.place != "host":
            infos = (*part.proto.graph.input, *part.proto.graph.output)
            dims = [dim for info in infos for dim in info.type.tensor_type.shape.dim]
            assert all(dim.WhichOneof("value") == "dim_value" for dim in dims)
    assert set(found.outputs) <= made
    agreement = check(found, model, seed=5)
    assert agreement.exact
    assert agreement.error == 0.0
    assert agreement.compared > 0
    return found


def graph(text: str, **weights: Array) -> Model:
    return model_of(with_weights(text, weights))


CHAIN = """
g (float[2,3] x) => (float[2,3] y) { a = Relu(x)  b = Sigmoid(a)  c = Relu(b)  y = Sigmoid(c) }"""


def test_what_is_taken_whole_is_one_part() -> None:
    model = graph(CHAIN)
    found = checked(cut_by_operator(model, ("Relu", "Sigmoid"), ()), model)
    assert places(found) == ["accelerator"]
    assert found.parts[0].inputs == ("x",)
    assert found.parts[0].outputs == ("y",)


def test_what_the_accelerator_does_not_take_goes_to_the_cpu_and_the_rest_to_the_host() -> None:
    model = graph(CHAIN)
    assert places(checked(cut_by_operator(model, (), ("Relu", "Sigmoid")), model)) == ["cpu"]
    assert places(checked(cut_by_operator(model, (), ("Relu",)), model)) == ["cpu", "host"] * 2
    assert (
        places(checked(cut_by_operator(model, ("Relu",), ("Sigmoid",)), model)) == ["accelerator", "cpu"] * 2
    )


def test_a_small_part_of_the_accelerator_goes_to_the_cpu_where_that_makes_fewer() -> None:
    model = graph(CHAIN)
    macs = {"Relu_0": 10_000, "Sigmoid_1": 100, "Relu_2": 20, "Sigmoid_3": 10}
    found = checked(cut_by_operator(model, ("Relu",), ("Sigmoid", "Relu"), macs=macs), model)
    assert [(part.place, len(part.nodes)) for part in found.parts] == [("accelerator", 1), ("cpu", 3)]
    assert [part.macs for part in found.parts] == [10_000, 130]
    # Not where the CPU does not take it, and not where it is no small part.
    assert len(cut_by_operator(model, ("Relu",), ("Sigmoid",), macs=macs).parts) == 4
    macs["Relu_2"] = 2000
    assert len(cut_by_operator(model, ("Relu",), ("Sigmoid", "Relu"), macs=macs).parts) == 4


def test_branches_of_one_place_are_one_part() -> None:
    model = graph("""
g (float[2,3] x, float[2,3] z) => (float[2,3] y, float[2,3] w)
{ a = Relu(x)  b = Sigmoid(a)  c = Relu(z)  y = Add(b, c)  w = Relu(c) }""")
    found = checked(cut_by_operator(model, ("Relu",), ("Sigmoid", "Add")), model)
    assert [(part.place, part.inputs, part.outputs) for part in found.parts] == [
        ("accelerator", ("x", "z"), ("a", "c", "w")),
        ("cpu", ("a", "c"), ("y",)),
    ]


def test_outputs_that_are_inputs_or_constants() -> None:
    model = graph(
        "g (float[2] x) => (float[2] x, float[2] k, float[2] y) { y = Add(x, k) }", k=np.ones(2, np.float32)
    )
    found = checked(cut_by_operator(model, ("Add", "Identity"), ()), model)
    assert found.outputs == ("x", "k", "y")
    assert found.parts[0].outputs == ("y", "k")


def test_what_a_branch_reads_from_outside_is_an_input_of_its_part() -> None:
    model = graph("""
g (float[2] x, bool c) => (float[2] y)
{
  a = Relu(x)
  b = Sigmoid(x)
  y = If(c) <then_branch = one () => (float[2] t) { t = Add(a, k) },
             else_branch = other () => (float[2] e) { e = Neg(b) }>
}""", k=np.ones(2, np.float32))  # fmt: skip
    found = checked(cut_by_operator(model, ("Relu", "Sigmoid"), ()), model)
    assert [(part.place, part.inputs) for part in found.parts] == [
        ("accelerator", ("x",)),
        ("host", ("c", "a", "b")),
    ]


def test_a_type_that_no_buffer_holds_cannot_cross() -> None:
    model = graph("""
g (float[2,3] x, int64 i) => (float[1,3] y)
{ s = SplitToSequence<axis=0>(x)  y = SequenceAt(s, i) }""")
    with pytest.raises(DeployccError) as raised:
        Worlds(model.proto, {}).tensor("s")
    assert [d.code for d in raised.value.diagnostics] == ["DC781"]
    assert "the tensor 's' would cross between parts and cannot" in str(raised.value)
    assert raised.value.diagnostics[0].node == "SplitToSequence_0"


# ---- shapes that only a run can tell ----


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model_of(onnx.load(two_stage(tmp_path_factory.mktemp("two") / "two.onnx")))


def all_but(model: Model, *operators: str) -> set[str]:
    return {node.op_type for node in model.proto.graph.node} - set(operators)


def test_a_two_stage_detector_is_backbone_host_logic(detector: Model) -> None:
    everything = all_but(detector)
    found = checked(cut_by_operator(detector, everything, everything), detector)
    assert places(found) == ["accelerator", "host"]
    assert "NonMaxSuppression" in {node.op_type for node in found.parts[1].proto.graph.node}
    assert found.waiting == (("boxes", (None, 4)),)
    assert found.tensors["classes"].kind == "open"


def test_with_a_promised_number_of_boxes_it_is_backbone_host_logic_head(detector: Model) -> None:
    everything = all_but(detector)
    found = cut_by_operator(detector, everything, everything, {"boxes": (40, 4)})
    assert places(checked(found, detector)) == ["accelerator", "host", "accelerator"]
    assert found.parts[1].outputs == ("boxes",)
    assert found.parts[2].inputs == ("backbone", "boxes")
    assert found.tensors["classes"].kind == "bounded"
    assert found.tensors["classes"].shape == (40, 2)
    assert found.waiting == ()
    values = run_in_order(found, _inputs(detector))
    assert values.exact["classes"].shape[0] == values.exact["boxes"].shape[0] < 40
    assert values.padded["boxes"].shape == (40, 4)


def test_what_is_neither_the_accelerators_nor_the_cpus_is_the_hosts(detector: Model) -> None:
    """RoiAlign on the host reads the true number of boxes, and the head behind it the most."""
    some = all_but(detector, "RoiAlign")
    found = checked(cut_by_operator(detector, some, some, {"boxes": (40, 4)}), detector)
    assert places(found) == ["accelerator", "host", "accelerator"]
    assert "RoiAlign" in {node.op_type for node in found.parts[1].proto.graph.node}
    assert found.tensors["crops"].shape == (40, 16, 4, 4)
    assert found.parts[2].inputs == ("crops",)
    crops = next(info for info in found.parts[1].proto.graph.output if info.name == "crops")
    assert crops.type.tensor_type.shape.dim[0].WhichOneof("value") != "dim_value"


def test_a_host_part_behind_promised_boxes_gets_the_true_ones(detector: Model) -> None:
    some = all_but(detector, "Softmax")
    found = checked(cut_by_operator(detector, some, some, {"boxes": (40, 4)}), detector)
    assert places(found) == ["accelerator", "host", "accelerator", "host"]
    assert found.parts[3].inputs == ("classes_raw",)
    values = run_in_order(found, _inputs(detector))
    assert values.exact["classes_raw"].shape[0] < values.padded["classes_raw"].shape[0] == 40


def test_a_yolo_ends_with_the_hosts_logic(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = model_of(onnx.load(yolo(tmp_path_factory.mktemp("yolo") / "yolo.onnx")))
    some = all_but(model, "NonMaxSuppression", "Tanh")
    found = checked(cut_by_operator(model, some, all_but(model, "NonMaxSuppression")), model)
    assert places(found) == ["accelerator", "cpu", "host"]
    assert [tensor.kind for tensor in map(found.tensors.get, found.outputs) if tensor] == ["open"] * 3


def test_too_few_promised_boxes_are_told(detector: Model) -> None:
    everything = all_but(detector)
    found = cut_by_operator(detector, everything, everything, {"boxes": (2, 4)})
    with pytest.raises(DeployccError) as raised:
        check(found, detector, seed=5)
    assert [d.code for d in raised.value.diagnostics] == ["DC782"]
    assert "no random input keeps to what was promised" in str(raised.value)
    assert "at most 2x4 was promised" in raised.value.diagnostics[0].got


def test_rows_that_depend_on_one_another_cannot_be_bounded() -> None:
    """The mean over all found rows is another one when zeros are among them."""
    model = graph("""
g (float[8] x) => (float[1,1] y) <int64[1] axis = {0}>
{ where = NonZero(x)  rows = Transpose(where)  found = Cast<to=1>(rows)  y = ReduceMean(found, axis) }""")
    everything = {"NonZero", "Transpose", "Cast", "ReduceMean"}
    assert places(checked(cut_by_operator(model, everything, ()), model)) == ["host"]
    found = cut_by_operator(model, everything, (), {"rows": (12, 1)})
    with pytest.raises(DeployccError, match="compute another 'y' than the whole") as raised:
        check(found, model, seed=0)
    assert "leave its --shape out" in raised.value.diagnostics[0].help


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        ({"boxen": (40, 4)}, "--shape boxen: neither an input nor a tensor of the network has that name"),
        ({"boxes": (40, 5)}, "--shape boxes: the tensor has another shape"),
        ({"boxes": (40,)}, "--shape boxes: the tensor has another shape"),
        ({"backbone": (1, 16, 9, 8)}, "--shape backbone: the tensor has another shape"),
    ],
)
def test_promises_that_do_not_fit(promise: dict[str, tuple[int, ...]], message: str, detector: Model) -> None:
    with pytest.raises(DeployccError) as raised:
        Worlds(detector.proto, promise)
    assert [d.code for d in raised.value.diagnostics] == ["DC784"]
    assert raised.value.diagnostics[0].message == message
    if "boxen" in promise:
        assert raised.value.diagnostics[0].help == "did you mean 'boxes'?"


def test_a_promise_about_a_tensor_of_known_shape_changes_nothing(detector: Model) -> None:
    assert Worlds(detector.proto, {"backbone": (1, 16, 8, 8)}).promised == {}


# ---- any graph, any places ----


@st.composite
def random_networks(draw: st.DrawFn) -> tuple[ModelProto, dict[str, str]]:
    """Elementwise nodes over a few tensors of one shape, some of them outputs, and a place for each."""
    count = draw(st.integers(1, 12))
    names = ["x", "z", "k"]
    lines, where = [], {}
    for number in range(count):
        op = draw(st.sampled_from(["Relu", "Neg", "Sigmoid", "Add", "Mul", "Sub"]))
        arity = 2 if op in ("Add", "Mul", "Sub") else 1
        read = [draw(st.sampled_from(names)) for _ in range(arity)]
        lines.append(f"t{number} = {op}({', '.join(read)})")
        names.append(f"t{number}")
        where[f"{op}_{number}"] = draw(st.sampled_from(["accelerator", "cpu", "host"]))
    outputs = sorted({f"t{count - 1}"} | {name for name in names[3:] if draw(st.integers(0, 4)) == 0})
    typed = ", ".join(f"float[2,3] {name}" for name in outputs)
    text = f"g (float[2,3] x, float[2,3] z) => ({typed}) {{ {'  '.join(lines)} }}"
    return with_weights(text, {"k": np.array([[1.5, -2.0, 0.25], [0.5, 3.0, -1.0]], np.float32)}), where


@given(random_networks())
@settings(max_examples=60, deadline=None)
def test_the_parts_of_any_graph_in_order_are_the_whole(network: tuple[ModelProto, dict[str, str]]) -> None:
    proto, where = network
    model = model_of(proto)
    refused = Refused(
        frozenset(name for name, place in where.items() if place != "accelerator"),
        frozenset(name for name, place in where.items() if place == "host"),
    )
    checked(cut(Worlds(model.proto, {}), refused, dict.fromkeys(where, 100)), model)


def _inputs(model: Model) -> dict[str, Array]:
    generator = np.random.default_rng(1)
    return {t.name: generator.standard_normal(t.shape).astype(t.dtype) for t in model.inputs}


def test_the_detector_of_these_tests_finds_different_numbers_of_boxes(detector: Model) -> None:
    assert "NonMaxSuppression" in TWO_STAGE
    everything = all_but(detector)
    found = cut_by_operator(detector, everything, everything)
    counts = set()
    for seed in range(4):
        image = np.random.default_rng(seed).standard_normal((1, 3, 32, 32)).astype(np.float32)
        counts.add(run_in_order(found, {"image": image}).exact["boxes"].shape[0])
    assert len(counts) > 1
