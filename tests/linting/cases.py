"""For every condition of the support table a model on which it fires and one on which it is silent."""

from __future__ import annotations

import tomllib
from pathlib import Path

Case = tuple[int, str]


def _cases() -> dict[str, tuple[Case, Case]]:
    with Path(__file__).with_name("cases.toml").open("rb") as file:
        rows = tomllib.load(file)
    return {
        name: (
            (row["fires"]["opset"], row["fires"]["graph"]),
            (row["silent"]["opset"], row["silent"]["graph"]),
        )
        for name, row in rows.items()
    }


CASES = _cases()


def text(case: Case, operator: str) -> str:
    """The case's graph for one of the condition's operators."""
    graph = case[1].replace("OP", operator)
    if operator == "QuantizeLinear":
        types = {"T8": "float", "T9": "uint8", "T4": "float", "T5": "int4"}
    else:
        types = {"T8": "uint8", "T9": "float", "T4": "int4", "T5": "float"}
    for name, kind in types.items():
        graph = graph.replace(f"{name}[", f"{kind}[")
    return graph
