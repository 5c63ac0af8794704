"""GPU chips, each one TOML file in ``targets/gpus``, and names of targets that have them (``cuda:sm_75``).

A chip is asked for by its name, by the path of a file, or by its architecture (``sm_90``), for which one
chip file stands: schedules are chosen for a chip, and its kernels run on every chip of the architecture.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from deploycc.resources import data_dir
from deploycc.target_files import POSITIVE, TEXT, Key, complete, flatten, is_path, read_table
from deploycc.types import DeployccError, Diagnostic, Gpu, Peak, Precision, Target

CUDA = "cuda"
"""The target whose chips can be named behind it."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90")
"""What kernels are compiled for: those of NVRTC 12.4 (``--gpu-architecture``) that have ``ldmatrix`` and the
``mma.sync`` forms of sm_75 (PTX ISA 8.4).  Newer chips compile the PTX of the newest when they load it."""

_HOSTS = ("EM_X86_64", "EM_AARCH64")
"""Processors for which NVIDIA's driver has a libcuda.so.1, linked to glibc (CUDA Installation Guide)."""


def _above_0(value: float) -> bool:
    return value > 0


GPU_KEYS: Mapping[str, Key] = {
    "name": Key(
        str, "letters, digits, '-', '_' and '.'", lambda v: bool(re.fullmatch(r"[\w.-]+", v, re.ASCII))
    ),
    "description": Key(str, *TEXT),
    "arch": Key(str, f"one of {', '.join(ARCHITECTURES)}", lambda value: value in ARCHITECTURES),
    "stands_for_arch": Key(
        bool, "true for the chip that is meant where only its architecture is named", default=False
    ),
    "processors.count": Key(int, *POSITIVE),
    "processors.clock_mhz": Key(float, "the boost clock in MHz", _above_0),
    "processors.threads": Key(int, *POSITIVE),
    "processors.registers": Key(int, *POSITIVE),
    "shared.kib_per_processor": Key(int, *POSITIVE),
    "shared.kib_per_block": Key(int, *POSITIVE),
    "cache.l2_kib": Key(int, *POSITIVE),
    "memory.gbytes": Key(float, "memory in thousand million bytes", _above_0),
    "memory.gbytes_per_second": Key(float, "memory bandwidth in thousand million bytes", _above_0),
    "peak.fp32_tflops": Key(float, "TFLOP/s in single precision, without tensor cores", _above_0),
    **{
        f"peak.{kind}_tflops": Key(
            float, f"dense TFLOP/s of {kind} on tensor cores, sums of fp32", default=0.0
        )
        for kind in PRECISIONS[1:]
    },
}
"""Every key of a chip's file but ``sources``."""

CHIP_NUMBERS = tuple(key for key in GPU_KEYS if "." in key)
"""The keys whose values are facts that need a source."""


@dataclass(frozen=True)
class CudaName:
    """``cuda:CHIP,CHIP@HOST`` taken apart: ``chips`` is empty for the default ones, as ``host`` is."""

    chips: tuple[str, ...]
    host: str


def cuda_name(text: str) -> CudaName | None:
    """The parts of ``cuda:...`` and ``cuda@...``; ``None`` for every other name, plain ``cuda`` too."""
    found = re.fullmatch(rf"{CUDA}(?::(?P<chips>[^@]*))?(?:@(?P<host>.*))?", text)
    if found is None or text == CUDA:
        return None
    chips = found["chips"]
    return CudaName(() if chips is None else tuple(chips.split(",")), found["host"] or "")


def named_apart(name: str, hosts: Collection[str]) -> CudaName | None:
    """The parts of a target's own name, ``cuda-sm_75-orin-arm64``; ``None`` for what is none.

    ``hosts`` are names of targets.  Chips and processors of one's own are in no list, so theirs is none.
    """
    rest = name.removeprefix(f"{CUDA}-")
    known = {*ARCHITECTURES, *gpu_names()}
    chips: list[str] = []
    while rest and rest != name and rest not in hosts:
        fits = [word for word in known if f"{rest}-".startswith(f"{word}-")]
        if not fits:
            return None
        chips.append(max(fits, key=len))
        rest = rest[len(chips[-1]) + 1 :]
    return CudaName(tuple(chips), rest) if rest != name and (chips or rest) else None


