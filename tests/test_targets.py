"""Target files: what they say, and what is told of one that is wrong."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.diagnostics import render
from deploycc.host import detect_host
from deploycc.llvm_names import check_llvm_names
from deploycc.records import code_key
from deploycc.resources import data_dir
from deploycc.targets import HARDWARE_NUMBERS, KEYS, load_target, target_names
from deploycc.types import DeployccError

SHIPPED = sorted(path.stem for path in data_dir("targets").glob("*.toml"))
GOOD = """
name = "board"
description = "a board"
cores = 2
[llvm]
triple = "aarch64-unknown-linux-gnu"
[simd]
bits = 128
registers = 32
fma = true
[cache]
l1_kib = 32
l2_kib = 256
line_bytes = 64
[linker]
toolchain = "zig"
triple = "aarch64-linux-gnu.2.17"
libc = "glibc"
elf_machine = "EM_AARCH64"
"""


def refusal(path: Path | str) -> str:
    with pytest.raises(DeployccError) as caught:
        load_target(path)
    return "\n".join(render(d) for d in caught.value.diagnostics)


def board(folder: Path, text: str, name: str = "board.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_targets_asked_for_are_there() -> None:
    wanted = "x86-64 x86-64-v4 host arm64 rpi4 rpi5 armv7 arm64-musl riscv64 android-arm64".split()
    assert set(wanted) <= set(target_names())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_is_named_as_its_target(name: str) -> None:
    assert load_target(name).name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_hardware_number_has_its_source_in_the_same_file(name: str) -> None:
    table = tomllib.loads((data_dir("targets") / f"{name}.toml").read_text(encoding="utf-8"))
    numbers = {"cores"} & table.keys()
    for section in ("simd", "cache", "linker", "peak", "memory"):
        numbers |= {f"{section}.{key}" for key in table.get(section, {})} & set(HARDWARE_NUMBERS)
    assert numbers <= table.get("sources", {}).keys()
    needed = {key for key in HARDWARE_NUMBERS if KEYS[key].default is None or key == "linker.glibc_floor"}
    assert needed <= load_target(name).sources.keys()


@pytest.mark.parametrize("name", [name for name in SHIPPED if load_target(name).linker.toolchain == "zig"])
def test_the_toolchain_takes_triple_and_cpu(name: str, tmp_path: Path) -> None:
    linker = load_target(name).linker
    source = tmp_path / "a.c"
    source.write_text("float twice(float a) { return a + a; }\n")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", linker.triple, f"-mcpu={linker.cpu}"]
    subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "a.o")], check=True, timeout=120)
    machine = int.from_bytes((tmp_path / "a.o").read_bytes()[18:20], "little")
    # e_machine of the System V ABI (gabi, chapter 4)
    numbers = {"EM_ARM": 40, "EM_X86_64": 62, "EM_AARCH64": 183, "EM_RISCV": 243}
    assert machine == numbers[linker.elf_machine]


def test_floors_are_the_ones_promised() -> None:
    assert {name: load_target(name).linker.glibc_floor for name in SHIPPED} == {
        "android-arm64": "",
        "arm64": "2.17",
        "arm64-musl": "",
        "armv7": "2.17",
        "cuda": "2.17",
        "h200": "2.17",
        "jetson-orin": "2.31",
        "riscv64": "2.27",
        "riscv64-v": "2.27",
        "rpi4": "2.17",
        "rpi5": "2.17",
        "x86-64": "2.17",
        "x86-64-v4": "2.17",
    }


def test_a_child_overrides_key_by_key() -> None:
    base, child = load_target("arm64"), load_target("rpi5")
    assert child.llvm.cpu == "cortex-a76"
    assert child.llvm.triple == base.llvm.triple
    assert child.cache == replace(base.cache, l1=64 << 10, l2=512 << 10)
    assert child.simd == base.simd


def test_a_target_by_path(tmp_path: Path) -> None:
    target = load_target(board(tmp_path, GOOD))
    assert (target.name, target.cores, target.cache.l2) == ("board", 2, 256 << 10)
    assert (target.linker.glibc_floor, target.emulator, target.llvm.features) == ("", (), ())


def test_a_path_may_extend_a_shipped_target_and_a_neighbour(tmp_path: Path) -> None:
    board(tmp_path, 'extends = "rpi4"\nname = "a"\n', "a.toml")
    target = load_target(board(tmp_path, 'extends = "a"\nname = "b"\n[cache]\nl2_kib = 1024\n', "b.toml"))
    assert (target.name, target.llvm.cpu, target.cache.l2) == ("b", "cortex-a72", 1 << 20)


def test_a_user_file_may_extend_the_target_it_is_named_after(tmp_path: Path) -> None:
    assert load_target(board(tmp_path, 'extends = "rpi4"\ncores = 1\n', "rpi4.toml")).cores == 1


@pytest.mark.parametrize(
    ("given", "near"), [("arm65", "arm64"), ("RPI4", "rpi4"), ("x86_64", "x86-64"), ("hots", "host")]
)
def test_dc500_offers_a_near_match(given: str, near: str) -> None:
    text = refusal(given)
    assert f"error[DC500]: there is no target '{given}'" in text
    assert f"did you mean --target {near}?" in text
    assert "one of host, android-arm64, arm64," in text


def test_dc500_without_a_near_match_says_where_the_list_is() -> None:
    assert "'deploycc targets' lists them" in refusal("zzzzzz")


def test_dc501_names_the_file(tmp_path: Path) -> None:
    assert "DC501" in (text := refusal(tmp_path / "none.toml"))
    assert "none.toml cannot be read" in text
    assert "No such file" in text
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xe9"')
    assert "DC501" in (text := refusal(path))
    assert "need: a TOML file in UTF-8" in text


def test_dc502_gives_the_line(tmp_path: Path) -> None:
    text = refusal(board(tmp_path, "name = 'x'\ncores = = 3\n"))
    assert "DC502" in text
    assert "line 2" in text


def test_a_hint_is_a_table_that_is_there(tmp_path: Path) -> None:
    text = refusal(board(tmp_path, GOOD + '\n[lint]\nhints = ["xnnpack", "nosuch"]\n'))
    assert "error[DC505]" in text
    assert "bad value of 'lint.hints'" in text
    good = board(tmp_path, GOOD + '\n[lint]\nhints = ["xnnpack", "nnapi"]\n')
    assert load_target(good).hints == ("xnnpack", "nnapi")


def test_all_findings_of_a_file_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace("registers", "regsiters").replace("l1_kib = 32", 'l1_kib = "32"').replace("128", "100")
    )
    text = refusal(board(tmp_path, "colour = 1\n" + text))
    assert "error[DC503]" in text
    assert "unknown key 'colour'" in text
    assert "unknown key 'simd.regsiters'" in text
    assert "did you mean 'simd.registers'?" in text
    assert "error[DC504]" in text
    assert "'cache.l1_kib' has the wrong type" in text
    assert "got:  a string ('32')" in text
    assert "error[DC505]" in text
    assert "bad value of 'simd.bits'" in text
    assert "got:  100" in text
    assert "need: a power of two from 8 to 2048" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cores = 2", "cores = true", "'cores' has the wrong type"),
        ("cores = 2", "cores = 0", "bad value of 'cores'"),
        ("cores = 2", "[cores]", "'cores' has the wrong type"),
        ("fma = true", "fma = 1", "'simd.fma' has the wrong type"),
        ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu", "need: a four-part triple"),
        ('"zig"', '""', "bad value of 'linker.toolchain'"),
        ('"glibc"', '"newlib"', "need: 'glibc', 'musl' or 'bionic'"),
        ('"EM_AARCH64"', '"arm64"', "bad value of 'linker.elf_machine'"),
        ('"EM_AARCH64"', '"EM_ARM"', "'llvm.triple' and 'linker.elf_machine' are of different machines"),
        ("aarch64-unknown", "aarch65-unknown", "got:  aarch65-unknown-linux-gnu and EM_AARCH64"),
        ("[simd]", '[sources]\n"simd.colour" = "x"\n[simd]', "unknown key 'simd.colour' in [sources]"),
        ("[simd]", '[sources]\n"simd.bits" = 3\n[simd]', "'sources.simd.bits' has the wrong type"),
        ("[llvm]", "sources = 3\n[llvm]", "'sources' has the wrong type"),
        ("[llvm]", "extends = 3\n[llvm]", "'extends' has the wrong type"),
        ("[llvm]", "run = 3\n[llvm]", "need: a table [run]"),
        ("[llvm]", '[run]\nemulator = [""]\n[llvm]', "bad value of 'run.emulator'"),
        ("[llvm]", '[llvm]\nfeatures = ["neon"]', "each with + or - in front"),
        ("[llvm]", '[llvm]\nfloat_abi = "half"', "need: 'hard', 'soft' or ''"),
        ('"glibc"', '"glibc"\nglibc_floor = "two"', "need: a glibc version"),
        ('"board"', '"a/b"', "bad value of 'name'"),
    ],
)
def test_bad_values(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    assert message in refusal(board(tmp_path, GOOD.replace(old, new)))


def test_dc506_lists_what_is_missing(tmp_path: Path) -> None:
    text = refusal(board(tmp_path, 'name = "board"\n'))
    assert "error[DC506]" in text
    assert "the target has no 'llvm.triple'" in text
    assert "the target has no 'simd.bits'" in text


def test_dc507_tells_of_circles(tmp_path: Path) -> None:
    board(tmp_path, 'extends = "b"\n', "a.toml")
    board(tmp_path, 'extends = "c"\n', "b.toml")
    text = refusal(board(tmp_path, 'extends = "a"\n', "c.toml"))
    assert "error[DC507]" in text
    assert "got:  c -> a -> b -> c" in text
    assert "DC507" in refusal(board(tmp_path, 'extends = "./self.toml"\n', "self.toml"))


def test_dc507_tells_of_a_parent_that_is_not_there(tmp_path: Path) -> None:
    text = refusal(board(tmp_path, 'extends = "rpi3"\n'))
    assert "there is no target 'rpi3' to extend" in text
    assert "did you mean extends = " in text


V3 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "cpu", "bits", "registers", "fma"),
    [
        (V4, "x86-64-v4", 512, 32, True),
        (V3, "x86-64-v3", 256, 16, True),
        (V3.replace("fma", ""), "x86-64-v2", 128, 16, False),
        ("sse2", "x86-64", 128, 16, False),
    ],
)
def test_host_picks_the_x86_level(
    flags: str, cpu: str, bits: int, registers: int, fma: bool, tmp_path: Path
) -> None:
    target = detect_host(f"processor : 0\nflags\t\t: fpu {flags}\n", "x86_64", tmp_path)
    assert (target.name, target.llvm.cpu, target.linker.cpu) == ("host", cpu, cpu.replace("-", "_"))
    assert (target.simd.bits, target.simd.registers, target.simd.fma) == (bits, registers, fma)


@pytest.mark.parametrize(
    ("flags", "feature"),
    [
        (f"{V4} avx512_vnni avx_vnni", "+avx512vnni"),
        (f"{V3} avx_vnni", "+avxvnni"),
        (f"{V3} avx512_vnni", ""),
        (V4, ""),
    ],
)
def test_host_has_instructions_for_integers(flags: str, feature: str, tmp_path: Path) -> None:
    target = detect_host(f"flags : {flags}\n", "x86_64", tmp_path)
    assert [name for name in target.llvm.features if "vnni" in name] == ([feature] if feature else [])
    plain = replace(target, llvm=replace(target.llvm, features=load_target("x86-64-v4").llvm.features))
    if "avx512f" in flags:
        assert code_key(target) == code_key(plain), "records of floats would be lost"


def test_host_takes_only_what_all_cores_have(tmp_path: Path) -> None:
    assert detect_host(f"flags : {V4}\nflags : {V3}\n", "x86_64", tmp_path).llvm.cpu == "x86-64-v3"


def test_host_on_arm64(tmp_path: Path) -> None:
    target = detect_host("Features\t: fp asimd atomics asimddp\n", "aarch64", tmp_path)
    assert target.llvm.features == ("+neon", "+dotprod", "+lse")
    assert target.linker.elf_machine == "EM_AARCH64"


def test_host_reads_caches(tmp_path: Path) -> None:
    (tmp_path / "topology").mkdir()
    (tmp_path / "topology" / "thread_siblings_list").write_text("0,4\n")
    facts = {
        0: ("1", "Data", "48K", "0,4"),
        1: ("1", "Instruction", "32K", "0,4"),
        2: ("2", "Unified", "2048K", "0-7"),
    }
    for number, (level, kind, size, cpus) in facts.items():
        index = tmp_path / "cache" / f"index{number}"
        index.mkdir(parents=True)
        values = {
            "level": level,
            "type": kind,
            "size": size,
            "shared_cpu_list": cpus,
            "coherency_line_size": "128",
        }
        for name, value in values.items():
            (index / name).write_text(value + "\n")
    target = detect_host(f"flags : {V3}\n", "x86_64", tmp_path / "cache")
    # 2 MiB of four cores with two threads each: 512 KiB a core.
    assert (target.cache.l1, target.cache.l2, target.cache.line) == (48 << 10, 512 << 10, 128)
    assert target.sources["cache.l2_kib"].startswith("/sys/")


def test_dc508_for_another_machine(tmp_path: Path) -> None:
    with pytest.raises(DeployccError, match="DC508: the target 'host' is not known for this machine"):
        detect_host("", "s390x", tmp_path)


def test_llvm_knows_what_the_shipped_targets_name() -> None:
    for name in target_names():
        check_llvm_names(load_target(name))


def test_dc509_for_names_that_llvm_would_ignore() -> None:
    target = load_target("arm64")
    with pytest.raises(DeployccError) as caught:
        check_llvm_names(replace(target, llvm=replace(target.llvm, cpu="cortex-a720x")))
    text = render(caught.value.diagnostics[0])
    assert "error[DC509]: target arm64: LLVM knows no aarch64 CPU 'cortex-a720x'" in text
    assert "such as cortex-a720" in text
    features = ("+neon", "+sse9", "-nothing", "+avx11")
    with pytest.raises(DeployccError) as caught:
        check_llvm_names(replace(target, llvm=replace(target.llvm, features=features)))
    assert [d.message.partition("feature ")[2] for d in caught.value.diagnostics] == ["'sse9'", "'avx11'"]


def test_target_of_another_compiler_is_called_so() -> None:
    with pytest.raises(DeployccError) as raised:
        load_target("snpe:htp@2.10")
    (found,) = raised.value.diagnostics
    assert found.code == "DC500"
    assert found.message == "'snpe:htp@2.10' is a target of another compiler"
    assert "deploycc.hand_over" in found.help
