"""Results of lint made by hand: formats are functions of them, so no model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deploycc.lint import LintResult
from deploycc.lint_types import Coverage, HintColumn, NodeReport, Report
from deploycc.types import Diagnostic, Verdict

HOSTILE = (
    "<script>alert('x')</script>\"'`|*_@&\x1b[31m\r\n::error::\u202e</title>]]>-->"
    "<img src=x onerror=alert(1)>"
)
"""A node's name that means something to every format."""


def node(
    name: str,
    op: str,
    inputs: Sequence[str],
    verdict: Verdict | str = "",
    taken: bool = True,
    macs: int = 1_000_000,
    seconds: float | None = 1e-5,
) -> NodeReport:
    """A node that makes the tensor of its own name."""
    return NodeReport(
        name=name,
        op=op,
        inputs=tuple(inputs),
        outputs=(f"{name}:0",),
        shape=(1, 8, 32, -1),
        dtype="float32",
        macs=macs,
        bytes_moved=65536,
        seconds=seconds,
        verdict=verdict,  # type: ignore[arg-type]
        taken=taken,
    )


RANK = Diagnostic(
    "DC402",
    "only convolutions over one to three dimensions are taken",
    node="stem/conv",
    op="Conv",
    got="rank 6",
    need="rank 3, 4 or 5",
    help="reshape the input",
    verdict="unsupported",
    source="Supported ONNX Ops",
    rule="snpe-conv-rank",
    fix="conv-rank",
    location="models/net.py:41",
    fingerprint="a1b2c3",
)
SOFTPLUS = Diagnostic(
    "DC416",
    "Softplus does not run on this unit",
    node="head/softplus_0",
    op="Softplus",
    got="unit htp",
    need="cpu or gpu",
    help="write it as Log(1 + Exp(x))",
    severity="warning",
    verdict="fallback",
    source="Supported Network Layers",
    rule="unit",
    fingerprint="0f0f0f",
)
WRONG = Diagnostic(
    "DC401",
    "the attribute antialias is not read",
    node="up/resize",
    op="Resize",
    got="antialias 1",
    need="antialias 0",
    help="shrink the image in the app",
    verdict="silently-wrong",
    rule="resize-antialias",
    fingerprint="77aa",
)
SLOW = Diagnostic(
    "DC411",
    "a convolution with one group is faster",
    node="head/conv",
    op="Conv",
    got="3 groups",
    severity="warning",
    verdict="slow",
    rule="odd-groups",
    suppressed="the weights are shared with the phone",
)
NOTE = Diagnostic(
    "DC414",
    "no source tells whether Mod is taken",
    node="head/mod",
    op="Mod",
    severity="info",
    verdict="info",
    rule="support-unknown",
)
WHOLE = Diagnostic(
    "DC151", "onnxsim could not simplify the model", got="RuntimeError: 50 % | done", severity="warning"
)


def small() -> LintResult:
    """Two targets: one that runs in parts with one finding of every kind, one that runs whole."""
    softplus = [replace(SOFTPLUS, node=f"head/softplus_{i}", fingerprint=f"0f0f0{i}") for i in range(6)]
    nodes = [
        node("stem/conv", "Conv", ["x"], "unsupported", False, macs=9_000_000),
        node("up/resize", "Resize", ["stem/conv:0"], "silently-wrong", False),
        node("head/conv", "Conv", ["up/resize:0"], "slow", macs=90_000_000, seconds=2e-3),
    ]
    for i in range(6):
        nodes.append(node(f"head/softplus_{i}", "Softplus", ["head/conv:0"], "fallback", False))
    nodes.append(node("head/mod", "Mod", [f"head/softplus_{i}:0" for i in range(6)], "info"))
    hint = HintColumn(
        "xnnpack",
        "XNNPACK",
        10,
        8,
        107_000_000,
        97_000_000,
        (("Mod", 1, "not in its lists"), ("Resize", 1, "antialias")),
    )
    first = Report(
        (RANK, WRONG, SLOW, *softplus, NOTE, WHOLE),
        target="snpe:htp",
        nodes=tuple(nodes),
        coverage=Coverage(
            "parts", 3, 10, 2, 1, 107_000_000, 91_000_000, (("Softplus", 6), ("Conv", 1), ("Resize", 1)),
            4_718_592, 39_321_600, 0.00209,
        ),
        hints=(hint,),
    )  # fmt: skip
    clean = tuple(replace(n, verdict="", taken=True, seconds=None) for n in nodes)
    second = Report(
        (),
        target="arm64",
        nodes=clean,
        coverage=Coverage("whole", 1, 10, 10, 0, 107_000_000, 107_000_000, (), 4_718_592, 39_321_600, None),
    )
    return LintResult(Path("models/net.onnx"), "5e" * 32, (first, second))


def empty() -> LintResult:
    """A target without nodes, findings or a summary."""
    return LintResult(Path("empty.onnx"), "", (Report((), target="arm64"),))


def broken() -> LintResult:
    """What a command line makes of a file that is no model: the error, and nothing that was judged."""
    error = Diagnostic("DC103", "not an ONNX model", got="text", need="a file that starts like one")
    return LintResult(
        Path("notes.txt"), "", (Report((error,), target="arm64"), Report((error,), target="snpe"))
    )


def hostile() -> LintResult:
    """Every text that comes from a model or a file is ``HOSTILE``."""
    finding = Diagnostic(
        "DC402",
        f"a message {HOSTILE}",
        node=HOSTILE,
        op=HOSTILE,
        got=HOSTILE,
        need=HOSTILE,
        help=HOSTILE,
        verdict="unsupported",
        source=HOSTILE,
        rule=HOSTILE,
        tensor=HOSTILE,
        fix=HOSTILE,
        location=f"{HOSTILE}:12",
        fingerprint=HOSTILE,
    )
    kept = replace(finding, node="plain", suppressed=HOSTILE)
    report = Report(
        (finding, kept),
        target="snpe:htp",
        nodes=(
            node(HOSTILE, HOSTILE, [HOSTILE], "unsupported", False),
            node("plain", "Relu", [f"{HOSTILE}:0"]),
        ),
        coverage=Coverage("parts", 2, 2, 1, 0, 2_000_000, 1_000_000, ((HOSTILE, 1),), 1, 1, None),
        hints=(HintColumn("x", HOSTILE, 2, 1, 2, 1, ((HOSTILE, 1, HOSTILE),)),),
    )
    other = replace(report, target="arm64", diagnostics=())
    return LintResult(Path(f"dir/{HOSTILE.replace('/', '-')}.onnx"), "00" * 32, (report, other))
