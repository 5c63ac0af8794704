"""The command line: reads arguments, shows progress, prints diagnostics, sets the exit code."""

from deploycc.cli.program import main

__all__ = ["main"]