def gpu_names() -> tuple[str, ...]:
    """Names of the chips that come with deploycc."""
    return tuple(sorted(path.stem for path in (data_dir("targets") / "gpus").glob("*.toml")))


def load_gpu(word: str) -> Gpu:
    """The chip of this name, of this architecture, or of the TOML file at this path.

    Raises ``DeployccError``: DC513 where there is none, DC501 to DC506 for a file that is wrong.
    """
    if is_path(word):
        return _from_file(Path(word))
    chips = _shipped()
    if word in chips:
        return chips[word]
    standing = _standing().get(word)
    if standing is not None:
        return chips[standing]
    raise DeployccError(_unknown_chip(word))


def load_gpus(words: Sequence[str], where: str) -> tuple[Gpu, ...]:
    """The chips of ``words``, the oldest architecture first; ``where`` is for messages.

    Raises ``DeployccError``: as ``load_gpu``, and DC514 for two of one architecture.
    """
    findings: list[Diagnostic] = []
    gpus: dict[str, tuple[str, Gpu]] = {}
    for word in words:
        try:
            gpu = load_gpu(word)
        except DeployccError as error:
            findings.extend(error.diagnostics)
            continue
        if gpu.arch not in gpus:
            gpus[gpu.arch] = word, gpu
            continue
        findings.append(
            Diagnostic(
                "DC514",
                f"{where}: {_twice(gpus[gpu.arch][0], word)}",
                got=", ".join(words),
                need="each architecture once: kernels for a chip run on all of its architecture",
                help="leave one of them out",
            )
        )
    if findings:
        raise DeployccError(*findings)
    return tuple(sorted((gpu for _, gpu in gpus.values()), key=lambda gpu: gpu.capability))


def check_host(target: Target) -> None:
    """Refuse a CUDA target on a processor or C library that has no driver (DC515)."""
    linker = target.linker
    reasons = []
    if linker.elf_machine not in _HOSTS:
        reasons.append(f"a processor of {linker.elf_machine}")
    if linker.libc != "glibc":
        reasons.append(f"the C library {linker.libc}")
    if linker.toolchain == "none":
        reasons.append("no linker")
    if target.gpus and reasons:
        raise DeployccError(
            Diagnostic(
                "DC515",
                f"the target '{target.name}' cannot have a GPU",
                got=" and ".join(reasons),
                need="x86-64 or AArch64 under Linux with glibc, which NVIDIA's driver library is made for",
                help="name another processor, such as --target cuda:orin@arm64",
            )
        )


def with_precision(target: Target, precision: str) -> Target:
    """The target at this precision.

    Raises ``DeployccError``: DC516 for a precision that there is not, or another than fp32 without a GPU;
    DC517 for chips whose tensor cores have it not.
    """
    known = {str(name): name for name in PRECISIONS}
    if precision not in known:
        near = difflib.get_close_matches(precision, PRECISIONS, n=1, cutoff=0.4)
        raise DeployccError(
            Diagnostic(
                "DC516",
                f"there is no precision '{precision}'",
                need=f"one of {', '.join(PRECISIONS)}",
                help=f"did you mean --precision {near[0]}?" if near else "",
            )
        )
    if precision != "fp32" and not target.gpus:
        raise DeployccError(
            Diagnostic(
                "DC516",
                f"the target '{target.name}' computes in the types of the model",
                got=f"--precision {precision}",
                need="a target with a GPU, such as cuda",
                help="leave --precision out",
            )
        )
    lacking = [gpu for gpu in target.gpus if precision != "fp32" and not gpu.has_tensor_cores(precision)]
    if lacking:
        others = ",".join(gpu.arch for gpu in target.gpus if gpu not in lacking)
        raise DeployccError(
            *(
                Diagnostic(
                    "DC517",
                    f"the tensor cores of {gpu.description} do not multiply {precision}",
                    got=f"--precision {precision} for {gpu.arch}",
                    need="sm_80 or newer",
                    help="--precision fp16 or fp32" + (f", or --target {CUDA}:{others}" if others else ""),
                )
                for gpu in lacking
            )
        )
    return replace(target, precision=known[precision])


