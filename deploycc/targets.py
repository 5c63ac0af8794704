"""Targets: the machines that packages are built for, each one TOML file.

A file may extend one other (``extends = "arm64"``); its tables are laid over the other's, key by
key.  ``[sources]`` says where each hardware number is from.  Everything that is wrong with a file
is told at once.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploycc.op_support import engines
from deploycc.resources import data_dir
from deploycc.types import Cache, DeployccError, Diagnostic, Linker, LLVMTarget, Peak, Simd, Target

HOST = "host"
"""The target that is detected, not read."""


@dataclass(frozen=True)
class _Key:
    """One key of a target file: its TOML type, what its value must be, and if it may be left out."""

    type: type
    need: str
    valid: Callable[[Any], bool] = lambda value: True
    default: Any = None


_ARCHITECTURES = {
    "EM_386": r"i[3-6]86",
    "EM_ARM": r"(arm|thumb)(v\d\w*)?",
    "EM_X86_64": r"x86_64",
    "EM_AARCH64": r"aarch64|arm64",
    "EM_RISCV": r"riscv(32|64)",
}
"""ELF machines that packages can be made for, and LLVM's names of their architectures."""


def _is_words(value: list[Any]) -> bool:
    return all(isinstance(word, str) and word for word in value)


def _is_triple(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_.]+){3}", value) is not None


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _above_0(value: float) -> bool:
    return value >= 0


_POSITIVE = ("a whole number above 0", lambda value: value > 0)
_WORDS = ("a list of strings", _is_words)
_TEXT = ("a non-empty string", bool)

