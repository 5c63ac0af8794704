"""Packages of three C kernels, which need no compiler stage, and an sshd of this test run's own."""

from __future__ import annotations

import functools
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploycc.build import build
from deploycc.packaging import package
from deploycc.running import Package, open_package
from deploycc.types import Target
from tests.packaging import plans
from tests.running.gpu_net import write_net

FAULTS = {
    "crash": "__builtin_trap();",
    "hang": "for (volatile int i = 0;; i++) {}",
    "refuse": "return -1;",
}
"""What ``k_check``, the first kernel, does in place of looking at its input."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Package]:
    """``built(target, emit, runtime, fault)``: an open package; ``target`` names one of ``plans``."""

    @functools.cache
    def build(
        target: str = "X86_64", emit: str = "shared", runtime: str = "private", fault: str = ""
    ) -> Package:
        chosen: Target = getattr(plans, target)
        folder = tmp_path_factory.mktemp("package") / "a package"
        folder.mkdir()
        kernels = None
        if fault:
            source = plans.KERNELS_C.read_text(encoding="utf-8")
            head = "int32_t k_check(void *x) {"
            assert head in source
            kernels = plans.compile_kernels(
                chosen.linker.triple, chosen.linker.cpu, source.replace(head, head + FAULTS[fault])
            )
        package(
            plans.make_plan(chosen, kernels=kernels),
            plans.make_request(chosen, emit=emit, runtime=runtime),
            plans.make_model(),
            plans.make_golden(),
            folder,
        )
        return open_package(folder)

    return build


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with timers for two GPU chips, beside its model (``gpu_net.py``)."""
    folder = tmp_path_factory.mktemp("gpu")
    write_net(folder / "net.onnx")
    return build(folder / "net.onnx", "cuda:sm_75,sm_90", folder / "net", profile=True).path


@dataclass(frozen=True)
class Device:
    """An sshd on this machine: the ``runner`` that reaches it, and the folder its temporary files are in."""

    runner: str
    scratch: Path
    port: int


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A running sshd with keys of its own; skips where there is none or it does not start."""
    sshd = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if sshd is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh or sshd here (Debian: apt install openssh-server)")
    if os.geteuid() == 0:
        # Its service makes this folder when it starts; without it sshd run by root ends at once.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    root = tmp_path_factory.mktemp("sshd")
    scratch = root / "scratch folder"
    scratch.mkdir()
    for name in ("host", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)]
        subprocess.run(keygen, check=True, timeout=60)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (root / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {root}/user.pub\nStrictModes no\nPasswordAuthentication no\n"
        f'PermitRootLogin prohibit-password\nSetEnv "TMPDIR={scratch}"\n',
        encoding="utf-8",
    )
    host_key = (root / "host.pub").read_text(encoding="utf-8")
    (root / "known").write_text(f"[127.0.0.1]:{port} {host_key}", encoding="utf-8")
    with (root / "log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(root / "config")], stderr=log)
    try:
        user = getpass.getuser()
        runner = (
            f"ssh -F none -i {root}/user -p {port} -o UserKnownHostsFile={root}/known"
            f" -o IdentitiesOnly=yes {user}@127.0.0.1"
        )
        deadline = time.monotonic() + 20
        while subprocess.run([*runner.split(), "true"], check=False, capture_output=True).returncode != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                said = (root / "log").read_text(encoding="utf-8", errors="replace").strip()
                pytest.skip(f"sshd cannot be used here: {said.splitlines()[-1] if said else 'no message'}")
            time.sleep(0.2)
        yield Device(runner, scratch, port)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def fake_ssh(tmp_path: Path) -> Path:
    """A program called ssh that runs the command here, behind a login shell with something to say."""
    program = tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\necho /welcome to the device\nfor word; do last=$word; done\n"
        f'TMPDIR={tmp_path} exec sh -c "$last"\n',
        encoding="utf-8",
    )
    os.chmod(program, 0o755)
    return program
