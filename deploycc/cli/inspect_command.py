"""``deploycc inspect``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from deploycc.chip_facts import ChipFacts, chips_told
from deploycc.cli.handing_over import refuse_other_folders
from deploycc.cli.memory_table import memory_lines
from deploycc.cli.plan_table import kernel_lines, plan_lines
from deploycc.diagnostics import one_line
from deploycc.packaging import inspect
from deploycc.packaging.listings import kernel_symbol, read_listing
from deploycc.packaging.variants import parted, view_of
from deploycc.running.chips import number_of_chip, view_of_chip

_TOO_LONG = ("calls", "files", "chips", "device")
"""Parts of a manifest with an entry for each step or file: as they are in ``--json`` only."""


@click.command(
    "inspect",
    epilog="""\b
Examples:
  deploycc inspect det-arm64
  deploycc inspect det-arm64 --json | jq .inputs
  deploycc inspect det-arm64 --kernel 3 --asm""",
)
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The manifest as it is.")
@click.option("--chip", metavar="CHIP", help="Of a package for GPUs: the plan for this chip (sm_87).")
@click.option("--kernel", type=click.IntRange(min=0), metavar="N", help="Only the kernel of this number.")
@click.option("--asm", "kind", flag_value="asm", help="With --kernel: its assembly.")
@click.option("--ir", "kind", flag_value="ir", help="With --kernel: its LLVM IR, optimised.")
@click.option("--script", "kind", flag_value="script", help="With --kernel: its TVMScript, scheduled.")
@click.option(
    "--unscheduled", "kind", flag_value="unscheduled", help="With --kernel: its TVMScript before scheduling."
)
@click.option(
    "--dump-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where build --dump-dir left the kernels, if not built with --keep-kernels.",
)
def inspect_command(
    package: Path,
    as_json: bool,
    chip: str | None,
    kernel: int | None,
    kind: str | None,
    dump_dir: Path | None,
) -> None:
    """Show what is in PACKAGE: inputs, outputs, target, sizes, operators, needed libraries, memory, plan.

    Memory: what a handle takes, the step at which most lies in the arena, and what does.

    The plan has a line a step: its kernel, in which layouts a convolution reads and writes, the work,
    the static estimate of its cycles, schedule, knobs, and the operators in it. Every file is checked
    against the hash it was built with.
    """
    if kernel is None and (kind is not None or dump_dir is not None):
        raise click.UsageError("--asm, --ir, --script, --unscheduled and --dump-dir need --kernel N")
    if kernel is not None and as_json:
        raise click.UsageError("--json shows all kernels; leave --kernel out")
    folder, number = parted(package)
    refuse_other_folders(folder)
    manifest = inspect(folder)
    if number is not None:
        manifest = view_of(manifest, number, folder.name)
    if kernel is not None and kind is not None:
        click.echo(read_listing(folder, manifest, kernel, kind, dump_dir), nl=False)
    elif kernel is not None:
        lines = kernel_lines(manifest["calls"], kernel_symbol(manifest, kernel))
        click.echo("\n".join(map(one_line, lines)))
    elif as_json:
        click.echo(json.dumps(manifest, indent=2))
    else:
        shown = {key: value for key, value in manifest.items() if key not in _TOO_LONG}
        chips = chips_told(manifest)
        if chips:
            shown["target"] = {key: value for key, value in shown["target"].items() if key != "gpus"}
            shown["chips"] = [_short_chip(one) for one in chips]
            chosen = 0 if chip is None else number_of_chip(manifest, chip, folder.name)
            manifest = view_of_chip(manifest, chosen)
            kernels = {one.function: one for one in chips[chosen].kernels}
        elif chip is not None:
            number_of_chip(manifest, chip, folder.name)
        if "variants" in shown:
            shown["variants"] = [_short(number, one) for number, one in enumerate(shown["variants"])]
        click.echo(
            "\n".join(
                map(
                    one_line,
                    (
                        *_lines(shown, ""),
                        "",
                        *memory_lines(manifest),
                        "",
                        *plan_lines(manifest["calls"], _width(), kernels if chips else None),
                    ),
                )
            )
        )


def _short_chip(chip: ChipFacts) -> dict[str, Any]:
    """What a line tells of a chip; all of it is in ``--json``."""
    return {
        "chip": f"{chip.arch} ({chip.name})",
        "code": list(chip.code),
        "steps": chip.steps,
        "launches": chip.launches,
        "on_the_processor": chip.on_processor,
        "copies": chip.copies,
        "kernels": len(chip.kernels),
        "most_registers": max((one.registers for one in chip.kernels), default=0),
        "most_shared_bytes": max((one.shared_bytes for one in chip.kernels), default=0),
        "arena_bytes": chip.arena_bytes,
        "weights_bytes": chip.weights_bytes,
        "host_bytes": chip.host_bytes,
    }


def _short(number: int, variant: Mapping[str, Any]) -> dict[str, Any]:
    """What a line tells of a variant; all of it is in ``--json`` and ``PACKAGE@N``."""
    shapes = {
        role: ", ".join(f"{tensor['name']}={_plain(tensor['shape'])}" for tensor in variant[role])
        for role in ("inputs", "outputs")
    }
    arena = variant["memory"]["arena_bytes"]
    return {"variant": number, **shapes, "arena_bytes": arena, "steps": len(variant["calls"])}


def _width() -> int | None:
    """Characters of a line on the terminal; a file or a pipe takes lines of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def _lines(table: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in table.items():
        label = f"{indent}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield label
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield label
            for item in value:
                yield f"{indent}  " + ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in item.items())
        else:
            yield f"{label}: {_plain(value)}"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        extents = all(isinstance(item, int) for item in value)
        shown = (_plain(item) if isinstance(item, dict) else str(item) for item in value)
        return ("x" if extents else ", ").join(shown) or "-"
    return "-" if value is None or value == "" else str(value)
