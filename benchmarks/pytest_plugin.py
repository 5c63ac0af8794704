"""The fixture ``network``: trained networks for tests, fetched once and cached.

``tests/conftest.py`` loads it for all tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.networks import fetch
from benchmarks.pinned import FileUnavailable


@pytest.fixture(scope="session")
def network() -> Callable[[str], Path]:
    """A function from a network's name to its ONNX file.

    A network that cannot be downloaded skips the test and says why; with ``CI`` set in the
    environment it fails instead, because there the packages must be within reach.
    """

    def path_of(name: str) -> Path:
        try:
            return fetch(name)
        except FileUnavailable as error:
            if os.environ.get("CI"):
                pytest.fail(f"network {name}: {error}")
            pytest.skip(f"network {name}: {error}")

    return path_of
