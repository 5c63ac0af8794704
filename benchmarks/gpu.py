"""Packages for a GPU beside PyTorch (cuDNN, channels-last, CUDA graphs), interleaved in one process.

    python -m benchmarks.gpu [--target cuda:h200] [--precision fp32] [--networks a,b] [--convs a,b]

**This has not run yet**: it was written without a GPU at hand, and its first run on one has to be looked at.

Both contestants read float32 NCHW inputs in the GPU's memory and leave float32 NCHW outputs there; both run
as one CUDA graph in one stream; both compute in ``--precision`` (PyTorch's tf32 switches, half precision of
weights and tensors inside).  Before any time is taken both are held to ONNX Runtime's results on the
processor.  They take turns, medians of the turns count.  What the GPU can do at most is measured beside: a
copy of 1 GiB and a product of matrices of 8192.  Prints tables and writes
``benchmarks/results/gpu-TIME.json``.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import deploycc
from benchmarks.convs import convs, model_file
from benchmarks.machine import RESULTS
from benchmarks.measuring import geometric_mean
from benchmarks.networks import fetch, networks
from benchmarks.onnx_in_torch import NotInTorch, OnnxModule
from benchmarks.reference import OnnxRuntime, largest_error
from deploycc.types import DeployccError

ROUNDS = 40
TURN_SECONDS = 0.01
ALLOWED = {"fp32": 1e-4, "tf32": 5e-3, "fp16": 2e-2, "bf16": 1e-1}
"""Largest error of a result, as a share of the reference's largest value, for its time to count."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """One network: microseconds of a run, largest errors, and the share of the ceiling that is nearest."""

    name: str
    ours_us: float = 0.0
    torch_us: float = 0.0
    ours_error: float = 0.0
    torch_error: float = 0.0
    gflop: float = 0.0
    mbytes: float = 0.0
    share_of_ceiling: float = 0.0
    bound_by: str = ""
    left_out: str = ""

    @property
    def ratio(self) -> float:
        """PyTorch's time over ours."""
        return self.torch_us / self.ours_us if self.ours_us and self.torch_us else 0.0


@dataclass(frozen=True)
class Ceilings:
    """Measured on this GPU."""

    gbytes_per_second: float
    tflops: float


class Ours:
    """A package's library on torch's memory and stream."""

    def __init__(self, package: Path) -> None:
        manifest_file = next((package / "share").glob("*/manifest.json"))
        self.manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
        self._name = self.manifest["name"]
        self._library = ctypes.CDLL(str(package / self.manifest["library"]["file"]))
        for function in ("last_error", "chip_name"):
            self._function(function).restype = ctypes.c_char_p
        self._handle = ctypes.c_void_p()
        self._check(self._function("create")(None, ctypes.byref(self._handle)), None)
        self._pointers: tuple[Any, Any] = (None, None)
        self.outputs: list[torch.Tensor] = []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The steps of the chip that runs."""
        chip = int(self._function("chip")(self._handle))
        return list(self.manifest["chips"][chip]["calls"])

    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """Use these tensors of the GPU; outputs are made."""
        self._inputs = list(inputs)
        self.outputs = [
            torch.empty(tensor["shape"], dtype=getattr(torch, tensor["dtype"]), device="cuda")
            for tensor in self.manifest["outputs"]
        ]
        self._pointers = tuple(
            (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
            for tensors in (self._inputs, self.outputs)
        )

    def run(self) -> None:
        """One run in torch's current stream."""
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self._check(self._function("run_async")(self._handle, *self._pointers, stream), self._handle)

    def close(self) -> None:
        """Give everything back."""
        torch.cuda.synchronize()
        self._function("destroy")(self._handle)

    def _function(self, name: str) -> Any:
        return getattr(self._library, f"{self._name}_{name}")

    def _check(self, status: int, handle: ctypes.c_void_p | None) -> None:
        if status != 0:
            raise RuntimeError(self._function("last_error")(handle).decode(errors="replace"))


