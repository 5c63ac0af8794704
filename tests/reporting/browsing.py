"""A page in headless Chromium: its document after all scripts ran, and what the console said."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploycc.lint import LintResult
from deploycc.reporting.html.lint_page import sections
from deploycc.reporting.html.markup import Markup, element
from deploycc.reporting.html.page import Section, page


@dataclass(frozen=True)
class Opened:
    """``console`` has the messages of scripts, errors and refusals of the security policy among them."""

    document: str
    console: tuple[str, ...]

    def answer(self) -> Any:
        """What the probe of ``probed`` gave to ``tell``."""
        found = re.search(r'<pre id="probe-answer">(.*?)</pre>', self.document, re.S)
        assert found, self.console
        unescaped = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        return json.loads(unescaped)


def browser() -> str:
    """Chromium's command; a test without it is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here: pages are not opened")


def open_page(path: Path, window: str = "1280,900") -> Opened:
    command = [
        browser(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--window-size={window}",
        "--virtual-time-budget=5000",
        "--enable-logging=stderr",
        f"--user-data-dir={path.parent / 'profile'}",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Opened(done.stdout, tuple(re.findall(r"CONSOLE[:(].*", done.stderr)))


def probed(result: LintResult, script: str) -> str:
    """The result's page with one more section, whose script clicks about and calls ``tell``."""
    tell = (
        "const tell = (v) => { document.getElementById('probe-answer').textContent = JSON.stringify(v); };"
        "const one = (s) => document.querySelector(s), all = (s) => [...document.querySelectorAll(s)];"
    )
    probe = Section("probe", "Probe", element("pre", id="probe-answer"), script=f"{{{tell}{script}}}")
    return page("probe", Markup(), [*sections(result), probe])
