"""Results of packages made by hand: pages are functions of them, so nothing is built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deploycc.facts import Facts, GraphNode
from deploycc.lint_types import Report
from deploycc.records import Record
from deploycc.reporting.package_result import Library, PackageResult
from deploycc.result_types import (
    Benchmark,
    Ceilings,
    Contest,
    Profile,
    TensorDifference,
    Timed,
    Verification,
)
from deploycc.types import Choice, Diagnostic, LayoutChoice, PassCount
from tests.reporting.results import HOSTILE, node

CONV = (
    "Conv2d(batch=1, height=16, width=16, in_channels=3, out_channels=8, kernel=(3, 3), strides=(1, 1), "
    "pads=(1, 1, 1, 1), dilation=(1, 1), groups=1, dtype='float32', data_layout='NCHW', out_layout='NHWC')"
)


def place(kind: str, offset: int, size: int, **rest: Any) -> dict[str, Any]:
    return {"kind": kind, "offset": offset, "bytes": size, **rest}


def manifest() -> dict[str, Any]:
    """Four steps: two tensors live at once in the third, which is the fullest; the last is a copy."""
    calls: list[dict[str, Any]] = [
        {
            "symbol": "net_k000_conv2d_add",
            "operators": ["conv2d", "add"],
            "nodes": ["stem/conv"],
            "schedule": "conv_pixels",
            "knobs": {"channels": 4, "vectors": 1},
            "operator": CONV,
            "flops": 110_592,
            "layouts": ["NCHW", "NHWC"],
            "cycles": 6000,
            "reads": [place("input", 0, 3072, index=0), place("constant", 0, 896)],
            "writes": [place("arena", 0, 8192, tensor="stem", shape=[1, 16, 16, 8], layout="channels last")],
        },
        {
            "symbol": "net_k001_mean",
            "operators": ["mean"],
            "nodes": ["head/pool"],
            "schedule": "reduction",
            "knobs": {},
            "cycles": 1000,
            "reads": [place("arena", 0, 8192)],
            "writes": [place("arena", 8192, 32, tensor="pooled", shape=[1, 8], layout="row-major")],
        },
        {
            "symbol": "net_k002_multiply",
            "operators": ["multiply", "add", "relu", "add", "sigmoid"],
            "nodes": ["head/mul", "head/add"],
            "schedule": "elementwise",
            "knobs": {"vectors": 2},
            "cycles": 3000,
            "reads": [place("arena", 0, 8192), place("arena", 8192, 32), place("constant", 896, 64)],
            "writes": [place("arena", 8256, 8192)],
        },
        {
            "symbol": "memcpy",
            "operators": [],
            "nodes": [],
            "schedule": "",
            "knobs": {},
            "reads": [place("arena", 8256, 8192)],
            "writes": [place("output", 0, 8192, index=0, tensor="y", shape=[1, 8, 16, 16])],
        },
    ]
    tensor = {"dtype": "float32", "layout": "row-major"}
    return {
        "calls": calls,
        "deploycc": "9.9",
        "files": {"lib/libnet.so": {"bytes": 21_000}, "include/net.h": {"bytes": 9_000}},
        "format": "deploycc package",
        "golden": {"engine": "onnxruntime 1.2.3", "inputs": [], "outputs": [], "seed": 0},
        "inputs": [
            {
                **tensor,
                "name": "x",
                "identifier": "x",
                "shape": [1, 3, 16, 16],
                "bytes": 3072,
                "elements": 768,
            }
        ],
        "outputs": [
            {
                **tensor,
                "name": "y",
                "identifier": "y",
                "shape": [1, 8, 16, 16],
                "bytes": 8192,
                "elements": 2048,
                "tolerance": 1e-4,
            }
        ],
        "interface": {
            "abi_version": 2,
            "emit": "shared",
            "runtime": "private",
            "symbols": ["net_create", "net_run"],
        },
        "library": {
            "bytes": 21_000,
            "code_bytes": 20_040,
            "file": "lib/libnet.so",
            "highest_glibc": "2.17",
            "needed": ["libc.so.6"],
        },
        "memory": {
            "arena_bytes": 16_448,
            "workspace_bytes": 2048,
            "thread_workspace_bytes": 0,
            "weight_bytes": 960,
        },
        "model": {"opset": 18, "parameters": 240, "sha256": "ab" * 32},
        "name": "net",
        "operators": {"Conv": 1},
        "schema_version": 1,
        "target": {
            "cpu": "cortex-a76",
            "features": ["+dotprod"],
            "glibc_floor": "2.17",
            "libc": "glibc",
            "linker_triple": "aarch64-linux-gnu.2.17",
            "llvm_triple": "aarch64-linux-gnu",
            "name": "rpi5",
            "toolchain": "zig",
        },
        "versions": {"deploycc": "9.9", "onnx": ""},
    }


def record(value: float, knobs: dict[str, int], status: str = "ok", level: int = 0, when: str = "") -> Record:
    return Record(
        CONV,
        "aarch64",
        "64/512",
        "conv_pixels",
        1,
        knobs,
        "0.27",
        status,
        "seconds",
        value,
        0.0,
        9,
        level,
        when,
    )  # type: ignore[arg-type]


def facts() -> Facts:
    """A model of five nodes, of which one is folded away; one finding."""
    read = (
        GraphNode("stem/conv", "Conv", ("x",), ("stem",), (1, 8, 16, 16), "float32"),
        GraphNode("noop", "Identity", ("stem",), ("same",), (1, 8, 16, 16), "float32"),
        GraphNode("head/pool", "GlobalAveragePool", ("same",), ("pooled",), (1, 8, 1, 1), "float32"),
        GraphNode("head/mul", "Mul", ("pooled", "same"), ("scaled",), (1, 8, 16, 16), "float32"),
        GraphNode("head/add", "Add", ("scaled",), ("y",), (1, 8, 16, -1), "float32"),
    )
    nodes = tuple(node(n.name, n.op, n.inputs) for n in read if n.name != "noop")
    finding = Diagnostic(
        "DC411",
        "few channels",
        node="stem/conv",
        op="Conv",
        severity="info",
        verdict="slow",
        rule="few-channels",
    )
    return Facts(
        read=read,
        opset_read=11,
        passes=(PassCount("drop_identities", 1), PassCount("onnxsim", 0)),
        notes=(Diagnostic("DC154", "nothing was compared", severity="warning"),),
        report=Report((finding,), target="rpi5", nodes=nodes),
        layouts=(LayoutChoice(CONV, "NCHW->NHWC", {"NCHW->NHWC": 6000.0, "NCHW->NCHW": 9000.0}, 1),),
        choices=(
            Choice(
                "fused_conv2d_add",
                "conv_pixels",
                {"channels": 4, "vectors": 1},
                {"conv_winograd": "fewer than 16 channels"},
                ("conv2d", "add"),
                CONV,
                6000.0,
                3e-6,
            ),
        ),
        records=(
            record(5e-6, {"channels": 2, "vectors": 1}),
            record(float("inf"), {"channels": 9, "vectors": 1}, status="wrong"),
            record(3e-6, {"channels": 4, "vectors": 1}, level=2),
        ),
        code="aarch64",
        cache="64/512",
    )


def static() -> PackageResult:
    """Nothing measured."""
    return PackageResult(manifest(), facts(), Library("EM_AARCH64", "libnet.so", 64))


def measured() -> PackageResult:
    """With a profile in which the second step is the slowest, a verification and a benchmark."""
    plain = static()
    times = (20.0, 60.0, 15.0, 5.0)
    layers = tuple(
        replace(layer, time_us=time, low_us=time - 1, high_us=time + 2, share=time / 100, roofline=0.25)
        for layer, time in zip(plain.layers, times, strict=True)
    )
    difference = TensorDifference(
        tensor="y",
        dtype="float32",
        elements=2048,
        ok=True,
        tolerance=1e-4,
        max_abs=3e-6,
        max_rel=2e-3,
        max_scaled=1.5e-6,
        max_ulp=12,
        cosine=0.99999999,
        sqnr_db=118.2,
        histogram=((1e-7, 2000), (1e-6, 40), (1e-5, 8)),
        nan=0,
        infinite=0,
        unexpected=0,
        worst_index=(0, 3, 1, 2),
        worst_expected=1.25,
        worst_got=1.250003,
    )
    ours = Timed("deploycc", "9.9", 100.0, 98.0, 103.0, 400.0, 90.0, 30.0, 2048, 40)
    peer = replace(ours, name="onnxruntime", version="1.2.3", median_us=180.0)
    test = "Mann-Whitney U, p < 0.01"
    return replace(
        plain,
        profile=Profile(
            "net", "qemu", 2, 40, "observer", 101.0, 103.0, Ceilings(8.0, 2.0, "measured"), layers
        ),
        verification=Verification("net", "qemu", "onnxruntime 1.2.3", "random", 3, (difference,)),
        benchmark=Benchmark(
            "net",
            "qemu",
            2,
            True,
            ours,
            (peer,),
            (Contest("onnxruntime", 1.8, 1.7, 1.9, "faster", test),),
        ),
    )


def hostile() -> PackageResult:
    """Every text that comes from a model or a file is ``HOSTILE``."""
    result = measured()
    table = manifest()
    for call in table["calls"]:
        call["nodes"] = [HOSTILE]
        for write in call["writes"]:
            write["tensor"] = HOSTILE
    for tensor in (*table["inputs"], *table["outputs"]):
        tensor["name"] = HOSTILE
    told = facts()
    finding = Diagnostic(
        "DC411", HOSTILE, node=HOSTILE, op=HOSTILE, got=HOSTILE, help=HOSTILE, verdict="slow", rule=HOSTILE
    )
    assert result.profile is not None
    assert result.verification is not None
    layers = tuple(replace(layer, nodes=(HOSTILE,), schedule=HOSTILE) for layer in result.profile.layers)
    outputs = tuple(replace(o, tensor=HOSTILE, reason=HOSTILE) for o in result.verification.outputs)
    return replace(
        result,
        manifest=table,
        facts=replace(
            told,
            read=(GraphNode(HOSTILE, HOSTILE, (HOSTILE,), ("y",), (1,), "float32"), *told.read),
            notes=(finding,),
            report=Report((finding,), target=HOSTILE, nodes=(node(HOSTILE, HOSTILE, [HOSTILE]),)),
            choices=tuple(replace(c, task=HOSTILE, skipped={HOSTILE: HOSTILE}) for c in told.choices),
        ),
        profile=replace(result.profile, place=HOSTILE, layers=layers),
        verification=replace(result.verification, place=HOSTILE, outputs=outputs),
        unmeasured={"benchmark": HOSTILE},
    )
