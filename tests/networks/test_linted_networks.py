"""Lint of every pinned network: names that its file has, and no page of trivia for a clean one.  Minutes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest

from benchmarks.networks import networks
from deploycc.lint import lint_model
from deploycc.lint_types import Report

pytestmark = pytest.mark.slow

TARGETS = ("arm64", "rpi4", "snpe:htp")
WARNED = {"open_nsfw": {"layout-transposes"}}
"""Networks that were exported from a framework with channels last keep its transposes."""


@cache
def reports(path: Path, name: str) -> dict[str, Report]:
    found = lint_model(path, TARGETS, shapes=networks()[name].inputs)
    return dict(zip(TARGETS, found.reports, strict=True))


@pytest.mark.parametrize("name", list(networks()))
def test_names_are_those_of_the_file(network: Callable[[str], Path], name: str) -> None:
    path = network(name)
    graph = onnx.load(str(path), load_external_data=False).graph
    named = {node.name for node in graph.node if node.name}
    if len(named) < len(graph.node):
        pytest.skip("the file has nodes without names; import gives them some")
    for report in reports(path, name).values():
        assert report.nodes
        assert {node.name for node in report.nodes} <= named
        assert {finding.node for finding in report.diagnostics if finding.node} <= named


@pytest.mark.parametrize("name", list(networks()))
def test_a_network_that_builds_has_no_errors_and_few_warnings(
    network: Callable[[str], Path], name: str
) -> None:
    found = reports(network(name), name)
    for target in ("arm64", "rpi4"):
        report = found[target]
        loud = {d.rule for d in report.diagnostics if d.severity != "info"}
        assert loud == WARNED.get(name, set()), target
        assert report.coverage is not None
        assert report.coverage.runs == "whole"
    assert found["rpi4"].coverage is not None
    assert found["rpi4"].coverage.seconds
