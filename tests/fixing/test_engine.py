"""Rounds to a fixed point, what is undone, and that a wrong rewrite is noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, numpy_helper

from deploycc.fixing import Fix, engine, fix_named, fixes
from deploycc.fixing.difference import diff_text, graph_lines
from deploycc.fixing.engine import Finding, Repair, repair, with_metadata
from deploycc.fixing.verifying import EXACT, Mismatch, Verification
from deploycc.onnx_editor import Editor, Rewrite, attribute
from deploycc.onnx_graph import infer_shapes
from deploycc.types import DeployccError, Diagnostic
from tests.fixing.cases import CASES, Case, drawn, number

Judge = Callable[[ModelProto], tuple[ModelProto, Sequence[Finding]]]


def judge_by(names: dict[str, str]) -> Judge:
    """Names a rewrite for every node of an operator, as a table of a target would."""

    def judge(proto: ModelProto) -> tuple[ModelProto, list[Finding]]:
        model = infer_shapes(proto)
        return model, [
            Finding(
                "t",
                Diagnostic("DC402", "m", node=node.name, op=node.op_type, rule="r", fix=names[node.op_type]),
            )
            for node in model.graph.node
            if node.op_type in names
        ]

    return judge


def repaired(case: Case, names: dict[str, str], **options: object) -> Repair:
    proto = case.build()
    return repair(proto, Verification(proto), judge_by(names), **options)  # type: ignore[arg-type]


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def image(body: str, **weights: np.ndarray) -> Case:
    return Case(f"g (float[1,4,5,7] x) => (float y) {{ {body} }}", weights)


BOTH = {"Selu": "selu-to-elu", "Elu": "elu-to-exp"}


def test_one_rewrite_makes_way_for_the_next() -> None:
    made = repaired(image("y = Selu(x)"), BOTH)
    assert [(a.fix, a.op) for a in made.applied] == [("selu-to-elu", "Selu"), ("elu-to-exp", "Elu")]
    assert "Elu" not in operators(made.model)
    assert made.applied[0].before == ("y: float32[1,4,5,7] = Selu(x)  # Selu_0",)
    assert len(made.applied[0].after) == 2
    assert made.errors[0].share <= EXACT
    assert made.diagnostics == ()
    again = repair(made.model, Verification(made.model), judge_by(BOTH))
    assert again.applied == ()
    assert again.model == made.model


def test_nothing_to_do() -> None:
    made = repaired(image("y = Relu(x)"), BOTH)
    assert made.applied == made.refused == made.diagnostics == ()
    assert [error.output for error in made.errors] == ["y"]


def with_fix(monkeypatch: pytest.MonkeyPatch, *extra: Fix) -> None:
    known = {**fixes(), **{fix.name: fix for fix in extra}}
    monkeypatch.setattr(engine, "fix_named", known.get)


def fix_of(name: str, operator: str, apply: Callable[[Editor, NodeProto], bool], **fields: object) -> Fix:
    made = Fix(name, "headline", (operator,), "onnx", "pytorch", apply)
    return replace(made, **fields)  # type: ignore[arg-type]


def becomes(operator: str, *others: str) -> Callable[[Editor, NodeProto], bool]:
    def apply(editor: Editor, node: NodeProto) -> bool:
        editor.replace(node, [editor.node(operator, [node.input[0], *others], list(node.output), like=node)])
        return True

    return apply


def test_what_breaks_the_model_is_undone_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with_fix(monkeypatch, fix_of("wrong", "Tanh", becomes("Sigmoid")))
    case = image("a = Softsign(x) b = Tanh(a) c = Mish(b) y = Tanh(c)")
    made = repaired(case, {"Softsign": "softsign-to-div", "Tanh": "wrong", "Mish": "mish-to-tanh"})
    # Mish becomes a third Tanh, which is tried too.
    assert [a.fix for a in made.applied] == ["softsign-to-div", "mish-to-tanh"]
    assert {(d.code, d.severity, d.fix) for d in made.diagnostics} == {("DC790", "warning", "wrong")}
    assert {d.node for d in made.diagnostics} == {"Tanh_1", "Tanh_3", "Mish_2/Tanh"}
    assert made.diagnostics[0].message == (
        "the rewrite wrong was undone: the model computed something else with it"
    )
    assert "is off by" in made.diagnostics[0].got
    assert {r.fix for r in made.refused} == {"wrong"}
    assert all(r.reason.startswith("undone: ") for r in made.refused)
    assert made.errors[0].share <= EXACT


def test_the_only_rewrite_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_fix(monkeypatch, fix_of("wrong", "Tanh", becomes("Sigmoid")))
    made = repaired(image("y = Tanh(x)"), {"Tanh": "wrong"})
    assert made.applied == ()
    assert operators(made.model) == ["Tanh"]
    assert [d.code for d in made.diagnostics] == ["DC790"]


def test_a_rewrite_that_makes_no_valid_graph_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_fix(monkeypatch, fix_of("broken", "Tanh", becomes("Add")))
    made = repaired(image("y = Tanh(x)"), {"Tanh": "broken"})
    assert operators(made.model) == ["Tanh"]
    assert "the checker refuses it" in made.diagnostics[0].got


def test_rewrites_that_bring_each_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with_fix(monkeypatch, fix_of("there", "Abs", becomes("Relu")), fix_of("back", "Relu", becomes("Abs")))
    made = repaired(image("a = Sigmoid(x) y = Abs(a)"), {"Abs": "there", "Relu": "back"})
    assert [d.code for d in made.diagnostics] == ["DC793"]
    assert made.diagnostics[0].message == "rewrites still find something to do after 10 rounds"
    assert made.diagnostics[0].got in ("there", "back")
    assert made.errors[0].share == 0


def test_unsafe_ones_need_leave() -> None:
    case = Case("g (bool[3] m, float[3] x, float[3] z) => (float y) { y = Where(m, x, z) }")
    kept = repaired(case, {"Where": "where-to-mul"})
    assert operators(kept.model) == ["Where"]
    assert kept.refused[0].reason.startswith("unsafe, --fix-unsafe makes it: ")
    made = repaired(case, {"Where": "where-to-mul"}, unsafe=True)
    assert "Where" not in operators(made.model)
    assert made.refused == ()


def test_an_unsafe_one_may_be_off_by_its_own_bound_and_no_more() -> None:
    case = CASES["qlinear-to-qdq"][0]
    made = repaired(case, {"QLinearConv": "qlinear-to-qdq"}, unsafe=True)
    assert [a.fix for a in made.applied] == ["qlinear-to-qdq"]
    assert made.errors[0].allowed == fixes()["qlinear-to-qdq"].bound


def test_selected_ones_only() -> None:
    made = repaired(image("y = Selu(x)"), BOTH, select=("selu-to-elu",))
    assert [a.fix for a in made.applied] == ["selu-to-elu"]
    assert [(r.fix, r.reason) for r in made.refused] == [("elu-to-exp", "not selected")]


def test_refusals_say_why() -> None:
    case = image("a = Softmax(x) y = Tanh(a)")
    made = repaired(case, {"Softmax": "softmax-last-axis", "Tanh": "nosuch"})
    assert [(r.fix, r.reason) for r in made.refused] == [
        ("softmax-last-axis", fixes()["softmax-last-axis"].refuses),
        ("nosuch", "there is no rewrite of that name"),
    ]


def test_a_finding_about_another_operator_is_left() -> None:
    made = repaired(image("y = Tanh(x)"), {"Tanh": "mish-to-tanh"})
    assert made.applied == ()
    assert len(made.refused) == 1


def test_of_the_whole_graph() -> None:
    made = repaired(image("a = Neg(x) y = Tanh(x)"), {"Neg": "drop-dead-nodes"})
    assert operators(made.model) == ["Tanh"]
    assert made.applied[0].before == ("a: float32[1,4,5,7] = Neg(x)  # Neg_0",)
    assert made.applied[0].after == ()


def test_what_cleaning_repaired_is_told() -> None:
    proto = image("y = Tanh(x)").build()
    found = Diagnostic("DC402", "m", node="Neg_0", op="Neg", rule="dead", fix="drop-dead-nodes")
    made = repair(proto, Verification(proto), judge_by({}), [Finding("t", found)])
    assert [(a.fix, a.node, a.cleaned) for a in made.applied] == [("drop-dead-nodes", "Neg_0", True)]


def test_cleaning_that_goes_too_far_is_not_taken() -> None:
    """The judge folds and cleans each time; what it makes is checked as well."""
    proto, calls = image("y = Selu(x)").build(), 0
    honest = judge_by({"Selu": "selu-to-elu"})

    def judge(model: ModelProto) -> tuple[ModelProto, Sequence[Finding]]:
        nonlocal calls
        calls += 1
        cleaned, findings = honest(model)
        if calls > 1:
            next(node for node in cleaned.graph.node if node.op_type == "Elu").op_type = "Celu"
        return cleaned, findings

    made = repair(proto, Verification(proto), judge)
    assert operators(made.model) == ["Elu", "Mul"]
    assert made.errors[0].share <= EXACT


# ---- verification ----


def changed_weights(proto: ModelProto, change: Callable[[np.ndarray], np.ndarray]) -> ModelProto:
    wrong = ModelProto()
    wrong.CopyFrom(proto)
    for tensor in wrong.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), "w"))
    return wrong


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w[::-1].copy(),
        lambda w: np.flip(w, (2, 3)).copy(),
        lambda w: (w * np.float32(1 + 1e-4)).astype(np.float32),
        lambda w: np.where(np.arange(w.size).reshape(w.shape) == 0, 0, w).astype(np.float32),
    ],
    ids=["channels in another order", "turned", "scaled by 1e-4", "a tap lost"],
)
def test_a_wrong_variant_is_noticed(change: Callable[[np.ndarray], np.ndarray]) -> None:
    proto = image("y = Conv(x, w)", w=drawn(6, 4, 3, 3)).build()
    check = Verification(proto)
    check.accept(proto)
    assert check.check(proto, 0.0)[0].share == 0
    with pytest.raises(Mismatch, match="output 'y' is off by"):
        check.check(changed_weights(proto, change), 0.0)


def test_gates_in_the_wrong_order_are_noticed() -> None:
    proto = CASES["lstm-unroll"][0].build()
    wrong = changed_weights(proto, lambda w: np.roll(w, w.shape[1] // 4, axis=1))
    check = Verification(proto)
    with pytest.raises(Mismatch):
        check.check(wrong, 0.0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("a = Div(x, z) y = Mul(a, z)", "largest error nan"),
        ("y = Transpose<perm=[0,1,3,2]>(x)", r"float32\[1, 4, 7, 5\] instead of float32\[1, 4, 5, 7\]"),
        ("a = Relu(x) y = Cast<to=11>(a)", r"float64\[1, 4, 5, 7\] instead of"),
        ("a = Reshape(x, s) y = Reshape(a, x1)", "it cannot be run"),
    ],
)
def test_what_is_no_number_is_noticed(body: str, says: str) -> None:
    check = Verification(image("y = Relu(x)").build())
    weights = {"z": number(0.0), "s": np.array([-1, 3], np.int64), "x1": np.array([1, 4, 5, 7], np.int64)}
    with pytest.raises(Mismatch, match=says):
        check.check(image(body, **weights).build(), 1.0)


def test_rounding_of_folding_is_allowed_for() -> None:
    proto = image("y = Conv(x, w)", w=drawn(6, 4, 3, 3)).build()
    check = Verification(proto)
    assert check.allowed == EXACT
    off = changed_weights(proto, lambda w: (w * np.float32(1 + 3e-5)).astype(np.float32))
    check.accept(off)
    assert check.allowed > 5e-5
    check.check(off, 0.0)


def test_a_model_that_cannot_be_run_is_not_repaired() -> None:
    proto = image("y = Relu(x)").build()
    proto.graph.node[0].domain = "vendor"
    proto.opset_import.add(domain="vendor", version=1)
    with pytest.raises(DeployccError) as raised:
        Verification(proto)
    found = raised.value.diagnostics[0]
    assert found.code == "DC792"
    assert found.message == "the model cannot be run here as it is, so no rewrite could be checked on it"
    assert found.got


def test_a_cleaned_model_that_computes_something_else_is_not_repaired() -> None:
    check = Verification(image("y = Relu(x)").build())
    with pytest.raises(DeployccError) as raised:
        check.accept(image("y = Transpose<perm=[0,1,3,2]>(x)").build())
    assert [d.code for d in raised.value.diagnostics] == ["DC792"]


# ---- text and metadata ----


def test_graph_as_text(golden: Callable[[str, str], None]) -> None:
    case = image(
        "a = Conv<pads=[1,1,1,1]>(x, w) b = Clip(a, low, ) c = Selu(b) y = Concat<axis=1>(c, x)",
        w=np.zeros((6, 4, 3, 3), np.float32),
        low=number(-0.5),
    )
    before = case.build()
    made = repaired(case, BOTH | {"Clip": "clip-to-min-max"})
    golden("diff.txt", "\n".join(diff_text(before, made.model, "before.onnx", "after.onnx")) + "\n")
    assert diff_text(before, before, "a", "b") == []


def test_names_from_a_model_do_not_steer_a_terminal() -> None:
    proto = image("y = Relu(x)").build()
    proto.graph.node[0].name = "\x1b[2J"
    assert "\x1b" not in "".join(graph_lines(proto))


def test_origins_are_kept() -> None:
    original = image("a = Selu(x) b = Identity(a) y = Tanh(b)").build()
    for node in original.graph.node:
        node.metadata_props.add(key="line", value=node.op_type)
    made = repair(original, Verification(original), judge_by(BOTH)).model
    assert {value.value for node in made.graph.node[:-2] for value in node.metadata_props} == {"Selu"}
    bare = ModelProto()
    bare.CopyFrom(made)
    for node in bare.graph.node:
        del node.metadata_props[:]
    kept = with_metadata(bare, original)
    found = {node.op_type: [value.value for value in node.metadata_props] for node in kept.graph.node}
    assert found["Tanh"] == ["Tanh"]
    assert found["Mul"] == ["Selu"], "by the result it computes"


def test_fix_by_name() -> None:
    assert fix_named("mish-to-tanh") is fixes()["mish-to-tanh"]
    assert fix_named("nosuch") is None
    assert list(fixes()) == sorted(fixes())


def test_builders_of_older_opsets() -> None:
    """Axes, widths and parts are attributes before the opsets that made inputs of them."""
    editor = Editor(Case("g (float[2,4] x) => (float y) { y = Relu(x) }", opset=9).build())
    new = Rewrite(editor, editor.nodes[0])
    reduced = new.reduce("ReduceSum", new.pad(new.unsqueeze("x", [0]), [0, 1, 0, 0, 0, 0]), [0])
    first, _ = new.parts(new.slice(reduced, [0], [1], [0]), [1, 2], 1)
    new.add("Relu", first, output="y")
    new.done()
    for node in editor.nodes:
        assert len(node.input) == 1
    with pytest.raises(ValueError, match="no steps before opset 10"):
        new.slice("x", [0], [2], [0], [2])
    editor.refresh()
    assert editor.shape(editor.nodes[-1].input[0]) == (1, 1, 4)
    assert attribute(editor.nodes[0], "axes") == [0]
