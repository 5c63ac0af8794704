"""SIGKILL: an output is whole or absent, and what was left beside it is cleared away by the next build."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploycc.staging import MARK, staging
from tests.kills import killing
from tests.kills.killing import ROOT

WRITER = """
import sys
from pathlib import Path
from deploycc.staging import staging
with staging(Path(sys.argv[1]), lambda folder: True) as place:
    (place.folder / "part").write_text("new")
    {before}
    print("ready", flush=True)
    sys.stdin.readline()
    place.commit()
"""


def writer(output: Path, before: str = "") -> subprocess.Popen[str]:
    """A process that is about to commit, and does when it is sent a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(before=before), str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    output = tmp_path / "net"
    killed, living = writer(output), writer(output)
    killed.kill()
    killed.wait()
    (tmp_path / ".net-abcdefgh").mkdir()  # somebody else's: it has no mark
    (tmp_path / ".net-abcdefgh" / "precious").touch()
    assert len(names(tmp_path)) == 3
    with staging(output, lambda folder: True) as place:
        left = names(tmp_path)
        assert len(left) == 3  # somebody else's, the living one's and this one's
        (place.folder / "part").write_text("newest")
        place.commit()
    assert (output / "part").read_text() == "newest"
    living.communicate("\n", timeout=60)
    assert living.returncode == 0
    assert (output / "part").read_text() == "new"
    assert names(tmp_path) == [".net-abcdefgh", "net"]
    assert not (output / MARK).exists()


def test_an_older_package_moved_aside_is_put_back(tmp_path: Path) -> None:
    """As a process leaves it that was killed between the two renames, where folders cannot be swapped."""
    output = tmp_path / "net"
    output.mkdir()
    (output / "part").write_text("old")
    process = writer(output, "Path(sys.argv[1]).rename(place.folder.parent / 'old')")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    with staging(output, lambda folder: True):
        assert (output / "part").read_text() == "old"
    assert names(tmp_path) == ["net"]


def test_a_replaced_package_is_never_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "net"
    output.mkdir()
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("renamed in two steps"))
    monkeypatch.setattr("deploycc.staging._marked", lambda aside: -1)
    with staging(output, lambda folder: True) as place:
        (place.folder / "part").touch()
        place.commit()
    assert names(output) == ["part"]


@pytest.mark.slow
@pytest.mark.parametrize("way", killing.WAYS)
def test_builds_and_tunings_killed(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killing, "WAYS", (way,))
    monkeypatch.setattr(sys, "argv", ["killing", "--kills", "4", "--seed", str(random.randrange(1 << 32))])
    assert killing.main() == 0
