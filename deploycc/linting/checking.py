"""The lint stage: the support table, then every Python rule, over one graph and one target."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from types import ModuleType

from deploycc.lint_types import LintTarget, Report
from deploycc.linting import rules
from deploycc.linting.coverage import coverage, hint_columns, node_reports
from deploycc.linting.fingerprints import surroundings, with_fingerprints
from deploycc.linting.provenance import location
from deploycc.linting.subject import Subject, subject
from deploycc.linting.table import check_conditions
from deploycc.onnx_graph import all_nodes
from deploycc.types import Diagnostic, Model

Check = Callable[[Subject], Iterator[Diagnostic]]
_ORDER = {"error": 0, "warning": 1, "info": 2}


def lint(model: Model, target: LintTarget) -> Report:
    """Everything that stands between ``model`` and ``target``, all at once, in graph order.

    For a target that deploycc compiles for, errors refuse the build.  For others they say what that
    compiler or runtime refuses.  Nodes have their original names, and findings about them the line of
    Python that the export recorded.
    """
    about = subject(model, target)
    found = list(check_conditions(about.view, target, target.engine))
    for module in rule_modules():
        if applies(module, target):
            check: Check = module.check
            name = rule_name(module)
            found += [d if d.rule else replace(d, rule=name) for d in check(about)]
    # A form that is refused explains the open shape behind it.
    explained = {d.node for d in found if d.code != "DC207"}
    found = [d for d in found if d.code != "DC207" or d.node not in explained]
    order = {node.name: index for index, node in enumerate(all_nodes(about.view.model.graph))}
    found.sort(key=lambda d: (order.get(d.node, len(order)), _ORDER[d.severity], d.code))
    nodes = node_reports(about, found)
    origins = {node.name: node for node in all_nodes(about.original.model.graph)}
    named = [replace(d, node=about.origins.get(d.node, d.node)) for d in found]
    placed = [replace(d, location=location(origins[d.node])) if d.node in origins else d for d in named]
    told = with_fingerprints(placed, surroundings(about.view.model, about.original.model), target)
    return Report(
        told,
        target=target.name,
        nodes=nodes,
        coverage=coverage(about, nodes, told),
        hints=hint_columns(about, nodes),
        note=target.note,
    )


@cache
def rule_modules() -> tuple[ModuleType, ...]:
    """Every module of ``deploycc.linting.rules``, by name; each has ``CODE`` and ``check``.

    One that is not about every target has ``applies(target)`` as well.
    """
    names = sorted(info.name for info in pkgutil.iter_modules(rules.__path__))
    return tuple(importlib.import_module(f"{rules.__name__}.{name}") for name in names)


def rule_name(module: ModuleType) -> str:
    """``no-converter`` for the module ``no_converter``: what reports, ignores and ``explain`` call it."""
    return module.__name__.rpartition(".")[2].replace("_", "-")


def applies(module: ModuleType, target: LintTarget) -> bool:
    """Whether the rule is about this target at all."""
    check = getattr(module, "applies", None)
    return check is None or bool(check(target))
