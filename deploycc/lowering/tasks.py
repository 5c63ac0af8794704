"""The tasks of a lowered module: one for every distinct convolution and matrix product."""

from __future__ import annotations

from collections import Counter
from typing import Any

from deploycc.operators import Operator
from deploycc.relax_graph import describe
from deploycc.tvm_api import relax
from deploycc.types import Task


def find_tasks(module: Any) -> tuple[Task, ...]:
    """Every distinct operator of ``main``, in program order, with the number of its uses."""
    uses: Counter[Operator] = Counter()

    def visit(expression: Any) -> None:
        if isinstance(expression, relax.Call):
            operator = describe(expression)
            if operator is not None:
                uses[operator] += 1

    relax.analysis.post_order_visit(module["main"], visit)
    return tuple(
        Task(
            symbol=f"{type(operator).__name__.lower()}_{index}",
            func=operator,
            operators=(repr(operator),),
            uses=count,
        )
        for index, (operator, count) in enumerate(uses.items())
    )
