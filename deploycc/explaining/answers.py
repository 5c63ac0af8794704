"""What ``deploycc explain`` says: of a code, a rule, a condition, a rewrite, an operator, a target."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import get_args

from deploycc.diagnostics import CATALOGUE
from deploycc.explaining.pages import (
    by_code,
    condition_page,
    condition_rows,
    instead,
    limit_lines,
    markdown,
    rows_about,
    rule,
    rule_page,
    units_of,
)
from deploycc.lint_targets import External, external, external_names, is_external, load_lint_target
from deploycc.lint_types import LintTarget
from deploycc.op_support import Operator, SupportTable, engines, support_table, version_in
from deploycc.rule_names import BASELINE_GONE, POLICY_RULES, UNUSED_IGNORE, near_rule, rule_files, rule_names
from deploycc.targets import target_names
from deploycc.types import DeployccError, Diagnostic, Verdict

FAMILIES = {
    "1": "the model's form",
    "2": "shapes",
    "3": "element types and quantisation",
    "4": "operators",
    "5": "targets and their limits",
    "6": "tuning",
    "7": "packages, usage and the machine",
    "8": "packages at work",
}

_POLICY = {
    UNUSED_IGNORE: """**An ignore of deploycc.toml matches no finding.**

The finding is gone, or the ignore's patterns are wrong and never matched. It is told for the targets and
the model that the ignore is about, so that the list holds nothing but what is still lived with. Remove
the ignore, or correct its patterns.""",
    BASELINE_GONE: """**Findings of the baseline no longer occur.**

They were repaired, or the network around them changed so much that they are new findings. Write the
baseline anew (`--write-baseline`), so that they count when they come back.""",
}


def explain(name: str, target: str = "") -> str:
    """A page of Markdown about a code, rule, condition, operator or target; on ``target`` where one is given.

    Raises ``DeployccError``: DC776 where nothing is called so, DC500 and DC510 for a target that is none.
    """
    aimed = load_lint_target(target) if target else None
    if name.upper() in CATALOGUE:
        return markdown(_code(name.upper()))
    if name in POLICY_RULES:
        return markdown(_about_policy(name))
    pages = list(_named(name, aimed))
    if pages:
        return "\n".join(map(markdown, pages))
    if is_external(name) or re.split("[:@]", name)[0] in target_names():
        return markdown(_target(load_lint_target(name)))
    found = _operator(name, aimed) or fix_page(name)
    if not found:
        raise DeployccError(_unknown(name))
    return markdown(found)


def _named(name: str, target: LintTarget | None) -> Iterator[list[str]]:
    """The pages of the rule and the conditions that are called so; of one target's table where it has one."""
    if name in rule_files():
        engine, unit, version = (target.engine, target.unit, target.version) if target else ("", "", "")
        page = rule_page(name, engine=engine, unit=unit, version=version)
        yield [*page, *_rewrites(rule_fixes(name))]
    rows = condition_rows(name)
    there = [(engine, row) for engine, row in rows if target is None or engine == target.engine]
    for engine, row in there or rows:
        yield [*condition_page(engine, row), *_rewrites([row["fix"]] if row.get("fix") else [])]


@cache
def rule_fixes(name: str) -> tuple[str, ...]:
    """The rewrites that a rule in Python names."""
    names = [word for word in rule(name).names if word not in get_args(Verdict)]
    if not names:
        return ()
    from deploycc.fixing import fixes

    return tuple(word for word in names if word in fixes())


def _rewrites(names: Iterable[str]) -> list[str]:
    return [line for name in names for line in ("", *fix_page(name, level=2))]


