"""Operator support tables: what an engine takes, read from ``targets/op_support/*.toml``.

A table has the operators an engine takes, those it is known not to take, and what its chip or
converter limits.  What stands in neither list is not known, and said to be so.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from deploycc.resources import data_dir

ENGINE = "tvm"
"""The engine that packages are compiled with."""


@dataclass(frozen=True)
class Operator:
    """An operator that an engine takes.

    ``opsets`` are the versions of the operator it knows (``since_version`` of the schema), empty where
    no source lists them.  ``units`` are the parts of the chip that run it, ``partly`` those that run
    only some forms of it, with what the source says.  ``versions`` is the range of the engine's own
    releases that take it, empty for all.  ``types`` are the element types of its data (the tensors of its
    first type parameter) in the newest form of it, empty where no source lists them.  ``help`` is what
    to write instead where a unit or a release does not take it, ``fix`` the rewrite that does so; empty
    for none.
    """

    opsets: tuple[int, ...] = ()
    units: tuple[str, ...] = ()
    partly: Mapping[str, str] = field(default_factory=dict)
    versions: str = ""
    source: str = ""
    types: tuple[str, ...] = ()
    help: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Missing:
    """An operator that an engine does not take, and what to write instead.

    ``fix`` is the rewrite that does so, empty for none.
    """

    help: str
    source: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Limit:
    """A number, word or list that a chip or converter sets, with the text of its source.

    ``earlier`` has the values of older releases of the engine by their range: ``{"<11": ...}``.
    """

    value: Any
    source: str
    earlier: Mapping[str, Any] = field(default_factory=dict)

    def at(self, version: str) -> Limit:
        """The limit as that release has it; the empty version is the newest."""
        for versions, value in self.earlier.items():
            if version_in(version, versions):
                return Limit(value, self.source)
        return Limit(self.value, self.source)


@dataclass(frozen=True)
class SupportTable:
    """What is known of one engine.

    ``limits`` has those of a unit by its name and those of all units under the empty name.
    ``conditions`` are the rows as they were read; ``deploycc.linting.table`` parses them.
    ``elsewhere`` says what runs the operators that the engine does not take; empty where it refuses a
    network that has one.
    """

    engine: str
    title: str
    version: str
    units: tuple[str, ...]
    sources: Mapping[str, str]
    operators: Mapping[str, Operator]
    missing: Mapping[str, Missing]
    limits: Mapping[str, Mapping[str, Limit]]
    conditions: tuple[Mapping[str, Any], ...]
    elsewhere: str = ""

    def limit(self, name: str, unit: str = "", version: str = "") -> Limit | None:
        """The unit's own limit of this name, else that of all units, else ``None``: none is known."""
        found = self.limits.get(unit, {}).get(name) or self.limits.get("", {}).get(name)
        return None if found is None else found.at(version)

    def knows(self, operator: str) -> bool:
        """Whether any source tells of the operator."""
        return operator in self.operators or operator in self.missing

    def source(self, keys: str) -> str:
        """The texts of one or more keys of ``[sources]``, which commas separate."""
        return "; ".join(self.sources[key.strip()] for key in keys.split(",")) if keys else ""


def engines() -> tuple[str, ...]:
    """The engines that have a table."""
    return tuple(sorted(path.stem for path in (data_dir("targets") / "op_support").glob("*.toml")))


@cache
def table(engine: str = ENGINE) -> Mapping[str, Any]:
    """The support table of an engine as it was read."""
    with (data_dir("targets") / "op_support" / f"{engine}.toml").open("rb") as file:
        return tomllib.load(file)


@cache
def examples(engine: str = ENGINE) -> Mapping[str, Any]:
    """For every condition of the table, by its id, a graph on which it fires and one on which it is silent.

    Each is ``{"opset": 18, "graph": "g (float[2] x) => ..."}``, in onnx's text form.
    """
    path = data_dir("targets") / "op_support" / "examples" / f"{engine}.toml"
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        return tomllib.load(file)


@cache
def support_table(engine: str = ENGINE) -> SupportTable:
    """The support table of an engine."""
    data = table(engine)
    sources: dict[str, str] = data["sources"]

    def operator(row: Any) -> Operator:
        if isinstance(row, list):
            return Operator(opsets=tuple(row))
        return Operator(
            opsets=tuple(row.get("opsets", ())),
            units=tuple(row.get("units", data.get("units", ()))),
            partly=row.get("partly", {}),
            versions=row.get("versions", ""),
            source=row.get("source", ""),
            types=tuple(row.get("types", ())),
            help=row.get("help", ""),
            fix=row.get("fix", ""),
        )

    def missing(row: Any) -> Missing:
        if isinstance(row, str):
            return Missing(row)
        return Missing(row["help"], row.get("source", ""), row.get("fix", ""))

    def limits(rows: Mapping[str, Any]) -> dict[str, Limit]:
        return {
            name: Limit(
                row["value"],
                "; ".join(sources[key.strip()] for key in row["source"].split(",")),
                row.get("earlier", {}),
            )
            for name, row in rows.items()
        }

    units = tuple(data.get("units", ()))
    given: dict[str, Any] = data.get("limits", {})
    return SupportTable(
        engine=data["engine"],
        title=data["title"],
        version=data["version"],
        units=units,
        sources=sources,
        operators={name: operator(row) for name, row in data["operators"].items()},
        missing={name: missing(row) for name, row in data.get("missing", {}).items()},
        limits={
            "": limits({name: row for name, row in given.items() if name not in units}),
            **{unit: limits(given[unit]) for unit in units if unit in given},
        },
        conditions=tuple(data.get("conditions", ())),
        elsewhere=data.get("elsewhere", ""),
    )


@cache
def converted_operators(engine: str = ENGINE) -> frozenset[str]:
    """Names of the standard operators the engine takes."""
    return frozenset(table(engine)["operators"])


def version_in(version: str, ranges: str) -> bool:
    """Whether a release lies in a range such as ``">=2.4.0,<3"``; the empty range has all.

    The empty version stands for a release newer than all that are named.
    Raises ``ValueError`` for a range or a version that is none.
    """
    return all(_bounded(version, part.strip()) for part in ranges.split(",") if part.strip())


def _bounded(version: str, bound: str) -> bool:
    found = re.fullmatch(r"(>=|<=|<|>|==)\s*([\d.]+)", bound)
    if found is None:
        raise ValueError(f"not a range of versions: {bound!r}")
    if not version:
        return found[1] in (">=", ">")
    have, wanted = _numbers(version), _numbers(found[2])
    # 2.10 is in "<=2.10" whatever its patch level.
    have = have[: len(wanted)] + (0,) * (len(wanted) - len(have))
    return {
        ">=": have >= wanted,
        "<=": have <= wanted,
        "<": have < wanted,
        ">": have > wanted,
        "==": have == wanted,
    }[found[1]]


def _numbers(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        raise ValueError(f"not a version: {version!r}")
    return tuple(int(part) for part in version.split("."))
