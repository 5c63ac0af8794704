"""A node that the processor computes in a package for a GPU.

The package is whole all the same: such a node is in its CPU part, and the runtime copies its inputs from the
GPU and its results back.  Each of these copies crosses the bus (PCIe; on a Jetson it stays in one memory) and
waits for the GPU, so a node in the middle of the network costs more than its arithmetic.  They are loops in
which a step needs the one before: sorts, suppression of boxes, running sums over thousands of elements,
recurrent layers of thousands of steps, writes to computed places.

Instead: end the network before it and do the rest in the app, where a suppression of boxes is not in the way
of the next image; for `nn.LSTM` a convolution over time (`nn.Conv1d`); for `x[..., :2] = y`
`torch.cat([y, x[..., 2:]], -1)`; for a long `torch.cumsum` sums of pieces, and a running sum of those.  In
ONNX `Slice` and `Concat` for `ScatterND` with stored indices of a block (equal bit by bit).
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.lint_types import LintTarget
from deploycc.linting import costs
from deploycc.linting.host_operators import why_on_host
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text
from deploycc.onnx_graph import used_names
from deploycc.types import Diagnostic

CODE = "DC518"


def applies(target: LintTarget) -> bool:
    """For targets with a GPU that packages are built for."""
    return target.beside_gpu


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node that is lowered to a C function or to loops whose order matters, with the bytes copied."""
    view = subject.view
    for node in view.model.graph.node:
        reason = why_on_host(node, view)
        if not reason:
            continue
        there = sum(costs.nbytes(name, view) for name in used_names(node) if not view.is_constant(name))
        back = sum(costs.nbytes(name, view) for name in node.output if name)
        yield Diagnostic(
            CODE,
            f"{node.op_type} runs on the processor, not on the GPU",
            node=node.name,
            op=node.op_type,
            got=f"{reason}; {bytes_text(there)} are copied to the processor and {bytes_text(back)} back",
            need="operators whose elements are computed side by side",
            help="end the network before it, or write it in other operators "
            "(deploycc explain runs-on-processor)",
            severity="warning",
            verdict="fallback",
            source="deploycc/linting/host_operators.py, held to the lowered kernels by a test",
        )
