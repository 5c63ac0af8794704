"""Lint of every pinned network: its reports word for word, names that its file has, no page of trivia.

Minutes for all; ``make test`` has the reports of some.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import onnx
import pytest

from benchmarks.networks import networks
from deploycc.lint import LintResult, lint_model
from deploycc.lint_types import Report
from deploycc.reporting import render

TARGETS = ("arm64", "rpi4", "snpe:htp", "tensorrt")
SHOWN = ("snpe:htp", "arm64", "tensorrt")
"""The targets whose reports are kept in ``golden/``."""
QUICK = ("mtcnn_pnet", "ppocrv4_det", "silero_vad_openvino_16k", "ocra_orientation")
NETWORKS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in networks()]
WARNED = {"open_nsfw": {"layout-transposes"}}
"""Networks that were exported from a framework with channels last keep its transposes."""


@cache
def result(path: Path, name: str) -> LintResult:
    return lint_model(path, TARGETS, shapes=networks()[name].inputs)


def reports(path: Path, name: str) -> dict[str, Report]:
    return dict(zip(TARGETS, result(path, name).reports, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_reports_word_for_word(
    network: Callable[[str], Path], golden: Callable[[str, str], None], name: str
) -> None:
    path = network(name)
    shown = tuple(reports(path, name)[target] for target in SHOWN)
    golden(f"lint-{name}.txt", render("text", replace(result(path, name), reports=shown), verbose=True))


@pytest.mark.slow
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


@pytest.mark.slow
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
