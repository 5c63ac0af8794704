"""Pieces of charts: frames, scales and marks that tell what they are when they are pressed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploycc.reporting.html.markup import Markup, element, joined

LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 38
"""Room around a plot for its scales, in pixels."""


@dataclass(frozen=True)
class Scale:
    """From values between ``low`` and ``high`` to pixels between ``start`` and ``stop``."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; one outside is held at the end."""
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(value) - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.stop - self.start)

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-30)) if self.logarithmic else value

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within: powers of ten where logarithmic and wide, else multiples of 1, 2 or 5."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for factors in ((1,), (1, 2, 5)):
                ticks = [f * 10.0**power for power in range(first, last + 1) for f in factors]
                if len(found := [tick for tick in ticks if self.low <= tick <= self.high]) >= 3:
                    return found
        raw = (self.high - self.low) / most
        if raw <= 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * 0.999)
        count = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(math.ceil(self.low / step - 1e-9), count + 1)]


def plain(value: float) -> str:
    """A tick's number without a tail."""
    return f"{value:,.10g}" if value >= 1e-4 or value == 0 else f"{value:.3g}"


def axes(
    x: Scale,
    y: Scale,
    names: tuple[str, str],
    x_text: Callable[[float], str] = plain,
    y_text: Callable[[float], str] = plain,
    x_ticks: Sequence[float] | None = None,
    y_ticks: Sequence[float] | None = None,
) -> Markup:
    """Grid, numbers and the names of both axes."""
    parts = []
    for value in x.ticks() if x_ticks is None else x_ticks:
        at = f"{x(value):.1f}"
        parts.append(element("path", d=f"M{at} {y.start:.0f}V{y.stop:.0f}", class_="grid"))
        parts.append(element("text", x_text(value), x=at, y=f"{y.start + 14:.0f}", class_="tick middle"))
    for value in y.ticks() if y_ticks is None else y_ticks:
        at = f"{y(value):.1f}"
        parts.append(element("path", d=f"M{x.start:.0f} {at}H{x.stop:.0f}", class_="grid"))
        parts.append(
            element("text", y_text(value), x=f"{x.start - 6:.0f}", y=at, dy="0.32em", class_="tick end")
        )
    middle = (x.start + x.stop) / 2
    parts.append(element("text", names[0], x=f"{middle:.0f}", y=f"{y.start + 30:.0f}", class_="name middle"))
    parts.append(element("text", names[1], x=f"{x.start:.0f}", y=f"{y.stop - 8:.0f}", class_="name"))
    return joined(*parts)


def chart(title: str, width: int, height: int, *parts: Markup, told: str, stretched: bool = False) -> Markup:
    """A figure that scrolls sideways where the screen is narrower, or is ``stretched`` to its width.

    Under it stands ``told``, and then what was pressed.
    """
    svg = element(
        "svg",
        element("title", title),
        *parts,
        viewBox=f"0 0 {width} {height}",
        width="100%" if stretched else width,
        height=height,
        preserveAspectRatio="none" if stretched else None,
        role="img",
        style=None if stretched else f"max-width:{int(width * 1.5)}px",
    )
    return element(
        "figure",
        element("div", svg, class_="drawing stretched" if stretched else "drawing"),
        element("figcaption", told, class_="told", role="status"),
        class_="chart",
    )


def mark(tag: str, told: str, **attributes: str | int | float | bool | None) -> Markup:
    """A shape whose ``told`` is shown when it is pressed, or when a pointer rests on it."""
    return element(tag, element("title", told), data_tell=True, **attributes)


def facts(rows: Sequence[tuple[str, str]], class_: str = "pairs") -> Markup:
    """A list of names and their texts; those without a text are left out."""
    pairs = [element("div", element("dt", name), element("dd", text)) for name, text in rows if text]
    return element("dl", *pairs, class_=class_)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], class_: str = "") -> Markup:
    """A table in a box that scrolls sideways by itself."""
    body = element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in head))),
        element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows)),
        class_=class_,
    )
    return element("div", body, class_="scroll", tabindex=0)


def folded(summary: str, *parts: Markup) -> Markup:
    """What only some readers want."""
    return element("details", element("summary", summary), *parts, class_="fold")
