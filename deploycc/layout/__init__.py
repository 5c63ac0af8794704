"""Stage "layout": which tensors of a network lie as NCHW and which as NHWC.

``lower`` leaves everything in the model's order.  Here every convolution gets the layouts it reads and
writes, every operator that does not care gets one of the two, and transposes go where they meet.  The
choice is one for the whole network: the sum of the estimated times is the least there is
(``graph.py`` says which sum, ``minimum_cut.py`` how).
"""

from __future__ import annotations

from dataclasses import replace

from deploycc.layout.graph import Estimate, Graph, bindings_of
from deploycc.layout.rewriting import rewrite
from deploycc.relax_graph import find_tasks
from deploycc.types import Program, Target

__all__ = ["choose_layouts"]


def choose_layouts(program: Program, target: Target, estimate: Estimate) -> Program:
    """``program`` (all NCHW) with a layout for every tensor; its ``layouts`` say what convolutions got.

    ``estimate`` gives the cycles of the best schedule for an operator, ``None`` where none takes it.
    A program with control flow stays as it is.
    """
    bindings = bindings_of(program.module["main"])
    if bindings is None:
        return program
    layouts = Graph(program.module["main"], bindings, target, estimate).choose()
    module = rewrite(program.module, bindings, layouts)
    return replace(program, module=module, tasks=find_tasks(module), layouts=layouts.choices)
