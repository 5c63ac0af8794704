"""onnxsim, in a process of its own: it can hang or crash on a hostile graph, uninterruptibly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from deploycc.supervise import ChildFailed, run_child
from deploycc.types import Limits

STAGE_SHARE = 0.25
"""The part of the stage's time onnxsim may take; the rest is for going on without it."""

SKIPPED_OPTIMIZERS = ("fuse_matmul_add_bias_into_gemm", "fuse_matmul_add_nd_bias_into_gemm")
"""Gemm hides the matrix product's operands behind transposes and scales; MatMul and Add stay apart."""

FUSING_OPTIMIZERS = (
    "fuse_matmul_add_bias_into_gemm_batched",
    "fuse_pad_into_conv",
    "fuse_pad_into_pool",
    "fuse_transpose_into_gemm",
    "rewrite_where",
)
"""Left out where another compiler takes the model: what it gets is the file, whose form is judged, and these
would undo rewrites (``deploycc.fixing``) that bring it into the form that compiler wants."""


class FoldingFailed(Exception):
    """onnxsim gave no usable model; the message says why."""


def fold(model: ModelProto, limits: Limits, *, fuse: bool = True) -> ModelProto:
    """The model as onnxsim simplifies it; without ``fuse`` pads and transposes stay operators of their own.

    Raises ``FoldingFailed`` where it hangs, crashes, refuses or runs out of memory.
    """
    with tempfile.TemporaryDirectory(prefix="deploycc-fold-") as folder:
        source, result = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        source.write_bytes(model.SerializeToString())
        request = {
            "source": str(source),
            "result": str(result),
            "folded_bytes": limits.folded_bytes,
            "skipped": [*SKIPPED_OPTIMIZERS, *(() if fuse else FUSING_OPTIMIZERS)],
        }
        share = replace(limits, stage_seconds=limits.stage_seconds * STAGE_SHARE)
        try:
            run_child("deploycc.simplifying.folding:fold_in_child", request, share)
        except ChildFailed as failure:
            raise FoldingFailed(str(failure).splitlines()[0]) from failure
        folded = ModelProto()
        folded.ParseFromString(result.read_bytes())
        return folded


def fold_in_child(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Entry of the child: read ``source``, simplify, write ``result``."""
    import onnx
    import onnxsim

    model = onnx.load(request["source"])
    folded, _ = onnxsim.simplify(
        model,
        check_n=0,
        certify=False,
        skipped_optimizers=list(request.get("skipped", SKIPPED_OPTIMIZERS)),
        tensor_size_threshold=f"{max(1, int(request['folded_bytes']) >> 10)}KB",
    )
    Path(request["result"]).write_bytes(folded.SerializeToString())
    return {"nodes": len(folded.graph.node)}
