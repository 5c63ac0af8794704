"""What a rewrite is: a record that is applied, explained and documented from the same fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from onnx import NodeProto

from deploycc.onnx_editor import Editor

Safety = Literal["exact", "unsafe"]
"""``exact``: the same numbers but for rounding.  ``unsafe``: others, or another meaning, in some cases."""


@dataclass(frozen=True)
class Fix:
    """One rewrite of one node (or, with ``graph``, of the whole graph).

    ``name`` is what tables, rules and reports call it, ``operators`` what it starts from (``("*",)``: any).
    ``effect`` says what happens to the numbers and, for an unsafe one, in which cases the meaning changes;
    ``bound`` is the largest error as a share of the output's largest magnitude, as the tests hold it
    (0: the same numbers).  ``pytorch`` is the line to write in the network instead, ``onnx`` the form it
    becomes.  ``apply`` changes the editor's graph and returns whether it did; its docstring says what it
    refuses.
    """

    name: str
    headline: str
    operators: tuple[str, ...]
    onnx: str
    pytorch: str
    apply: Callable[[Editor, NodeProto], bool]
    effect: str = "The same numbers."
    bound: float = 0.0
    safety: Safety = "exact"
    graph: bool = False

    @property
    def refuses(self) -> str:
        """What it refuses, from the docstring of ``apply``."""
        return inspect.getdoc(self.apply) or ""

    def takes(self, node: NodeProto) -> bool:
        """Whether it may start from the node; ``apply`` may still refuse it."""
        return self.operators == ("*",) or (node.op_type in self.operators and not node.domain)


ROUNDING = "Rounding only: the operations are done in another order."
"""The effect of most rewrites that compute the same in other operators."""
