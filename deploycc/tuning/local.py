"""Runs candidates on this processor: linked to a shared object, loaded, checked, timed.

A network's kernels find their data as their neighbours left it: activations were just written, weights
were last read a whole run ago.  So each run takes another copy of the weights, as many as fill the level-2
cache twice, while the activations stay where they are.
"""

from __future__ import annotations

import _ctypes
import ctypes
import math
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.packaging.toolchain import CFLAGS, call, find_compiler
from deploycc.records import Unit
from deploycc.tuning.runner import Array, Effort, Job, Measurement, in_turns
from deploycc.types import Buffer, DeployccError, Diagnostic, Plan, Target

GUARD = 4096
"""Bytes behind every buffer that must not change."""
COPIES, COPIED_BYTES = 64, 64 << 20
"""Most copies of one candidate's weights, and most bytes of them."""
_PAGE = 4096
_READ_AHEAD = 128
"""How many arguments ``measure.c`` may read behind the last list's end."""
_PEAK_ROUNDS = 2_000_000


class LocalRunner:
    """Times jobs in this process, on the core it is pinned to.  A bad kernel takes the process with it."""

    unit: Unit = "seconds"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._scratch = Path(tempfile.mkdtemp(prefix="deploycc-tune-"))
        self._compiler = find_compiler(target, self._scratch)
        self._harness = self._scratch / "measure.o"
        source = Path(__file__).with_name("measure.c")
        flags = [flag for flag in CFLAGS if flag != "-fvisibility=hidden"]
        flags += ["-ffp-contract=fast", f"-DVECTOR_BYTES={max(4, target.simd.bits // 8)}"]
        if target.simd.bits >= 512 and target.llvm.triple.startswith("x86_64"):
            flags.append("-mprefer-vector-width=512")  # as the kernels are compiled
        words = [*flags, "-c", str(source), "-o", str(self._harness)]
        call(self._compiler, words, self._scratch, "compile the measuring harness")
        self._libraries = 0

    def measure(self, jobs: Sequence[Job], effort: Effort) -> list[Measurement]:
        """See ``Runner.measure``; the median of the batches counts."""
        found: list[Measurement | None] = [None] * len(jobs)
        loaded: dict[int, _Loaded] = {}
        try:
            for number, job in enumerate(jobs):
                try:
                    loaded[number] = _Loaded(self._link(job.plan), job, self._target.cache.l2)
                    found[number] = loaded[number].check()
                except (OSError, subprocess.SubprocessError) as error:
                    found[number] = Measurement("failed", "seconds", note=str(error)[:500])
                if found[number] is not None and number in loaded:
                    loaded.pop(number).close()
            times, runs = _take_turns(loaded, effort)
            for number, batches in times.items():
                found[number] = Measurement(
                    "ok",
                    "seconds",
                    statistics.median(batches),
                    loaded[number].error,
                    runs[number] * len(batches),
                )
        finally:
            for one in loaded.values():
                one.close()
        return [m if m is not None else Measurement("failed", "seconds") for m in found]

    def peak(self) -> float:
        """FLOP/s of independent vector multiply-adds on this core: what share of the peak refers to.

        Raises ``DeployccError`` (DC600) where the target's code cannot be loaded.
        """
        try:
            library = ctypes.CDLL(str(self._link(None)))
        except OSError as error:
            raise DeployccError(
                Diagnostic(
                    "DC600",
                    f"kernels of target {self._target.name} cannot be measured on this machine",
                    got=str(error),
                    need="a processor that runs the target's code, or the target's emulator",
                )
            ) from None
        library.measure_peak.restype = ctypes.c_double
        library.measure_peak.argtypes = [ctypes.c_int64]
        library.measure_peak(_PEAK_ROUNDS)
        return float(max(library.measure_peak(_PEAK_ROUNDS) for _ in range(3)))

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _link(self, plan: Plan | None) -> Path:
        # Every library has a name of its own: the loader would take an equal one for the same file.
        self._libraries += 1
        output = self._scratch / f"candidate-{self._libraries}.so"
        objects = [str(self._harness)]
        if plan is not None:
            kernels = self._scratch / "kernels.o"
            kernels.write_bytes(plan.kernels)
            objects.append(str(kernels))
        # zig's driver takes five times as long as the linker in it.
        linker = (
            [self._compiler.command[0], "ld.lld"] if self._compiler.is_zig else list(self._compiler.command)
        )
        done = subprocess.run(
            [*linker, "-shared", "-o", str(output), *objects],
            env=dict(self._compiler.environment),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise OSError(f"not linked: {done.stderr.strip()[:400]}")
        return output


class _Step(ctypes.Structure):
    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("nbytes", ctypes.c_int64),
    )


