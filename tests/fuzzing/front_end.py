"""One model through import, simplify, lint and lower in this process, as a build has them.

What the front end says of a model has to be a ``DeployccError``.  Any other exception is a finding; so is the
end of the process, which the fuzzer sees.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import onnx

from deploycc.importing import comparing, load
from deploycc.lint_targets import compiled_lint_target
from deploycc.linting import lint
from deploycc.lowering import lower
from deploycc.onnx_graph import all_nodes
from deploycc.reference import ReferenceFailed
from deploycc.simplifying import clean, pipeline, simplify
from deploycc.simplifying.folding import FoldingFailed
from deploycc.types import BuildRequest, DeployccError, Limits
from tests.planning.harness import X86_64

LIMITS = Limits(folded_bytes=4 << 20)
WHOLE_LINE = 16
"""One model in so many goes the whole way; of the others simplify makes what lint's own look at a model does,
without running it, and they end at lint.  Which way one goes its bytes decide."""
HEAVY_ELEMENTS = 1 << 22
"""A model with a tensor of more elements is not run here: that it is slow is no finding."""


def examine(data: bytes, folder: Path) -> str:
    """How far the model came: the stage that refused it, ``lowered``, or ``linted`` where the way ends there.

    Raises what is a finding: every exception that is neither a ``DeployccError`` nor a ``MemoryError``.
    """
    path = folder / "model.onnx"
    path.write_bytes(data)
    request = BuildRequest(path, X86_64, folder / "out", "net", limits=LIMITS)
    stage = "import"
    try:
        model = load(request)
        if heavy(model.proto):
            return "heavy"
        stage = "simplify"
        whole = zlib.crc32(data) % WHOLE_LINE == 0
        model = simplify(model, LIMITS) if whole else clean(model, LIMITS)
        if heavy(model.proto):
            return "heavy"
        stage = "lint"
        report = lint(model, compiled_lint_target(X86_64))
        report.raise_if_errors()
        if not whole:
            return "linted"
        stage = "lower"
        lower(model, X86_64)
    except (DeployccError, MemoryError):
        return stage
    return "lowered"


def heavy(proto: onnx.ModelProto) -> bool:
    """Whether a tensor is so large that running the model takes more than a moment."""
    graph = proto.graph
    shapes = [
        [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in (*graph.value_info, *graph.input, *graph.output)
    ]
    return any(math.prod(max(extent, 1) for extent in shape) > HEAVY_ELEMENTS for shape in shapes)


def fold_here(model: onnx.ModelProto, limits: Limits, *, fuse: bool = True) -> onnx.ModelProto:
    """onnxsim in this process, for one model in sixteen: in a build a child of its own contains it."""
    from deploycc.simplifying.folding import fold_in_child

    data = model.SerializeToString()
    if zlib.crc32(data) % 16:
        raise FoldingFailed("left out")
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        source.write_bytes(data)
        request = {"source": str(source), "result": str(result), "folded_bytes": limits.folded_bytes}
        try:
            fold_in_child(request, lambda event: None)
        except Exception as error:
            raise FoldingFailed(str(error)) from error
        return onnx.load(result)


def light(runs: Callable[..., Any]) -> Callable[..., Any]:
    """As it was, but for models that are heavy or have a Loop, which may be endless: builds have limits."""

    def run(proto: onnx.ModelProto, *rest: Any, **options: Any) -> Any:
        if heavy(proto) or any(node.op_type == "Loop" for node in all_nodes(proto.graph)):
            raise ReferenceFailed("a model that takes long is not run here")
        return runs(proto, *rest, **options)

    return run


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Within it ``examine`` starts no process and runs no model that takes long."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(pipeline, "fold", fold_here))
        for module in (pipeline, comparing):
            for name in ("run", "sample"):
                stack.enter_context(mock.patch.object(module, name, light(getattr(module, name))))
        yield
