"""What is known of rules, conditions and operators, as pages of Markdown: for ``explain`` and for ``docs/``.

The words are those of the sources: a rule's docstring, a table's rows, the examples beside it.  Rules
are read as text, since loading them would load ONNX.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from deploycc.diagnostics import CATALOGUE
from deploycc.effects import EFFECTS
from deploycc.op_support import (
    Operator,
    SupportTable,
    engines,
    examples,
    support_table,
    table,
    version_in,
)
from deploycc.rule_names import RULES_FOLDER, condition_effects, condition_ids, rule_files, table_text

QUANTISED = {"T8": "uint8", "T9": "float", "T4": "int4", "T5": "float"}
"""The element types that the examples leave to the operator; ``QuantizeLinear`` has them the other way."""
_QUANTISING = {"T8": "float", "T9": "uint8", "T4": "float", "T5": "int4"}
_HEADINGS = {"fires": "It fires on", "silent": "It is silent on"}


@dataclass(frozen=True)
class Rule:
    """A rule in Python: its docstring in two parts, the codes it reports, the limits it compares with.

    ``names`` are its words with dashes: the rewrites that it names are among them.
    """

    name: str
    headline: str
    words: str
    codes: tuple[str, ...]
    limits: tuple[str, ...]
    names: tuple[str, ...]


@cache
def rule(name: str) -> Rule:
    """What the file of a rule says."""
    tree = ast.parse(rule_files()[name].read_text(encoding="utf-8"))
    headline, _, words = (ast.get_docstring(tree) or name).partition("\n\n")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    limits = [
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "limit"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    ]
    return Rule(
        name=name,
        headline=" ".join(headline.split()),
        words=words.strip(),
        codes=tuple(dict.fromkeys(text for text in texts if text in CATALOGUE)),
        limits=tuple(dict.fromkeys(str(limit) for limit in limits)),
        names=tuple(dict.fromkeys(text for text in texts if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", text))),
    )


def rule_page(name: str, *, engine: str = "", unit: str = "", version: str = "", level: int = 1) -> list[str]:
    """A rule in Python, and the limits it compares with: all, or those of an engine's unit and release."""
    found = rule(name)
    lines = [f"{'#' * level} {name} ({', '.join(found.codes)})", "", f"**{found.headline}**"]
    if found.words:
        lines += ["", found.words]
    lines += ["", *(f"- {code}: {CATALOGUE[code].title}" for code in found.codes)]
    lines += _graphs(rule_examples().get(name, {}))
    if engine:
        limits = list(limit_lines(engine, unit=unit, version=version, keys=found.limits))
        if limits:
            lines += [
                "",
                f"Limits of {support_table(engine).title}{f' {unit}' if unit else ''}:",
                "",
                *limits,
            ]
        return lines
    for having in engines():
        if any(re.search(rf"^{key} *=", table_text(having), re.M) for key in found.limits):
            limits = list(limit_lines(having, keys=found.limits))
            lines += ["", f"Limits of {support_table(having).title}:", "", *limits] if limits else []
    return lines


@cache
def rule_examples() -> Mapping[str, Any]:
    """For every rule in Python a graph on which it fires and one on which it is silent."""
    return tomllib.loads((RULES_FOLDER / "examples.toml").read_text(encoding="utf-8"))


def _graphs(example: Mapping[str, Any]) -> list[str]:
    lines = []
    for which, heading in _HEADINGS.items():
        if which in example:
            opset, graph = example[which]["opset"], example[which]["graph"].strip()
            lines += ["", f"{heading} (opset {opset}):", "", "```", graph, "```"]
    return lines


def limit_lines(
    engine: str, *, unit: str | None = None, version: str = "", keys: Collection[str] | None = None
) -> Iterator[str]:
    """The limits of an engine as items of a list: those of a unit, or of all units, each with its name.

    ``version`` is the release whose values are wanted, ``keys`` the limits that are.
    """
    data = support_table(engine)
    rows: Mapping[str, Any] = table(engine).get("limits", {})
    parts = {"": {key: row for key, row in rows.items() if key not in data.units}}
    parts |= {part: rows[part] for part in data.units if part in rows}
    if unit is not None:
        parts = {"": {**parts[""], **parts.get(unit, {})}}
    for part, limits in parts.items():
        whose = f" of {part}" if part else ""
        for key, row in sorted(limits.items()):
            if keys is None or key in keys:
                value, source = _limit_value(row, version), data.source(row["source"])
                yield f"- {key.replace('_', ' ')}{whose}: {value} ({source})"


