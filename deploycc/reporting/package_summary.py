"""What a reader of a package's report wants to know first, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycc.reporting.grouping import counts
from deploycc.reporting.operator_text import operator_text
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.quantities import duration, nbytes, plural, share
from deploycc.reporting.reasons import why
from deploycc.reporting.summary import tally
from deploycc.result_types import Contest, Layer, TensorDifference

NOT_MEASURED = "not measured"
_OPERATORS_NAMED = 4
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Highlight:
    """One answer: ``value`` in a few words under its ``name``, ``lines`` that explain it.

    ``state`` is ``good``, ``bad`` or empty for neither.
    """

    name: str
    value: str
    lines: tuple[str, ...]
    section: str
    state: str = ""


def highlights(result: PackageResult) -> tuple[Highlight, ...]:
    """Slowest layer, peak memory, worst error, size, findings of lint, and times beside peers if known."""
    found = [_slowest(result), _memory(result), _error(result), _size(result), _lint(result), _peers(result)]
    return tuple(one for one in found if one is not None)


def summary_text(result: PackageResult) -> str:
    """The highlights as plain lines."""
    lines = []
    for one in highlights(result):
        lines.append(f"{one.name}: {one.value}")
        lines += [f"  {line}" for line in one.lines]
    return "\n".join(lines) + "\n"


def operators_text(layer: Layer) -> str:
    """What a step computes: ``conv2d + add + relu``; of many operators the first and how many are fused."""
    if len(layer.operators) > _OPERATORS_NAMED:
        return f"{layer.operators[0]} + {len(layer.operators) - 1} fused"
    return " + ".join(layer.operators) or ("copy" if layer.symbol == "memcpy" else layer.symbol)


def described(result: PackageResult, layer: Layer) -> str:
    """The step's convolution or product in words, with its nodes in front where there are any."""
    operator = result.manifest["calls"][layer.step].get("operator", "")
    words = (nodes_text(layer.nodes, 2), operator_text(operator) if operator else "")
    return ": ".join(word for word in words if word)


def nodes_text(nodes: Sequence[str], most: int = 3) -> str:
    """The nodes' names, of many the first and the last."""
    names = [name_text(name) for name in nodes]
    return ", ".join(names) if len(nodes) <= most else f"{names[0]} … {names[-1]} ({len(nodes)} nodes)"


def name_text(name: str) -> str:
    """A name's end, where exporters put what tells it from others."""
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def cost_text(result: PackageResult, layer: Layer) -> str:
    """A layer's time, or its share of the estimated cycles."""
    if layer.time_us:
        return duration(layer.time_us * 1e-6)
    cycles = result.cycles(layer)
    return f"{cycles / 1e3:,.0f} kcycles" if cycles else "no estimate"


def schedule_text(layer: Layer) -> str:
    """The schedule and its knobs as ``inspect`` shows them."""
    return " ".join(
        [layer.schedule, *(f"{key}={value}" for key, value in sorted(layer.knobs.items()))]
    ).strip()


def worst_output(outputs: Sequence[TensorDifference]) -> TensorDifference | None:
    """The output whose error uses most of its tolerance."""
    return max(
        outputs,
        key=lambda o: (not o.ok, o.max_scaled / o.tolerance if o.tolerance else o.max_scaled),
        default=None,
    )


def memory_parts(result: PackageResult) -> tuple[tuple[str, int], ...]:
    """Bytes that one handle needs, by what they are for."""
    memory = result.manifest["memory"]
    parts = (
        ("arena", memory["arena_bytes"]),
        ("workspace", memory["workspace_bytes"]),
        ("workspace of each thread", memory["thread_workspace_bytes"]),
        ("weights", memory["weight_bytes"]),
    )
    return tuple((name, size) for name, size in parts if size)