def peak_of(target: Target) -> Peak | None:
    """What kernels for this target reach at best: of its weakest chip at its precision, or its processor."""
    if not target.gpus:
        return target.peak
    flops = min(gpu.flops.get(target.precision, gpu.flops["fp32"]) for gpu in target.gpus)
    return Peak(flops, min(gpu.bytes_per_second for gpu in target.gpus))


def memory_of(target: Target) -> int | None:
    """Bytes that a network may take: of the chip with the least memory, or of the processor."""
    return min(gpu.memory_bytes for gpu in target.gpus) if target.gpus else target.memory_bytes


def _twice(first: str, second: str) -> str:
    if first == second:
        return f"'{first}' is named twice"
    return f"'{first}' and '{second}' are of one architecture"


@cache
def _shipped() -> Mapping[str, Gpu]:
    return {name: _from_file(data_dir("targets") / "gpus" / f"{name}.toml") for name in gpu_names()}


@cache
def _standing() -> Mapping[str, str]:
    """Architectures, and the chip that stands for each."""
    folder = data_dir("targets") / "gpus"
    tables = {name: read_table(folder / f"{name}.toml") for name in gpu_names()}
    return {table["arch"]: name for name, table in tables.items() if table.get("stands_for_arch")}


def _from_file(path: Path) -> Gpu:
    table = read_table(path)
    return _gpu(complete(flatten(table, str(path), GPU_KEYS), str(path), GPU_KEYS, "chip"), table)


def _gpu(value: Mapping[str, Any], table: Mapping[str, Any]) -> Gpu:
    rates = {name: value[f"peak.{name}_tflops"] * 1e12 for name in PRECISIONS}
    return Gpu(
        name=value["name"],
        description=value["description"],
        arch=value["arch"],
        processors=value["processors.count"],
        clock_hz=value["processors.clock_mhz"] * 1e6,
        threads_per_processor=value["processors.threads"],
        registers_per_processor=value["processors.registers"],
        shared_bytes_per_processor=value["shared.kib_per_processor"] << 10,
        shared_bytes_per_block=value["shared.kib_per_block"] << 10,
        l2_bytes=value["cache.l2_kib"] << 10,
        memory_bytes=int(value["memory.gbytes"] * 1e9),
        bytes_per_second=value["memory.gbytes_per_second"] * 1e9,
        flops={name: rate for name, rate in rates.items() if rate},
        sources=dict(table.get("sources", {})),
    )


def _unknown_chip(word: str) -> Diagnostic:
    known = (*_standing(), *gpu_names())
    need = f"one of {', '.join(sorted(_standing()))}, {', '.join(gpu_names())}, or the path of a TOML file"
    if word in ("tensorrt", "onnxruntime"):
        other = {"onnxruntime": "onnxruntime-cuda"}.get(word, word)
        help_text = f"what other runtimes take is a target of its own: deploycc lint --target {other}"
    elif re.fullmatch(r"sm_?\d+[a-z]?", word) and _number(word) > _number(ARCHITECTURES[-1]):
        help_text = f"every package runs there too, by the PTX in it: --target {CUDA}:{ARCHITECTURES[-1]}"
    elif re.fullmatch(r"sm_?\d+", word) and _number(word) < _number(ARCHITECTURES[0]):
        help_text = f"kernels need {ARCHITECTURES[0]} or newer"
    else:
        near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
        help_text = f"did you mean '{near[0]}'?" if near else "'deploycc targets' lists them"
    return Diagnostic("DC513", f"there is no GPU chip '{word}'", need=need, help=help_text)


def _number(arch: str) -> int:
    return int(re.sub(r"\D", "", arch))
