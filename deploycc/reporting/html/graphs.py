"""The graph before and after: the model as it was read, and the steps that the package takes."""

from __future__ import annotations

from deploycc.facts import GraphNode
from deploycc.lint_types import NodeReport, Report
from deploycc.reporting.grouping import VERDICTS
from deploycc.reporting.html.explorer import Look, Row, explorer
from deploycc.reporting.html.layer_bars import heat
from deploycc.reporting.html.page import Section
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import cost_text, operators_text, schedule_text
from deploycc.reporting.quantities import plural, share
from deploycc.result_types import Layer
from deploycc.types import Diagnostic

AS_READ, STEPS = "the model as read", "the steps as planned"
_BETWEEN = "\0tensor "
"""Begins names of tensors between steps: no input of a model is called that."""


def graphs(result: PackageResult) -> Section:
    """Both graphs, coloured by time, with what lint found in the first."""
    steps_at = 0 if result.facts is None else 1
    step_of = {name: layer for layer in reversed(result.layers) for name in layer.nodes}
    reports, heats, rows = [], [], []
    if result.facts is not None:
        report, read = result.facts.report, result.facts.read
        found = (*result.facts.notes, *report.diagnostics)
        judged = {node.name: node for node in report.nodes}
        names = _step_by_name(result, step_of)
        reports.append(
            Report(found, target=AS_READ, nodes=tuple(_read_node(node, judged, found) for node in read))
        )
        layers = [names.get(node.name) for node in read]
        heats.append("".join("0" if layer is None else str(heat(layer)) for layer in layers))
        rows.append([_read_rows(result, layer, steps_at) for layer in layers])
    reports.append(
        Report((), target=STEPS, nodes=tuple(_step_node(result, layer) for layer in result.layers))
    )
    heats.append("".join(str(heat(layer)) for layer in result.layers))
    at = {} if result.facts is None else {node.name: i for i, node in enumerate(result.facts.read)}
    rows.append([_step_rows(result, layer, at) for layer in result.layers])
    source = "measured time" if result.measured else "the static estimate"
    before = "" if result.facts is None else f"{plural(len(reports[0].nodes), 'node')} of the model became "
    text = (
        f"{before}{plural(len(result.layers), 'step')}. The redder, the more of {source}. "
        "Press a node for what is known of it; a step leads to its nodes and back."
    )
    found_any = any(report.diagnostics for report in reports)
    start = None if found_any or not result.layers else (len(reports) - 1, result.slowest[0].step)
    look = Look(
        identifier="graph",
        title="Graph before and after, and findings" if result.facts is not None else "Graph",
        choice="Graph",
        time="time",
        heats=heats,
        rows=rows,
        note=text,
        start=start,
    )
    return explorer(reports, look)


def _step_by_name(result: PackageResult, step_of: dict[str, Layer]) -> dict[str, Layer]:
    """The step that a node of the model as read ended in, by its name or by what it makes.

    Steps know the simplified model's nodes; a node that was folded into another leaves no trace.
    """
    assert result.facts is not None
    made = {
        write["tensor"]: step
        for step, call in enumerate(result.manifest["calls"])
        for write in call["writes"]
        if write.get("tensor")
    }
    found = {}
    for node in result.facts.read:
        layer = step_of.get(node.name)
        if layer is None:
            step = next((made[name] for name in node.outputs if name in made), None)
            layer = None if step is None else result.layers[step]
        if layer is not None:
            found[node.name] = layer
    return found


def _read_node(node: GraphNode, judged: dict[str, NodeReport], found: tuple[Diagnostic, ...]) -> NodeReport:
    same = judged.get(node.name)
    verdicts = {d.verdict for d in found if d.node == node.name and d.verdict and not d.suppressed}
    return NodeReport(
        name=node.name,
        op=node.op,
        inputs=node.inputs,
        outputs=node.outputs,
        shape=node.shape,
        dtype=node.dtype,
        macs=-1 if same is None else same.macs,
        bytes_moved=-1 if same is None else same.bytes_moved,
        seconds=None,
        verdict=next((v for v in VERDICTS if v in verdicts), ""),
        taken=True,
    )


def _read_rows(result: PackageResult, layer: Layer | None, steps_at: int) -> list[Row]:
    if layer is None:
        return [("in the package", "folded away, or part of another node's step")]
    text = f"step {layer.step}: {operators_text(layer)}"
    return [("in the package", text, steps_at, layer.step), ("its time", _time(result, layer))]


def _step_node(result: PackageResult, layer: Layer) -> NodeReport:
    call = result.manifest["calls"][layer.step]
    inputs = [f"{_BETWEEN}{number}" for number in result.flow.reads[layer.step]]
    inputs += [str(result.manifest["inputs"][index]["name"]) for index in result.flow.inputs[layer.step]]
    made = [n for n, life in enumerate(result.flow.lives) if life.start == layer.step]
    shape = next((tuple(write["shape"]) for write in call["writes"] if "shape" in write), ())
    return NodeReport(
        name=f"step {layer.step}",
        op=operators_text(layer),
        inputs=tuple(inputs),
        outputs=tuple(f"{_BETWEEN}{number}" for number in made),
        shape=shape,
        dtype="",
        macs=layer.flops // 2 if layer.flops else -1,
        bytes_moved=layer.nbytes,
        seconds=layer.time_us * 1e-6 if layer.time_us else None,
        verdict="",
        taken=True,
    )


def _step_rows(result: PackageResult, layer: Layer, at: dict[str, int]) -> list[Row]:
    found: list[Row] = []
    if not layer.time_us and layer.share:
        found.append(("estimate", _time(result, layer)))
    found += [("schedule", schedule_text(layer)), ("layout", layer.layout), ("kernel", layer.symbol)]
    found = [row for row in found if row[1]]
    for name in layer.nodes:
        found.append(("computes", name, 0, at[name]) if name in at else ("computes", name))
    return found


def _time(result: PackageResult, layer: Layer) -> str:
    return f"{cost_text(result, layer)}, {share(layer.share, 1)}" if layer.share else ""
