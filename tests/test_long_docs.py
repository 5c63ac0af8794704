"""The documentation's longest pages: their commands run, too (``test_docs.py`` has the others)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_docs import LONG, PAGES, run_commands

LONGEST = "ci-lint.md"
"""Some thirty reports, 45 seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == LONGEST else n for n in sorted(LONG)]
)
def test_the_commands_of_a_page_run(name: str, tmp_path: Path) -> None:
    (page,) = (page for page in PAGES if page.name == name)
    run_commands(page, tmp_path)
