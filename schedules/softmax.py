"""Softmax and log-softmax, whatever is fused behind them, over any axes: all of a row while it is cached.

    for rows (parallel):                        # before: a loop nest over the whole tensor for each step
      m[:] = -inf                               #
      for vectors of the row: m[:] = max(m[:], x[..])
      s[:] = 0
      for vectors of the row: y[..] = exp(x[..] - max(m)); s[:] += y[..]
      for vectors of the row: y[..] = f(y[..] * (1 / sum(s)))

What does not fill a vector at the end of a row is a vector that overlaps the one before it.  Over an axis
that is not the innermost one the vectors lie across columns, and every column has its own maximum.
"""

from __future__ import annotations

from dataclasses import replace

from deploycc.operators import Match, Skip
from deploycc.scheduling.intrinsics import exp_of_negative
from deploycc.scheduling.kernel import Kernel
from deploycc.scheduling.written.rows import RowKernel, row_cycles
from deploycc.scheduling.written.sweeps import write_rows
from deploycc.scheduling.written.writing import NotWritable
from deploycc.tvm_api import ir, structural_map, tirx

KNOBS = {"vectors": (1, 2, 4), "items": (1, 2, 4)}


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, Kernel):
        return Skip("an operator with an algorithm of its own")
    if [block.combines for block in task.reductions] != ["max", "sum"]:
        return Skip("not a maximum followed by a sum")
    return Match(None, target, kernel=task)


def cost(match, knobs):
    """Cycles: a vector in twelve, most of them of the exponential."""
    return row_cycles(match.kernel, match.target, knobs["vectors"], knobs["items"], 12.0)


def apply(sch, match, knobs):
    """Write the kernel."""
    kernel = RowKernel.of(sch)
    return write_rows(with_cheap_exp(kernel), match.target, knobs["vectors"], knobs["items"])


def with_cheap_exp(kernel):
    """``kernel`` with an exponential that only serves arguments below 0, and the sum of it marked."""
    maximum = next(step for step in kernel.steps if step.combine is tirx.Max)
    total = next(step for step in kernel.steps if step.combine is tirx.Add)
    found = []

    def cheaper(call):
        if not _is_exp(call):
            return call
        difference = call.args[0]
        if not (
            isinstance(difference, tirx.Sub)
            and isinstance(difference.b, ir.TensorLoad)
            and difference.b.source.same_as(maximum.buffer)
            and isinstance(difference.a, ir.TensorLoad)
            and isinstance(maximum.value, ir.TensorLoad)
            and kernel.access(difference.a).same_as(kernel.access(maximum.value))
        ):
            raise NotWritable("an exponential of something else")
        found.append(call)
        return exp_of_negative(difference)

    steps = tuple(
        replace(step, value=structural_map(step.value, (ir.Call, cheaper), order="post"))
        for step in kernel.steps
    )
    if not found:
        raise NotWritable("no exponential")
    return replace(kernel, steps=steps, at_least_one=(total.buffer,))


def _is_exp(call):
    named = isinstance(call.op, ir.Op) and call.op.name.rsplit(".", 1)[-1] == "exp"
    return named and str(call.ty.dtype) == "float32"