KEYS: Mapping[str, _Key] = {
    "name": _Key(
        str, "letters, digits, '-', '_' and '.'", lambda v: bool(re.fullmatch(r"[\w.-]+", v, re.ASCII))
    ),
    "description": _Key(str, *_TEXT),
    "cores": _Key(int, *_POSITIVE),
    "llvm.triple": _Key(str, "a four-part triple such as 'aarch64-unknown-linux-gnu'", _is_triple),
    "llvm.cpu": _Key(str, "an LLVM CPU name", default=""),
    "llvm.features": _Key(
        list,
        "a list of LLVM features, each with + or - in front",
        lambda v: _is_words(v) and all(re.fullmatch(r"[+-][\w.-]+", word) for word in v),
        [],
    ),
    "llvm.float_abi": _Key(str, "'hard', 'soft' or ''", lambda v: v in ("", "hard", "soft"), ""),
    "simd.bits": _Key(int, "a power of two from 8 to 2048", lambda v: _is_power_of_two(v) and 8 <= v <= 2048),
    "simd.registers": _Key(int, *_POSITIVE),
    "simd.fma": _Key(bool, "true or false"),
    "simd.fma_by_lane": _Key(
        bool, "true where a multiply-add takes one lane of a register as its second factor", default=False
    ),
    "cache.l1_kib": _Key(int, *_POSITIVE),
    "cache.l2_kib": _Key(int, *_POSITIVE),
    "cache.line_bytes": _Key(int, "a power of two", _is_power_of_two),
    "linker.toolchain": _Key(str, "'zig', 'none' or the path of a C compiler", bool),
    "linker.triple": _Key(str, *_TEXT),
    "linker.libc": _Key(str, "'glibc', 'musl' or 'bionic'", lambda v: v in ("glibc", "musl", "bionic")),
    "linker.cpu": _Key(str, "the toolchain's CPU name", default=""),
    "linker.glibc_floor": _Key(str, "a glibc version such as '2.17', or ''", lambda v: _is_version(v), ""),
    "linker.elf_machine": _Key(str, f"one of {', '.join(_ARCHITECTURES)}", lambda v: v in _ARCHITECTURES),
    "linker.allowed_libraries": _Key(list, *_WORDS, default=[]),
    "run.emulator": _Key(list, *_WORDS, default=[]),
    "lint.hints": _Key(
        list,
        "names of operator support tables (targets/op_support)",
        lambda v: _is_words(v) and set(v) <= set(engines()),
        [],
    ),
    "peak.gflops": _Key(
        float, "FLOP/s of all cores in single precision, in thousand millions", _above_0, 0.0
    ),
    "peak.gbytes_per_second": _Key(float, "memory bandwidth in thousand million bytes", _above_0, 0.0),
    "memory.mib": _Key(int, "memory that a network may take, in MiB", lambda value: value >= 0, 0),
}
"""Every key of a target file but ``extends`` and ``sources``."""

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

    A value that has a path separator in it or ends in ``.toml`` is a path.  Raises
    ``DeployccError`` (DC500 to DC508) with everything that is wrong.
    """
    text = str(name_or_path)
    if text == HOST:
        from deploycc.host import detect_host

        return detect_host()
    return target_from_table(*_read_with_parents(_find(text), ()))


def target_from_table(table: Mapping[str, Any], file: str) -> Target:
    """Check the tables of one complete target and make a ``Target``; ``file`` is for messages."""
    flat = _flatten(table, file)
    missing = [key for key, spec in KEYS.items() if key not in flat and spec.default is None]
    if missing:
        raise DeployccError(
            *(
                Diagnostic(
                    "DC506", f"{file}: the target has no '{key}'", need=KEYS[key].need, help=_near_help(key)
                )
                for key in missing
            )
        )
    value = {key: flat.get(key, spec.default) for key, spec in KEYS.items()}
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
    return Target(
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
    )


def _peak(gflops: float, gbytes: float) -> Peak | None:
    return Peak(gflops * 1e9, gbytes * 1e9) if gflops and gbytes else None


def read_target_table(name: str) -> dict[str, Any]:
    """The merged tables of a target that comes with deploycc, for code that lays facts over them."""
    return _read_with_parents(_find(name), ())[0]


def _find(text: str) -> Path:
    if "/" in text or text.endswith(".toml"):
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
    table = _read(path)
    _flatten(table, file)
    parent = table.pop("extends", None)
    if parent is None:
        return table, file
    if "/" in parent or parent.endswith(".toml"):
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


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DeployccError(
            Diagnostic(
                "DC501", f"the target file {path} cannot be read", got=why, need="a TOML file in UTF-8"
            )
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeployccError(Diagnostic("DC502", f"{path} is not TOML", got=str(error))) from None


def _lay_over(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in table.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


def _flatten(table: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Dotted keys of a file to values; raises with all that is unknown or wrong."""
    findings: list[Diagnostic] = []
    flat: dict[str, Any] = {}
    tables = {key.split(".")[0] for key in KEYS if "." in key}
    for key, value in table.items():
        if key == "extends":
            if not isinstance(value, str):
                findings.append(_wrong_type(file, key, value, "the name or path of one target"))
        elif key == "sources":
            findings.extend(_check_sources(file, value))
        elif key in tables:
            if isinstance(value, dict):
                flat.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
            else:
                findings.append(_wrong_type(file, key, value, f"a table [{key}]"))
        else:
            flat[key] = value
    for key, value in flat.items():
        spec = KEYS.get(key)
        if spec is None:
            findings.append(_unknown(file, key))
        elif type(value) is not spec.type:
            findings.append(_wrong_type(file, key, value, spec.need))
        elif not spec.valid(value):
            findings.append(
                Diagnostic("DC505", f"{file}: bad value of '{key}'", got=repr(value), need=spec.need)
            )
    if findings:
        raise DeployccError(*findings)
    return flat


def _check_sources(file: str, sources: Any) -> list[Diagnostic]:
    if not isinstance(sources, dict):
        return [_wrong_type(file, "sources", sources, "a table [sources]")]
    findings = []
    for key, value in sources.items():
        if key not in KEYS:
            findings.append(_unknown(file, key, inside="sources"))
        elif not isinstance(value, str):
            findings.append(
                _wrong_type(file, f"sources.{key}", value, "a string that says where the number is from")
            )
    return findings


def _unknown(file: str, key: str, inside: str = "") -> Diagnostic:
    place = f" in [{inside}]" if inside else ""
    return Diagnostic("DC503", f"{file}: unknown key '{key}'{place}", help=_near_help(key))


def _near_help(key: str) -> str:
    known = [*KEYS, "extends", "sources"]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near and near[0] != key:
        return f"did you mean '{near[0]}'?"
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last and name != key]
    return f"did you mean '{same[0]}'?" if same else "docs/new-target.md lists the keys"


def _wrong_type(file: str, key: str, value: Any, need: str) -> Diagnostic:
    names = {str: "a string", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
    got = names.get(type(value), "a table" if isinstance(value, dict) else type(value).__name__)
    return Diagnostic("DC504", f"{file}: '{key}' has the wrong type", got=f"{got} ({value!r})", need=need)
