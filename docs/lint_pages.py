"""The pages of rules, operator support and rewrites, from the same text as ``deploycc explain``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploycc.explaining.answers import FAMILIES, fix_page, rule_fixes
from deploycc.explaining.pages import condition_page, limit_lines, markdown, rule, rule_page, units_of
from deploycc.fixing import fixes
from deploycc.lint_targets import external, external_names
from deploycc.op_support import SupportTable, engines, support_table
from deploycc.rule_names import condition_ids, rule_files

FOLDER = Path(__file__).resolve().parent
_WRITTEN = "Written by `make docs`"


def lint_pages() -> dict[Path, str]:
    """Every page about lint and its text."""
    pages = {FOLDER / "rules" / "index.md": _rules_index()}
    for digit, names in _rules_by_family().items():
        pages[FOLDER / "rules" / f"{_file(digit)}.md"] = _rules_page(digit, names)
    pages[FOLDER / "op-support" / "index.md"] = _tables_index()
    for engine in engines():
        pages[FOLDER / "op-support" / f"{engine}.md"] = _table_page(engine)
    pages[FOLDER / "fixes.md"] = _fixes_page()
    return pages


def _file(digit: str) -> str:
    return f"dc{digit}00"


def _rules_by_family() -> dict[str, list[str]]:
    """Names of the rules in Python by the first digit of their first code."""
    found: dict[str, list[str]] = {}
    for name in rule_files():
        found.setdefault(rule(name).codes[0][2], []).append(name)
    return dict(sorted(found.items()))


def _rules_index() -> str:
    lines = [
        "# Rules of lint",
        "",
        f"{_WRITTEN} from the docstrings of `deploycc/linting/rules`. These say what no row of a table can;",
        "the conditions of single operators are with [the tables](../op-support/index.md).",
        "`deploycc explain NAME` prints the same.",
        "",
    ]
    for digit, names in _rules_by_family().items():
        lines += [f"## {FAMILIES[digit].capitalize()}", ""]
        lines += [f"- [{name}]({_file(digit)}.md#{_anchor(name)}): {rule(name).headline}" for name in names]
        lines.append("")
    return markdown(lines)


def _anchor(name: str) -> str:
    """The heading ``name (DC400)`` as GitHub links to it."""
    codes = "-".join(code.lower() for code in rule(name).codes)
    return f"{name}-{codes}"


def _rules_page(digit: str, names: list[str]) -> str:
    lines = [f"# Rules about {FAMILIES[digit]}", "", f"{_WRITTEN}. [All rules](index.md).", ""]
    for name in names:
        lines += [*rule_page(name, level=2), ""]
        links = [f"[{fix}](../fixes.md#{fix})" for fix in rule_fixes(name)]
        lines += [f"Repaired by: {', '.join(links)}.", ""] if links else []
    return markdown(lines)


def _tables_index() -> str:
    lines = [
        "# Operator support",
        "",
        f"{_WRITTEN} from `targets/op_support`: what each compiler, converter or library takes, and when",
        "that still goes wrong. An operator in neither list of a table is not known, and lint says so.",
        "",
        "| table | version | operators | not taken | conditions |",
        "|---|---|---|---|---|",
    ]
    for engine in engines():
        table = support_table(engine)
        counts = f"{len(table.operators)} | {len(table.missing)} | {len(condition_ids(engine))}"
        lines.append(f"| [{table.title}]({engine}.md) | {table.version} | {counts} |")
    lines += ["", "Targets of other compilers, and the table that decides:", "", "| target | what | table |"]
    lines.append("|---|---|---|")
    for name in external_names():
        family = external(name)
        lines.append(f"| `{name}` | {family.description} | [{family.engine}]({family.engine}.md) |")
        for unit, what in family.units.items():
            engine = what.engine or family.engine
            lines.append(f"| `{name}:{unit}` | {what.description} | [{engine}]({engine}.md) |")
    return markdown(lines)


def _table_page(engine: str) -> str:
    table = support_table(engine)
    lines = [
        f"# {table.title}",
        "",
        f"{_WRITTEN} from `targets/op_support/{engine}.toml`: {table.version}. [All tables](index.md).",
        "",
        "Sources:",
        "",
        *(f"- {key}: {text}" for key, text in table.sources.items()),
    ]
    limits = list(limit_lines(engine))
    if limits:
        lines += ["", "## Limits", "", *limits]
    lines += ["", "## Operators", "", *_operators(table)]
    if table.missing:
        lines += ["", "## Not taken", "", "| operator | instead |", "|---|---|"]
        lines += [f"| {name} | {_cell(row.help)} |" for name, row in sorted(table.missing.items())]
    if table.conditions:
        lines += ["", "## Conditions", ""]
        for row in table.conditions:
            lines += [*condition_page(engine, row, level=3, graphs=("fires",)), ""]
    return markdown(lines)


def _fixes_page() -> str:
    lines = [
        "# Rewrites",
        "",
        f"{_WRITTEN} from `deploycc/fixing/rewrites`: what `deploycc lint --fix` makes of a model where a",
        "rule or a condition names a rewrite. Each is checked on the model itself with ONNX Runtime, and",
        "undone where the result differs; a new model is written, never the old one. Those that change the",
        "numbers or, in some cases, the meaning are made with `--fix-unsafe` only. `--diff` shows the change",
        "and writes nothing.",
        "",
        "| rewrite | what | safety |",
        "|---|---|---|",
    ]
    lines += [f"| [{f.name}](#{f.name}) | {_cell(f.headline)} | {f.safety} |" for f in fixes().values()]
    for name in fixes():
        lines += ["", *fix_page(name, level=2)]
    return markdown(lines)


def _operators(table: SupportTable) -> Iterator[str]:
    """A row for each operator, with the columns that the table fills."""
    rows = {
        name: (
            ", ".join(map(str, row.opsets)),
            units_of(row, table),
            "; ".join(f"{unit}: {what}" for unit, what in row.partly.items()),
            row.versions,
            row.source,
        )
        for name, row in sorted(table.operators.items())
    }
    titles = ("versions", "runs on", "only some forms", "releases", "source")
    shown = [index for index in range(len(titles)) if any(row[index] for row in rows.values())]
    yield "| " + " | ".join(["operator", *(titles[index] for index in shown)]) + " |"
    yield "|" + "---|" * (len(shown) + 1)
    for name, row in rows.items():
        yield "| " + " | ".join([name, *(_cell(row[index]) for index in shown)]) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
