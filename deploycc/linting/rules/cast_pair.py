"""A cast and another one right behind it.

If the type in between holds every value of the first one, the pair is no more than its last cast.  If it
does not (float32 to float16 and back, float to integer and back), the pair rounds: that may be meant, to
imitate the target's arithmetic, and it may be a leftover of mixed precision that costs accuracy for
nothing.

Instead: in PyTorch drop the inner `.half()`, `.float()` or `.to(...)`; in ONNX, let the second `Cast` read
the first one's input.  Without rounding in between, the result is the same bit by bit; with it, results
change by the rounding of the inner type (1 part in 2048 for float16), so it is left to you.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.costs import bits
from deploycc.linting.subject import Subject
from deploycc.types import Diagnostic

CODE = "DC177"


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every `Cast` of the simplified graph whose input a `Cast` made."""
    view = subject.view
    for node in view.model.graph.node:
        first = view.producers.get(node.input[0]) if node.op_type == "Cast" and not node.domain else None
        if first is None or first.op_type != "Cast" or first.domain:
            continue
        names = (first.input[0], first.output[0], node.output[0])
        types = [kind.dtype if (kind := view.types.get(name)) else "" for name in names]
        if not all(types):
            continue
        rounds = not _holds(types[0], types[1])
        yield Diagnostic(
            CODE,
            "two casts in a row" + (": the first one rounds" if rounds else " could be one"),
            node=node.name,
            op=node.op_type,
            got=" to ".join(types),
            need=" to ".join((types[0], types[2])) if types[0] != types[2] else f"{types[0]}, no cast",
            help="let the second read the first one's input"
            + (", unless the rounding is meant" if rounds else ""),
            severity="info",
            verdict="info",
            source="ONNX operator specification, Cast",
            fix="drop-cast-pairs" if not rounds and types[0] == types[2] else "",
        )


def _holds(small: str, large: str) -> bool:
    """Whether ``large`` has every value of ``small``."""
    digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
    if small == large:
        return True
    if small in digits:
        return digits[small] < digits.get(large, 0) and (small, large) != ("float16", "bfloat16")
    if large in digits:
        return bits(small) <= digits[large]
    if small == "bool":
        return True
    if small.startswith("uint"):
        return bits(large) > bits(small) if large.startswith("int") else bits(large) >= bits(small)
    return large.startswith("int") and bits(large) >= bits(small)
