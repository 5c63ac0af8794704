"""Packages loaded and unloaded, their headers under several standards, and the debug runtime."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploycc.packaging import package
from deploycc.packaging.toolchain import runtime_directory
from tests.packaging import plans
from tests.packaging.conftest import STRICT, run, tool
from tests.runtime import generated

HERE = Path(__file__).parent
CONVERSIONS = ["-Wshadow", "-Wconversion", "-Wold-style-cast"]


@pytest.fixture(scope="module")
def debug_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("debug") / "tiny"
    root.mkdir()
    request = plans.make_request(plans.X86_64, debug_runtime=True)
    made = package(plans.make_plan(plans.X86_64), request, plans.make_model(), plans.make_golden(), root)
    assert made.manifest["interface"]["debug_runtime"] is True
    return root


@pytest.mark.parametrize(
    "form", ["private", *(pytest.param(form, marks=pytest.mark.slow) for form in ("shared", "debug"))]
)
def test_loaded_and_unloaded_a_thousand_times(
    request: pytest.FixtureRequest, built, tmp_path: Path, form: str
) -> None:
    root = request.getfixturevalue("debug_package") if form == "debug" else built(runtime=form)
    program = tmp_path / "load"
    run([tool("gcc"), "-std=c11", *STRICT, f"-I{root / 'include'}", HERE / "load.c", "-ldl", "-o", program])
    run([program, root / "lib" / "libtiny.so", 1000])


@pytest.mark.parametrize(
    "flags",
    [
        "-std=c++17",
        "-std=c++20 -fno-exceptions -fno-rtti",
        *(
            pytest.param(flags, marks=pytest.mark.slow)
            for flags in (
                "-std=c++17 -fno-exceptions",
                "-std=c++17 -fno-rtti",
                "-std=c++20",
                "-std=c++17 -fsanitize=address,undefined -fno-sanitize-recover=all",
            )
        ),
    ],
)
def test_exceptions_and_moves(built, tmp_path: Path, flags: str) -> None:
    root = built()
    program = tmp_path / "guarded"
    command = [tool("g++"), *flags.split(), *STRICT, *CONVERSIONS, f"-I{root / 'include'}"]
    run([*command, HERE / "guarded.cpp", f"-L{root / 'lib'}", "-ltiny", "-o", program])
    environment = {**os.environ, "LD_LIBRARY_PATH": str(root / "lib")}
    run([program], env=environment)
    done = subprocess.run([program, "fail"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode < 0
    assert "tiny: bad argument: options.threads is -5, not 0 to 1024" in done.stderr


def test_headers_under_all_standards(built, tmp_path: Path) -> None:
    include = built() / "include"
    source = tmp_path / "use.c"
    source.write_text('#include "tiny.h"\n#include "tiny.h"\ntiny_options options = tiny_OPTIONS_INIT;\n')
    strict = ["-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", f"-I{include}", "-fsyntax-only"]
    for standard in ("c99", "c11", "c17"):
        run([tool("gcc"), f"-std={standard}", *strict, source])
    for standard in ("c++11", "c++14", "c++17", "c++20"):
        run([tool("g++"), f"-std={standard}", *strict, "-x", "c++", source])


def test_clang_finds_nothing_in_generated_code(tmp_path: Path) -> None:
    model, *_ = generated.write_sources(tmp_path)
    runtime = runtime_directory()
    zig = [plans.zig(), "cc", "-target", "x86_64-linux-gnu.2.17", "-std=c11", *generated.WARNINGS]
    zig += [f"-I{tmp_path}", f"-I{runtime}", "-c", "-o", tmp_path / "out.o"]
    for flags, path in (
        ((), model),
        (("-DDCC_DEBUG",), runtime / "handle.c"),
        (("-DDCC_DEBUG",), runtime / "lives.c"),
    ):
        assert run([*zig, *flags, path], env=plans.zig_environment()).stderr == ""


def test_the_debug_runtime_tells_handles_that_are_gone(debug_package: Path, tmp_path: Path) -> None:
    source, program = tmp_path / "gone.c", tmp_path / "gone"
    source.write_text(
        '#include "tiny.h"\n'
        "int main(void) {\n"
        "    tiny_handle *handle;\n"
        "    if (tiny_create(NULL, &handle) != tiny_OK || tiny_destroy(handle) != tiny_OK) return 1;\n"
        "    if (tiny_destroy(handle) != tiny_ERROR_ARGUMENT) return 2;\n"
        "    return tiny_run(handle, NULL, NULL) == tiny_ERROR_ARGUMENT ? 0 : 3;\n"
        "}\n"
    )
    library = debug_package / "lib"
    run([tool("gcc"), f"-I{debug_package / 'include'}", source, f"-L{library}", "-ltiny", "-o", program])
    said = run([program], env={"LD_LIBRARY_PATH": str(library)}).stderr
    assert said.splitlines() == [
        "deploycc: dcc_destroy: the handle was destroyed, or never was one",
        "deploycc: dcc_run: the handle was destroyed, or never was one",
    ]


def test_an_unlinked_package_has_the_debug_runtime_too(tmp_path: Path) -> None:
    kernels = plans.compile_kernels(plans.X86_64.linker.triple)
    for debug in (False, True):
        root = tmp_path / str(debug)
        root.mkdir()
        request = plans.make_request(plans.UNLINKED, debug_runtime=debug)
        plan = plans.make_plan(plans.UNLINKED, kernels=kernels)
        package(plan, request, plans.make_model(), plans.make_golden(), root)
        text = (root / "src" / "CMakeLists.txt").read_text()
        assert ("target_compile_definitions(tiny PRIVATE DCC_DEBUG)" in text) == debug
