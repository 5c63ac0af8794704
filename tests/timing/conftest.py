"""A small network and its package for this machine, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

import deploycc
from tests.models import write_small_net


@pytest.fixture(scope="package")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its height is open; the package has 13."""
    return write_small_net(tmp_path_factory.mktemp("small") / "small.onnx", height="H")


@pytest.fixture(scope="package")
def small_package(small_model: Path) -> Path:
    shapes = {"x": (1, 3, 13, 16)}
    return deploycc.build(small_model, "host", small_model.parent / "package", shapes=shapes).path