class Torch:
    """The same network in PyTorch, captured as a CUDA graph."""

    def __init__(self, model: onnx.ModelProto, precision: str) -> None:
        self._inside = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
        module = OnnxModule(model.graph).eval().cuda().to(self._inside)
        for name, buffer in list(module.named_buffers()):
            if buffer.dim() == 4:
                setattr(module, name, buffer.contiguous(memory_format=torch.channels_last))
        self._module = module
        self._graph = torch.cuda.CUDAGraph()
        self.outputs: list[torch.Tensor] = []

    def bind(self, inputs: Sequence[torch.Tensor]) -> None:
        """Warm up, let cuDNN choose, and capture."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(5):
                self._forward(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self.outputs = self._forward(inputs)

    def run(self) -> None:
        """One run in the current stream."""
        self._graph.replay()

    def _forward(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        given = [x.to(self._inside) if x.is_floating_point() else x for x in inputs]
        given = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in given]
        results = self._module(*given)
        return [y.float().contiguous() if y.is_floating_point() else y.contiguous() for y in results]


def seconds_of_turn(run: Callable[[], None], count: int) -> float:
    """Seconds of one run, by events around so many of them."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    run()  # brings its data back into the cache
    start.record()
    for _ in range(count):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / count


def take_turns(contestants: Sequence[Callable[[], None]], rounds: int = ROUNDS) -> list[float]:
    """The median seconds of a run of each; who is first changes from round to round."""
    counts = []
    for run in contestants:
        for _ in range(20):
            run()
        counts.append(max(1, int(TURN_SECONDS / max(seconds_of_turn(run, 10), 1e-7))))
    times: list[list[float]] = [[] for _ in contestants]
    for number in range(rounds):
        for place in range(len(contestants)):
            who = (number + place) % len(contestants)
            times[who].append(seconds_of_turn(contestants[who], counts[who]))
    return [statistics.median(one) for one in times]


def ceilings(precision: str) -> Ceilings:
    """A copy of 1 GiB (read and written), and a product of matrices of 8192."""
    source = torch.empty(1 << 28, dtype=torch.float32, device="cuda").normal_()
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    copied = take_turns([copy], 10)[0]
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    left = torch.randn(8192, 8192, dtype=kind, device="cuda")
    right = torch.randn(8192, 8192, dtype=kind, device="cuda")
    product = torch.empty_like(left)

    def multiply() -> None:
        torch.mm(left, right, out=product)

    multiplied = take_turns([multiply], 10)[0]
    return Ceilings(2 * source.nbytes / copied / 1e9, 2 * 8192**3 / multiplied / 1e12)


