"""The rules for finished libraries: each breach, made by a real compiler, is found and told."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.packaging.checks import check_kernels, check_library, highest_glibc, version_key
from deploycc.packaging.elf import ElfError, parse
from deploycc.types import DeployccError, Target
from tests.packaging import plans
from tests.packaging.conftest import run, tool

EXPORTS = ("tiny_run",)
GOOD = "int tiny_run(void) { return 1; }\n"


@functools.cache
def library(source: str = GOOD, *flags: str, triple: str = "x86_64-linux-gnu.2.17") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.c").write_text(source)
        command = [plans.zig(), "cc", "-target", triple, "-fno-sanitize=undefined", "-O1", "-g0", "-fPIC"]
        run([*command, "-shared", *flags, "a.c", "-o", "a.so"], cwd=folder, env=plans.zig_environment())
        return (Path(folder) / "a.so").read_bytes()


def by_gcc(folder: Path, source: str, *flags: str) -> bytes:
    """A library as this machine's own compiler makes it, which zig's stricter linker would not."""
    (folder / "a.c").write_text(source)
    run([tool("gcc"), "-shared", "-fPIC", *flags, "a.c", "-o", "a.so"], cwd=folder)
    return (folder / "a.so").read_bytes()


def breaches(
    data: bytes, target: Target = plans.X86_64, exports: tuple[str, ...] = EXPORTS
) -> dict[str, str]:
    """Code to the whole text of each diagnostic that checking this library raises."""
    with pytest.raises(DeployccError) as caught:
        check_library(data, target, exports, label="libtiny.so")
    return {d.code: " | ".join((d.message, d.got, d.need, d.help)) for d in caught.value.diagnostics}


def test_good_library() -> None:
    elf = check_library(library(), plans.X86_64, EXPORTS, label="libtiny.so")
    assert (elf.machine, elf.bits, elf.little_endian) == ("x86-64", 64, True)
    assert highest_glibc(elf) == ""


def test_wrong_machine() -> None:
    found = breaches(library(), plans.ARM64)
    assert list(found) == ["DC720"]
    assert "libtiny.so is for another machine than target arm64" in found["DC720"]
    assert "x86-64, 64-bit, little-endian | aarch64, 64-bit, little-endian" in found["DC720"]


def test_wrong_float_abi() -> None:
    bare = ("-nostdlib", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
    hard = library(GOOD, *bare, triple="arm-linux-gnueabihf.2.17")
    check_library(hard, plans.ARMV7, EXPORTS, label="libtiny.so")
    soft = library(GOOD, *bare, triple="arm-linux-gnueabi.2.17")
    assert "soft float ABI | hard float ABI" in breaches(soft, plans.ARMV7)["DC720"]
    single = bytearray(library(GOOD, *bare, triple="riscv64-linux-gnu.2.27"))
    check_library(bytes(single), plans.RISCV64, EXPORTS, label="libtiny.so")
    single[48] ^= 0x6  # e_flags: from double to single
    assert "other float ABI | double float ABI" in breaches(bytes(single), plans.RISCV64)["DC720"]


def test_not_a_library() -> None:
    with pytest.raises(DeployccError) as caught:
        check_library(plans.compile_kernels(plans.X86_64.linker.triple), plans.X86_64, (), label="it")
    assert "DC720: it is no shared library" in str(caught.value)


def test_needs_another_library() -> None:
    data = library("int dlclose(void *);\nint tiny_run(void) { return dlclose(0); }\n", "-ldl")
    found = breaches(data)
    assert list(found) == ["DC721"]
    assert "libtiny.so needs libraries that target x86-64 does not promise | libdl.so.2" in found["DC721"]
    linker = replace(plans.X86_64.linker, allowed_libraries=("libdl.so.2", "libc.so.6"))
    allowed = replace(plans.X86_64, linker=linker)
    check_library(data, allowed, EXPORTS, label="libtiny.so")


def test_needs_a_newer_glibc(tmp_path: Path) -> None:
    source = "#define _GNU_SOURCE\n#include <unistd.h>\nint tiny_run(void) { return (int)gettid(); }\n"
    data = by_gcc(tmp_path, source)
    found = breaches(data)
    assert list(found) == ["DC722"]
    assert "GLIBC_2.30 (gettid) | GLIBC_2.17 or older" in found["DC722"]
    musl = replace(plans.X86_64, linker=replace(plans.X86_64.linker, glibc_floor="", libc="musl"))
    assert "no glibc (musl)" in breaches(data, musl)["DC722"]
    assert highest_glibc(parse(data)) == "2.30"


def test_unresolved_symbols() -> None:
    data = library("int other(void);\nint tiny_run(void) { return other(); }\n", "-Wl,-z,undefs")
    found = breaches(data)
    assert "DC723" in found
    assert "libtiny.so has symbols that no library it needs defines | other" in found["DC723"]
    slots = "extern int (*TVMThing)(void);\nint tiny_run(void) { return TVMThing(); }\n"
    data = library(slots, "-Wl,-z,undefs", triple="aarch64-linux-musl")
    assert "TVMThing" in breaches(data, plans.ARM64_MUSL)["DC723"]


def test_exports() -> None:
    found = breaches(library(GOOD + "int other(void) { return 2; }\n"))
    assert list(found) == ["DC724"]
    assert "also other | tiny_run" in found["DC724"]
    found = breaches(library(), exports=("tiny_run", "tiny_create"))
    assert "not tiny_create" in found["DC724"]


def test_text_relocations(tmp_path: Path) -> None:
    (tmp_path / "a.s").write_text(
        ".text\n.globl tiny_run\n.type tiny_run,@function\ntiny_run:\n ret\n .balign 8\n .quad tiny_run\n"
        '.section .note.GNU-stack,"",@progbits\n'
    )
    run([tool("gcc"), "-shared", "-nostdlib", "-Wl,-z,notext", tmp_path / "a.s", "-o", tmp_path / "a.so"])
    found = breaches((tmp_path / "a.so").read_bytes())
    assert "DC725" in found
    assert "relocations in its code" in found["DC725"]


def test_executable_stack(tmp_path: Path) -> None:
    found = breaches(by_gcc(tmp_path, GOOD, "-nostdlib", "-Wl,-z,execstack"))
    assert list(found) == ["DC726"]
    assert "asks for an executable stack" in found["DC726"]


def test_broken_file() -> None:
    found = breaches(b"no library at all")
    assert found == {"DC727": "libtiny.so cannot be read as ELF | no ELF header | a complete ELF file | "}
    assert "DC727" in breaches(library()[:200])


def test_all_breaches_at_once(tmp_path: Path) -> None:
    source = "#define _GNU_SOURCE\n#include <unistd.h>\nint other(void) { return (int)gettid(); }\n"
    by_gcc(tmp_path, "int more(void) { return 3; }\n")
    (tmp_path / "a.so").rename(tmp_path / "libmore.so")
    data = by_gcc(tmp_path, source, "-Wl,-z,execstack", "-Wl,--no-as-needed", "-L.", "-lmore")
    assert set(breaches(data)) == {"DC721", "DC722", "DC724", "DC726"}


def test_kernels_that_need_tvm() -> None:
    source = (
        "__attribute__((weak)) int (*__TVMFFIFunctionCall)(void);\n"
        "extern int TVMFFIOther(void);\n"
        "int k(void) { return __TVMFFIFunctionCall() + TVMFFIOther(); }\n"
    )
    with pytest.raises(DeployccError) as caught:
        check_kernels(plans.compile_kernels("x86_64-linux-gnu.2.17", "", source), plans.X86_64)
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == "DC707"
    assert diagnostic.got == "TVMFFIOther, __TVMFFIFunctionCall"
    assert "a sort" in diagnostic.help


def test_kernels_of_another_machine() -> None:
    with pytest.raises(DeployccError) as caught:
        check_kernels(plans.compile_kernels("aarch64-linux-gnu.2.17"), plans.X86_64)
    assert "DC720: the kernels' object code is for another machine" in str(caught.value)


def test_versions_sort_as_numbers() -> None:
    assert version_key("2.17") < version_key("2.34") < version_key("2.100")
    assert version_key("2.2.5") < version_key("2.17")
    assert version_key("PRIVATE") < version_key("2.0")


# ---- the reader ----


def test_reader_agrees_with_readelf(tmp_path: Path) -> None:
    source = (
        "#include <math.h>\n#include <stdlib.h>\n__thread int t;\n"
        "double tiny_run(double x) { return tanh(x) + (malloc(1) != 0) + t; }\n"
    )
    for triple in ("x86_64-linux-gnu.2.17", "aarch64-linux-gnu.2.17"):
        path = tmp_path / "a.so"
        path.write_bytes(library(source, "-lm", triple=triple))
        elf = parse(path.read_bytes())
        text = run([tool("readelf"), "-W", "--dyn-syms", path]).stdout
        theirs = set()
        for line in text.splitlines():
            fields = line.split()
            if len(fields) >= 8 and fields[0].rstrip(":").isdigit():
                theirs.add((fields[7].split("@")[0], fields[6] != "UND", fields[4].lower()))
        bindings = {0: "local", 1: "global", 2: "weak"}
        assert {(s.name, s.defined, bindings[s.binding]) for s in elf.dynamic_symbols if s.name} == theirs
        versions = set(re.findall(r"@(GLIBC_[\d.]+)", text))
        assert {s.version for s in elf.dynamic_symbols if s.version} == versions
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run([tool("readelf"), "-dW", path]).stdout)
        assert list(elf.needed) == needed
        sections = run([tool("readelf"), "-SW", path]).stdout
        assert all(section.name in sections for section in elf.sections)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_reader_survives_damage(data: st.DataObject) -> None:
    """A damaged file is an ElfError or read somehow, never another exception or a hang."""
    original = library("#include <math.h>\ndouble tiny_run(double x) { return tanh(x); }\n", "-lm", "-s")
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        # headers, tables and the section headers at the end: where the structure is
        where = data.draw(st.integers(0, len(damaged) - 1))
        damaged[where] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    with contextlib.suppress(ElfError):
        parse(bytes(damaged[:length]))


def test_every_installed_library_can_be_read() -> None:
    libraries = sorted(Path("/usr/lib/x86_64-linux-gnu").glob("lib*.so.*"))[:40]
    if not libraries:
        pytest.skip("no system libraries where Debian has them")
    for path in libraries:
        elf = parse(path.read_bytes())
        assert elf.machine == "x86-64"
