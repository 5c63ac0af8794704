"""Static libraries: symbols made local without moving a byte, archives that ``ar`` and ``nm`` read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploycc.packaging.archive import archive, localise
from deploycc.packaging.elf import STB_LOCAL, ElfError, parse
from tests.packaging import plans
from tests.packaging.conftest import run, tool

# A comdat group, a weak symbol, thread-local data, calls both ways, a table of pointers.
CPP = """
template <typename T> T twice(T x) { static int calls; return x + x + 0 * ++calls; }
extern "C" {
__attribute__((weak)) int weak_value = 5;
thread_local int per_thread = 3;
int outside(int);
static int hidden(int x) { return twice(x) + weak_value + per_thread; }
int other(int x) { return hidden(x) + 1; }
int (*const table[])(int) = {other, hidden};
int api_one(int x) { return table[0](x) + table[1](x); }
int api_two(int x) { return outside(x) + twice(2.0) > 0 ? x : 0; }
}
"""
USER = """
#include <stdio.h>
int api_one(int);
int api_two(int);
int outside(int x) { return x * 10; }
int other(int x) { return -x; }  /* clashes unless the archive's own is local */
int weak_value = 1000;
int main(void) { printf("%d %d %d", api_one(7), api_two(4), other(1)); return 0; }
"""


def object_of(folder: Path, triple: str) -> bytes:
    (folder / "a.cpp").write_text(CPP)
    command = [plans.zig(), "c++", "-target", triple, "-fno-sanitize=undefined", "-O1", "-g0", "-fPIC"]
    command += [
        "-ffunction-sections",
        "-fno-threadsafe-statics",
        "-c",
        folder / "a.cpp",
        "-o",
        folder / "a.o",
    ]
    run(command, env=plans.zig_environment())
    return (folder / "a.o").read_bytes()


@pytest.mark.parametrize("triple", ["x86_64-linux-gnu.2.17", "arm-linux-gnueabihf.2.17"])
def test_localise_keeps_the_meaning(tmp_path: Path, triple: str) -> None:
    before = object_of(tmp_path, triple)
    after = localise(before, {"api_one", "api_two"})
    assert len(after) == len(before)
    old, new = parse(before), parse(after)
    globals_left = {s.name for s in new.symbols if s.binding != STB_LOCAL and s.defined}
    assert globals_left == {"api_one", "api_two"}
    undefined = {s.name for s in new.symbols if not s.defined}
    assert undefined == {s.name for s in old.symbols if not s.defined}
    assert "outside" in undefined
    (tmp_path / "new.o").write_bytes(after)

    def relocations(name: str) -> list[tuple[str, ...]]:
        # offset, type and symbol name of every relocation: the same before and after
        text = run([tool("readelf"), "-rW", tmp_path / name]).stdout
        return sorted(re.findall(r"^([0-9a-f]{8,16})\s+[0-9a-f]+\s+(R_\S+)\s+[0-9a-f]*\s*(.*)$", text, re.M))

    assert relocations("new.o") == relocations("a.o")
    assert len(relocations("a.o")) > 5
    # every symbol has kept its value and section
    assert sorted((s.name, s.section, s.size) for s in old.symbols) == sorted(
        (s.name, s.section, s.size) for s in new.symbols
    )


def test_localised_archive_links_and_runs(tmp_path: Path) -> None:
    data = localise(object_of(tmp_path, "x86_64-linux-gnu.2.17"), {"api_one", "api_two"})
    (tmp_path / "liba.a").write_bytes(archive("a.o", data, ["api_two", "api_one"]))
    (tmp_path / "user.c").write_text(USER)
    for linker in ([tool("gcc")], [plans.zig(), "cc", "-target", "x86_64-linux-gnu.2.17"]):
        flags = ["-fno-sanitize=undefined"] if "cc" in linker else []
        program = tmp_path / "user"
        command = [
            *linker,
            *flags,
            tmp_path / "user.c",
            tmp_path / "liba.a",
            "-Wl,--gc-sections",
            "-o",
            program,
        ]
        run(command, env=plans.zig_environment())
        # api_one(7) = other + hidden = (14 + 5 + 3 + 1) + (14 + 5 + 3)
        assert run([program]).stdout == "45 4 -1"


def test_archive_format(tmp_path: Path) -> None:
    for data in (b"even", b"odd"):
        path = tmp_path / "lib.a"
        path.write_bytes(archive("member.o", data, ["b", "a"]))
        assert run([tool("ar"), "t", path]).stdout == "member.o\n"
        assert run([tool("ar"), "p", path, "member.o"]).stdout == data.decode()
        assert len(path.read_bytes()) % 2 == 0
    with pytest.raises(ValueError, match="more than 15"):
        archive("a_name_of_sixteen", b"", [])


def test_objects_that_cannot_be_localised(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="no ELF header"):
        localise(b"nothing", ())
    data = bytearray(object_of(tmp_path, "x86_64-linux-gnu.2.17"))
    data[5] = 2
    with pytest.raises(ElfError):
        localise(bytes(data), ())
    run([tool("gcc"), "-shared", "-nostdlib", "-s", "-x", "c", "/dev/null", "-o", tmp_path / "a.so"])
    with pytest.raises(ElfError, match="exactly one symbol table"):
        localise((tmp_path / "a.so").read_bytes(), ())
