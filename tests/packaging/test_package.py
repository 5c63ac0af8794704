"""Packages used as an app uses them: compiled against, linked, moved, run."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.packaging import inspect, package
from deploycc.packaging.interface import API_FUNCTIONS
from deploycc.types import Buffer, Call, DeployccError, Golden, TensorInfo
from tests.packaging import plans
from tests.packaging.conftest import STRICT, run, tool

HERE = Path(__file__).parent
FORMS = [("shared", "private"), ("static", "private"), ("shared", "shared")]


def use_c(root: Path, name: str = "tiny") -> list[object]:
    return [
        "-std=c99",
        *STRICT,
        f"-DNAME={name}",
        f'-DHEADER="{name}.h"',
        f"-I{root / 'include'}",
        HERE / "use.c",
    ]


def moved(package_folder: Path, destination: Path) -> Path:
    """A copy elsewhere, so that nothing can depend on where the package was made."""
    return Path(shutil.copytree(package_folder, destination / "moved package", symlinks=True))


def test_tree(built) -> None:
    root = built()
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert files == {
        "example/CMakeLists.txt",
        "example/main.cpp",
        "include/tiny.h",
        "include/tiny.hpp",
        "lib/cmake/tiny/tinyConfig.cmake",
        "lib/cmake/tiny/tinyConfigVersion.cmake",
        "lib/libtiny.so",
        "lib/pkgconfig/tiny.pc",
        "share/tiny/golden/input_0.bin",
        "share/tiny/golden/output_0.bin",
        "share/tiny/golden/output_1.bin",
        "share/tiny/licenses/apache-tvm-LICENSE.txt",
        "share/tiny/licenses/apache-tvm-NOTICE.txt",
        "share/tiny/licenses/glibc-LICENSES.txt",
        "share/tiny/licenses/zig-LICENSE.txt",
        "share/tiny/manifest.json",
    }
    # the folder itself belongs to the caller, so only what is below it counts
    assert all(p.stat().st_mode & 0o444 == 0o444 for p in root.rglob("*"))


def test_library_is_the_systems_idea_of_clean(built) -> None:
    library = built() / "lib" / "libtiny.so"
    symbols = run([tool("nm"), "-D", "--defined-only", library]).stdout.split("\n")
    assert sorted(line.split()[-1] for line in symbols if line) == [f"tiny_{f}" for f in API_FUNCTIONS]
    dynamic = run([tool("readelf"), "-dW", library]).stdout
    assert "Library soname: [libtiny.so]" in dynamic
    assert "RUNPATH" not in dynamic
    assert "RPATH" not in dynamic
    data = library.read_bytes()
    assert b"/home" not in data
    assert b"/tmp" not in data
    assert str(built()).encode() not in data
    assert plans.weights().tobytes() in data


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_from_c(built, tmp_path: Path, compiler: str) -> None:
    root = built()
    program = tmp_path / "use"
    command = (
        [tool("gcc")]
        if compiler == "gcc"
        else [plans.zig(), "cc", "-target", "x86_64-linux-gnu.2.17", "-fno-sanitize=undefined"]
    )
    command += [*use_c(root), f"-L{root / 'lib'}", "-ltiny", "-lm", "-o", program]
    run(command, env=plans.zig_environment())
    run([program], env={"LD_LIBRARY_PATH": str(root / "lib")})


@pytest.mark.parametrize("standard", ["c++17", "c++20"])
def test_from_cpp(built, tmp_path: Path, standard: str) -> None:
    root = built()
    program = tmp_path / "use"
    strict = [*STRICT, "-Wshadow", "-Wconversion", "-Wold-style-cast"]
    command = [tool("g++"), f"-std={standard}", *strict, f"-I{root / 'include'}", HERE / "use.cpp"]
    run([*command, f"-L{root / 'lib'}", "-ltiny", "-o", program])
    run([program], env={"LD_LIBRARY_PATH": str(root / "lib")})


def test_header_compiles_with_clang(built, tmp_path: Path) -> None:
    root = built()
    command = [plans.zig(), "c++", "-std=c++17", *STRICT, "-Wconversion", f"-I{root / 'include'}"]
    # An object only: linking would make zig build its C++ library.
    run([*command, "-c", HERE / "use.cpp", "-o", tmp_path / "use.o"], env=plans.zig_environment())


def test_under_address_sanitizer(built, tmp_path: Path) -> None:
    root = built()
    program = tmp_path / "use"
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    run([tool("gcc"), *checks, *use_c(root), f"-L{root / 'lib'}", "-ltiny", "-lm", "-o", program])
    run([program], env={"LD_LIBRARY_PATH": str(root / "lib")})


@pytest.mark.parametrize(
    ("emit", "runtime"),
    [("shared", "private"), ("static", "private"), ("shared", "shared"), ("static", "shared")],
)
def test_example_after_moving(built, tmp_path: Path, emit: str, runtime: str) -> None:
    root = moved(built(emit=emit, runtime=runtime), tmp_path)
    inspect(root)
    build = tmp_path / "build"
    flags = "-DCMAKE_CXX_FLAGS=" + " ".join(STRICT)
    run([tool("cmake"), "-S", root / "example", "-B", build, flags])
    run([tool("cmake"), "--build", build])
    text = run([build / "tiny_example"]).stdout
    assert "y: max error" in text
    assert "copy: max error 0, " in text
    assert "time: " in text
    # The comparison can fail: a changed golden output is seen.
    golden = tmp_path / "golden"
    shutil.copytree(root / "share" / "tiny" / "golden", golden)
    data = bytearray((golden / "output_0.bin").read_bytes())
    data[403] ^= 0x40
    (golden / "output_0.bin").write_bytes(data)
    done = subprocess.run([build / "tiny_example", golden], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "MISMATCH" in done.stdout
    (golden / "input_0.bin").write_bytes(b"short")
    done = subprocess.run([build / "tiny_example", golden], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "input_0.bin is missing or has the wrong size" in done.stderr


@pytest.mark.parametrize(
    ("emit", "runtime"), [("shared", "private"), ("static", "private"), ("shared", "shared")]
)
def test_pkg_config_after_moving(built, tmp_path: Path, emit: str, runtime: str) -> None:
    root = moved(built(emit=emit, runtime=runtime), tmp_path)
    environment = {**os.environ, "PKG_CONFIG_PATH": str(root / "lib" / "pkgconfig")}
    text = run([tool("pkg-config"), "--cflags", "--libs", "tiny"], env=environment).stdout
    flags = text.replace("moved\\ package", "moved package").split(" -")
    flags = [flag if flag.startswith("-") else f"-{flag}" for flag in map(str.strip, flags)]
    assert flags[0] == f"-I{root}/lib/pkgconfig/../../include"
    program = tmp_path / "use"
    source = ["-std=c99", "-DNAME=tiny", '-DHEADER="tiny.h"', HERE / "use.c"]
    run([tool("gcc"), *source, *flags, "-lm", "-o", program])
    run([program], env={"LD_LIBRARY_PATH": str(root / "lib")})


def test_find_package_version_and_word_size(built, tmp_path: Path) -> None:
    config = f'find_package(tiny {{}} CONFIG PATHS "{built()}" NO_DEFAULT_PATH)'
    for version, found in (("", True), ("2.0", True), ("3.0", False)):
        (tmp_path / version).mkdir(exist_ok=True)
        (tmp_path / version / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.16)\nproject(x C)\n"
            + config.format(version)
            + '\nmessage(STATUS "found: ${tiny_FOUND}")\n'
        )
        text = run([tool("cmake"), "-S", tmp_path / version, "-B", tmp_path / version / "b"]).stdout
        assert f"found: {int(found)}" in text


@pytest.mark.parametrize("emit", ["shared", "static"])
@pytest.mark.parametrize("runtime", ["private", "shared"])
def test_two_networks_in_one_program(built, tmp_path: Path, emit: str, runtime: str) -> None:
    one = built("X86_64", "one", emit, runtime, 0.5)
    two = built("X86_64", "two", emit, runtime, 2.0)
    source = (HERE / "use.c").read_text()
    main = tmp_path / "main.c"
    main.write_text(
        "int one_main(int, char **);\nint two_main(int, char **);\n"
        "int main(void) {\n"
        '    char *a[] = {"one", "0.5"}, *b[] = {"two", "2.0"};\n'
        "    return one_main(2, a) || two_main(2, b) || one_main(2, a);\n}\n"
    )
    objects = []
    for name, root in (("one", one), ("two", two)):
        (tmp_path / f"{name}.c").write_text(source.replace("int main(", f"int {name}_main("))
        command = [
            tool("gcc"),
            *use_c(root, name)[:-1],
            "-Wno-missing-prototypes",
            "-c",
            tmp_path / f"{name}.c",
        ]
        run([*command, "-o", tmp_path / f"{name}.o"])
        objects.append(tmp_path / f"{name}.o")
    program = tmp_path / "both"
    libraries = [f"-L{one / 'lib'}", f"-L{two / 'lib'}", "-lone", "-ltwo"]
    libraries += ["-ldeploycc_rt"] if runtime == "shared" else []
    run([tool("gcc"), main, *objects, *libraries, "-lm", "-lpthread", "-o", program])
    run([program], env={"LD_LIBRARY_PATH": f"{one / 'lib'}:{two / 'lib'}"})
    if runtime == "shared":
        needed = run(
            [tool("readelf"), "-dW", program if emit == "static" else one / "lib" / "libone.so"]
        ).stdout
        assert "[libdeploycc_rt.so.2]" in needed


def test_a_hundred_packages_in_one_process(built, tmp_path: Path) -> None:
    """glibc has about 1.6 KiB of thread-local storage for all libraries that are loaded late."""
    root = built()
    program = tmp_path / "many"
    run(
        [
            tool("gcc"),
            *STRICT,
            f"-I{root / 'include'}",
            HERE / "many.c",
            "-ldl",
            "-lm",
            "-lpthread",
            "-o",
            program,
        ]
    )
    copies = [tmp_path / f"libtiny{number}.so" for number in range(100)]
    for copy in copies:
        shutil.copy(root / "lib" / "libtiny.so", copy)
    run([program, *copies])


def test_static_library_shows_its_own_functions_only(built) -> None:
    library = built(emit="static") / "lib" / "libtiny.a"
    symbols = run([tool("nm"), "-g", "--defined-only", library]).stdout.split("\n")
    assert sorted(line.split()[-1] for line in symbols if len(line.split()) == 3) == [
        f"tiny_{f}" for f in API_FUNCTIONS
    ]
    index = run([tool("nm"), "--print-armap", library]).stdout
    assert "tiny_run in tiny.o" in index
    assert run([tool("ar"), "tv", library]).stdout.split()[0] == "rw-r--r--"


def test_shared_runtime_is_versioned(built) -> None:
    root = built(runtime="shared")
    lib = root / "lib"
    assert (lib / "libdeploycc_rt.so").readlink() == Path("libdeploycc_rt.so.2")
    text = run([tool("readelf"), "-dW", lib / "libdeploycc_rt.so.2"]).stdout
    assert "Library soname: [libdeploycc_rt.so.2]" in text
    text = run([tool("readelf"), "-W", "--dyn-syms", lib / "libdeploycc_rt.so.2"]).stdout
    assert "dcc_create@@DEPLOYCC_RT_2" in text
    text = run([tool("readelf"), "-dW", lib / "libtiny.so"]).stdout
    assert "Library runpath: [$ORIGIN]" in text


def test_unlinked_package_is_built_by_the_app(tmp_path: Path) -> None:
    root = tmp_path / "package"
    root.mkdir()
    kernels = plans.compile_kernels(plans.X86_64.linker.triple)
    plan = plans.make_plan(plans.UNLINKED, kernels=kernels)
    request = plans.make_request(plans.UNLINKED)
    package(plan, request, plans.make_model(), plans.make_golden(), root)
    assert not (root / "lib" / "pkgconfig").exists()
    assert (root / "lib" / "tiny_kernels.o").read_bytes() == kernels
    inspect(root)
    build = tmp_path / "build"
    strict = " ".join(STRICT)
    run(
        [
            tool("cmake"), "-S", root / "example", "-B", build,
            f"-DCMAKE_CXX_FLAGS={strict}", f"-DCMAKE_C_FLAGS={strict}",
        ]
    )  # fmt: skip
    run([tool("cmake"), "--build", build, "-j2"])
    assert "copy: max error 0, " in run([build / "tiny_example"]).stdout
    # and alone, as the header of src/CMakeLists.txt says
    alone = tmp_path / "alone"
    run([tool("cmake"), "-S", root / "src", "-B", alone])
    run([tool("cmake"), "--build", alone, "-j2"])
    symbols = run([tool("nm"), "-D", "--defined-only", alone / "libtiny.so"]).stdout.split("\n")
    assert sorted(line.split()[-1] for line in symbols if line) == [f"tiny_{f}" for f in API_FUNCTIONS]


@pytest.mark.parametrize(
    ("target", "triple", "emulator"),
    [
        ("ARM64", "aarch64-linux-musl", "qemu-aarch64"),
        pytest.param("ARMV7", "arm-linux-musleabihf", "qemu-arm", marks=pytest.mark.slow),
        pytest.param("RISCV64", "riscv64-linux-musl", "qemu-riscv64", marks=pytest.mark.slow),
    ],
)
def test_static_library_on_another_machine(
    built, tmp_path: Path, target: str, triple: str, emulator: str
) -> None:
    """Linked into a static musl program, since a dynamic one would need that machine's C library here."""
    qemu = tool(emulator)
    root = built(target, emit="static")
    program = tmp_path / "use"
    command = [plans.zig(), "cc", "-target", triple, "-static", "-fno-sanitize=undefined", *use_c(root)]
    run([*command, root / "lib" / "libtiny.a", "-lm", "-o", program], env=plans.zig_environment())
    run([qemu, program])