def _limit_value(row: Mapping[str, Any], version: str) -> str:
    """The value, or that of an older release; without a release both."""
    earlier: Mapping[str, Any] = row.get("earlier", {})
    for releases, value in earlier.items():
        if version and version_in(version, releases):
            return _shown(value)
    older = "".join(f", {_shown(value)} in {releases}" for releases, value in earlier.items())
    return _shown(row["value"]) + ("" if version else older)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def condition_rows(name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The engines that have a condition of this id, each with its row."""
    return [
        (engine, row)
        for engine in engines()
        if name in condition_ids(engine)
        for row in support_table(engine).conditions
        if row["id"] == name
    ]


def condition_page(
    engine: str, row: Mapping[str, Any], *, level: int = 1, graphs: tuple[str, ...] = ("fires", "silent")
) -> list[str]:
    """A condition of a table: what, why, what to do, and the graphs on which it fires and stays silent."""
    table = support_table(engine)
    effect = EFFECTS[row["effect"]]
    operators = "every operator" if row["operators"] == ["*"] else ", ".join(row["operators"])
    subject = row["operators"][0] if len(row["operators"]) == 1 and row["operators"] != ["*"] else "It"
    lines = [
        f"{'#' * level} {row['id']} ({effect.code})",
        "",
        f"**{subject} {effect.headline}: {row['says']}.**",
        "",
        f"- table: {table.title}{_scope(row)}",
        f"- operators: {operators}",
        f"- {row.get('severity', effect.severity)}, {effect.verdict}",
        f"- when `{row['when']}`",
        f"- got: {_plain(row['got'])}",
        f"- need: {_plain(row['need'])}",
        f"- source: {source_of(table, row)}",
        "",
        f"Instead: {row['help']}." if row["help"] else "No way around it is known.",
    ]
    if row.get("fix"):
        lines += ["", f"Repaired by: {row['fix']} (`deploycc lint --fix`)."]
    for which in graphs:
        graph = example_graph(engine, row, which)
        if graph:
            lines += ["", f"{_HEADINGS[which]} (opset {graph[0]}):", "", "```", graph[1], "```"]
    return lines


def _scope(row: Mapping[str, Any]) -> str:
    parts = [f" on {', '.join(row['units'])}"] if row.get("units") else []
    parts += [f", releases {row['versions']}"] if row.get("versions") else []
    return "".join(parts)


def _plain(text: str) -> str:
    """A template as words: ``rank {rank(input[0])}`` keeps its expressions, marked as code."""
    return text.replace("{", "`").replace("}", "`")


def source_of(table: SupportTable, row: Mapping[str, Any]) -> str:
    """Where a condition is known from, and whether that was read or seen in a run."""
    place = f" {row['place']}" if row.get("place") else ""
    evidence = "seen in a run" if row.get("evidence") == "run" else "read in the source"
    return f"{table.source(row['source'])}{place}, {evidence}"


def example_graph(engine: str, row: Mapping[str, Any], which: str) -> tuple[int, str] | None:
    """The opset and text of the graph on which a condition ``fires`` or is ``silent``."""
    found = examples(engine).get(row["id"], {}).get(which)
    if found is None:
        return None
    operator = row["operators"][0]
    text = str(found["graph"]).strip().replace("OP", operator)
    types = _QUANTISING if operator == "QuantizeLinear" else QUANTISED
    for name, kind in types.items():
        text = text.replace(f"{name}[", f"{kind}[")
    return int(found["opset"]), text


def units_of(row: Operator, table: SupportTable) -> str:
    """The units that run an operator, in the table's order; partly ones are marked."""
    if not table.units:
        return ""
    shown = []
    for unit in table.units:
        if unit in row.partly:
            shown.append(f"{unit} (partly)")
        elif unit in row.units:
            shown.append(unit)
    return ", ".join(shown) or "none"


def by_code(code: str) -> tuple[list[str], dict[str, list[str]]]:
    """The rules in Python that report a code, and the conditions by engine whose effect does."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in rule_files().items()}
    rules = [name for name, text in texts.items() if code in text and code in rule(name).codes]
    effects = {name for name, effect in EFFECTS.items() if effect.code == code}
    conditions = {
        engine: [name for name, effect in condition_effects(engine).items() if effect in effects]
        for engine in (engines() if effects else ())
    }
    return rules, {engine: ids for engine, ids in conditions.items() if ids}


def instead(engine: str, operator: str) -> tuple[str, str]:
    """What a table says to write where an operator is not taken, and the rewrite it names."""
    data = table(engine)
    row = data.get("missing", {}).get(operator) or data["operators"].get(operator)
    if isinstance(row, str):
        return row, ""
    return (row.get("help", ""), row.get("fix", "")) if isinstance(row, dict) else ("", "")


def rows_about(table: SupportTable, operator: str, unit: str = "") -> Iterator[Mapping[str, Any]]:
    """The conditions that name an operator and, if given, are about a unit."""
    for row in table.conditions:
        if operator in row["operators"] and (not unit or not row.get("units") or unit in row["units"]):
            yield row


def markdown(lines: Iterable[str]) -> str:
    """The lines as a text that ends with one line break."""
    return "\n".join(lines).rstrip("\n") + "\n"