class _Loaded:
    """One job in memory: its library, buffers and a list of arguments for every copy of the weights."""

    def __init__(self, library: Path, job: Job, l2: int) -> None:
        self._job, plan = job, job.plan
        self.error = math.nan
        self._library: Any = ctypes.CDLL(str(library))
        library.unlink()
        self._library.measure_seconds.restype = ctypes.c_double
        self._library.measure_run.restype = ctypes.c_int64
        copies = 1
        if plan.weights:
            wanted = min(-(-2 * l2 // len(plan.weights)), COPIED_BYTES // len(plan.weights), COPIES)
            copies = max(1, wanted)
        self._arena = _buffer(plan.arena_bytes)
        self._space = _buffer(plan.workspace_bytes + plan.thread_workspace_bytes + 64)
        self._inputs = [_buffer(array.nbytes, array) for array in job.inputs]
        self._outputs = [_buffer(array.nbytes) for array in job.expected]
        self._weights = [
            _buffer(len(plan.weights), np.frombuffer(plan.weights, np.uint8)) for _ in range(copies)
        ]
        self._steps = self._read_steps(plan)
        self._lists = [self._arguments(plan, weights) for weights in self._weights]
        self._pointers = (ctypes.c_void_p * copies)(*(ctypes.addressof(a) for a in self._lists))
        self._turn = 0

    def check(self) -> Measurement | None:
        """Run once; what is wrong with the result, if anything is."""
        self._give_workspace()
        code = self._library.measure_run(self._steps, ctypes.c_int64(len(self._steps)), self._lists[0])
        if code:
            why = "took more workspace than planned" if code == -1 else f"step {code} returned an error"
            return Measurement("failed", "seconds", note=why)
        self.error = 0.0
        for buffer, expected in zip(self._outputs, self._job.expected, strict=True):
            result = buffer[: expected.nbytes].view(expected.dtype).reshape(expected.shape)
            self.error = max(self.error, largest_error(result, expected))
        if not self.error <= self._job.tolerance:
            note = f"off by {self.error:.3g} of the largest value, {self._job.tolerance:g} is allowed"
            return Measurement("wrong", "seconds", error=self.error, note=note)
        plan = self._job.plan
        sized = [(self._arena, plan.arena_bytes)]
        sized += [(b, e.nbytes) for b, e in zip(self._outputs, self._job.expected, strict=True)]
        if any((buffer[size:] != 0xFF).any() for buffer, size in sized):
            return Measurement(
                "wrong", "seconds", error=self.error, note="wrote behind the end of its buffer"
            )
        return None

    def seconds(self, runs: int) -> float:
        """Seconds of one run, the mean of ``runs``."""
        self._give_workspace()
        taken = self._library.measure_seconds(
            self._steps,
            ctypes.c_int64(len(self._steps)),
            self._pointers,
            *map(ctypes.c_int64, (len(self._lists), self._turn, runs)),
        )
        self._turn = (self._turn + runs) % len(self._lists)
        return float(taken)

    def close(self) -> None:
        """Unload the library; the job must not be used afterwards."""
        _ctypes.dlclose(self._library._handle)

    def _give_workspace(self) -> None:
        size = ctypes.c_int64(self._space.nbytes - GUARD)
        self._library.measure_workspace(ctypes.c_void_p(self._space.ctypes.data), size)

    def _read_steps(self, plan: Plan) -> Any:
        steps = (_Step * max(1, len(plan.calls)))()
        first = 0
        for step, made in zip(steps, plan.calls, strict=False):
            if made.symbol != "memcpy":
                function = getattr(self._library, made.symbol)
                step.kernel = ctypes.cast(function, ctypes.c_void_p).value
            step.count, step.first = len(made.arguments), first
            step.nbytes = made.arguments[0].nbytes if made.arguments else 0
            first += len(made.arguments)
        return steps

    def _arguments(self, plan: Plan, weights: Array) -> Any:
        bases = {"arena": self._arena, "constant": weights}

        def address(buffer: Buffer) -> int:
            if buffer.kind == "input":
                base = self._inputs[buffer.index]
            else:
                base = self._outputs[buffer.index] if buffer.kind == "output" else bases[buffer.kind]
            return int(base.ctypes.data) + buffer.offset

        found = [address(argument) for made in plan.calls for argument in made.arguments]
        return (ctypes.c_void_p * (len(found) + _READ_AHEAD))(*found)


def largest_error(result: Array, expected: Array) -> float:
    """max|result - expected| / max|expected|; NaN if ``result`` has one, infinite where zeros were missed."""
    if not expected.size:
        return 0.0
    wide = np.result_type(expected.dtype, np.float32)  # rounds off by 2**-24, far below any tolerance
    off = float(np.max(np.abs(np.subtract(result, expected, dtype=wide))))
    largest = float(np.max(np.abs(expected.astype(wide, copy=False))))
    if off == 0:
        return 0.0
    return off / largest if largest > 0 else math.inf


def _take_turns(loaded: dict[int, _Loaded], effort: Effort) -> tuple[dict[int, list[float]], dict[int, int]]:
    """Seconds of every batch and runs in a batch, by job; the first job changes from batch to batch."""
    runs = {}
    for number, one in loaded.items():
        once = one.seconds(1)
        runs[number] = max(1, math.ceil(effort.batch_seconds / max(once, 1e-7)))
        if runs[number] > 1:  # a first run pays for pages and caches that later ones find warm
            runs[number] = max(1, math.ceil(effort.batch_seconds / max(one.seconds(2), 1e-7)))
    return in_turns(loaded, runs, effort.batches), runs


def _buffer(nbytes: int, content: Array | None = None) -> Array:
    """``nbytes`` from a page boundary on, filled with ``content`` or 0xFF, and guard bytes of 0xFF."""
    whole = np.full(nbytes + GUARD + _PAGE, 0xFF, np.uint8)
    start = -whole.ctypes.data % _PAGE
    buffer = whole[start : start + nbytes + GUARD]
    if content is not None:
        buffer[:nbytes] = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
    return buffer