def fix_page(name: str, level: int = 1) -> list[str]:
    """A rewrite: what becomes of what, in PyTorch and in ONNX, and of the numbers; empty for none.

    It loads ONNX, which the pages without a rewrite do not need.
    """
    from deploycc.fixing import fix_named

    fix = fix_named(name)
    if fix is None:
        return []
    option = "--fix" if fix.safety == "exact" else "--fix-unsafe"
    operators = "every operator" if fix.operators == ("*",) else ", ".join(fix.operators)
    bound = f" At most {fix.bound:g} of the output's largest magnitude." if fix.bound else ""
    lines = [
        f"{'#' * level} {fix.name}",
        "",
        f"**{fix.headline}.**",
        "",
        f"- operators: {operators}",
        f"- safety: {fix.safety} (`deploycc lint {option}`)",
        f"- numbers: {fix.effect}{bound}",
    ]
    if fix.pytorch:
        lines += ["", "In PyTorch write:", "", "```", fix.pytorch.strip(), "```"]
    if fix.onnx:
        lines += ["", "In ONNX it becomes:", "", "```", fix.onnx.strip(), "```"]
    if fix.refuses:
        lines += ["", fix.refuses]
    return lines


@cache
def rule_help(name: str) -> str:
    """The page of a rule, condition or code for reports; empty where there is none."""
    return explain(name) if name in CATALOGUE or name in rule_names() else ""


def _about_policy(name: str, level: int = 1) -> list[str]:
    return [f"{'#' * level} {name} ({POLICY_RULES[name]})", "", _POLICY[name]]


def _code(code: str) -> list[str]:
    entry = CATALOGUE[code]
    rules, conditions = by_code(code)
    leaves = f"as an error it leaves with exit code {entry.exit_code}" if entry.exit_code else "only noted"
    lines = [f"# {code}: {entry.title}", "", f"A finding about {FAMILIES[code[2]]}; {leaves}."]
    if len(rules) == 1 and not conditions:
        lines += ["", *rule_page(rules[0], level=2)]
    elif code in POLICY_RULES.values():
        (name,) = (name for name, known in POLICY_RULES.items() if known == code)
        return [*lines, "", *_about_policy(name, level=2)]
    elif rules:
        lines += ["", "Rules that report it:", "", *(f"- {name}" for name in rules)]
    for engine, ids in conditions.items():
        lines += ["", f"Conditions of {support_table(engine).title}'s table:", "", *_columns(ids)]
    if rules or conditions:
        lines += ["", "`deploycc explain NAME` says more about each."]
    else:
        lines += ["", "The message itself says what was found, what was needed and how to get there."]
    return lines


def _columns(words: Iterable[str]) -> list[str]:
    return [f"- {word}" for word in words]


def _operator(name: str, target: LintTarget | None) -> list[str]:
    """An operator on one target, or what every table says of it."""
    tables = [support_table(engine) for engine in engines()]
    if not any(table.knows(name) for table in tables):
        return []
    if target is None:
        lines = [f"# {name}", "", "| table | taken | runs on | conditions |", "|---|---|---|---|"]
        for table in tables:
            count = sum(1 for _ in rows_about(table, name))
            row = table.operators.get(name)
            taken = "yes" if row else "no" if name in table.missing else "not known"
            lines.append(
                f"| {table.title} | {taken} | {units_of(row, table) if row else ''} | {count or ''} |"
            )
        return [*lines, "", f"`deploycc explain {name} --target T` says more of one target."]
    table = support_table(target.engine)
    lines = [f"# {name} on {target.name}", ""]
    row = table.operators.get(name)
    if row is not None and version_in(target.version, row.versions):
        lines += _taken(row, table, target)
    elif name in table.missing or row is not None:
        missing = table.missing.get(name)
        lines.append(
            f"**Not taken**: {table.title}{_since(row)} refuses a network that has it (no-converter, DC400)."
        )
        if missing is not None:
            source = table.source(missing.source) or f"{table.title}, {table.version}"
            lines += ["", f"- source: {source}"]
    else:
        lines.append(
            f"**Not known**: no source tells whether {table.title} takes it (support-unknown, DC414)."
        )
    words, fix = instead(table.engine, name)
    if words:
        lines += ["", f"Instead: {words}."]
    if fix:
        lines += _rewrites([fix])
    for condition in rows_about(table, name, target.unit):
        if version_in(target.version, condition.get("versions", "")):
            lines += ["", *condition_page(table.engine, condition, level=2)]
    return lines


def _since(row: Operator | None) -> str:
    return f" before {row.versions}" if row is not None and row.versions else ""


