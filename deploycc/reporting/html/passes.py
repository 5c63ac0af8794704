"""What each stage of the build did to the network."""

from __future__ import annotations

from collections import Counter

from deploycc.facts import Facts
from deploycc.reporting.grouping import counts
from deploycc.reporting.html.chart import facts as pairs
from deploycc.reporting.html.chart import folded, table
from deploycc.reporting.html.markup import Markup, element
from deploycc.reporting.html.page import Section
from deploycc.reporting.operator_text import operator_text
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import operators_text
from deploycc.reporting.quantities import nbytes, plural
from deploycc.reporting.summary import tally
from deploycc.types import Choice


def passes(result: PackageResult) -> Section | None:
    """A block for each stage, in the order they ran; nothing for a package that does not know."""
    facts = result.facts
    if facts is None:
        return None
    blocks = [
        _import(result, facts),
        _simplify(facts),
        _block("lint", tally(counts(facts.report.diagnostics)), _findings(facts)),
        _fuse(result, facts),
        _layouts(facts),
        _schedules(facts),
        _plan(result),
    ]
    return Section("passes", "What each pass did", element("ol", *blocks, class_="stages"))


def _block(stage: str, text: str, *parts: Markup) -> Markup:
    return element("li", element("h3", stage), element("p", text), *parts)


def _import(result: PackageResult, facts: Facts) -> Markup:
    opset = result.manifest["model"]["opset"]
    lifted = (
        f", lifted from opset {facts.opset_read} to {opset}"
        if facts.opset_read != opset
        else f" of opset {opset}"
    )
    rows = [(f"{note.code} {note.node}".strip(), note.message) for note in facts.notes]
    return _block("import", f"{plural(len(facts.read), 'node')}{lifted}", pairs(rows) if rows else Markup())


def _simplify(facts: Facts) -> Markup:
    before = Counter(node.op for node in facts.read)
    after = Counter(node.op for node in facts.report.nodes)
    text = f"{plural(len(facts.read), 'node')} became {len(facts.report.nodes)}"
    rows = [
        (
            element("code", count.name),
            f"{count.places} nodes fewer" if count.name == "onnxsim" else plural(count.places, "place"),
        )
        for count in facts.passes
    ]
    steps = (
        table(("pass, in the order they ran", "did"), rows)
        if rows
        else element("p", "No pass found anything.")
    )
    changed = [
        (op, str(before[op]), str(after[op])) for op in sorted(before | after) if before[op] != after[op]
    ]
    operators = table(("operator", "before", "after"), changed) if changed else Markup()
    parts = [folded(plural(len(rows), "pass", "passes") + " that changed something", steps)]
    if changed:
        parts.append(folded(f"{plural(len(changed), 'operator')} whose number changed", operators))
    return _block("simplify", text, *parts)


def _findings(facts: Facts) -> Markup:
    rules = Counter((d.code, d.rule or d.message) for d in facts.report.diagnostics)
    rows = [(element("code", code), name, str(times)) for (code, name), times in rules.most_common()]
    return folded("by rule", table(("code", "rule", "findings"), rows)) if rows else Markup()


def _fuse(result: PackageResult, facts: Facts) -> Markup:
    calls = [layer for layer in result.layers if layer.operators]
    merged = Counter(operators_text(layer) for layer in calls)
    fused = sum(uses for name, uses in merged.items() if " + " in name)
    rows = [(name, str(uses)) for name, uses in merged.most_common()]
    text = (
        f"{plural(len(facts.report.nodes), 'node')} became {plural(len(calls), 'step')}; "
        f"{fused} of them compute more than one operator"
    )
    return _block(
        "lower and fuse", text, folded("which operators run together", table(("step", "times"), rows))
    )


def _layouts(facts: Facts) -> Markup:
    if not facts.layouts:
        return _block("layout", "nothing to choose: no convolution")
    chosen: Counter[str] = Counter()
    rows = []
    for layout in facts.layouts:
        chosen[layout.layouts] += layout.uses
        costs = ", ".join(f"{name} {cycles / 1e3:,.0f}" for name, cycles in layout.cycles.items())
        rows.append(
            (
                operator_text(layout.operator),
                str(layout.uses),
                layout.layouts,
                costs or "no schedule takes it",
            )
        )
    text = ", ".join(f"{uses} x {name}" for name, uses in chosen.most_common())
    head = ("convolution", "times", "chosen", "estimated kcycles of each choice")
    note = "The choice is made for the whole network: a change of layout between two steps costs, too."
    return _block(
        "layout", text, folded("each convolution", element("p", note, class_="note"), table(head, rows))
    )


def _schedules(facts: Facts) -> Markup:
    used = Counter(choice.schedule or "none" for choice in facts.choices)
    recorded = sum(choice.measured_seconds is not None for choice in facts.choices)
    text = f"{plural(len(facts.choices), 'kernel')}: " + ", ".join(
        f"{n} x {name}" for name, n in used.most_common()
    )
    if recorded:
        text += f"; {recorded} by a tuning record"
    return _block(
        "schedule", text, folded("each kernel, and why not another schedule", *map(_choice, facts.choices))
    )


def _choice(choice: Choice) -> Markup:
    knobs = " ".join(f"{key}={value}" for key, value in sorted(choice.knobs.items()))
    rows = [
        ("computes", operator_text(choice.operator) if choice.operator else " + ".join(choice.operators)),
        ("estimate", f"{choice.cycles / 1e3:,.1f} kcycles" if choice.cycles else ""),
        (
            "measured",
            f"{choice.measured_seconds * 1e6:,.1f} µs by the tuning record"
            if choice.measured_seconds
            else "",
        ),
        *((f"not {name}", why) for name, why in choice.skipped.items()),
    ]
    title = f"{choice.task}: {choice.schedule or 'no schedule'} {knobs}".strip()
    return element("details", element("summary", title), pairs(rows), class_="choice")


def _plan(result: PackageResult) -> Markup:
    memory = result.manifest["memory"]
    kernels = len({call["symbol"] for call in result.manifest["calls"]} - {"memcpy"})
    copies = sum(call["symbol"] == "memcpy" for call in result.manifest["calls"])
    text = (
        f"{plural(len(result.manifest['calls']), 'step')} of {plural(kernels, 'different kernel')}"
        + (f", {plural(copies, 'copy', 'copies')} among them" if copies else "")
        + f"; arena {nbytes(memory['arena_bytes'])}, weights {nbytes(memory['weight_bytes'])}"
    )
    return _block("plan", text)
