"""Targets: the machines that packages are built for, each one TOML file.

A file may extend one other (``extends = "arm64"``); its tables are laid over the other's, key by
key.  ``[sources]`` says where each hardware number is from.  Everything that is wrong with a file
is told at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploycc.gpu_targets import CUDA, CudaName, check_host, cuda_name, load_gpus, named_apart
from deploycc.op_support import engines
from deploycc.resources import data_dir
from deploycc.target_files import POSITIVE, TEXT, Key, complete, flatten, is_path, is_words, read_table
from deploycc.types import Cache, DeployccError, Diagnostic, Linker, LLVMTarget, Peak, Simd, Target

HOST = "host"
"""The target that is detected, not read."""


_ARCHITECTURES = {
    "EM_386": r"i[3-6]86",
    "EM_ARM": r"(arm|thumb)(v\d\w*)?",
    "EM_X86_64": r"x86_64",
    "EM_AARCH64": r"aarch64|arm64",
    "EM_RISCV": r"riscv(32|64)",
}
"""ELF machines that packages can be made for, and LLVM's names of their architectures."""


def _is_triple(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_.]+){3}", value) is not None


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _above_0(value: float) -> bool:
    return value >= 0


_WORDS = ("a list of strings", is_words)

KEYS: Mapping[str, Key] = {
    "name": Key(
        str, "letters, digits, '-', '_' and '.'", lambda v: bool(re.fullmatch(r"[\w.-]+", v, re.ASCII))
    ),
    "description": Key(str, *TEXT),
    "cores": Key(int, *POSITIVE),
    "llvm.triple": Key(str, "a four-part triple such as 'aarch64-unknown-linux-gnu'", _is_triple),
    "llvm.cpu": Key(str, "an LLVM CPU name", default=""),
    "llvm.features": Key(
        list,
        "a list of LLVM features, each with + or - in front",
        lambda v: is_words(v) and all(re.fullmatch(r"[+-][\w.-]+", word) for word in v),
        [],
    ),
    "llvm.float_abi": Key(str, "'hard', 'soft' or ''", lambda v: v in ("", "hard", "soft"), ""),
    "simd.bits": Key(int, "a power of two from 8 to 2048", lambda v: _is_power_of_two(v) and 8 <= v <= 2048),
    "simd.registers": Key(int, *POSITIVE),
    "simd.fma": Key(bool, "true or false"),
    "simd.fma_by_lane": Key(
        bool, "true where a multiply-add takes one lane of a register as its second factor", default=False
    ),
    "cache.l1_kib": Key(int, *POSITIVE),
    "cache.l2_kib": Key(int, *POSITIVE),
    "cache.line_bytes": Key(int, "a power of two", _is_power_of_two),
    "linker.toolchain": Key(str, "'zig', 'none' or the path of a C compiler", bool),
    "linker.triple": Key(str, *TEXT),
    "linker.libc": Key(str, "'glibc', 'musl' or 'bionic'", lambda v: v in ("glibc", "musl", "bionic")),
    "linker.cpu": Key(str, "the toolchain's CPU name", default=""),
    "linker.glibc_floor": Key(str, "a glibc version such as '2.17', or ''", lambda v: _is_version(v), ""),
    "linker.elf_machine": Key(str, f"one of {', '.join(_ARCHITECTURES)}", lambda v: v in _ARCHITECTURES),
    "linker.allowed_libraries": Key(list, *_WORDS, default=[]),
    "run.emulator": Key(list, *_WORDS, default=[]),
    "lint.hints": Key(
        list,
        "names of operator support tables (targets/op_support)",
        lambda v: is_words(v) and set(v) <= set(engines()),
        [],
    ),
    "peak.gflops": Key(float, "FLOP/s of all cores in single precision, in thousand millions", _above_0, 0.0),
    "peak.gbytes_per_second": Key(float, "memory bandwidth in thousand million bytes", _above_0, 0.0),
    "memory.mib": Key(int, "memory that a network may take, in MiB", lambda value: value >= 0, 0),
    "gpus": Key(
        list, "names of GPU chips (targets/gpus), architectures such as 'sm_90', or paths", is_words, []
    ),
}
"""Every key of a target file but ``extends`` and ``sources``."""

