"""The program of tests/gpu on the emulated driver: the caller's pointers and streams, two devices at once."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from deploycc.emulating import build_module
from deploycc.emulating.driver import emulated_driver, emulated_environment
from deploycc.running import open_package
from deploycc.running.chips import library_of, ptx_of
from tests.gpu.apps import NO_DEVICE, compile_streams, run_streams

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="packages of this test are for x86-64")


def test_runs_in_streams_of_the_callers_on_two_devices(net: Path, tmp_path: Path) -> None:
    package = open_package(net)
    program = compile_streams(package, tmp_path / "streams")
    [text] = ptx_of(library_of(net, package.manifest), package.manifest, 1)
    log = tmp_path / "log"
    environment = emulated_environment(
        emulated_driver(), arch="sm_90", modules=[build_module(text)], devices=2, log=log, base=os.environ
    )
    done = run_streams(program, package, [0, 1], environment)
    assert (done.returncode, done.stderr) == (0, "")
    lines = log.read_text().splitlines()
    assert sum(line.startswith("cuGraphLaunch") for line in lines) == 6
    assert run_streams(program, package, [2], environment).returncode == NO_DEVICE
