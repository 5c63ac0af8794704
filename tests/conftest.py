"""What all tests share: trained networks (``network``) and expected outputs kept in files (``golden``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["benchmarks.pytest_plugin"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write expected outputs instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with ``golden/NAME`` beside the test file; ``make golden`` writes it."""

    def check(name: str, text: str) -> None:
        path: Path = request.path.parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing: 'make golden' writes it"
        assert text == path.read_text(encoding="utf-8"), f"not as in {path}; if it should be: 'make golden'"

    return check
