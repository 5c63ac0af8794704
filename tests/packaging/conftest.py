"""Packages that several tests look at, built once, and programs compiled against them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploycc.packaging import package
from deploycc.types import Target
from tests.packaging import plans

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]


def tool(name: str) -> str:
    """The path of a program, or a visible skip."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here")
    return path


def run(command: list[object], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program that must succeed; its output is in the message when it does not."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``built(target, name, emit=..., runtime=..., scale=...)``: a package's folder, to be left as it is."""

    @functools.cache
    def build(
        target: str = "X86_64",
        name: str = "tiny",
        emit: str = "shared",
        runtime: str = "private",
        scale: float = 0.5,
    ) -> Path:
        chosen: Target = getattr(plans, target)
        folder = tmp_path_factory.mktemp("package") / f"{name}-{target}"
        folder.mkdir()
        package(
            plans.make_plan(chosen, scale=scale),
            plans.make_request(chosen, name, emit=emit, runtime=runtime),
            plans.make_model(),
            plans.make_golden(scale),
            folder,
        )
        return folder

    return build
