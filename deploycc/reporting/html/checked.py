"""How right and how fast the package is: verification and benchmark."""

from __future__ import annotations

from deploycc.reporting.html.chart import chart, facts, mark, table
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.quantities import duration, nbytes, plural
from deploycc.result_types import TensorDifference, Timed


def verification(result: PackageResult) -> Section:
    """Each output beside the reference's; or how to find out."""
    found = result.verification
    if found is None:
        golden = result.manifest["golden"]
        reason = result.unmeasured.get("verification", "'deploycc report PACKAGE' measures it.")
        text = f"Not measured. {reason} The package has golden outputs of {golden['engine']} to compare with."
        return Section("verification", "Verification", element("p", text, class_="note"))
    note = (
        f"On {found.place}, against {found.engine}, inputs: {found.inputs}; "
        f"of {plural(found.runs, 'set')} the worst for each output."
    )
    cards = [_output(output) for output in found.outputs]
    body = joined(element("p", note, class_="note"), element("div", *cards, class_="cards"))
    return Section("verification", "Verification", body)


def _output(output: TensorDifference) -> Markup:
    state = "passes" if output.ok else "fails"
    place = ", ".join(map(str, output.worst_index))
    rows = [
        ("reason", output.reason),
        ("tightest tolerance that passes", f"{output.max_scaled:.3g}"),
        ("tolerance", f"{output.tolerance:.3g}"),
        ("largest error", f"{output.max_abs:.3g}"),
        ("relative", f"{output.max_rel:.3g}"),
        ("representable values between", f"{output.max_ulp:,}"),
        ("cosine", "" if output.cosine is None else f"{output.cosine:.8g}"),
        ("signal to error", "" if output.sqnr_db is None else f"{output.sqnr_db:.1f} dB"),
        (
            "NaN, infinite",
            f"{output.nan:,}, {output.infinite:,}" if output.nan or output.infinite else "none",
        ),
        ("unexpected of them", f"{output.unexpected:,}" if output.unexpected else ""),
        ("worst at", f"[{place}]: {output.worst_got:.9g}, expected {output.worst_expected:.9g}"),
    ]
    head = element(
        "div",
        element("h3", element("code", output.tensor), f" {output.dtype}"),
        element("p", state, class_=f"pill {'whole' if output.ok else 'not'}"),
        class_="card-head",
    )
    return element("article", head, facts(rows), _histogram(output), class_="card")


def _histogram(output: TensorDifference) -> Markup:
    """How many elements are how far off; heights by the square root, so that one element can be seen."""
    if not output.histogram:
        return Markup()
    width, height, foot = 400, 120, 22
    step = width / len(output.histogram)
    most = max(count for _, count in output.histogram) or 1
    parts = []
    for index, (bound, count) in enumerate(output.histogram):
        tall = (height - foot - 4) * (count / most) ** 0.5
        over = bound > output.tolerance
        told = f"{count:,} elements with an error up to {bound:.3g} of the largest magnitude"
        parts.append(
            mark(
                "rect",
                told,
                x=f"{index * step + 1:.1f}",
                y=f"{height - foot - tall:.1f}",
                width=f"{step - 2:.1f}",
                height=f"{max(tall, 0.5):.1f}",
                class_="column over" if over else "column",
            )
        )
        if index % max(1, len(output.histogram) // 5) == 0:
            parts.append(
                element(
                    "text",
                    f"{bound:.0e}",
                    x=f"{(index + 0.5) * step:.1f}",
                    y=height - 6,
                    class_="tick middle",
                )
            )
    return chart(
        "Error histogram",
        width,
        height,
        *parts,
        told="Elements by error as a share of the largest magnitude. Press a column.",
    )


def benchmark(result: PackageResult) -> Section | None:
    """The package beside its peers, where that was measured."""
    found = result.benchmark
    if found is None:
        return None
    rows = [_timed(timed) for timed in (found.ours, *found.peers)]
    head = ("engine", "one run", "interval", "first run", "load", "create", "peak memory", "runs")
    pinned = "pinned" if found.pinned else "not pinned"
    note = f"On {found.place} with {plural(found.threads, 'thread')}, {pinned}."
    verdicts = [
        element(
            "li",
            element("b", contest.verdict),
            f" beside {contest.peer}: {contest.ratio:.2f} times, {contest.low:.2f} to {contest.high:.2f} "
            f"({contest.test})",
        )
        for contest in found.contests
    ]
    body = joined(
        element("p", note, class_="note"), element("ul", *verdicts, class_="verdict-list"), table(head, rows)
    )
    return Section("benchmark", "Beside other engines", body)


def _timed(timed: Timed) -> list[str]:
    micros = [timed.median_us, timed.cold_us, timed.load_us, timed.create_us]
    median, cold, load, create = (duration(value * 1e-6) for value in micros)
    interval = f"{duration(timed.low_us * 1e-6)} to {duration(timed.high_us * 1e-6)}"
    return [
        f"{timed.name} {timed.version}".strip(),
        median,
        interval,
        cold,
        load,
        create,
        nbytes(timed.peak_kib << 10),
        str(timed.runs),
    ]
