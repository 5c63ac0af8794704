"""The first thing on a package's page: the answers, each leading to the section behind it."""

from __future__ import annotations

from deploycc.reporting.html.markup import element, joined
from deploycc.reporting.html.page import Section, asset
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import highlights


def overview(result: PackageResult) -> Section:
    """A card for each highlight."""
    cards = [
        element(
            "a",
            element("span", one.name, class_="what"),
            element("strong", one.value, class_=f"value {one.state}".strip()),
            *(element("span", line, class_="line") for line in one.lines),
            href=f"#{one.section}",
            class_="card answer",
        )
        for one in highlights(result)
    ]
    notes = [element("p", f"{what}: {why}", class_="note") for what, why in result.unmeasured.items()]
    body = joined(element("div", *cards, class_="cards"), *notes)
    return Section("overview", "At a glance", body, asset("package.css"), asset("package.js"))
