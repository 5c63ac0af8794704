"""TOML files of machines and chips: read whole, checked key by key, all that is wrong told at once."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycc.types import DeployccError, Diagnostic

DOCUMENTED = "docs/new-target.md lists the keys"


@dataclass(frozen=True)
class Key:
    """One key of a file: its TOML type, what its value must be, and its value where it is left out.

    A key without a default must be there.
    """

    type: type
    need: str
    valid: Callable[[Any], bool] = lambda value: True
    default: Any = None


POSITIVE = ("a whole number above 0", lambda value: value > 0)
TEXT = ("a non-empty string", bool)


def is_words(value: list[Any]) -> bool:
    """Whether all of a list are strings with something in them."""
    return all(isinstance(word, str) and word for word in value)


def is_path(text: str) -> bool:
    """Whether a name of a target or chip is the path of a file: it has a separator or ends in ``.toml``."""
    return "/" in text or text.endswith(".toml")


def read_table(path: Path) -> dict[str, Any]:
    """A file's tables.  Raises ``DeployccError``: DC501 if it cannot be read, DC502 if it is no TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DeployccError(
            Diagnostic(
                "DC501", f"the target file {path} cannot be read", got=why, need="a TOML file in UTF-8"
            )
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeployccError(Diagnostic("DC502", f"{path} is not TOML", got=str(error))) from None


def flatten(table: Mapping[str, Any], file: str, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Dotted keys of a file to values.  Raises ``DeployccError`` (DC503 to DC505) with all that is wrong."""
    findings: list[Diagnostic] = []
    flat: dict[str, Any] = {}
    tables = {key.split(".")[0] for key in keys if "." in key}
    for key, value in table.items():
        if key == "sources":
            findings.extend(_check_sources(file, value, keys))
        elif key in tables:
            if isinstance(value, dict):
                flat.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
            else:
                findings.append(_wrong_type(file, key, value, f"a table [{key}]"))
        else:
            flat[key] = value
    for key, value in flat.items():
        spec = keys.get(key)
        if spec is None:
            findings.append(_unknown(file, key, keys))
        elif type(value) is not spec.type:
            findings.append(_wrong_type(file, key, value, spec.need))
        elif not spec.valid(value):
            findings.append(
                Diagnostic("DC505", f"{file}: bad value of '{key}'", got=repr(value), need=spec.need)
            )
    if findings:
        raise DeployccError(*findings)
    return flat


def complete(flat: Mapping[str, Any], file: str, keys: Mapping[str, Key], what: str) -> dict[str, Any]:
    """A value for every key.  Raises ``DeployccError`` (DC506) for those that are missing."""
    missing = [key for key, spec in keys.items() if key not in flat and spec.default is None]
    if missing:
        raise DeployccError(
            *(
                Diagnostic(
                    "DC506",
                    f"{file}: the {what} has no '{key}'",
                    need=keys[key].need,
                    help=_near_help(key, keys),
                )
                for key in missing
            )
        )
    return {key: flat.get(key, spec.default) for key, spec in keys.items()}


def _check_sources(file: str, sources: Any, keys: Mapping[str, Key]) -> list[Diagnostic]:
    if not isinstance(sources, dict):
        return [_wrong_type(file, "sources", sources, "a table [sources]")]
    findings = []
    for key, value in sources.items():
        if key not in keys:
            findings.append(_unknown(file, key, keys, inside="sources"))
        elif not isinstance(value, str):
            findings.append(
                _wrong_type(file, f"sources.{key}", value, "a string that says where the number is from")
            )
    return findings


def _unknown(file: str, key: str, keys: Mapping[str, Key], inside: str = "") -> Diagnostic:
    place = f" in [{inside}]" if inside else ""
    return Diagnostic("DC503", f"{file}: unknown key '{key}'{place}", help=_near_help(key, keys))


def _near_help(key: str, keys: Mapping[str, Key]) -> str:
    known = [*keys, "sources"]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near and near[0] != key:
        return f"did you mean '{near[0]}'?"
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last and name != key]
    return f"did you mean '{same[0]}'?" if same else DOCUMENTED


def _wrong_type(file: str, key: str, value: Any, need: str) -> Diagnostic:
    names = {str: "a string", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
    got = names.get(type(value), "a table" if isinstance(value, dict) else type(value).__name__)
    return Diagnostic("DC504", f"{file}: '{key}' has the wrong type", got=f"{got} ({value!r})", need=need)
