"""What a finding can be called: codes, rules in Python, conditions of the support tables.

Read from the files as they are, so that a command line need not load the rules and ONNX with them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from deploycc.diagnostics import CATALOGUE
from deploycc.op_support import engines
from deploycc.resources import data_dir
from deploycc.types import Diagnostic

UNUSED_IGNORE = "unused-ignore"
BASELINE_GONE = "baseline-gone"
POLICY_RULES = {UNUSED_IGNORE: "DC773", BASELINE_GONE: "DC775"}
"""Findings about the policy itself, with their codes."""

RULES_FOLDER = Path(__file__).resolve().parent / "linting" / "rules"


@cache
def rule_files() -> dict[str, Path]:
    """The file of every rule in Python by the rule's name, in order of names."""
    paths = sorted(path for path in RULES_FOLDER.glob("*.py") if path.stem != "__init__")
    return {path.stem.replace("_", "-"): path for path in paths}


@cache
def table_text(engine: str) -> str:
    """The table of an engine before it is parsed."""
    return (data_dir("targets") / "op_support" / f"{engine}.toml").read_text(encoding="utf-8")


@cache
def condition_effects(engine: str) -> dict[str, str]:
    """The ids of an engine's conditions and their effects, from the text: parsing all tables is slow."""
    found = {}
    for block in re.split(r"^\[\[conditions\]\]", table_text(engine), flags=re.M)[1:]:
        keys = dict(re.findall(r"""^(id|effect) *= *["']([\w.-]+)["']""", block, re.M))
        found[keys.get("id", "")] = keys.get("effect", "")
    return found


def condition_ids(engine: str) -> tuple[str, ...]:
    """The ids of an engine's conditions."""
    return tuple(condition_effects(engine))


@cache
def rule_names() -> frozenset[str]:
    """Every name that ``Diagnostic.rule`` may have."""
    conditions = (name for engine in engines() for name in condition_ids(engine))
    return frozenset((*rule_files(), *conditions, *POLICY_RULES))


def is_rule(text: str) -> bool:
    """Whether a code, the beginning of one, a rule's name or a pattern of names is meant by ``text``."""
    if re.fullmatch(r"DC\d*", text):
        return any(code.startswith(text) for code in CATALOGUE)
    if any(mark in text for mark in "*?["):
        return any(fnmatchcase(name, text) for name in rule_names())
    return text in rule_names()


def near_rule(text: str) -> str:
    """The code or name that is nearest to ``text``, empty if none is near."""
    found = difflib.get_close_matches(text, [*CATALOGUE, *sorted(rule_names())], n=1)
    return found[0] if found else ""


def called(finding: Diagnostic, text: str) -> bool:
    """Whether ``text`` (as in ``is_rule``) is what the finding is called."""
    if re.fullmatch(r"DC\d*", text):
        return finding.code.startswith(text)
    return bool(finding.rule) and fnmatchcase(finding.rule, text)


def unknown_rules(texts: Iterable[str], where: str) -> list[Diagnostic]:
    """DC777 for every text that is no rule."""
    faults = []
    for text in texts:
        if not is_rule(text):
            near = near_rule(text)
            faults.append(
                Diagnostic(
                    "DC777",
                    f"{where} names no rule",
                    got=text,
                    need="a code (DC402), the beginning of codes (DC4), a rule's name or a pattern (snpe-*)",
                    help=f"did you mean {near}?" if near else "",
                )
            )
    return faults