_FILE_KEYS: Mapping[str, Key] = {
    **KEYS,
    "extends": Key(str, "the name or path of one target", default=""),
}

HARDWARE_NUMBERS = tuple(
    key
    for key in KEYS
    if key == "cores"
    or key == "linker.glibc_floor"
    or key.split(".")[0] in ("simd", "cache", "peak", "memory")
)
"""The keys whose values are facts that need a source."""


def _is_version(value: str) -> bool:
    return value == "" or re.fullmatch(r"\d+\.\d+", value) is not None


def target_names() -> tuple[str, ...]:
    """Names of the targets that come with deploycc, ``host`` first."""
    return (HOST, *sorted(path.stem for path in data_dir("targets").glob("*.toml")))


def load_target(name_or_path: str | Path) -> Target:
    """The target of this name, or of the TOML file at this path.

    ``cuda:CHIP,CHIP@HOST`` names chips (by name, architecture or path) and the processor beside them; a
    target's own name (``cuda-sm_75-arm64``) is taken too where all of it comes with deploycc.  Else a
    value that has a path separator in it or ends in ``.toml`` is a path.  Raises ``DeployccError`` (DC500 to
    DC508, DC513 to DC515) with everything that is wrong.
    """
    text = str(name_or_path)
    named = cuda_name(text)
    if named is None and not is_path(text) and text not in target_names():
        named = named_apart(text, target_names())
    if named is not None:
        return _with_named_chips(text, named)
    if text == HOST:
        from deploycc.host import detect_host

        return detect_host()
    return target_from_table(*_read_with_parents(_find(text), ()))


def _with_named_chips(text: str, named: CudaName) -> Target:
    """``cuda`` with other chips, on another processor, or both."""
    target = load_target(CUDA)
    name = target.name
    if named.chips:
        gpus = load_gpus(named.chips, f"--target {text}")
        words = {load_gpus([word], "")[0].arch: word for word in named.chips}
        name = "-".join([name, *(Path(words[gpu.arch]).stem for gpu in gpus)])
        target = replace(target, gpus=gpus)
    if named.host and named.host != read_table(_find(CUDA)).get("extends"):
        host = load_target(named.host).host
        name = f"{name}-{host.name}"
        target = replace(host, gpus=target.gpus, hints=target.hints)
    elif "@" in text and not named.host:
        raise DeployccError(
            Diagnostic("DC500", f"no processor is named in '{text}'", need="a target after @, such as arm64")
        )
    if name == CUDA:
        return target
    chips = ", ".join(gpu.description for gpu in target.gpus)
    target = replace(
        target, name=name, description=f"{chips}; {target.llvm.triple.partition('-')[0]} processor"
    )
    check_host(target)
    return target


