"""Runs candidates under the target's emulator and counts their instructions: no board is needed.

Each candidate becomes a static program of the target.  Kernels that fault or hang end that program, not
the worker.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploycc.packaging.toolchain import CFLAGS, call, find_compiler
from deploycc.records import Unit
from deploycc.tuning.counting import MARK, CannotCount, build_plugin, check_emulator, count_instructions
from deploycc.tuning.local import largest_error
from deploycc.tuning.runner import Effort, Job, Measurement
from deploycc.types import DeployccError, Diagnostic, Plan, Target

LIMIT_SECONDS = 300.0
_SOURCES = ("measure.c", "counted.c")
_KINDS = {"input": 0, "output": 1, "arena": 2, "constant": 3}
_REASONS = {
    1: "the program cannot read or write its files",
    2: "took more workspace than planned",
    3: "a kernel returned an error",
    4: "wrote behind the end of its buffer",
}


class EmulatedRunner:
    """Counts the instructions of one run of each job, on one thread of the emulated machine.

    Raises ``DeployccError`` (DC600) for a target without an emulator that counts here.
    """

    unit: Unit = "instructions"

    def __init__(self, target: Target) -> None:
        self._target = target
        try:
            if not target.emulator:
                raise CannotCount(f"the target {target.name} names no emulator")
            check_emulator(target.emulator[0])
        except CannotCount as error:
            raise DeployccError(
                Diagnostic(
                    "DC600",
                    f"instructions of {target.name} cannot be counted here",
                    got=str(error),
                    need="run.emulator of the target, and that program with plugins",
                )
            ) from None
        self._scratch = Path(tempfile.mkdtemp(prefix="deploycc-tune-"))
        self._compiler = find_compiler(_static(target), self._scratch)
        self._plugin = build_plugin(self._scratch)
        for name in _SOURCES:
            source = str(Path(__file__).with_name(name))
            words = [*CFLAGS, f"-DMARK={MARK}", "-c", source, "-o", f"{Path(name).stem}.o"]
            call(self._compiler, words, self._scratch, f"compile {name}")

    def measure(self, jobs: Sequence[Job], effort: Effort) -> list[Measurement]:
        """See ``Runner.measure``; one run a job, since the count is repeatable."""
        del effort
        return [self._measure(job) for job in jobs]

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _measure(self, job: Job) -> Measurement:
        try:
            self._link(job.plan)
        except DeployccError as error:
            return Measurement("failed", self.unit, note=str(error.diagnostics[0].got)[:500])
        (self._scratch / "weights").write_bytes(job.plan.weights)
        (self._scratch / "inputs").write_bytes(b"".join(array.tobytes() for array in job.inputs))
        words = [str(self._scratch / "candidate"), str(self._scratch)]
        try:
            ran = count_instructions(self._target.emulator, words, self._plugin, self._scratch, LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            return Measurement("timeout", self.unit, note=f"more than {LIMIT_SECONDS:.0f} s")
        if ran.status != 0:
            crashed = ran.status not in _REASONS
            note = ran.stderr.strip()[-300:] or f"status {ran.status}"
            return Measurement(
                "crash" if crashed else "wrong" if ran.status == 4 else "failed",
                self.unit,
                note=note if crashed else _REASONS[ran.status],
            )
        off = self._error(job)
        if not off <= job.tolerance:
            note = f"off by {off:.3g} of the largest value, {job.tolerance:g} is allowed"
            return Measurement("wrong", self.unit, error=off, note=note)
        before, after = ran.marks
        return Measurement("ok", self.unit, float(after - before), off, runs=1)

    def _error(self, job: Job) -> float:
        raw, at, worst = (self._scratch / "outputs").read_bytes(), 0, 0.0
        for expected in job.expected:
            result = np.frombuffer(raw, expected.dtype, expected.size, at).reshape(expected.shape)
            at += expected.nbytes
            error = largest_error(result, expected)
            worst = error if math.isnan(error) else max(worst, error)
            if math.isnan(worst):
                break
        return worst

    def _link(self, plan: Plan) -> None:
        (self._scratch / "kernels.o").write_bytes(plan.kernels)
        (self._scratch / "table.c").write_text(_table(plan))
        words = ["-static", "-O1", "-w", "-o", "candidate", "table.c", "kernels.o"]
        words += [f"{Path(name).stem}.o" for name in _SOURCES]
        call(self._compiler, [*words, "-lm"], self._scratch, "link a candidate")


def _static(target: Target) -> Target:
    """``target`` with the C library of which static programs run without any files of the machine."""
    architecture, _, rest = target.linker.triple.partition("-")
    libc = "musleabihf" if "eabihf" in rest else "musl"
    return replace(
        target, linker=replace(target.linker, toolchain="zig", triple=f"{architecture}-linux-{libc}")
    )


def _table(plan: Plan) -> str:
    """The call list as the tables that ``counted.c`` reads."""
    symbols = sorted({made.symbol for made in plan.calls} - {"memcpy"})
    steps, places, first = [], [], 0
    for made in plan.calls:
        kernel = "0" if made.symbol == "memcpy" else f"(void *){made.symbol}"
        nbytes = made.arguments[0].nbytes if made.arguments else 0
        steps.append(f"{{{kernel}, {len(made.arguments)}, {first}, {nbytes}}}")
        first += len(made.arguments)
        places += [f"{{{_KINDS[a.kind]}, {a.index}, {a.offset}}}" for a in made.arguments]

    def sizes(name: str, values: Sequence[int]) -> str:
        return f"const int64_t {name}[] = {{{', '.join(map(str, values)) or '0'}}};"

    def bytes_of(dtype: str, shape: Sequence[int]) -> int:
        return math.prod(shape) * np.dtype(dtype).itemsize

    lines = ["#include <stdint.h>"]
    lines += [f"int32_t {symbol}(void);" for symbol in symbols]
    lines += [
        "struct step { void *kernel; int64_t count, first, nbytes; };",
        "struct place { int32_t kind, index; int64_t offset; };",
        f"const struct step steps[] = {{{', '.join(steps) or '{0}'}}};",
        f"const struct place places[] = {{{', '.join(places) or '{0}'}}};",
        f"const int64_t step_count = {len(plan.calls)}, place_count = {len(places)};",
        f"const int64_t input_count = {len(plan.inputs)}, output_count = {len(plan.outputs)};",
        sizes("input_bytes", [bytes_of(i.dtype, i.shape) for i in plan.inputs]),
        sizes("output_bytes", [bytes_of(i.dtype, i.shape) for i in plan.outputs]),
        f"const int64_t arena_bytes = {plan.arena_bytes}, weight_bytes = {len(plan.weights)};",
        f"const int64_t workspace_bytes = {plan.workspace_bytes + plan.thread_workspace_bytes + 64};",
    ]
    return "\n".join(lines) + "\n"
