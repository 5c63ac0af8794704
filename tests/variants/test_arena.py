"""Several networks in one app: one runtime, and one arena by turns."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deploycc.packaging import package
from deploycc.packaging.toolchain import runtime_directory, runtime_sources
from tests.packaging import plans
from tests.packaging.conftest import STRICT, run, tool

HERE = Path(__file__).parent


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_handles_share_an_arena(tmp_path: Path, sanitizer: str) -> None:
    program = tmp_path / "arena"
    command = [tool("gcc"), "-std=c11", *STRICT, "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    command += [f"-I{runtime_directory()}", HERE / "arena.c", *runtime_sources(), "-lpthread", "-o", program]
    made = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    if made.returncode and "cannot find" in made.stderr:
        pytest.skip(f"gcc has no {sanitizer} sanitiser here")
    assert made.returncode == 0, made.stderr
    assert run([program]).stderr == ""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, scale in (("first", 0.5), ("second", 2.0), ("third", 1.0)):
        folder = tmp_path_factory.mktemp("networks") / name
        folder.mkdir()
        request = plans.make_request(plans.X86_64, name, runtime="shared")
        plan = plans.make_plan(plans.X86_64, scale=scale)
        package(plan, request, plans.make_model(), plans.make_golden(scale), folder)
        made[name] = folder
    return made


def test_three_networks_in_one_app(packages: dict[str, Path], tmp_path: Path) -> None:
    command = [tool("g++"), "-std=c++17", *STRICT, HERE / "networks.cpp"]
    for name, folder in packages.items():
        command += [f"-I{folder}/include", f"-L{folder}/lib", f"-l{name}"]
    run([*command, "-ldeploycc_rt", "-lpthread", "-o", tmp_path / "app"])
    folders = ":".join(f"{folder}/lib" for folder in packages.values())
    run([tmp_path / "app"], env={"LD_LIBRARY_PATH": folders})
    # One runtime in the process, though each package brings a copy.
    loaded = run([tmp_path / "app"], env={"LD_LIBRARY_PATH": folders, "LD_DEBUG": "libs"}).stderr
    assert len(re.findall(r"calling init: \S*libdeploycc_rt", loaded)) == 1


def test_the_c_interface_is_strict_c99(packages: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "both.c"
    source.write_text(
        '#include "first.h"\n#include "second.h"\n'
        "int main(void) {\n"
        "    struct dcc_arena *arena = NULL;\n"
        "    first_handle *a = NULL;\n"
        "    second_handle *b = NULL;\n"
        "    size_t bytes = first_memory_bytes(NULL) + second_memory_bytes(NULL);\n"
        "    if (first_arena_create(bytes, &arena) != 0) return 1;\n"
        "    if (first_create_in(NULL, arena, &a) != 0 || second_create_in(NULL, arena, &b) != 0) return 2;\n"
        "    if (second_arena_destroy(arena) != second_ERROR_BUSY) return 3;\n"
        "    if (first_destroy(a) != 0 || second_destroy(b) != 0) return 4;\n"
        "    return second_arena_destroy(arena);\n"
        "}\n"
    )
    command = [tool("gcc"), "-std=c99", *STRICT, source]
    for name, folder in packages.items():
        command += [f"-I{folder}/include", f"-L{folder}/lib", f"-l{name}"]
    run([*command, "-ldeploycc_rt", "-o", tmp_path / "both"])
    folders = ":".join(f"{folder}/lib" for folder in packages.values())
    run([tmp_path / "both"], env={"LD_LIBRARY_PATH": folders})


def test_a_private_runtime_has_no_arena_to_share(tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    package(
        plans.make_plan(plans.X86_64),
        plans.make_request(plans.X86_64, "alone"),
        plans.make_model(),
        plans.make_golden(),
        folder,
    )
    assert "arena_create" not in (folder / "include" / "alone.h").read_text()
    assert "Arena" not in (folder / "include" / "alone.hpp").read_text()
