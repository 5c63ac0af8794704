"""A comparison in sections of a sentence and a table each, from which text and Markdown are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploycc.diffing.layers import nodes_of
from deploycc.diffing.types import Difference, Fact, Kind, Layer, Numbers, Size, Step, TensorPair, Times
from deploycc.reporting.names import shortened_list
from deploycc.reporting.quantities import duration, nbytes, plural

NAME_WIDTH = 48
"""Characters that a layer's nodes take at most, unless everything is to be shown."""

_NOTHING = "-"
_KINDS: tuple[Kind, ...] = ("same", "changed", "added", "removed", "merged", "split", "regrouped")
_UNNAMED = "(no node of the model)"


@dataclass(frozen=True)
class Section:
    """A ``title``, what is to be said in one sentence, a table with headings (none if empty), and notes.

    ``numbers`` are the columns that hold figures.
    """

    title: str
    sentence: str
    rows: tuple[tuple[str, ...], ...] = ()
    numbers: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def sections(found: Difference, everything: bool = False) -> Iterator[Section]:
    """What differs, or all that was compared."""
    yield _layers(found, everything)
    said = [_sizes("sizes", found.sizes, everything), _sizes("files", found.sizes, everything)]
    for title in dict.fromkeys(fact.section for fact in found.facts):
        said.append(_facts(title, [fact for fact in found.facts if fact.section == title], everything))
    yield from (section for section in said if section.rows)
    alike = [section.title for section in said if not section.rows]
    if alike:
        yield Section("the same in both", ", ".join(alike))
    if found.numbers is not None:
        yield _outputs(found.numbers, everything)
        yield _tensors(found.numbers, everything)
    if found.times is not None:
        yield _times(found.times)
    if found.left_out:
        yield Section("left out", "", notes=found.left_out)


# ---- layers ----


def _layers(found: Difference, everything: bool) -> Section:
    layers = found.layers
    counts = Counter(layer.kind for layer in layers)
    told = ", ".join(
        f"{counts[kind]} {'the same' if kind == 'same' else kind}" for kind in _KINDS if counts[kind]
    )
    steps = [sum(len(side) for side in sides) for sides in zip(*((x.a, x.b) for x in layers), strict=True)]
    many = f"{plural(steps[0], 'step')} in A, {steps[1]} in B" if layers else "no steps"
    notes = (
        ("No node or tensor is in both: steps were matched by their operators, in order.",)
        if found.matched_by == "order" and layers
        else ()
    )
    shown = [layer for layer in layers if everything or layer.kind != "same" or _moved(layer)]
    if not shown:
        return Section("layers", f"{many}: {told or 'nothing to compare'}", notes=notes)
    timed = any(layer.times for layer in layers)
    estimated = any(_cycles(layer.a) != _cycles(layer.b) for layer in shown)
    heads = ["", "A", "B", "layer", "what differs"]
    heads += ["kcycles A", "B"] * estimated + ["time A", "B", "B is"] * timed
    rows = [tuple(heads)]
    for layer in shown:
        row = [layer.kind, _numbers(layer.a), _numbers(layer.b), _label(layer, everything), _what(layer)]
        if estimated:
            row += [_kcycles(layer.a), _kcycles(layer.b)]
        if timed:
            row += _layer_times(layer)
        rows.append(tuple(row))
    figures = frozenset(range(1, 3)) | frozenset(range(5, len(heads) - timed))
    return Section("layers", f"{many}: {told}", tuple(rows), figures, notes)


def _moved(layer: Layer) -> bool:
    return layer.times is not None and layer.times.verdict not in (None, "no difference seen")


def _numbers(steps: Sequence[Step]) -> str:
    """``3``, ``3-5``, ``3,7``: the steps' numbers."""
    numbers = [step.number for step in steps]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    if len(numbers) > 4:
        return f"{numbers[0]},…,{numbers[-1]}"
    return ",".join(map(str, numbers)) or _NOTHING


def _label(layer: Layer, everything: bool) -> str:
    nodes = nodes_of((*layer.a, *layer.b))
    if not nodes:
        return _UNNAMED
    return " + ".join(nodes) if everything else shortened_list(nodes, NAME_WIDTH)


def _what(layer: Layer) -> str:
    if layer.kind in ("same", "changed"):
        return ", ".join(f"{c.name} {c.a or _NOTHING} → {c.b or _NOTHING}" for c in layer.changes)
    return " → ".join(_kernels(side) for side in (layer.a, layer.b) if side)


def _kernels(steps: Sequence[Step]) -> str:
    """The kernels of some steps; of many only how often each schedule is there."""
    if len(steps) > 4:
        counts = Counter(step.schedule or "copy" for step in steps)
        return " | ".join(f"{count} {schedule}" for schedule, count in counts.items())
    return " | ".join(f"{' '.join(step.operators)} ({step.schedule or 'copy'})" for step in steps)


def _cycles(steps: Sequence[Step]) -> float | None:
    known = [step.cycles for step in steps if step.cycles is not None]
    return sum(known) if known else None


def _kcycles(steps: Sequence[Step]) -> str:
    cycles = _cycles(steps)
    return "" if cycles is None else f"{cycles / 1e3:.1f}"


def _layer_times(layer: Layer) -> list[str]:
    if layer.times is None:
        return ["", "", ""]
    a, b = (f"{us:.1f} µs" if us else _NOTHING for us in (layer.times.a_us, layer.times.b_us))
    verdict = layer.times.verdict or ""
    return [a, b, f"{verdict} ({layer.times.ratio:.2f})" if _moved(layer) else verdict]


# ---- sizes and facts ----


