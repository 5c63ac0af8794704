"""HTML and SVG with everything escaped that is not markup already."""

from __future__ import annotations

import html
import json
from typing import Any

from deploycc.diagnostics import printable

_VOID = frozenset({"input", "meta", "br", "link"})


class Markup(str):
    """Text that is HTML; any other text is escaped where it is put in."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """A text of somebody else's as HTML, for elements and for attributes in double quotes."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text), quote=True))


def joined(*parts: str) -> Markup:
    """Parts one behind the other."""
    return Markup("".join(map(escaped, parts)))


def element(tag: str, *children: str, **attributes: str | int | float | bool | None) -> Markup:
    """``<tag name="value">children</tag>``.

    ``_`` in names of attributes stands for ``-`` and at their end for nothing (``class_``).  ``True``
    writes the bare name, ``False`` and ``None`` leave it out.
    """
    words = [tag]
    for name, value in attributes.items():
        key = name.removesuffix("_").replace("_", "-")
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escaped(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Markup(start if tag in _VOID else f"{start}{joined(*children)}</{tag}>")


def data_block(identifier: str, data: Any) -> Markup:
    """JSON that a script reads, with nothing in it that could end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{escaped(identifier)}">{text}</script>')
