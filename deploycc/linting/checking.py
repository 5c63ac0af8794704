"""The lint stage: the support table, then every Python rule, over one graph."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType

from deploycc.linting import rules
from deploycc.linting.table import check_conditions
from deploycc.onnx_graph import GraphView, all_nodes
from deploycc.types import Diagnostic, Model, Report, Target

Check = Callable[[GraphView], Iterator[Diagnostic]]


def lint(model: Model, target: Target) -> Report:
    """Everything that stands between ``model`` and ``target``, all at once, in graph order.

    Errors refuse the build: operators without a converter (DC400), conditions under which the
    importer's result would be silently wrong (DC401), forms it or a later pass does not handle
    (DC402, DC403), shapes that stay open (DC207, DC404), empty tensors (DC208),
    foreign domains (DC405), operators read
    with another opset's meaning (DC406), control flow (DC407), element types without a kernel
    (DC301).  ``target`` takes part in no check yet; all packages come from the one importer.
    """
    view = GraphView(model.proto)
    found = list(check_conditions(view))
    for module in rule_modules():
        check: Check = module.check
        found += check(view)
    # A form that is refused explains the open shape behind it.
    explained = {d.node for d in found if d.code != "DC207"}
    found = [d for d in found if d.code != "DC207" or d.node not in explained]
    order = {node.name: index for index, node in enumerate(all_nodes(model.proto.graph))}
    found.sort(key=lambda d: (order.get(d.node, len(order)), d.code))
    return Report(tuple(found))


@cache
def rule_modules() -> tuple[ModuleType, ...]:
    """Every module of ``deploycc.linting.rules``, by name; each has ``CODE`` and ``check``."""
    names = sorted(info.name for info in pkgutil.iter_modules(rules.__path__))
    return tuple(importlib.import_module(f"{rules.__name__}.{name}") for name in names)
