"""deploycc/timing/pinning.py: which processors, which machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc.timing.pinning import _kind, machine, processors


@pytest.fixture
def two_threads_a_core(tmp_path: Path) -> Path:
    """Eight processors; n and n + 4 are one core."""
    for cpu in range(8):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    return tmp_path


def test_threads_get_cores_of_their_own_from_the_last_on(two_threads_a_core: Path) -> None:
    assert processors(1, range(8), two_threads_a_core) == (7,)
    assert processors(3, range(8), two_threads_a_core) == (5, 6, 7)
    assert processors(4, range(8), two_threads_a_core) == (4, 5, 6, 7)
    assert processors(2, {0, 1, 5}, two_threads_a_core) == (0, 5)


def test_more_threads_than_cores_share_them_and_more_than_processors_are_not_pinned(
    two_threads_a_core: Path,
) -> None:
    assert processors(6, range(8), two_threads_a_core) == (2, 3, 4, 5, 6, 7)
    assert processors(3, {0, 1, 5}, two_threads_a_core) == (0, 1, 5)
    assert processors(9, range(8), two_threads_a_core) == ()


def test_a_kernel_that_tells_no_cores_is_believed_to_have_one_a_processor(tmp_path: Path) -> None:
    assert processors(2, {3, 4, 9}, tmp_path) == (4, 9)


def test_machines_are_known_by_processor_and_count() -> None:
    intel = (
        "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2 GHz\n"
    )
    assert _kind(intel, "x86_64") == "Some CPU @ 2 GHz, 2 processors, x86_64"
    arm = "processor\t: 0\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
    assert _kind(arm, "aarch64") == "Raspberry Pi 4 Model B Rev 1.4, 1 processors, aarch64"
    assert _kind("processor : 0\nCPU part : 0xd08\n", "aarch64") == "CPU part 0xd08, 1 processors, aarch64"
    assert _kind("", "x86_64") == "unknown processor, ? processors, x86_64"


def test_an_emulator_is_another_machine() -> None:
    here = machine(None, "this machine")
    assert machine(None, "qemu-aarch64-static -L /usr/aarch64-linux-gnu") == f"qemu-aarch64-static on {here}"
    assert machine("env", "env") == f"env on {here}"


def test_a_device_is_asked_for_its_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program called ssh that stands in for one."""
    ssh = tmp_path / "ssh"
    told = r"Welcome!\n\n-- deploycc --\naarch64\nprocessor : 0\nmodel name : Chip\n"
    ssh.write_text(f"#!/bin/sh\nprintf -- '{told}'\n")
    ssh.chmod(0o755)
    assert machine(f"{ssh} board", f"{ssh} board") == "Chip, 1 processors, aarch64"
    ssh.write_text("#!/bin/sh\nexit 255\n")
    assert machine(f"{ssh} board", f"{ssh} board") == f"{ssh} board"