def target_from_table(table: Mapping[str, Any], file: str) -> Target:
    """Check the tables of one complete target and make a ``Target``; ``file`` is for messages."""
    value = complete(flatten(table, file, KEYS), file, KEYS, "target")
    pattern = _ARCHITECTURES[value["linker.elf_machine"]]
    if not re.fullmatch(pattern, value["llvm.triple"].partition("-")[0]):
        raise DeployccError(
            Diagnostic(
                "DC505",
                f"{file}: 'llvm.triple' and 'linker.elf_machine' are of different machines",
                got=f"{value['llvm.triple']} and {value['linker.elf_machine']}",
                help=f"known machines: {', '.join(_ARCHITECTURES)}",
            )
        )
    target = Target(
        name=value["name"],
        description=value["description"],
        llvm=LLVMTarget(
            triple=value["llvm.triple"],
            cpu=value["llvm.cpu"],
            features=tuple(value["llvm.features"]),
            float_abi=value["llvm.float_abi"],
        ),
        simd=Simd(
            bits=value["simd.bits"],
            registers=value["simd.registers"],
            fma=value["simd.fma"],
            fma_by_lane=value["simd.fma_by_lane"],
        ),
        cache=Cache(
            l1=value["cache.l1_kib"] << 10, l2=value["cache.l2_kib"] << 10, line=value["cache.line_bytes"]
        ),
        cores=value["cores"],
        linker=Linker(
            toolchain=value["linker.toolchain"],
            triple=value["linker.triple"],
            libc=value["linker.libc"],
            cpu=value["linker.cpu"],
            glibc_floor=value["linker.glibc_floor"],
            elf_machine=value["linker.elf_machine"],
            allowed_libraries=tuple(value["linker.allowed_libraries"]),
        ),
        emulator=tuple(value["run.emulator"]),
        sources=dict(table.get("sources", {})),
        hints=tuple(value["lint.hints"]),
        peak=_peak(value["peak.gflops"], value["peak.gbytes_per_second"]),
        memory_bytes=value["memory.mib"] << 20 or None,
        gpus=load_gpus(value["gpus"], file),
    )
    check_host(target)
    return target


def _peak(gflops: float, gbytes: float) -> Peak | None:
    return Peak(gflops * 1e9, gbytes * 1e9) if gflops and gbytes else None


def read_target_table(name: str) -> dict[str, Any]:
    """The merged tables of a target that comes with deploycc, for code that lays facts over them."""
    return _read_with_parents(_find(name), ())[0]


def _find(text: str) -> Path:
    if is_path(text):
        return Path(text)
    path = data_dir("targets") / f"{text}.toml"
    if path.is_file():
        return path
    names = target_names()
    family = re.split("[:@]", text, maxsplit=1)[0]
    if (data_dir("targets") / "external" / f"{family}.toml").is_file():
        raise DeployccError(
            Diagnostic(
                "DC500",
                f"'{text}' is a target of another compiler",
                need=f"one of {', '.join(names)}, or the path of a TOML file",
                help="'deploycc lint', 'deploycc split' and 'deploycc build' take it on the command line; "
                "from Python, deploycc.hand_over",
            )
        )
    near = difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.5)
    raise DeployccError(
        Diagnostic(
            "DC500",
            f"there is no target '{text}'",
            need=f"one of {', '.join(names)}, or the path of a TOML file",
            help=f"did you mean --target {near[0]}?" if near else "'deploycc targets' lists them",
        )
    )


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> tuple[dict[str, Any], str]:
    file = str(path)
    table = read_table(path)
    flatten(table, file, _FILE_KEYS)
    parent = table.pop("extends", None)
    if "gpus" in table:
        table["gpus"] = [str(path.parent / word) if is_path(word) else word for word in table["gpus"]]
    if parent is None:
        return table, file
    if is_path(parent):
        parent_path = path.parent / parent
    elif (path.parent / f"{parent}.toml").is_file() and path.stem != parent:
        parent_path = path.parent / f"{parent}.toml"
    else:
        parent_path = data_dir("targets") / f"{parent}.toml"
    chain = (*children, path)
    if any(parent_path.resolve() == link.resolve() for link in chain):
        raise DeployccError(
            Diagnostic(
                "DC507",
                f"{file}: 'extends' goes round in a circle",
                got=" -> ".join(link.stem for link in (*chain, parent_path)),
                help="take 'extends' out of one of them",
            )
        )
    if not parent_path.is_file():
        near = difflib.get_close_matches(parent, target_names()[1:], n=1, cutoff=0.5)
        raise DeployccError(
            Diagnostic(
                "DC507",
                f"{file}: there is no target '{parent}' to extend",
                need=f"one of {', '.join(target_names()[1:])}, or a TOML file beside this one",
                help=f'did you mean extends = "{near[0]}"?' if near else "",
            )
        )
    base, _ = _read_with_parents(parent_path, chain)
    return _lay_over(base, table), file


def _lay_over(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in table.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged
