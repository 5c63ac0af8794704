"""Operator support tables: what an engine converts, read from ``targets/op_support/*.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any

from deploycc.resources import data_dir

ENGINE = "tvm"


@cache
def table(engine: str = ENGINE) -> Mapping[str, Any]:
    """The parsed support table of an engine."""
    with (data_dir("targets") / "op_support" / f"{engine}.toml").open("rb") as file:
        return tomllib.load(file)


@cache
def converted_operators(engine: str = ENGINE) -> frozenset[str]:
    """Names of the standard operators the engine's importer has a converter for."""
    return frozenset(table(engine)["operators"])
