"""Runs candidates on this machine's GPU: loaded, checked, timed by events.

One run is a chain of launches, many of them are one CUDA graph, so that the processor's part in a launch is
not timed.  Each run of a graph takes another copy of the weights, as many as fill the level-2 cache twice: a
network's kernels find their activations as their neighbours left them, and their weights where they were
read a whole run ago.  Workers compile side by side and measure one at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.cuda_driver import DriverError, Graph, open_driver
from deploycc.records import Unit
from deploycc.tuning.local import largest_error
from deploycc.tuning.runner import Array, Effort, Job, Measurement, in_turns
from deploycc.types import Buffer, Call, DeployccError, Diagnostic, Plan, Target

GUARD = 4096
"""Bytes behind every buffer that must not change."""
COPIES, COPIED_BYTES = 64, 512 << 20
"""Most copies of one candidate's weights, and most bytes of them."""
FEWEST_RUNS = 10
"""Runs of a graph: what is between two graphs is shared by as many."""
_LOCK = "deploycc-gpu.lock"
_CRASHED = 70


class DeviceRunner:
    """Times jobs on the GPU that the driver numbers 0.  A kernel that faults takes the process with it.

    Raises ``DeployccError`` (DC623) where there is no GPU.
    """

    unit: Unit = "seconds"

    def __init__(self, target: Target) -> None:
        assert target.gpu is not None
        self._gpu, self._precision = target.gpu, target.precision
        self._stack = contextlib.ExitStack()
        try:
            self._driver = self._stack.enter_context(open_driver())
        except (OSError, DriverError) as error:
            raise no_gpu(target, str(error)) from None
        # A session's workers have one folder for temporary files.
        self._lock = Path(tempfile.gettempdir()) / _LOCK

    def measure(self, jobs: Sequence[Job], effort: Effort) -> list[Measurement]:
        """See ``Runner.measure``; the median of the batches counts."""
        found: list[Measurement | None] = [None] * len(jobs)
        loaded: dict[int, _Loaded] = {}
        with self._alone():
            try:
                for number, job in enumerate(jobs):
                    found[number] = self._load(number, job, loaded)
                times, runs = self._take_turns(loaded, effort)
            except DriverError:
                self._end_if_lost()
                raise
            finally:
                for one in loaded.values():
                    one.close()
                self._driver.unload()
        for number, batches in times.items():
            found[number] = Measurement(
                "ok",
                "seconds",
                statistics.median(batches),
                loaded[number].error,
                runs[number] * len(batches),
            )
        return [m if m is not None else Measurement("failed", "seconds") for m in found]

    def peak(self) -> float:
        """FLOP/s of the chip at the target's precision, as its description tells."""
        return float(self._gpu.flops.get(self._precision, self._gpu.flops["fp32"]))

    def close(self) -> None:
        """Leave the GPU."""
        self._stack.close()

    def _load(self, number: int, job: Job, loaded: dict[int, _Loaded]) -> Measurement | None:
        """Put a job among ``loaded``, or say what is wrong with it."""
        try:
            one = _Loaded(self._driver, self._image(job.plan), job, self._gpu.l2_bytes)
        except NotOnDevice as error:
            return Measurement("failed", "seconds", note=str(error))
        except DriverError as error:
            self._end_if_lost()
            return Measurement("failed", "seconds", note=str(error)[:500])
        wrong = None
        try:
            wrong = one.check()
        except DriverError as error:
            self._end_if_lost()
            wrong = Measurement("failed", "seconds", note=str(error)[:500])
        if wrong is not None:
            one.close()
            return wrong
        loaded[number] = one
        return None

    def _image(self, plan: Plan) -> bytes:
        """The code that the GPU is given: the chip's own, else PTX."""
        kinds = {image.kind: image.code for image in plan.images}
        return kinds.get("cubin") or kinds.get("ptx") or b""

    def _take_turns(
        self, loaded: dict[int, _Loaded], effort: Effort
    ) -> tuple[dict[int, list[float]], dict[int, int]]:
        """Seconds of a run in every batch, and runs in a batch, by job; who is first changes."""
        graphs = {}
        for number, one in loaded.items():
            one.seconds(1)  # the first launch pays for what the driver puts off, and wakes the clock
            once = max(one.seconds(1), 1e-7)
            graphs[number] = max(1, math.ceil(effort.batch_seconds / (once * one.runs)))
        times = in_turns(loaded, graphs, effort.batches)
        return times, {number: graphs[number] * one.runs for number, one in loaded.items()}

    def _end_if_lost(self) -> None:
        """A context that a kernel took with it serves nobody: the pool starts another worker."""
        if self._driver.lost():
            os._exit(_CRASHED)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class NotOnDevice(Exception):
    """A plan that the GPU cannot run alone; the message says why."""


