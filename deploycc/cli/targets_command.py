"""``deploycc targets``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from deploycc.gpu_targets import PRECISIONS, gpu_names, load_gpu
from deploycc.lint_targets import External, external, external_names
from deploycc.targets import load_target, target_names
from deploycc.types import Gpu, Target


@click.command(
    "targets",
    epilog="""\b
Examples:
  deploycc targets
  deploycc targets --json | jq '.[] | select(.name == "rpi4")'

A new target is a TOML file: docs/new-target.md. 'deploycc explain snpe:htp' says what is known of one.
Chips are named behind a colon, the processor beside them behind an @: cuda:sm_75,h200, cuda:orin@arm64.""",
)
@click.option("--json", "as_json", is_flag=True, help="Everything that is known of each, as JSON.")
def targets_command(as_json: bool) -> None:
    """List the machines that packages are built for, GPU chips, and other compilers' that lint knows."""
    targets = [load_target(name) for name in target_names()]
    chips = sorted(map(load_gpu, gpu_names()), key=lambda gpu: (gpu.capability, gpu.name))
    externals = [external(name) for name in external_names()]
    if as_json:
        rows = [{"kind": "compiled", **asdict(target)} for target in targets]
        rows += [{"kind": "chip", **asdict(gpu)} for gpu in chips]
        rows += [{"kind": "external", **asdict(family)} for family in externals]
        click.echo(json.dumps(rows, indent=2))
        return
    tables = (_compiled(targets), _chips(chips), _external(externals))
    lines = [line for table in tables for line in ["", *_table(table)]][1:]
    click.echo("\n".join(lines))


def _compiled(targets: Sequence[Target]) -> Iterator[tuple[str, ...]]:
    yield "NAME", "CPU", "VECTORS", "C LIBRARY", "GPU CHIPS", "DESCRIPTION"
    for target in targets:
        libc = f"{target.linker.libc} {target.linker.glibc_floor}".strip()
        vectors = f"{target.simd.registers} x {target.simd.bits} bit"
        gpus = " ".join(gpu.name for gpu in target.gpus) or "-"
        yield target.name, target.llvm.cpu, vectors, libc, gpus, target.description


def _chips(chips: Sequence[Gpu]) -> Iterator[tuple[str, ...]]:
    """Each with its rates in TFLOP/s, on plain cores and on tensor cores."""
    yield "GPU CHIP", "ARCH", "SMS", "MEMORY", "BANDWIDTH", "FP32", "TF32", "FP16", "BF16", "DESCRIPTION"
    for gpu in chips:
        rates = [_rate(gpu.flops.get(kind)) for kind in PRECISIONS]
        memory, speed = f"{gpu.memory_bytes / 1e9:g} GB", f"{gpu.bytes_per_second / 1e9:g} GB/s"
        yield gpu.name, gpu.arch, str(gpu.processors), memory, speed, *rates, gpu.description


def _rate(flops: float | None) -> str:
    return "-" if flops is None else f"{flops / 1e12:g}"


def _external(externals: Sequence[External]) -> Iterator[tuple[str, ...]]:
    """A row for each family, then one for each of its units."""
    yield "LINT ONLY", "RELEASES", "FALLBACK", "DESCRIPTION"
    for family in externals:
        yield family.name, ", ".join(family.versions) or "-", "-", family.description
        for name, unit in family.units.items():
            yield f"{family.name}:{name}", "", unit.fallback or "-", unit.description


def _table(rows: Iterator[tuple[str, ...]]) -> list[str]:
    """Columns as wide as they need to be, but for the last."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in cells
    ]
