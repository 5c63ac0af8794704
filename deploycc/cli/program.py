"""The program ``deploycc`` and what holds for all its commands: exit codes, interrupts, errors."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import click
from click.shell_completion import get_completion_class

from deploycc import __version__
from deploycc.build import InternalError
from deploycc.cli.bench_command import bench_command
from deploycc.cli.build_command import build_command
from deploycc.cli.diff_command import diff_command
from deploycc.cli.explain_command import explain_command
from deploycc.cli.export_command import export_command
from deploycc.cli.inspect_command import inspect_command
from deploycc.cli.interrupts import Interrupted
from deploycc.cli.lint_command import lint_command
from deploycc.cli.profile_command import profile_command
from deploycc.cli.report_command import report_command
from deploycc.cli.split_command import split_command
from deploycc.cli.targets_command import targets_command
from deploycc.cli.tune_command import tune_command
from deploycc.cli.verify_command import verify_command
from deploycc.diagnostics import exit_code, render
from deploycc.types import DeployccError

OUR_FAULT = 70
"""``EX_SOFTWARE`` of sysexits.h."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  deploycc build model.onnx --target arm64
  deploycc tune model.onnx --target host --budget 60s
  deploycc lint model.onnx --target snpe:htp --target arm64
  deploycc explain DC402
  deploycc inspect model-arm64
  deploycc verify model-arm64 --model model.onnx
  deploycc profile model-host
  deploycc report model-arm64
  deploycc targets

Exit codes: 0 done, 1 the model was refused, 2 wrong usage or broken input, 70 a fault of deploycc.""",
)
@click.version_option(__version__, prog_name="deploycc", message="%(prog)s %(version)s")
def program() -> None:
    """Compile trained networks into self-contained libraries that C++ programs link."""


@program.command(
    "completion",
    epilog="""\b
Examples:
  deploycc completion bash > ~/.local/share/bash-completion/completions/deploycc
  deploycc completion zsh > ~/.zfunc/_deploycc
  deploycc completion fish > ~/.config/fish/completions/deploycc.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the shell's completion script."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(program, {}, "deploycc", "_DEPLOYCC_COMPLETE").source())


program.add_command(bench_command)
program.add_command(build_command)
program.add_command(diff_command)
program.add_command(explain_command)
program.add_command(export_command)
program.add_command(inspect_command)
program.add_command(lint_command)
program.add_command(profile_command)
program.add_command(report_command)
program.add_command(split_command)
program.add_command(targets_command)
program.add_command(tune_command)
program.add_command(verify_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and leave with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        program.main(args=arguments, prog_name="deploycc", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except Interrupted as interrupt:
        click.echo(interrupt.told, err=True)
        sys.exit(128 + interrupt.number)
    except DeployccError as error:
        for diagnostic in error.diagnostics:
            click.echo(render(diagnostic), err=True)
        sys.exit(exit_code(error.diagnostics))
    except InternalError as error:
        click.echo(render(error.diagnostic), err=True)
        click.echo(f"deploycc {__version__}, stage {error.stage}\n{error.details.rstrip()}", err=True)
        sys.exit(OUR_FAULT)
    except BrokenPipeError:
        # The reader has gone; so has what Python would still flush when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _end(number: int, frame: FrameType | None) -> None:
    """Unwind, so that child processes and staging folders go; a second signal must not cut that short."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)