def _taken(row: Operator, table: SupportTable, target: LintTarget) -> list[str]:
    unit = target.unit
    if unit in row.partly:
        lines = [f"**Partly**: {row.partly[unit]}."]
    elif unit and table.units and unit not in row.units:
        moved = target.fallback and target.fallback in row.units
        lines = [
            f"**Not on {unit}**: the runtime moves it to {target.fallback} (unit-lacks, DC416)."
            if moved
            else f"**Not on {unit}** (unit-lacks, DC416)."
        ]
    else:
        lines = [f"**Taken** by {table.title}{f' and run on {unit}' if unit and table.units else ''}."]
    lines += ["", f"- table: {table.title}, {table.version}"]
    if row.opsets:
        lines.append(f"- versions of the operator: {', '.join(map(str, row.opsets))}")
    if table.units:
        lines.append(f"- runs on: {units_of(row, table)}")
    if row.versions:
        lines.append(f"- releases: {row.versions}")
    if row.source:
        lines.append(f"- source: {table.source(row.source)}")
    return lines


def _target(target: LintTarget) -> list[str]:
    table = support_table(target.engine)
    lines = [f"# {target.name}", ""]
    if target.compiled is not None:
        lines.append(f"{target.compiled.description}. Packages are built for it.")
        if target.compiled.gpus:
            lines += ["", *(f"- {gpu.arch}: {gpu.description}" for gpu in target.compiled.gpus)]
    else:
        lines += _family(external(target.family), target)
    lines += ["", f"- table: {table.title}, {table.version}"]
    taken = [row for row in table.operators.values() if version_in(target.version, row.versions)]
    there = [row for row in taken if not target.unit or not table.units or target.unit in row.units]
    lines.append(
        f"- operators: {len(taken)} taken" + (f", {len(there)} run on {target.unit}" if target.unit else "")
    )
    rows = [
        row
        for row in table.conditions
        if not target.unit or not row.get("units") or target.unit in row["units"]
    ]
    lines.append(f"- known not to be taken: {len(table.missing)}; conditions: {len(rows)}")
    if target.hints:
        lines.append(f"- shown beside it: {', '.join(support_table(hint).title for hint in target.hints)}")
    if target.peak is not None:
        flops, moved = target.peak.flops / 1e9, target.peak.bytes_per_second / 1e9
        lines.append(f"- peak: {flops:g} GFLOP/s, {moved:g} GB/s from memory")
    limits = list(limit_lines(target.engine, unit=target.unit, version=target.version))
    if limits:
        lines += ["", "## Limits", "", *limits]
    return [*lines, "", f"`deploycc explain OPERATOR --target {target.name}` says what it makes of one."]


def _family(family: External, target: LintTarget) -> list[str]:
    lines = [f"{family.description}. Another compiler takes the network over."]
    if target.unit:
        unit = family.units[target.unit]
        moved = f"; what it does not run goes to {unit.fallback}" if unit.fallback else ""
        lines += ["", f"{target.unit}: {unit.description}{moved}."]
    elif family.units:
        lines += ["", *(f"- {family.name}:{name}: {unit.description}" for name, unit in family.units.items())]
    if family.versions:
        named = f"`{family.name}@{family.versions[-1]}`"
        lines += ["", f"Releases that rows tell apart: {', '.join(family.versions)} ({named})."]
    if family.note:
        lines += ["", family.note]
    return lines


def _unknown(name: str) -> Diagnostic:
    operators = {
        op
        for engine in engines()
        for op in (*support_table(engine).operators, *support_table(engine).missing)
    }
    from deploycc.fixing import fixes

    known = [*operators, *external_names(), *target_names()]
    near = difflib.get_close_matches(name, known, n=1) or [near_rule(name)]
    if not near[0]:
        near = difflib.get_close_matches(name, fixes(), n=1) or [""]
    return Diagnostic(
        "DC776",
        f"nothing is called '{name}'",
        need="a code (DC402), a rule or condition (no-converter), a rewrite (mish-to-tanh), "
        "an operator (Resize) or a target (snpe:htp)",
        help=f"did you mean {near[0]}?" if near[0] else "",
    )
