"""``deploycc.toml``: what lint checks in a project, and which of its findings do not count.

.. code-block:: toml

    [lint]
    targets = ["arm64", "snpe:htp"]
    fail-level = "warning"
    baseline = "lint-baseline.json"

    [[lint.ignore]]
    rule = "resize-antialias"
    node = "/head/*"
    target = "snpe:*"
    reason = "the app blurs the image before"
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from deploycc.rule_names import unknown_rules
from deploycc.types import DeployccError, Diagnostic

FILE_NAME = "deploycc.toml"

FailLevel = Literal["error", "warning", "info", "never"]
FAIL_LEVELS: tuple[FailLevel, ...] = get_args(FailLevel)


@dataclass(frozen=True)
class Ignore:
    """Findings of ``rule`` about nodes that match ``node`` do not count, for a reason.

    ``rule`` is a code, the beginning of codes, a name or a pattern of names; ``node``, ``target`` and
    ``model`` (the file's name) are patterns as of a shell.  ``place`` says where it stands.
    """

    rule: str
    reason: str
    node: str = "*"
    target: str = "*"
    model: str = "*"
    place: str = ""

    def about(self, target: str, model: str) -> bool:
        """Whether it is about this target and model file at all."""
        return _matches(target, self.target) and _matches(model, self.model)

    def takes(self, node: str) -> bool:
        """Whether it is about this node."""
        return _matches(node, self.node)

    def shown(self) -> str:
        """As it stands in the file, without the reason."""
        fields = {"rule": self.rule, "node": self.node, "target": self.target, "model": self.model}
        return ", ".join(f'{key} = "{value}"' for key, value in fields.items() if value != "*")


@dataclass(frozen=True)
class PolicyFile:
    """The table ``[lint]`` of a ``deploycc.toml``; what is not in it is empty."""

    path: Path
    targets: tuple[str, ...] = ()
    fail_level: FailLevel | None = None
    select: tuple[str, ...] = ()
    ignores: tuple[Ignore, ...] = ()
    baseline: Path | None = None


def find_policy_file(model: Path) -> Path | None:
    """The nearest ``deploycc.toml`` from the model's folder upwards, as far as a folder with ``.git``."""
    folder = model.absolute().parent
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
        if (place / ".git").exists():
            return None
    return None


def load_policy_file(path: Path) -> PolicyFile:
    """Read a ``deploycc.toml``.

    Raises ``DeployccError`` with everything that is wrong with it: DC770 no TOML, DC771 unknown keys, DC772
    bad values, DC777 rules that there are not.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeployccError(_unreadable(path, error.strerror or str(error))) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeployccError(_unreadable(path, str(error))) from None
    reader = _Reader(path)
    reader.check_keys(data, ("lint",), "")
    lint = data.get("lint", {})
    if not isinstance(lint, dict):
        reader.wrong("lint", lint, "a table")
        lint = {}
    reader.check_keys(lint, ("targets", "fail-level", "select", "ignore", "baseline"), "lint.")
    level = reader.text(lint, "fail-level", "lint.")
    if level and level not in FAIL_LEVELS:
        reader.wrong("lint.fail-level", level, ", ".join(FAIL_LEVELS))
    baseline = reader.text(lint, "baseline", "lint.")
    found = PolicyFile(
        path=path,
        targets=tuple(_from_here(path, target) for target in reader.texts(lint, "targets")),
        fail_level=next((known for known in FAIL_LEVELS if known == level), None),
        select=reader.texts(lint, "select"),
        ignores=tuple(reader.ignores(lint.get("ignore", []))),
        baseline=path.parent / baseline if baseline else None,
    )
    reader.faults += unknown_rules(found.select, f"'select' of {path}")
    reader.faults += unknown_rules((i.rule for i in found.ignores), f"an ignore of {path}")
    if reader.faults:
        raise DeployccError(*reader.faults)
    return found


class _Reader:
    """Takes values out of tables and gathers what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.faults: list[Diagnostic] = []

    def check_keys(self, table: Mapping[str, Any], known: Iterable[str], prefix: str) -> None:
        known = tuple(known)
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                self.faults.append(
                    Diagnostic(
                        "DC771",
                        f"unknown key '{prefix}{key}' in {self._path}",
                        need=", ".join(known),
                        help=f"did you mean '{prefix}{near[0]}'?" if near else "",
                    )
                )

    def wrong(self, key: str, value: object, need: str, hint: str = "") -> None:
        fault = f"'{key}' of {self._path} cannot be used"
        self.faults.append(Diagnostic("DC772", fault, got=repr(value), need=need, help=hint))

    def text(self, table: Mapping[str, Any], key: str, prefix: str) -> str:
        value = table.get(key, "")
        if isinstance(value, str):
            return value
        self.wrong(f"{prefix}{key}", value, "a text")
        return ""

    def texts(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.wrong(f"lint.{key}", value, "a list of texts")
        return ()

    def ignores(self, rows: object) -> Iterable[Ignore]:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            hint = "an ignore needs a reason; without one there is --ignore on the command line"
            self.wrong("lint.ignore", rows, "tables [[lint.ignore]] with rule and reason", hint)
            return
        fields = ("rule", "node", "target", "model", "reason")
        for index, row in enumerate(rows):
            prefix = f"lint.ignore[{index}]."
            self.check_keys(row, fields, prefix)
            values = {key: self.text(row, key, prefix) for key in fields if key in row}
            for key in ("rule", "reason"):
                if not values.get(key, "").strip():
                    self.wrong(f"{prefix}{key}", row.get(key, ""), "a text that is not empty")
            if values.get("rule") and values.get("reason"):
                yield Ignore(**values, place=f"{self._path.name}, lint.ignore[{index}]")


def _from_here(path: Path, target: str) -> str:
    """A target file's path is relative to the folder of ``deploycc.toml``; names stay as they are."""
    return str(path.parent / target) if target.endswith(".toml") else target


def _unreadable(path: Path, reason: str) -> Diagnostic:
    return Diagnostic("DC770", f"{path} cannot be read", got=reason, need="a TOML file with a table [lint]")


def _matches(text: str, pattern: str) -> bool:
    return text == pattern or fnmatchcase(text, pattern)
