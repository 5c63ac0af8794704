"""Which forms of upsampling the target takes, where the one in the model is refused.

There are many ways to make an image larger: `Resize` by nearest, linear or cubic with half a dozen rules
for coordinates, `ConvTranspose`, `DepthToSpace` (pixel shuffle), `MaxUnpool`.  Each target takes some of
them, with some rules.  Where the table refuses the form at hand, this lists those that it takes, by asking
the same table about each at the same sizes.

Instead: `F.interpolate(x, scale_factor=2, mode="nearest")` exports as asymmetric with floor; for whole
factors the ONNX default (half_pixel with round_prefer_floor) picks the same pixels, so changing those two
attributes is exact.  `nn.PixelShuffle` exports as `DepthToSpace`; nearest by two equals `Concat` of four
copies and `DepthToSpace` in mode DCR, or a depthwise `ConvTranspose` of ones with kernel and stride 2;
linear by two equals a depthwise `ConvTranspose` with the 4x4 taps behind an edge `Pad`, up to 1e-7. Cubic,
antialiasing and `MaxUnpool` have no exact form: train with linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import ModelProto, NodeProto, helper

from deploycc.linting.costs import extents
from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.refusals import refused
from deploycc.linting.subject import Subject
from deploycc.linting.wording import shape_text
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC421"

_OPERATORS = ("Resize", "Upsample", "ConvTranspose", "MaxUnpool", "DepthToSpace")

_FORMS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "nearest asymmetric floor",
        "Resize",
        {"mode": "nearest", "rule": "asymmetric", "nearest_mode": "floor"},
    ),
    ("nearest half_pixel round_prefer_floor", "Resize", {"mode": "nearest", "rule": "half_pixel"}),
    ("linear half_pixel", "Resize", {"mode": "linear", "rule": "half_pixel"}),
    ("linear pytorch_half_pixel", "Resize", {"mode": "linear", "rule": "pytorch_half_pixel"}),
    ("linear asymmetric", "Resize", {"mode": "linear", "rule": "asymmetric"}),
    ("linear align_corners", "Resize", {"mode": "linear", "rule": "align_corners"}),
    ("cubic half_pixel", "Resize", {"mode": "cubic", "rule": "half_pixel"}),
    ("depthwise ConvTranspose", "ConvTranspose", {"depthwise": True}),
    ("ConvTranspose", "ConvTranspose", {"depthwise": False}),
    ("DepthToSpace DCR", "DepthToSpace", {"mode": "DCR"}),
    ("DepthToSpace CRD", "DepthToSpace", {"mode": "CRD"}),
)


def check(subject: Subject) -> Iterator[Diagnostic]:
    """For every upsampling of an image that the table refuses or moves elsewhere, the forms it takes."""
    view = subject.view
    images = [node for node in view.model.graph.node if node.op_type in _OPERATORS and not node.domain]
    refusals = refused(subject, view, images)
    for node in images:
        before, after = extents(node.input[0], view), extents(node.output[0], view)
        if node.name not in refusals or before is None or after is None:
            continue
        if len(before) != 4 or len(after) != 4 or 0 in before:
            continue
        taken = _taken(subject, before, after)
        yield Diagnostic(
            CODE,
            "the forms of upsampling that the target takes"
            if taken
            else "no form of upsampling is known that the target takes here",
            node=node.name,
            op=node.op_type,
            got=f"{_form(node, view)} from {shape_text(before)} to {shape_text(after)}",
            need="; ".join(taken) or "another size, or another unit",
            help="export with one of these, then compare the results"
            if taken
            else "enlarge in the app, or cut the graph here (deploycc split)",
            severity="info",
            verdict="info",
            source=f"{subject.table.title}, {subject.table.version}: its table, asked about each form",
        )


def _taken(subject: Subject, before: tuple[int, ...], after: tuple[int, ...]) -> list[str]:
    """The forms that lead from one size to the other and that the table takes for certain."""
    taken = []
    for text, operator, options in _FORMS:
        model = _tiny(operator, options, before, after, subject.view.opset)
        if model is None or not subject.table.operators.get(operator):
            continue
        view = GraphView(model)
        if not refused(subject, view, list(model.graph.node)):
            taken.append(text)
    return taken


def _tiny(
    op: str, options: dict[str, Any], before: tuple[int, ...], after: tuple[int, ...], opset: int
) -> ModelProto | None:
    """One node from ``before`` to ``after``, ``None`` where the form cannot lead there."""
    factors = [b / a for a, b in zip(before[2:], after[2:], strict=True)]
    whole = all(factor == int(factor) >= 1 for factor in factors)
    channels, stride = before[1], [int(factor) for factor in factors]
    constants: dict[str, tuple[int, list[int], list[float]]] = {}
    names = ["x"]
    if op == "Resize":
        scales = [1.0, 1.0, *factors]
        names = ["x", "scales"] if opset < 11 else ["x", "" if opset >= 13 else "roi", "scales"]
        constants = {"scales": (1, [4], scales)} | ({"roi": (1, [0], [])} if "roi" in names else {})
        attributes = {"mode": options["mode"]}
        if opset >= 11:
            attributes["coordinate_transformation_mode"] = options["rule"]
            attributes["nearest_mode"] = options.get("nearest_mode", "round_prefer_floor")
        node = helper.make_node(op, names, ["y"], name="form", **attributes)
    elif op == "ConvTranspose" and whole:
        group = channels if options["depthwise"] else 1
        weights = [channels, after[1] // group or 1, *stride]
        constants = {"w": (1, weights, [0.0])}
        node = helper.make_node(
            op, ["x", "w"], ["y"], name="form", group=group, strides=stride, kernel_shape=stride
        )
    elif op == "DepthToSpace" and whole and stride[0] == stride[1] > 1:
        node = helper.make_node(op, ["x"], ["y"], name="form", blocksize=stride[0], mode=options["mode"])
        before = (before[0], after[1] * stride[0] ** 2, *before[2:])
    else:
        return None
    model = helper.make_model(
        helper.make_graph(
            [node],
            "form",
            [helper.make_tensor_value_info("x", 1, before)],
            [helper.make_tensor_value_info("y", 1, after)],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
    )
    for name, (kind, dims, values) in constants.items():
        count = 1
        for dim in dims:
            count *= dim
        model.graph.initializer.append(
            helper.make_tensor(name, kind, dims, values if len(values) == count else values * count)
        )
    return model


def _form(node: NodeProto, view: GraphView) -> str:
    """The node's form in the words of the list."""
    facts = NodeFacts(node, view)
    if node.op_type in ("Resize", "Upsample"):
        words = [node.op_type, facts.attr("mode"), facts.attr("coordinate_transformation_mode")]
        words += [facts.attr("nearest_mode")] if facts.attr("mode") == "nearest" else []
        words += ["antialias"] if facts.attr("antialias") else []
        return " ".join(word for word in words if word)
    if node.op_type == "ConvTranspose":
        group = facts.attr("group") or 1
        return (
            f"ConvTranspose kernel {facts.attr('kernel_shape')} strides {facts.attr('strides')} group {group}"
        )
    return " ".join(word for word in (node.op_type, facts.attr("mode")) if word)