def sysroot(folder: str, package_name: str) -> Path:
    """Debian's cross C library, installed or unpacked in .cache/ by the network tests; or a skip."""
    unpacked = HERE.parents[1] / ".cache" / "sysroots" / package_name / "usr" / folder
    for root in (Path("/usr") / folder, unpacked):
        if (root / "lib" / "libc.so.6").exists():
            return root
    pytest.skip(f"no C library of that machine here (Debian: {package_name})")


@pytest.mark.parametrize("runtime", ["private", "shared"])
def test_shared_library_loaded_on_another_machine(built, tmp_path: Path, runtime: str) -> None:
    """The real thing for arm64: its own loader and glibc, several threads, under emulation."""
    qemu = tool("qemu-aarch64")
    prefix = sysroot("aarch64-linux-gnu", "libc6-arm64-cross")
    root = built("ARM64", runtime=runtime)
    program = tmp_path / "use"
    command = [
        plans.zig(),
        "cc",
        "-target",
        "aarch64-linux-gnu.2.17",
        "-fno-sanitize=undefined",
        *use_c(root),
    ]
    libraries = ["-ltiny", *(["-ldeploycc_rt"] if runtime == "shared" else []), "-lm"]
    run([*command, f"-L{root / 'lib'}", *libraries, "-o", program], env=plans.zig_environment())
    run([qemu, "-L", prefix, "-E", f"LD_LIBRARY_PATH={root / 'lib'}", program])


