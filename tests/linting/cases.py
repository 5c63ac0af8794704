"""For every condition of a support table a model on which it fires and one on which it is silent."""

from __future__ import annotations

from deploycc.op_support import examples

Case = tuple[int, str]


def cases(engine: str) -> dict[str, tuple[Case, Case]]:
    """The firing and the silent case of each condition of an engine's table."""
    return {
        name: (
            (row["fires"]["opset"], row["fires"]["graph"]),
            (row["silent"]["opset"], row["silent"]["graph"]),
        )
        for name, row in examples(engine).items()
    }


CASES = cases("tvm")


def case_of(engine: str, condition: str, operator: str, *, fires: bool) -> Case:
    """Opset and graph for one of the condition's operators, its own where it has one."""
    row = examples(engine)[condition]["fires" if fires else "silent"]
    own = row.get("of", {}).get(operator, {})
    opset, graph = own.get("opset", row["opset"]), own.get("graph", row["graph"])
    return opset, text((opset, graph), operator)


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
