"""The project's files: the wheel, the pins, the make targets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import deploycc
from deploycc.resources import data_dir
from tests.models import write_small_net

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as ``pip wheel`` makes it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode and re.search(r"hatchling|connection|resolve", done.stderr, re.I):
        pytest.skip(
            f"the build backend (hatchling) cannot be had here: {done.stderr.strip().splitlines()[-1]}"
        )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_one_package_with_its_data_inside(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "deploycc",
        f"deploycc-{deploycc.__version__}.dist-info",
    }
    inside = {name.removeprefix("deploycc/") for name in names}
    for kind in ("targets", "schedules"):
        beside = {
            f"_{kind}/{p.relative_to(ROOT / kind).as_posix()}" for p in (ROOT / kind).rglob("*.[pt][yo]*")
        }
        beside = {name for name in beside if "__pycache__" not in name}
        assert beside
        assert beside <= inside
    for needed in ("py.typed", "runtime/deploycc_rt.h", "runtime/pool.c", "packaging/manifest.py"):
        assert needed in inside
    data = [p for p in (ROOT / "deploycc" / "reporting").rglob("*") if p.suffix in {".css", ".js", ".json"}]
    assert data
    assert {path.relative_to(ROOT / "deploycc").as_posix() for path in data} <= inside


def test_the_wheel_builds_a_net_in_an_environment_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """The wheel in a fresh environment; its dependencies are those of this one, by path."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
    python = environment / "bin" / "python"
    site = next((environment / "lib").glob("python3*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    # This environment's packages come after the wheel, and without their .pth files, so no checkout.
    (site / "dependencies.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n"
    )
    net = write_small_net(tmp_path / "small.onnx")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-m", "deploycc", "build", net, "--target", "arm64", "-o", tmp_path / "out"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "lib" / "libsmall.so").is_file()
    where = subprocess.run(
        [python, "-c", "import deploycc; print(deploycc.__file__)"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert Path(where.strip()).is_relative_to(environment)


def test_data_lies_beside_the_package_in_a_checkout() -> None:
    assert data_dir("targets") == ROOT / "targets"
    assert data_dir("schedules") == ROOT / "schedules"


def test_every_dependency_is_pinned_and_is_what_is_installed() -> None:
    for requirement in PROJECT["project"]["dependencies"]:
        name, pin = requirement.split("==")
        assert version(name) == pin


def test_extras_are_pinned() -> None:
    for extra, requirements in PROJECT["project"]["optional-dependencies"].items():
        assert all("==" in requirement for requirement in requirements), extra


def test_the_pins_that_matter() -> None:
    """tvm-ffi 0.1.15 crashes with this TVM; an unpinned torch brings gigabytes of CUDA."""
    assert "apache-tvm-ffi==0.1.14.post1" in PROJECT["project"]["dependencies"]
    assert "torch==2.13.0" in PROJECT["project"]["optional-dependencies"]["torch"]


def test_the_make_targets_are_there() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = "demo test test-all lint type fmt golden docs bench clean".split()
    assert {name for name in wanted if not re.search(rf"^{name}:", text, re.M)} == set()


def test_ci_runs_the_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    command = script.read_text(encoding="utf-8").strip().splitlines()[-1]
    assert command == "make test"
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)


def test_the_changelog_has_the_version() -> None:
    assert f"## {deploycc.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_package_is_typed_for_its_users(tmp_path: Path) -> None:
    program = tmp_path / "user.py"
    program.write_text(
        "import deploycc\n"
        "package: deploycc.Package = deploycc.build('a.onnx', 'arm64', shapes={'x': (1, 3)})\n"
        "reveal_type(deploycc.build)\n"
        "deploycc.build(3)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "-> deploycc.types.Package" in done.stdout
    assert 'Argument 1 to "build" has incompatible type "int"' in done.stdout
    assert "Found 1 error in 1 file" in done.stdout