@pytest.mark.parametrize("target", ["ARM64", "ARM64_MUSL", pytest.param("ARMV7", marks=pytest.mark.slow)])
def test_shared_library_of_another_machine(built, target: str) -> None:
    root = built(target)
    manifest = inspect(root)
    machine = {"ARM64": "AArch64", "ARM64_MUSL": "AArch64", "ARMV7": "ARM"}[target]
    assert machine in run([tool("readelf"), "-hW", root / "lib" / "libtiny.so"]).stdout
    assert manifest["library"]["highest_glibc"] == ("" if target == "ARM64_MUSL" else "2.17")


@pytest.mark.parametrize(
    ("emit", "runtime"), [("shared", "private"), ("static", "private"), ("shared", "shared")]
)
@pytest.mark.parametrize("target", ["X86_64", "ARM64"])
def test_same_bytes_in_another_folder(built, tmp_path: Path, target: str, emit: str, runtime: str) -> None:
    first = built(target, emit=emit, runtime=runtime)
    second = tmp_path / "a much longer name of a folder"
    second.mkdir()
    chosen = getattr(plans, target)
    request = plans.make_request(chosen, emit=emit, runtime=runtime)
    package(plans.make_plan(chosen), request, plans.make_model(), plans.make_golden(), second)
    names = sorted(p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second).as_posix() for p in second.rglob("*") if p.is_file())
    _, different, errors = filecmp.cmpfiles(first, second, names, shallow=False)
    assert (different, errors) == ([], [])


