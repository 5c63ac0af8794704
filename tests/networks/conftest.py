"""Real networks: fetched once, built once per target and form, compared with ONNX Runtime."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.building import BuildFailed, build
from benchmarks.networks import networks
from benchmarks.pinned import ROOT
from benchmarks.reference import OnnxRuntime, allowed_error, largest_error
from deploycc.targets import load_target
from tests.networks.running import Reference, run_package


@pytest.fixture(scope="session")
def reference(network: Callable[[str], Path]) -> Callable[[str], Reference]:
    """A function from a network's name to its reference."""
    known: dict[str, Reference] = {}

    def of(name: str) -> Reference:
        if name not in known:
            engine = OnnxRuntime(network(name))
            inputs = engine.random_inputs(networks()[name].inputs)
            known[name] = Reference(inputs, engine.bind(inputs))
        return known[name]

    return of


@pytest.fixture(scope="session")
def built(network: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function (network, target, form) -> package folder; each is built once a session.

    The form ``runnable`` is what can be run here: a static archive for targets whose C library an
    emulator would need at run time but that no package provides (musl), else a shared library.
    """
    root = tmp_path_factory.mktemp("packages")
    known: dict[tuple[str, str, str], Path] = {}

    def package(name: str, target: str, form: str = "runnable") -> Path:
        if form == "runnable":
            form = "static" if load_target(target).linker.libc == "musl" else "shared"
        key = (name, target, form)
        if key not in known:
            network(name)
            folder = root / re.sub(r"\W", "_", "-".join(key))
            try:
                known[key] = build(name, target, folder, ["--emit", form]).package
            except BuildFailed as error:
                pytest.fail(str(error))
        return known[key]

    return package


@pytest.fixture
def matches(
    network: Callable[[str], Path],
    built: Callable[..., Path],
    reference: Callable[[str], Reference],
    tmp_path: Path,
) -> Callable[..., None]:
    """A function (network, target): build, run, and compare every output with ONNX Runtime's."""

    def check(name: str, target: str, threads: int = 1, limit: float = 900) -> None:
        want = reference(name)
        ran = run_package(built(name, target), target, want.inputs, tmp_path, threads, limit)
        error = largest_error(ran.outputs, want.outputs)
        allowed = allowed_error(network(name), want.inputs, want.outputs, error)
        assert error <= allowed, f"{name} on {target}: off by {error:.2g}, allowed are {allowed:.2g}"

    return check


@pytest.fixture(scope="session")
def torch_python() -> str:
    """An interpreter with torch: this one, or the one that ``make test-torch`` keeps apart."""
    for python in (sys.executable, str(ROOT / ".cache" / "torch-venv" / "bin" / "python")):
        if Path(python).exists():
            probe = [python, "-c", "import torch, onnxscript"]
            if subprocess.run(probe, check=False, capture_output=True, timeout=120).returncode == 0:
                return python
    pytest.skip("PyTorch is not installed (extra: torch; 'make test-torch' installs it apart)")
