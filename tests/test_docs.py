"""The documentation: commands run, links lead somewhere, generated pages are as generated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.generate import pages
from tests.models import write_small_net

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TESTED_ELSEWHERE = {"link-into-cmake.md"}
"""Pages whose blocks need files of their own; tests of their subject run them."""


LONG = {"README.md", "ci-lint.md"}
"""Pages with so many commands that they have a test file, and so a processor, of their own."""


SLOW = {
    *("bench.md", "bisect.md", "diff.md", "new-target.md", "profile.md", "report.md", "several-networks.md"),
    *("cuda.md", "split.md", "variants.md", "verify.md"),
}
"""Pages whose commands take longest; ``make test-docs`` runs them."""


@dataclass(frozen=True)
class Block:
    """A fenced block: ``language`` as it stands behind the fence."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    return [Block(language, text) for language, text in found]


def runnable(page: Path) -> list[Block]:
    """Blocks that are run: ``sh``, ``python`` that uses the package, ``toml`` that says which file it is."""
    starts = {"sh": "", "python": "import deploycc", "toml": "# "}
    return [b for b in blocks(page) if b.language in starts and b.text.startswith(starts[b.language])]


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_commands(page: Path, tmp_path: Path) -> None:
    """In order, in a folder with ``model.onnx`` and ``dynamic.onnx``; ``shell`` blocks are only shown."""
    write_small_net(tmp_path / "model.onnx")
    write_small_net(tmp_path / "dynamic.onnx", height="H")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in runnable(page):
        first, _, rest = block.text.partition("\n")
        if block.language == "toml":
            (tmp_path / first.removeprefix("# ")).write_text(rest, encoding="utf-8")
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.text],
            cwd=tmp_path, env={**os.environ, "PATH": path},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{title(page)}:\n{block.text}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=pytest.mark.slow) if p.name in SLOW else p
        for p in PAGES
        if runnable(p) and p.name not in (*TESTED_ELSEWHERE, *LONG)
    ],
    ids=lambda page: title(page),
)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_commands(page, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: title(page))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{title(page)} links to {target}"


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    names = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md"]
    assert [name for name in names if f"({name})" not in index] == []
    for folder in sorted({page.parent for page in (ROOT / "docs").glob("*/*.md")}):
        assert f"({folder.name}/index.md)" in index
        own = (folder / "index.md").read_text(encoding="utf-8")
        names = [page.name for page in folder.glob("*.md") if page.name != "index.md"]
        assert [name for name in names if f"({name}" not in own] == []


def test_pages_that_sources_name_are_there() -> None:
    sources = [p for folder in ("deploycc", "schedules", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    named = {
        (n, p.name) for p in sources for n in re.findall(r"docs/[\w-]+\.md", p.read_text(encoding="utf-8"))
    }
    assert sorted(name for name in named if not (ROOT / name[0]).exists()) == []


def test_generated_pages_are_as_generated() -> None:
    generated = pages()
    for path, text in generated.items():
        assert path.is_file(), f"'make docs' writes {title(path)}"
        assert path.read_text(encoding="utf-8") == text, f"'make docs' writes {title(path)} anew"
    folders = {path.parent for path in generated} - {ROOT / "docs"}
    assert {page for folder in folders for page in folder.glob("*.md")} <= generated.keys()


def test_the_build_shown_in_the_readme_is_what_a_build_shows() -> None:
    """Stage by stage; times and sizes differ."""
    from deploycc.trace import DUMPS

    shown = next(block.text for block in blocks(ROOT / "README.md") if block.text.startswith("model.onnx ->"))
    stages = [line.split()[0] for line in shown.splitlines()[1 : 1 + len(DUMPS)]]
    assert stages == list(DUMPS)