def test_weights_are_mapped_not_copied(tmp_path: Path) -> None:
    """64 MiB of weights, of which a run reads one page: they cost address space, not memory."""
    root = tmp_path / "package"
    root.mkdir()
    plan = plans.make_plan(plans.X86_64)
    plan = replace(plan, weights=plan.weights + bytes(range(256)) * (1 << 18))
    package(plan, plans.make_request(plans.X86_64), plans.make_model(), plans.make_golden(), root)
    library = root / "lib" / "libtiny.so"
    assert library.stat().st_size > 64 << 20
    (tmp_path / "main.c").write_text(
        '#include "tiny.h"\n#include <dlfcn.h>\n#include <stdio.h>\n#include <string.h>\n'
        "static long resident(void) {\n"
        '    char line[256]; long kib = 0; FILE *f = fopen("/proc/self/status", "r");\n'
        '    while (fgets(line, sizeof line, f)) { sscanf(line, "VmRSS: %ld", &kib); }\n'
        "    fclose(f); return kib;\n}\n"
        "int main(void) {\n"
        "    static float x[1000], y[1000], copy[1000]; const void *in[] = {x}; void *out[] = {y, copy};\n"
        "    long before = resident(); tiny_handle *handle; tiny_options options = tiny_OPTIONS_INIT;\n"
        "    options.threads = 1;\n"
        "    if (tiny_create(&options, &handle) || tiny_run(handle, in, out)) return 1;\n"
        '    printf("%ld", resident() - before); return tiny_destroy(handle);\n}\n'
    )
    include = f"-I{root / 'include'}"
    run([tool("gcc"), include, tmp_path / "main.c", f"-L{root / 'lib'}", "-ltiny", "-o", tmp_path / "main"])
    grown = int(run([tmp_path / "main"], env={"LD_LIBRARY_PATH": str(root / "lib")}).stdout)
    assert grown < 2048, f"{grown} KiB"