def _slowest(result: PackageResult) -> Highlight | None:
    if not result.slowest:
        return None
    layer = result.slowest[0]
    if not layer.share:
        return Highlight("slowest layer", NOT_MEASURED, ("no step has a static estimate",), "layers")
    profile = result.profile
    lines = [words] if (words := described(result, layer)) else []
    part = share(layer.share, 1)
    if profile is None:
        lines.append(f"{part} of the estimated cycles: an estimate, {NOT_MEASURED}")
        if "profile" in result.unmeasured:
            lines.append(result.unmeasured["profile"])
    else:
        where = f"{profile.place}, {plural(profile.threads, 'thread')}"
        lines.append(f"{cost_text(result, layer)}, {part} of the layers' time ({where})")
    lines.append(f"why: {why(layer, None if profile is None else profile.ceilings)}")
    return Highlight("slowest layer", f"step {layer.step}: {operators_text(layer)}", tuple(lines), "layers")


def _memory(result: PackageResult) -> Highlight:
    parts = memory_parts(result)
    total = sum(size for name, size in parts)
    lines = ["on one thread: " + ", ".join(f"{name} {nbytes(size)}" for name, size in parts)]
    flow = result.flow
    if flow.lives:
        held = flow.at(flow.peak)
        layer = result.layers[flow.peak]
        used = f"{nbytes(flow.live[flow.peak])} in use"
        lines.append(f"the arena is fullest in step {flow.peak} ({operators_text(layer)}): {used}")
        names = [
            f"{name_text(life.tensor) or 'a tensor in between'} {nbytes(life.nbytes)}" for life in held[:3]
        ]
        rest = f" and {len(held) - 3} more" if len(held) > 3 else ""
        lines.append(f"made up of {', '.join(names)}{rest}")
    return Highlight("peak memory", nbytes(total), tuple(lines), "memory")


def _error(result: PackageResult) -> Highlight:
    verification = result.verification
    worst = None if verification is None else worst_output(verification.outputs)
    if verification is None or worst is None:
        reason = result.unmeasured.get("verification", "'deploycc report' measures it")
        return Highlight("worst error", NOT_MEASURED, (reason,), "verification")
    lines = [
        f"output {worst.tensor}, tolerance {worst.tolerance:.3g}: {'passes' if worst.ok else 'FAILS'}",
        f"against {verification.engine} on {verification.place}, inputs: {verification.inputs}",
    ]
    if worst.reason:
        lines.insert(1, worst.reason)
    value = f"{worst.max_scaled:.3g} of the largest magnitude"
    return Highlight("worst error", value, tuple(lines), "verification", "good" if verification.ok else "bad")


def _size(result: PackageResult) -> Highlight:
    library, memory = result.manifest["library"], result.manifest["memory"]
    lines = (
        (
            f"code {nbytes(library['code_bytes'])}, weights {nbytes(memory['weight_bytes'])} "
            f"of {result.manifest['model']['parameters']:,} parameters"
        ),
        f"needs {', '.join(library['needed']) or 'no library'}"
        + (f", glibc {library['highest_glibc']}" if library["highest_glibc"] else ""),
    )
    return Highlight("library", nbytes(library["bytes"]), lines, "sizes")


def _lint(result: PackageResult) -> Highlight | None:
    if result.facts is None:
        return None
    facts, steps = result.facts, len(result.manifest["calls"])
    found = counts((*facts.notes, *facts.report.diagnostics))
    read = plural(len(facts.read), "node")
    line = f"{read} as read, {len(facts.report.nodes)} simplified, {plural(steps, 'step')} planned"
    return Highlight("lint", tally(found), (line,), "graph")


def _peers(result: PackageResult) -> Highlight | None:
    if result.benchmark is None:
        return None
    ours = result.benchmark.ours
    lines = tuple(map(_contest, result.benchmark.contests))
    return Highlight("one run", duration(ours.median_us * 1e-6), lines, "benchmark")


def _contest(contest: Contest) -> str:
    interval = f"{contest.ratio:.2f} times ({contest.low:.2f} to {contest.high:.2f})"
    if contest.verdict in ("faster", "slower"):
        return f"{contest.verdict} than {contest.peer}: {interval}"
    return f"{contest.verdict} from {contest.peer}: {interval}"
