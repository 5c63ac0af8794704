"""Texts with places to fill in: generated code, build files, notes."""

from __future__ import annotations


def fill(template: str, values: dict[str, str]) -> str:
    """``template`` with every ``@KEY@`` replaced; values are not looked into again.

    ``KeyError`` for a key that is not given is a bug of ours.
    """
    pieces = template.split("@")
    if len(pieces) % 2 == 0:
        raise ValueError("a template has an unpaired @")
    return "".join(values[piece] if index % 2 else piece for index, piece in enumerate(pieces))