def test_manifest(built) -> None:
    root = built()
    manifest = inspect(root)
    text = (root / "share" / "tiny" / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    assert str(root) not in text
    assert manifest["name"] == "tiny"
    assert manifest["schema_version"] == 1
    assert manifest["inputs"] == [
        {
            "bytes": 4000,
            "dtype": "float32",
            "elements": 1000,
            "identifier": "x",
            "layout": "row-major",
            "name": "x",
            "shape": [1, 1000],
            "tolerance": 1e-4,
        }
    ]
    assert [t["name"] for t in manifest["outputs"]] == ["y", "copy"]
    assert manifest["memory"] == {
        "arena": "fast",
        "arena_bytes": 4064,
        "lower_bound_bytes": 0,
        "thread_workspace_bytes": 4000,
        "weight_bytes": 4064,
        "workspace_bytes": 4000,
    }
    library = manifest["library"]
    size = (root / "lib" / "libtiny.so").stat().st_size
    assert library["bytes"] == size
    assert library["code_bytes"] == size - 4064
    assert library["highest_glibc"] == "2.17"
    assert set(library["needed"]) <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}
    assert manifest["operators"] == {"Mul": 1, "Tanh": 1}
    assert manifest["calls"][1] == {
        "knobs": {"lanes": 4},
        "nodes": [],
        "operators": ["Mul"],
        "reads": [
            {"bytes": 4000, "index": 0, "kind": "input", "offset": 0},
            {"bytes": 4000, "kind": "constant", "offset": 64},
        ],
        "schedule": "elementwise",
        "symbol": "fused_scale",
        "writes": [{"bytes": 4000, "kind": "arena", "offset": 64}],
    }
    assert manifest["target"]["name"] == "x86-64"
    assert manifest["versions"]["ziglang"] == "0.17.1"
    assert manifest["model"] == {"opset": 17, "parameters": 1000, "sha256": "0" * 64}


