"""The page of a package: what it is, how it came about, how fast and how right it is."""

from __future__ import annotations

from deploycc.reporting.html.arena_map import arena_map
from deploycc.reporting.html.chart import facts
from deploycc.reporting.html.checked import benchmark, verification
from deploycc.reporting.html.chips import chips
from deploycc.reporting.html.graphs import graphs
from deploycc.reporting.html.layer_bars import layers
from deploycc.reporting.html.overview import overview
from deploycc.reporting.html.package_facts import interface, sizes
from deploycc.reporting.html.page import Section, page
from deploycc.reporting.html.passes import passes
from deploycc.reporting.html.roofline import roofline
from deploycc.reporting.html.tuning_curves import tuning
from deploycc.reporting.package_result import PackageResult


def render_package(result: PackageResult) -> str:
    """The whole file; what is not known of a package is left out or said to be unknown."""
    manifest = result.manifest
    rows = [
        ("target", manifest["target"]["name"]),
        ("model", f"{manifest['model']['sha256'][:16]}"),
        ("deploycc", manifest["deploycc"]),
    ]
    return page(
        f"{manifest['name']} for {manifest['target']['name']}", facts(rows, "facts"), package_sections(result)
    )


def package_sections(result: PackageResult) -> list[Section]:
    """The sections, the most asked for first."""
    found = [
        overview(result),
        layers(result),
        roofline(result),
        chips(result),
        arena_map(result),
        verification(result),
        benchmark(result),
        graphs(result),
        passes(result),
        tuning(result),
        sizes(result),
        interface(result),
    ]
    return [section for section in found if section is not None]
