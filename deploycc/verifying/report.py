"""What a verification says, as text and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from deploycc.result_types import TensorDifference, Verification

_BAR = 40
"""Characters of the histogram's longest bar."""


def text_report(verification: Verification) -> str:
    """A table with a line an output, what is NaN or infinite, where the worst error is, and histograms."""
    sets = "1 set of inputs" if verification.runs == 1 else f"{verification.runs} sets of inputs"
    lines = [
        f"{verification.package} on {verification.place}, beside {verification.engine}",
        f"{sets} ({verification.inputs}); errors are shares of an output's largest magnitude",
        "",
        *_table(verification.outputs),
    ]
    for output in verification.outputs:
        lines += ["", *_details(output)]
    count = sum(not output.ok for output in verification.outputs)
    verdict = "every output is within its tolerance"
    if count:
        verdict = f"{count} of {len(verification.outputs)} outputs beyond the tolerance"
    return "\n".join([*lines, "", verdict]) + "\n"


def json_report(verification: Verification) -> str:
    """``dataclasses.asdict`` of it and whether it is ``ok``; infinite and undefined numbers are texts."""
    table = {"format": "deploycc verification", "ok": verification.ok, **asdict(verification)}
    return json.dumps(_plain(table), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _table(outputs: Sequence[TensorDifference]) -> list[str]:
    head = [
        "output",
        "",
        "dtype",
        "elements",
        "allowed",
        "passes at",
        "max abs",
        "max rel",
        "ULP",
        "cosine",
        "SQNR",
    ]
    rows = [head, *(_row(output) for output in outputs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(output: TensorDifference) -> list[str]:
    return [
        output.tensor,
        "ok" if output.ok else "WRONG",
        output.dtype,
        str(output.elements),
        f"{output.tolerance:.2g}",
        _tightest(output),
        f"{output.max_abs:.3g}",
        f"{output.max_rel:.3g}",
        str(output.max_ulp),
        "-" if output.cosine is None else f"{output.cosine:.9f}",
        "-" if output.sqnr_db is None else f"{output.sqnr_db:.1f} dB",
    ]


def _tightest(output: TensorDifference) -> str:
    """The tightest tolerance that passes, rounded up so that it does when it is typed."""
    value = output.max_scaled
    if output.unexpected or not math.isfinite(value):
        return "none"
    if value == 0.0:
        return "0"
    text = f"{value:.2e}"
    digits, _, exponent = text.partition("e")
    return text if float(text) >= value else f"{float(digits) + 0.01:.2f}e{exponent}"


def _details(output: TensorDifference) -> list[str]:
    lines = [f"{output.tensor}"]
    if output.nan or output.infinite or output.unexpected:
        lines.append(
            f"  {output.nan} NaN, {output.infinite} infinite; {output.unexpected} where the reference differs"
        )
    if output.reason:
        lines.append(f"  {output.reason}")
    if output.elements and (output.max_abs or output.unexpected):
        place = list(output.worst_index)
        lines.append(
            f"  worst at {place}: {output.worst_got:.9g}, the reference has {output.worst_expected:.9g}"
        )
    filled = [number for number, (_, count) in enumerate(output.histogram) if count]
    if filled:
        most = max(count for _, count in output.histogram)
        shown = output.histogram[filled[0] : filled[-1] + 1]
        width = len(str(most))
        for bound, count in shown:
            bar = "#" * math.ceil(count / most * _BAR)
            lines.append(f"  {_bin(bound):<9} {count:>{width}} {bar}".rstrip())
    return lines


def _bin(bound: float) -> str:
    if bound == 0.0:
        return "no error"
    return "above 1" if math.isinf(bound) else f"to {bound:.0e}"