def test_plan_faults_are_ours(tmp_path: Path) -> None:
    """A plan that contradicts itself is no bad input: it raises ValueError, not a diagnostic."""
    plan = plans.make_plan(plans.X86_64)
    request = plans.make_request(plans.X86_64)
    unknown = replace(plan, calls=(Call("nowhere", (Buffer("input", 0, 0, 4),)),))
    with pytest.raises(ValueError, match="lacks: nowhere"):
        package(unknown, request, plans.make_model(), plans.make_golden(), _empty(tmp_path, "a"))
    with pytest.raises(ValueError, match="golden tensors do not have the sizes"):
        package(plan, request, plans.make_model(), Golden((b"",), (b"", b""), "", 0), _empty(tmp_path, "b"))


def _empty(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, model, golden = plans.make_plan(plans.X86_64), plans.make_model(), plans.make_golden()
    with pytest.raises(DeployccError) as caught:
        package(plan, plans.make_request(plans.X86_64, "class"), model, golden, _empty(tmp_path, "a"))
    assert "DC704: 'class' cannot be the package's name: it is a keyword" in str(caught.value)
    request = plans.make_request(plans.UNLINKED, runtime="shared")
    with pytest.raises(DeployccError) as caught:
        package(plan, request, model, golden, _empty(tmp_path, "b"))
    assert "DC708: target unlinked cannot have a shared runtime" in str(caught.value)
    monkeypatch.setattr("deploycc.packaging.assemble.WEIGHT_LIMIT", 100)
    with pytest.raises(DeployccError) as caught:
        package(plan, plans.make_request(plans.X86_64), model, golden, _empty(tmp_path, "c"))
    assert "DC706: the weights are too large for one library" in str(caught.value)
    assert caught.value.diagnostics[0].got == "4064 bytes"


def test_no_weights_no_inputs(tmp_path: Path) -> None:
    """The degenerate network: nothing in, a constant workspace-free step, nothing to map."""
    source = "#include <stdint.h>\nint32_t one(void *y) { *(int64_t *)y = 7; return 0; }\n"
    plan = replace(
        plans.make_plan(plans.X86_64),
        kernels=plans.compile_kernels(plans.X86_64.linker.triple, "", source),
        calls=(Call("one", (Buffer("output", 0, 0, 8),)),),
        weights=b"",
        arena_bytes=0,
        workspace_bytes=0,
        thread_workspace_bytes=0,
        inputs=(),
        outputs=(TensorInfo("seven", "int64", ()),),
    )
    root = _empty(tmp_path, "package")
    golden = Golden((), ((7).to_bytes(8, "little"),), "", 0)
    package(plan, plans.make_request(plans.X86_64), plans.make_model(), golden, root)
    run(
        [tool("cmake"), "-S", root / "example", "-B", tmp_path / "b", "-DCMAKE_CXX_FLAGS=" + " ".join(STRICT)]
    )
    run([tool("cmake"), "--build", tmp_path / "b"])
    assert "seven: max error 0, largest value 7, ok" in run([tmp_path / "b" / "tiny_example"]).stdout
