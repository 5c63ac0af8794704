"""What the place can do at most: the two lines of a roofline (Williams, Waterman, Patterson, CACM 2009)."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from deploycc.gpu_targets import peak_of, with_precision
from deploycc.packaging.toolchain import call, zig_compiler
from deploycc.result_types import Ceilings
from deploycc.running import Place
from deploycc.targets import load_target
from deploycc.types import DeployccError, Diagnostic

SOURCE = Path(__file__).with_name("ceilings.c")
SECONDS = 0.08
"""Of each of the eight measurements: under an emulator they take about that long as well."""

_LIMIT_SECONDS = 120.0
_FLAGS = ("-std=c11", "-O2", "-g0", "-ffp-contract=fast", "-Wall", "-Wextra")


def least_us(flops: int, nbytes: int, ceilings: Ceilings) -> float:
    """Microseconds that the work takes at least: the larger of arithmetic and memory."""
    return max(flops / ceilings.gflops, nbytes / bandwidth(ceilings, nbytes)) / 1e3


def bandwidth(ceilings: Ceilings, nbytes: int) -> float:
    """The most GB/s for a layer that moves ``nbytes``.

    That of the largest buffer measured that is no larger, since no cache that is too small for the layer's
    data can serve it; where none was measured, that of memory.
    """
    if not ceilings.levels:
        return ceilings.gbs
    sizes = [size for size, _ in ceilings.levels]
    level = max((size for size in sizes if size <= nbytes), default=sizes[0])
    return max(gbs for size, gbs in ceilings.levels if size >= level)


def target_ceilings(manifest: Mapping[str, Any]) -> Ceilings:
    """Those that the package's target tells (``[peak]``), which are of all its cores, or of its weakest GPU.

    Raises ``DeployccError``: DC842 where it tells none, and what ``load_target`` raises.
    """
    if manifest["target"].get("gpus"):
        return chip_ceilings(manifest)
    name = manifest["target"]["name"]
    target = with_precision(load_target(name), manifest["target"].get("precision", "fp32"))
    peak = peak_of(target)
    if peak is None:
        raise DeployccError(
            Diagnostic(
                "DC842",
                f"the target {name} does not tell what it can do at most",
                need="[peak] gflops and gbytes_per_second in its file",
                help="leave --ceilings out: they are measured where the package runs",
            )
        )
    whose = f"its weakest chip at {target.precision}" if target.gpus else "all its cores"
    return Ceilings(
        peak.flops / 1e9, peak.bytes_per_second / 1e9, f"the description of target {name}, {whose}"
    )


def chip_ceilings(manifest: Mapping[str, Any]) -> Ceilings:
    """What the description of a package's GPU chip says: its peak at the package's precision, its memory.

    Raises ``DeployccError`` (DC842) for a package that does not tell it.
    """
    target = manifest["target"]
    chip = target["gpus"][int(manifest.get("chip", 0))]
    flops, precision = chip.get("flops", {}), str(target.get("precision", "fp32"))
    peak = flops.get(precision) or flops.get("fp32")
    if not peak or not chip.get("bytes_per_second"):
        raise DeployccError(
            Diagnostic(
                "DC842",
                f"the package does not tell what the chip {chip['name']} can do at most",
                need="a package whose manifest has the chip's peak and bandwidth",
                help="build the model again",
            )
        )
    return Ceilings(
        peak / 1e9,
        chip["bytes_per_second"] / 1e9,
        f"the description of {chip['name']} ({chip['arch']}), {precision}",
    )


def measured_ceilings(manifest: Mapping[str, Any], place: Place, threads: int) -> Ceilings | None:
    """Those of ``place`` with ``threads``, by a program for the package's processor and its extensions.

    Measured once a process for each place.  ``None`` where the program cannot be compiled or run: a profile
    without ceilings is still one.
    """
    target, memory = manifest["target"], manifest["memory"]
    told = _told(target["linker_triple"], target["cpu"], tuple(target["features"]), _Kept(place), threads)
    if told is None:
        return None
    levels = tuple((int(size), float(gbs)) for size, gbs in told["levels"])
    through = memory["arena_bytes"] + memory["weight_bytes"]
    known = Ceilings(float(told["gflops"]), levels[-1][1], "", levels)
    many = "1 thread" if threads == 1 else f"{threads} threads"
    return Ceilings(known.gflops, bandwidth(known, through), f"measured on {place.shown}, {many}", levels)


class _Kept:
    """A place as the key of a cache: the same words lead to the same machine."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and other.place.shown == self.place.shown

    def __hash__(self) -> int:
        return hash(self.place.shown)


@cache
def _told(
    triple: str, cpu: str, features: tuple[str, ...], kept: _Kept, threads: int
) -> dict[str, Any] | None:
    place = kept.place
    with tempfile.TemporaryDirectory(prefix="deploycc-ceilings-") as name:
        folder = Path(name)
        if not _compiled(triple, cpu, features, folder):
            return None
        (folder / "orders.txt").write_text(f"{threads} {SECONDS}\n", encoding="ascii")
        try:
            process = place.start(folder)
            try:
                said, _ = process.communicate(timeout=_LIMIT_SECONDS)
            finally:
                process.kill()
                process.wait()
        except (DeployccError, OSError, subprocess.TimeoutExpired):
            return None
        finally:
            place.leave()
    # A device's login shell may have said something before.
    line = next((line for line in said.splitlines() if line.startswith("{")), "")
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return dict(told) if told.get("gflops", 0) > 0 and all(gbs > 0 for _, gbs in told["levels"]) else None


def _compiled(triple: str, cpu: str, features: tuple[str, ...], folder: Path) -> bool:
    """Compile into ``folder/driver``: for the processor where zig knows it by LLVM's name, else any."""
    words = [cpu or "baseline", *features]
    static = ["-static"] if "musl" in triple else []
    scratch = folder / "scratch"
    scratch.mkdir()
    try:
        shutil.copy(SOURCE, scratch / SOURCE.name)
        for chosen in dict.fromkeys((_spelled(words), _spelled(words[:1]), "")):
            compiler = zig_compiler(triple, chosen, scratch)
            try:
                arguments = [*_FLAGS, *static, SOURCE.name, "-lpthread", "-o", "driver"]
                call(compiler, arguments, scratch, "compile the program that measures ceilings")
            except DeployccError:
                continue
            (scratch / "driver").rename(folder / "driver")
            return True
        return False
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _spelled(words: list[str]) -> str:
    """LLVM's names of a processor and its features as zig has them: ``x86_64_v4-prefer_256_bit``."""
    first, *features = words
    named = [feature[0] + feature[1:].replace("-", "_").replace(".", "_") for feature in features]
    return "".join([first.replace("-", "_"), *named])