def _sizes(title: str, sizes: Sequence[Size], everything: bool) -> Section:
    of = [size for size in sizes if size.section == title]
    others = [size for size in of if not size.same]
    shown = of if everything else others
    sentence = f"{len(others)} of {len(of)} differ" if others else "the same"
    if not shown:
        return Section(title, sentence)
    rows = [("", "A", "B", "change"), *(_size_row(size) for size in shown)]
    return Section(title, sentence, tuple(rows), frozenset({1, 2, 3}))


def _size_row(size: Size) -> tuple[str, ...]:
    a, b = (_NOTHING if n is None else nbytes(n) for n in (size.a, size.b))
    if size.a is None or size.b is None:
        change = "new" if size.a is None else "gone"
    elif size.a == size.b:
        change = "" if size.same else "other bytes"
    elif size.a and abs(size.b - size.a) >= size.a / 2000:
        change = f"{100 * (size.b - size.a) / size.a:+.1f} %"
    else:
        change = f"{size.b - size.a:+d} B"
    return (size.name, a, b, change)


def _facts(title: str, facts: Sequence[Fact], everything: bool) -> Section:
    others = [fact for fact in facts if not fact.same]
    shown = facts if everything else others
    sentence = f"{len(others)} of {len(facts)} differ" if others else "the same"
    if not shown:
        return Section(title, sentence)
    rows = [("", "A", "B"), *((fact.name, _fact(fact.a), _fact(fact.b)) for fact in shown)]
    return Section(title, sentence, tuple(rows))


def _fact(value: str) -> str:
    """A value; of a hash as much as tells two apart."""
    return value[:12] if len(value) == 64 and value.isalnum() else value or _NOTHING


# ---- at work ----


def _outputs(numbers: Numbers, everything: bool) -> Section:
    pairs = numbers.outputs
    equal = sum(pair.bitwise for pair in pairs)
    where = (
        f"both on {numbers.place_a}"
        if numbers.place_a == numbers.place_b
        else f"A on {numbers.place_a}, B on {numbers.place_b}"
    )
    if equal == len(pairs):
        told = "all outputs have the same bits" if pairs else "no output is in both"
    else:
        held = "all within tolerance" if numbers.ok else "not all within tolerance"
        told = f"{plural(len(pairs), 'output')}, {equal} with the same bits, {held}"
    shown = [pair for pair in pairs if everything or not pair.bitwise]
    return Section("outputs", f"{told} ({numbers.inputs}; {where})", *_pair_table(shown, numbers.engine))


def _tensors(numbers: Numbers, everything: bool) -> Section:
    pairs = numbers.tensors
    if not pairs:
        return Section("tensors between", "none that both name")
    equal = sum(pair.bitwise for pair in pairs)
    told = f"{len(pairs)} that both name, {equal} with the same bits"
    different, wrong = numbers.first_different, numbers.first_wrong
    notes = []
    if different is not None:
        far = "" if different is not wrong else ", by more than the tolerance"
        notes.append(f"They differ first in {_told(different)}{far}.")
    if wrong is not None and wrong is not different:
        notes.append(f"They differ by more than the tolerance first in {_told(wrong)}.")
    first = [pair for pair in (different, wrong) if pair is not None and pair in pairs]
    shown = pairs if everything else list(dict.fromkeys(first))
    return Section("tensors between", told, *_pair_table(shown, numbers.engine), notes=tuple(notes))


def _told(pair: TensorPair) -> str:
    nodes = f" of {shortened_list(pair.nodes, NAME_WIDTH)}" if pair.nodes else ""
    steps = [
        f"{step} of {name}" for step, name in ((pair.step_a, "A"), (pair.step_b, "B")) if step is not None
    ]
    return f"'{pair.difference.tensor}'{nodes}" + (f" (step {', '.join(steps)})" if steps else "")


def _pair_table(
    pairs: Sequence[TensorPair], engine: str
) -> tuple[tuple[tuple[str, ...], ...], frozenset[int]]:
    if not pairs:
        return (), frozenset()
    heads = ["tensor", "", "scaled error", "allowed", "largest error", "ULP", "SQNR"]
    rows = [tuple(heads + [f"A from {engine}", "B from it"] * bool(engine))]
    for pair in pairs:
        one = pair.difference
        verdict = "same bits" if pair.bitwise else "within" if one.ok else "DIFFERS"
        row = [one.tensor, verdict, _error(one.max_scaled), f"{one.tolerance:g}", _error(one.max_abs)]
        row += [str(one.max_ulp), "" if one.sqnr_db is None else f"{one.sqnr_db:.0f} dB"]
        if engine:
            row += [_error(far.max_scaled) for far in pair.from_model] if pair.from_model else ["", ""]
        rows.append(tuple(row))
    return tuple(rows), frozenset(range(2, len(heads) + 2))


def _error(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _times(times: Times) -> Section:
    told = {
        "faster": f"B is faster, {times.ratio:.3f} times",
        "slower": f"B is slower, {1 / times.ratio:.3f} times as long",
        "no difference seen": "no difference seen",
    }[times.verdict]
    rows = (
        ("A", "B", "A over B", "at least", "at most"),
        (
            duration(times.a_us / 1e6),
            duration(times.b_us / 1e6),
            f"{times.ratio:.3f}",
            f"{times.low:.3f}",
            f"{times.high:.3f}",
        ),
    )
    how = (
        f"{plural(times.threads, 'thread')} on {times.place}, {times.launches} launches of each, "
        f"{times.runs} runs: {times.test}."
    )
    return Section("times", told, rows, frozenset(range(5)), (how,))
