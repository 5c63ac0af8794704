"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from deploycc.cli.values import CountOption, RangesOption, ShapeOption
from deploycc.gpu_targets import PRECISIONS
from deploycc.types import Limits

Command = TypeVar("Command", bound=Callable[..., Any])
_DEFAULTS = Limits()


def shape_option(
    help_text: str = "Static shape of an input; once for each input with dynamic dimensions.",
) -> Callable[[Command], Command]:
    """``--shape NAME=1x3x224x224``, any number of times, as ``shapes`` (``values.shapes_of`` takes it)."""
    return click.option(
        *("--shape", "shapes"),
        type=ShapeOption(named=True),
        multiple=True,
        metavar="NAME=1x3x224x224",
        help=help_text,
    )


def max_option() -> Callable[[Command], Command]:
    """``--max NAME=300``, any number of times, as ``max_counts`` (``values.counts_of`` takes it)."""
    return click.option(
        *("--max", "max_counts"),
        type=CountOption(),
        multiple=True,
        metavar="NAME=N",
        help="Most rows of a result whose size depends on data, such as NonZero's, by its name.",
    )


def ranges_option() -> Callable[[Command], Command]:
    """``--shape`` of a build, whose extents may be ranges; as ``shapes``."""
    return click.option(
        *("--shape", "shapes"),
        type=RangesOption(),
        multiple=True,
        metavar="NAME=1x3x224x224",
        help="Static shape of an input; once for each input with dynamic dimensions. 1..8x3x224x224 or "
        "1,2,4x3x224x224: a variant for each, in one package.",
    )


def limit_options(whose: str = "it") -> Callable[[Command], Command]:
    """``--stage-seconds`` and ``--memory-mib`` as parameters of these names; ``limits_of`` takes them."""
    seconds = click.option(
        "--stage-seconds",
        type=click.FloatRange(min=0.1),
        default=_DEFAULTS.stage_seconds,
        show_default=True,
        help="Longest a stage may take.",
    )
    memory = click.option(
        "--memory-mib",
        type=click.IntRange(min=64),
        default=_DEFAULTS.memory_bytes >> 20,
        show_default=True,
        help=f"Most memory {whose} may use.",
    )
    return lambda command: seconds(memory(command))


def limits_of(stage_seconds: float, memory_mib: int) -> Limits:
    """The limits that ``limit_options`` were given."""
    return replace(_DEFAULTS, stage_seconds=stage_seconds, memory_bytes=memory_mib << 20)


def chip_option(command: Command) -> Command:
    """``--chip sm_87`` as ``chip``: which chip of a package for GPUs is emulated."""
    return click.option(
        "--chip",
        metavar="CHIP",
        help="Of a package for GPUs: run the PTX for this chip (sm_87) on the processor.",
    )(command)


def op_dir_option(command: Command) -> Command:
    """``--op-dir DIR``, any number of times, as ``op_dirs``."""
    return click.option(
        *("--op-dir", "op_dirs"),
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        multiple=True,
        metavar="DIR",
        help="Folder of files with operators of your own: docs/new-operator.md.",
    )(command)


def precision_option(command: Command) -> Command:
    """``--precision PRECISION`` as ``precision``; the target decides which it takes."""
    return click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        metavar="PRECISION",
        default="fp32",
        show_default=True,
        help="fp32, tf32, fp16 or bf16: how a GPU multiplies, and with the last two stores; docs/cuda.md.",
    )(command)


def given_of(names: Collection[str]) -> list[str]:
    """Those of the running command's options, as written, that its command line has; by parameter names."""
    context = click.get_current_context()
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    ]