class _Loaded:
    """One job on the GPU: its kernels, buffers, and a graph with a run for every copy of the weights."""

    def __init__(self, driver: Any, image: bytes, job: Job, l2_bytes: int) -> None:
        self._driver, self._job, plan = driver, job, job.plan
        beside = [call.symbol for call in plan.calls if not call.launches and call.symbol != "memcpy"]
        if beside:
            raise NotOnDevice(f"{len(beside)} steps are the processor's: {beside[0]}")
        self.error = math.nan
        self._memory: list[int] = []
        self._graph: Graph | None = None
        try:
            module = driver.load(image) if image else None
            largest: dict[str, int] = {}
            for launch in (launch for call in plan.calls for launch in call.launches):
                largest[launch.function] = max(largest.get(launch.function, 0), launch.shared_bytes)
            self._functions = {name: driver.function(module, name, size) for name, size in largest.items()}
            copies = 1
            if plan.weights:
                wanted = min(-(-2 * l2_bytes // len(plan.weights)), COPIED_BYTES // len(plan.weights), COPIES)
                copies = max(1, wanted)
            self._arena = self._room(plan.arena_bytes)
            self._inputs = [self._room(array.nbytes, array) for array in job.inputs]
            self._outputs = [self._room(array.nbytes) for array in job.expected]
            content = np.frombuffer(plan.weights, np.uint8)
            self._weights = [self._room(len(plan.weights), content) for _ in range(copies)]
            self._events = driver.event(), driver.event()
        except DriverError:
            self.close()
            raise
        self.runs = max(copies, FEWEST_RUNS)

    def check(self) -> Measurement | None:
        """Run once, launch by launch; what is wrong with the result, if anything is."""
        for call in self._job.plan.calls:
            self._make(self._driver, call, self._weights[0])
        self._driver.synchronize()
        self.error = 0.0
        for address, expected in zip(self._outputs, self._job.expected, strict=True):
            data = self._driver.to_host(address, expected.nbytes)
            result = data.view(expected.dtype).reshape(expected.shape)
            self.error = max(self.error, largest_error(result, expected))
        if not self.error <= self._job.tolerance:
            note = f"off by {self.error:.3g} of the largest value, {self._job.tolerance:g} is allowed"
            return Measurement("wrong", "seconds", error=self.error, note=note)
        sized = [(self._arena, self._job.plan.arena_bytes)]
        sized += [(a, e.nbytes) for a, e in zip(self._outputs, self._job.expected, strict=True)]
        if any((self._driver.to_host(address + size, GUARD) != 0xFF).any() for address, size in sized):
            return Measurement(
                "wrong", "seconds", error=self.error, note="wrote behind the end of its buffer"
            )
        return None

    def seconds(self, graphs: int) -> float:
        """Seconds of one run, the mean of those in so many launches of the graph."""
        if self._graph is None:
            self._graph = self._driver.graph()
            for number in range(self.runs):
                for call in self._job.plan.calls:
                    self._make(self._graph, call, self._weights[number % len(self._weights)])
        start, end = self._events
        self._driver.record(start)
        for _ in range(graphs):
            self._graph.run()
        self._driver.record(end)
        return float(self._driver.seconds_between(start, end)) / (graphs * self.runs)

    def close(self) -> None:
        """Free its memory; its code goes with the driver's modules."""
        if self._graph is not None:
            self._graph.close()
        for address in self._memory:
            self._driver.free(address)
        self._memory.clear()

    def _make(self, by: Any, call: Call, weights: int) -> None:
        """Have a call made ``by`` the driver or a graph."""
        addresses = [self._address(buffer, weights) for buffer in call.arguments]
        if not call.launches:
            copy = by.copy if isinstance(by, Graph) else by.copy_on_device
            copy(addresses[0], addresses[1], call.arguments[0].nbytes)
        for launch in call.launches:
            given = [addresses[number] for number in launch.arguments]
            by.launch(self._functions[launch.function], launch.grid, launch.block, launch.shared_bytes, given)

    def _address(self, buffer: Buffer, weights: int) -> int:
        if buffer.kind == "input":
            base = self._inputs[buffer.index]
        elif buffer.kind == "output":
            base = self._outputs[buffer.index]
        else:
            base = {"arena": self._arena, "constant": weights}[buffer.kind]
        return base + buffer.offset

    def _room(self, nbytes: int, content: Array | None = None) -> int:
        """Memory filled with ``content`` or 0xFF, and guard bytes of 0xFF behind it."""
        whole = np.full(nbytes + GUARD, 0xFF, np.uint8)
        if content is not None:
            whole[:nbytes] = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        address = int(self._driver.allocate(whole.nbytes))
        self._memory.append(address)
        self._driver.to_device(address, whole)
        return address


def no_gpu(target: Target, got: str) -> DeployccError:
    """DC623: there is nothing to measure on."""
    return DeployccError(
        Diagnostic(
            "DC623",
            f"kernels for {target.name} are measured on a GPU, and this machine has none",
            got=got or "the driver has no device",
            need="a machine with the target's GPU and its driver",
            help="tune there and bring the records here: deploycc tune --merge FILE",
        )
    )


__all__ = ["DeviceRunner", "NotOnDevice", "no_gpu"]
