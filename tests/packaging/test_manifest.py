"""``inspect``: what is no package, is broken, is newer or was changed is told as such."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploycc.diagnostics import CATALOGUE
from deploycc.packaging import inspect
from deploycc.types import DeployccError


def findings(path: Path) -> list[str]:
    with pytest.raises(DeployccError) as caught:
        inspect(path)
    assert all(d.code in CATALOGUE for d in caught.value.diagnostics)
    return [f"{d.code}: {d.message} | {d.got}" for d in caught.value.diagnostics]


@pytest.fixture
def copy(built, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built(runtime="shared"), tmp_path / "copy", symlinks=True))


def changed(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "share" / "tiny" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_good_package(copy: Path) -> None:
    assert inspect(copy)["name"] == "tiny"
    assert inspect(str(copy))["files"]["lib/libdeploycc_rt.so"] == {"link": "libdeploycc_rt.so.2"}


def test_link_copied_as_file(built, tmp_path: Path) -> None:
    """Some file systems and copying tools have no links; the package works all the same."""
    inspect(shutil.copytree(built(runtime="shared"), tmp_path / "flat", symlinks=False))


def test_no_package(tmp_path: Path) -> None:
    assert findings(tmp_path / "none") == [f"DC700: {tmp_path / 'none'} is no package | no such folder"]
    assert "0 files share/*/manifest.json" in findings(tmp_path)[0]
    (tmp_path / "file").write_text("")
    assert "not a folder" in findings(tmp_path / "file")[0]


def test_two_manifests(copy: Path) -> None:
    shutil.copytree(copy / "share" / "tiny", copy / "share" / "other")
    assert "2 files share/*/manifest.json" in findings(copy)[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100000, "no JSON"),
        ("[]", 'no "format"'),
        ('{"format": "other"}', 'no "format"'),
        ('{"format": "deploycc package", "schema_version": 1}', '"calls" is missing'),
    ],
)
def test_broken_manifest(copy: Path, text: str, why: str) -> None:
    (copy / "share" / "tiny" / "manifest.json").write_text(text)
    [finding] = findings(copy)
    assert finding.startswith("DC701: share/tiny/manifest.json is broken | ")
    assert why in finding


def test_manifest_that_is_no_text(copy: Path) -> None:
    (copy / "share" / "tiny" / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert "DC701" in findings(copy)[0]


def test_manifest_of_another_form(copy: Path) -> None:
    changed(copy, lambda m: m.update(inputs="x"))
    assert '"inputs" is no list' in findings(copy)[0]
    changed(copy, lambda m: m.update(inputs=[], name="other"))
    assert '"name" is not the folder\'s' in findings(copy)[0]
    changed(copy, lambda m: m.update(name="tiny", files={"a": 1}))
    assert 'an entry of "files" is no object' in findings(copy)[0]


def test_newer_package(copy: Path) -> None:
    changed(copy, lambda m: m.update(schema_version=2))
    assert findings(copy) == [
        "DC702: share/tiny/manifest.json was written by a newer deploycc | schema version 2"
    ]


def test_changed_files_are_all_told(copy: Path) -> None:
    library = copy / "lib" / "libtiny.so"
    data = bytearray(library.read_bytes())
    data[-1] ^= 1
    library.write_bytes(data)
    (copy / "include" / "tiny.h").unlink()
    (copy / "lib" / "libdeploycc_rt.so").unlink()
    (copy / "share" / "tiny" / "golden" / "input_0.bin").write_bytes(b"longer or shorter")
    other = "other bytes than when it was built"
    assert findings(copy) == [
        "DC703: include/tiny.h of the package is not what was built | missing",
        "DC703: lib/libdeploycc_rt.so of the package is not what was built | missing or changed link",
        "DC703: lib/libtiny.so of the package is not what was built | " + other,
        "DC703: share/tiny/golden/input_0.bin of the package is not what was built | " + other,
    ]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "lib/../../x"])
def test_manifest_may_not_lead_outside(copy: Path, name: str) -> None:
    changed(copy, lambda m: m["files"].update({name: {"bytes": 1, "sha256": ""}}))
    assert "a path that leads out of the package" in findings(copy)[0]
