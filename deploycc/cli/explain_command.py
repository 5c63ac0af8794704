"""``deploycc explain``."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from deploycc.cli.values import LintTargetOption
from deploycc.diagnostics import CATALOGUE
from deploycc.explaining.answers import explain
from deploycc.rule_names import rule_names


class _Name(click.ParamType[str]):
    """A code, a rule, a condition, an operator or a target."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Codes and names of rules."""
        known = (*CATALOGUE, *sorted(rule_names()))
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]


@click.command(
    "explain",
    epilog="""\b
Examples:
  deploycc explain DC402
  deploycc explain resize-antialias
  deploycc explain Resize --target snpe:htp
  deploycc explain snpe:htp

The pages are Markdown; docs/ has the same.""",
)
@click.argument("name", type=_Name())
@click.option(
    "--target",
    type=LintTargetOption(),
    default="",
    metavar="T[:UNIT][@VERSION]",
    help="Where: a target of packages, or another compiler's.",
)
def explain_command(name: str, target: str) -> None:
    """Say what a code, a rule, an operator or a target is, why, and what to do about it."""
    click.echo(explain(name, target), nl=False)