def prepare(precision: str) -> None:
    """PyTorch as fast as it is at this precision, and not less exact."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def simplified(model: Path, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """The graph that both get: shapes bound, constants folded."""
    from deploycc.importing import load
    from deploycc.lint import lint_request
    from deploycc.simplifying import simplify
    from deploycc.types import Limits

    request = lint_request(model, {name: tuple(shape) for name, shape in shapes.items()}, Limits())
    return simplify(load(request), Limits()).proto


def measure(
    name: str,
    model: Path,
    shapes: Mapping[str, tuple[int, ...]],
    package: Path,
    precision: str,
    most: Ceilings,
) -> Row:
    """One network: checked, then timed."""
    engine = OnnxRuntime(model)
    arrays = engine.random_inputs(shapes)
    expected = engine.bind(arrays)
    engine.run()
    ours = Ours(package)
    try:
        order = [tensor["name"] for tensor in ours.manifest["inputs"]]
        by_name = dict(zip((one.name for one in engine.session.get_inputs()), arrays, strict=True))
        inputs = [torch.from_numpy(np.ascontiguousarray(by_name[one])).cuda() for one in order]
        ours.bind(inputs)
        ours.run()
        theirs = Torch(simplified(model, shapes), precision)
        theirs.bind(inputs)
        theirs.run()
        torch.cuda.synchronize()
        errors = [
            largest_error([tensor.cpu().numpy() for tensor in one.outputs], expected)
            for one in (ours, theirs)
        ]
        wrong = [
            f"{who} is off by {error:.2g}"
            for who, error in zip(("deploycc", "PyTorch"), errors, strict=True)
            if not error <= ALLOWED[precision]
        ]
        if wrong:
            return Row(name, left_out="; ".join(wrong))
        seconds = take_turns([ours.run, theirs.run])
        flop = sum(call.get("flops", 0) for call in ours.calls)
        moved = sum(array.nbytes for array in (*arrays, *expected)) + ours.manifest["memory"]["weight_bytes"]
        by_flop, by_bytes = flop / (most.tflops * 1e12), moved / (most.gbytes_per_second * 1e9)
        return Row(
            name,
            *(1e6 * one for one in seconds),
            *errors,
            gflop=flop / 1e9,
            mbytes=moved / 1e6,
            share_of_ceiling=max(by_flop, by_bytes) / seconds[0],
            bound_by="arithmetic" if by_flop > by_bytes else "memory",
        )
    finally:
        ours.close()


def chosen(arguments: argparse.Namespace) -> list[tuple[str, Path, Mapping[str, tuple[int, ...]]]]:
    """Name, file and shapes of what is measured."""
    found: list[tuple[str, Path, Mapping[str, tuple[int, ...]]]] = []
    wanted = arguments.networks.split(",") if arguments.networks else list(networks())
    if arguments.networks != "none":
        found += [(name, fetch(name), networks()[name].inputs) for name in wanted]
    wanted = arguments.convs.split(",") if arguments.convs else list(convs())
    if arguments.convs != "none":
        found += [(name, model_file(convs()[name]), {"x": convs()[name].input}) for name in wanted]
    return found


def main() -> int:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="cuda", help="for the packages: cuda:h200")
    parser.add_argument("--precision", default="fp32", choices=list(ALLOWED))
    parser.add_argument("--networks", default="", help="names, or none; all of them unless given")
    parser.add_argument("--convs", default="", help="names, or none; all of them unless given")
    parser.add_argument("--records", type=Path, action="append", default=[], help="tuning databases")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("PyTorch finds no GPU here", file=sys.stderr)
        return 1
    prepare(arguments.precision)
    most = ceilings(arguments.precision)
    name = torch.cuda.get_device_name()
    print(f"{name}: copies at {most.gbytes_per_second:.0f} GB/s, products at {most.tflops:.1f} TFLOP/s")
    rows = []
    with tempfile.TemporaryDirectory(prefix="deploycc-gpu-") as folder:
        for title, model, shapes in chosen(arguments):
            rows.append(_row(title, model, shapes, Path(folder) / title, arguments, most))
            print(_line(rows[-1]), flush=True)
    ratios = [row.ratio for row in rows if row.ratio]
    if ratios:
        print(f"geometric mean of {len(ratios)}: {geometric_mean(ratios):.2f} times as fast as PyTorch")
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    file = RESULTS / f"gpu-{now:%Y%m%d-%H%M%S}.json"
    table = {
        "when": now.isoformat(timespec="seconds"),
        "gpu": name,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "deploycc": deploycc.__version__,
        "precision": arguments.precision,
        "target": arguments.target,
        "ceilings": asdict(most),
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(file)
    return 0


def _row(
    title: str,
    model: Path,
    shapes: Mapping[str, tuple[int, ...]],
    folder: Path,
    arguments: argparse.Namespace,
    most: Ceilings,
) -> Row:
    try:
        package = deploycc.build(
            model,
            arguments.target,
            folder,
            shapes=shapes,
            precision=arguments.precision,
            records=arguments.records,
        ).path
        return measure(title, model, shapes, package, arguments.precision, most)
    except (DeployccError, NotInTorch, RuntimeError, ValueError) as error:
        return Row(title, left_out=(str(error).strip() or type(error).__name__).splitlines()[0])


def _line(row: Row) -> str:
    if row.left_out:
        return f"{row.name:32} left out: {row.left_out}"
    return (
        f"{row.name:32} {row.ours_us:9.1f} us  PyTorch {row.torch_us:9.1f} us  {row.ratio:5.2f}x  "
        f"{row.share_of_ceiling:5.1%} of {row.bound_by}"
    )


if __name__ == "__main__":
    sys.exit(main())
