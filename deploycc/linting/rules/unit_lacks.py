"""An operator that the converter takes and the chosen part of the chip does not run.

The runtime moves the node to another processor where it may (a copy there and back, and the speed of that
one), or refuses the network where it may not.

Instead: write it in operators that the unit runs: in PyTorch `F.relu(x) + torch.log(1 +
torch.exp(-x.abs()))` for `F.softplus`, in ONNX `Relu`, `Exp`, `Log`, `Add`; move it to the network's end,
so that the part before runs in one piece; or cut the graph around it (`deploycc split`).
"""

from __future__ import annotations

from collections.abc import Iterator

from deploycc.linting.subject import Subject
from deploycc.op_support import version_in
from deploycc.types import Diagnostic

CODE = "DC416"


def applies(target: object) -> bool:
    """For targets that name a unit."""
    return bool(getattr(target, "unit", ""))


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every node whose operator's row lists units without the target's."""
    table, target = subject.table, subject.target
    for node in subject.view.model.graph.node:
        row = None if node.domain else table.operators.get(node.op_type)
        if row is None or not table.units or not version_in(target.version, row.versions):
            continue
        source = table.source(row.source)
        if target.unit in row.units and target.unit not in row.partly:
            continue
        if target.unit in row.units or target.unit in row.partly:
            yield Diagnostic(
                "DC413",
                f"{node.op_type} is worth a look: only some forms of it run on {target.unit}",
                node=node.name,
                op=node.op_type,
                got=row.partly[target.unit],
                need="a form that the unit runs",
                help="look the form up in the source, or try the converter",
                severity="info",
                verdict="info",
                source=source,
            )
            continue
        elsewhere = table.elsewhere or (target.fallback if target.fallback in row.units else "")
        yield Diagnostic(
            CODE,
            f"operator {node.op_type} does not run on {target.unit}",
            node=node.name,
            op=node.op_type,
            got=f"runs on {', '.join(row.units) or 'none of the units'}",
            need=f"operators that run on {target.unit}",
            help=(f"the runtime moves it to {elsewhere}, with copies there and back; " if elsewhere else "")
            + (row.help or "write it in other operators, or cut the graph around it (deploycc split)"),
            severity="warning" if elsewhere else "error",
            verdict="fallback" if elsewhere else "unsupported",
            source=source,
            fix=row.fix,
        )
