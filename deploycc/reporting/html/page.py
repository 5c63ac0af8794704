"""A page: a list of sections in one file that opens without a network.

A content security policy names the page's own scripts by their hashes, so nothing else runs whatever
a model calls its nodes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from deploycc.reporting.html.markup import Markup, element, joined


@dataclass(frozen=True)
class Section:
    """``body`` under ``title``.

    ``style`` (CSS) and ``script`` stand on the page once, however many sections bring the same.
    """

    identifier: str
    title: str
    body: Markup
    style: str = ""
    script: str = ""


def asset(name: str) -> str:
    """A stylesheet or script that lies beside this module."""
    return (files("deploycc.reporting.html") / "assets" / name).read_text(encoding="utf-8")


def page(title: str, intro: Markup, sections: Sequence[Section]) -> str:
    """The whole file.  ``title`` is the tab's and the first heading's, ``intro`` stands under it."""
    styles = dict.fromkeys([asset("page.css"), *(s.style for s in sections if s.style)])
    scripts = dict.fromkeys(s.script for s in sections if s.script)
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts) or "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        Markup(f"<style>{''.join(styles)}</style>"),
    )
    links = [element("a", section.title, href=f"#{section.identifier}") for section in sections]
    body = element(
        "body",
        element("a", "Skip to the report", href="#main", class_="skip"),
        element("header", element("h1", title), intro, class_="top"),
        element("nav", *links, aria_label="Sections", class_="sections") if len(links) > 1 else Markup(),
        element("main", *map(_section, sections), id="main"),
        *(Markup(f"<script>{script}</script>") for script in scripts),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _section(section: Section) -> Markup:
    heading = f"{section.identifier}-title"
    return element(
        "section",
        joined(element("h2", section.title, id=heading), section.body),
        id=section.identifier,
        aria_labelledby=heading,
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
