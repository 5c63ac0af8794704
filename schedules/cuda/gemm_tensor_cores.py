"""A matrix product with constant right side on tensor cores.

    for block of rows x block of columns (x part of the sum):  # before: for i, j, k: acc += a[i,k] * b[k,j]
      for stage of the sum:                                    # through shared memory, the next on their way
        acc[rows, columns] += a[rows, stage] * b[stage, columns]                                   # mma.sync
      y[rows, columns] = epilogue(acc)

The right side is packed column by column.
"""

from __future__ import annotations

import functools
import math

from deploycc.operators import Algorithm, Match, MatMul, Skip
from deploycc.scheduling.kernel import TASK_ANNOTATION
from deploycc.scheduling.written import tensor_tiles
from deploycc.tvm_api import te

KNOBS = tensor_tiles.KNOBS


def match(task, target):
    """Say which tasks are taken."""
    if not isinstance(task, MatMul):
        return Skip("not a matrix product")
    no = tensor_tiles.refusal(target, task.dtype)
    if no is not None:
        return no
    if max(math.prod(task.leading) * max(task.inner, task.columns), task.inner * task.columns) >> 31:
        return Skip("more elements than 32 bits count")
    return Match(task, target)


@functools.cache
def product(matmul):
    """Every element of the leading axes is a row."""
    rows = math.prod(matmul.leading)
    return tensor_tiles.Product(
        rows=rows,
        columns=matmul.columns,
        inner=matmul.inner,
        groups=1,
        source=f"dcc::Rows<{rows}, {matmul.inner}>",
        run=matmul.inner,
        aligned_to=matmul.inner,
        left_elements=rows * matmul.inner,
    )


def cost(match, knobs):
    """Cycles of the chip; see ``tensor_tiles.cost``."""
    return tensor_tiles.cost(product(match.operator), match.target, knobs)


def compute(match, knobs):
    """The packed right side and the tensor expression."""
    matmul = match.operator

    def pack(weight):
        return tensor_tiles.packed(weight[None], match.target.precision)

    def define(data, weight):
        k = te.reduce_axis((0, matmul.inner), "k")

        def term(*i):
            return data[(*i[:-1], k)].astype("float32") * weight[i[-1], k].astype("float32")

        result = te.compute(
            (*matmul.leading, matmul.columns),
            lambda *i: te.sum(term(*i), axis=[k]),
            name="gemm",
            attrs={TASK_ANNOTATION: match.task},
        )
        return tensor_tiles.rounded(result, matmul.dtype)

    return Algorithm(pads=(0, 0, 0, 0), pack=pack, define=define)


def apply(sch, match, knobs):
    """Write the kernel."""
    leading = match.operator.leading

    def place(row, column):
        found = []
        for extent in reversed(leading[1:]):
            found.append(row % extent)
            row = row // extent
        return (*([row] if leading else []), *reversed(found), column)

    return tensor_tiles.write(sch, product(match.operator), match.target, knobs, place)
