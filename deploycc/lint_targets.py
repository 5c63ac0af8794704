"""What a model can be checked against: the targets of packages, and those of other compilers.

The second kind are files in ``targets/external``.  ``snpe:htp@2.10`` names one, a unit of its chip
and a release of its SDK.  ``cuda:sm_90@arm64`` is of the first: chips, and the processor beside them.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from deploycc.gpu_targets import CUDA, cuda_name, memory_of, peak_of, with_precision
from deploycc.lint_types import LintTarget
from deploycc.op_support import ENGINE
from deploycc.resources import data_dir
from deploycc.targets import load_target, target_names
from deploycc.types import DeployccError, Diagnostic, Peak, Target

_FORM = re.compile(r"(?P<family>[\w.+-]+)(?::(?P<unit>[\w.-]+))?(?:@(?P<version>\d+(?:\.\d+)*))?")


@dataclass(frozen=True)
class Unit:
    """A part of the chip that a network can be run on.

    ``commands`` are the steps from the ONNX file to what this unit loads, empty where they are the
    family's one ``command``; their words may hold ``{model}``, ``{name}``, ``{input_list}`` (raw inputs to
    calibrate with) and ``{soc}``.
    """

    description: str
    fallback: str = ""
    engine: str = ""
    peak: Peak | None = None
    memory_bytes: int | None = None
    commands: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class External:
    """A target of another compiler: ``engine`` is the table that decides, ``command`` the converter's.

    ``unit`` is the one that is meant where none is named, empty for the converter alone.
    """

    name: str
    description: str
    engine: str
    hints: tuple[str, ...]
    versions: tuple[str, ...]
    units: Mapping[str, Unit]
    command: tuple[str, ...]
    note: str
    unit: str = ""

    def commands(self, unit: str = "") -> tuple[tuple[str, ...], ...]:
        """The steps from the ONNX file to what the unit loads; the converter alone for no unit."""
        own = self.units[unit].commands if unit else ()
        return own or (self.command,)


def external_names() -> tuple[str, ...]:
    """Names of the targets of other compilers."""
    return tuple(sorted(path.stem for path in (data_dir("targets") / "external").glob("*.toml")))


@cache
def external(name: str) -> External:
    """One target of another compiler."""
    with (data_dir("targets") / "external" / f"{name}.toml").open("rb") as file:
        data = tomllib.load(file)
    return External(
        name=data["name"],
        description=data["description"],
        engine=data["engine"],
        hints=tuple(data.get("hints", ())),
        versions=tuple(data.get("versions", ())),
        units={unit: _unit(row) for unit, row in data.get("units", {}).items()},
        command=tuple(data.get("handover", {}).get("command", ())),
        note=data.get("note", ""),
        unit=data.get("unit", ""),
    )


def _unit(row: Mapping[str, Any]) -> Unit:
    peak = None
    if "peak_gflops" in row and "gbytes_per_second" in row:
        peak = Peak(row["peak_gflops"] * 1e9, row["gbytes_per_second"] * 1e9)
    return Unit(
        description=row["description"],
        fallback=row.get("fallback", ""),
        engine=row.get("engine", ""),
        peak=peak,
        memory_bytes=row["memory_mib"] << 20 if "memory_mib" in row else None,
        commands=tuple(tuple(words) for words in row.get("commands", ())),
    )


def is_external(text: str) -> bool:
    """Whether ``--target`` names another compiler's target, right or not in unit and version."""
    return re.split("[:@]", text, maxsplit=1)[0] in external_names()


def not_compiled_for(text: str) -> Diagnostic | None:
    """Why ``build`` cannot take ``--target text``: it has no converter to run (DC512); ``None`` if it can."""
    if not is_external(text):
        return None
    family = external(re.split("[:@]", text, maxsplit=1)[0])
    if family.command:
        return None
    return Diagnostic(
        "DC512",
        f"deploycc does not compile for '{family.name}'",
        got=f"--target {text}",
        need=f"one of {', '.join(target_names())}, or the path of a TOML file",
        help=f"'deploycc lint --target {family.name}' says what it takes of the network"
        + (f"; {family.note}" if family.note else ""),
    )


def compiled_lint_target(target: Target) -> LintTarget:
    """The lint target of one that packages are built for."""
    return LintTarget(
        name=target.name,
        family=target.name,
        unit="",
        version="",
        engine=ENGINE,
        hints=target.hints,
        compiled=target,
        peak=peak_of(target),
        memory_bytes=memory_of(target),
    )


def at_precision(target: LintTarget, precision: str) -> LintTarget:
    """A compiled target at a precision, with the peak of it; raises ``DeployccError`` (DC516, DC517)."""
    if target.compiled is None:
        if precision == "fp32":
            return target
        raise DeployccError(
            Diagnostic(
                "DC516",
                f"what the target '{target.name}' computes in is its own compiler's business",
                got=f"--precision {precision}",
                need="a target with a GPU that deploycc compiles for, such as cuda",
                help="leave --precision out",
            )
        )
    compiled = with_precision(target.compiled, precision)
    return replace(target, compiled=compiled, peak=peak_of(compiled))


def _units(family: External) -> str:
    return f", or {family.name}: with one of {', '.join(family.units)}" if family.units else ""


def load_lint_target(text: str) -> LintTarget:
    """The target of ``--target``: a name, a TOML file, ``cuda:CHIPS@HOST``, or ``FAMILY[:UNIT][@VERSION]``.

    Raises ``DeployccError``: DC510 for a unit or version the family has not, else as ``load_target``.
    """
    if not is_external(text):
        found = re.fullmatch(_FORM, text)
        named = found and (found["unit"] or found["version"]) and cuda_name(text) is None
        if found and named and found["family"] in target_names():
            raise DeployccError(
                Diagnostic(
                    "DC510",
                    f"the target '{found['family']}' has no units and no versions",
                    got=text,
                    need=found["family"],
                )
            )
        target = compiled_lint_target(load_target(text))
        # As it is asked for: 'deploycc lint' and 'explain' take that again.
        return target if cuda_name(text) is None else replace(target, name=text, family=CUDA)
    found = re.fullmatch(_FORM, text)
    family = external(re.split("[:@]", text, maxsplit=1)[0])
    unit_name = found["unit"] or family.unit if found else ""
    if found is None or (unit_name and unit_name not in family.units):
        near = difflib.get_close_matches(unit_name, family.units, n=1, cutoff=0.4)
        raise DeployccError(
            Diagnostic(
                "DC510",
                f"the target '{family.name}' has no unit '{unit_name}'" if found else f"no target: {text!r}",
                got=text,
                need=f"{family.name}{_units(family)}; then @ and the SDK's version where it matters",
                help=f"did you mean --target {family.name}:{near[0]}?" if near else "",
            )
        )
    unit = family.units.get(unit_name, Unit(""))
    engine = unit.engine or family.engine
    return LintTarget(
        name=text,
        family=family.name,
        unit=unit_name,
        version=found["version"] or "",
        engine=engine,
        # A unit with a table of its own has the family's beside it.
        hints=tuple(
            hint for hint in dict.fromkeys((family.engine, *family.hints)) if hint not in (engine, "")
        ),
        fallback=unit.fallback,
        peak=unit.peak,
        memory_bytes=unit.memory_bytes,
        note=family.note,
    )
