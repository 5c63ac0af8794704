"""Packages by a compiler with a fault in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc.build import build
from tests.faults.planting import Fault, Planted, faulty, planted_in
from tests.models import write_small_net


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution with padding, bias and a rectifier."""
    return write_small_net(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="session")
def sound_package(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's package by the compiler as it is."""
    return build(small_model, "host", tmp_path_factory.mktemp("sound") / "package").path


@pytest.fixture
def wrong_package(small_model: Path, tmp_path: Path) -> Callable[[Fault], tuple[Path, Planted]]:
    """A function from a fault to the package of a compiler with it, and what was planted."""

    def make(fault: Fault) -> tuple[Path, Planted]:
        with faulty(fault, tmp_path / "record.jsonl"):
            package = build(small_model, "host", tmp_path / "package").path
        return package, planted_in(tmp_path / "record.jsonl")[-1]

    return make
