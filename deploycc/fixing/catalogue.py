"""Finds the rewrites: every ``FIXES`` of the modules in ``deploycc/fixing/rewrites``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from deploycc.fixing import rewrites
from deploycc.fixing.record import Fix


@cache
def fixes() -> Mapping[str, Fix]:
    """Every rewrite by its name, in the order of the names.

    Raises ``ValueError`` where two have one name.
    """
    found: dict[str, Fix] = {}
    for info in pkgutil.iter_modules(rewrites.__path__):
        module = importlib.import_module(f"{rewrites.__name__}.{info.name}")
        for fix in module.FIXES:
            if fix.name in found:
                raise ValueError(f"two rewrites are called {fix.name!r}")
            found[fix.name] = fix
    return MappingProxyType(dict(sorted(found.items())))


def fix_named(name: str) -> Fix | None:
    """The rewrite of that name, ``None`` where there is none."""
    return fixes().get(name)
