"""Products of integers: the instructions of their inner loops."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from deploycc.planning import plan
from deploycc.types import Target
from tests.lowering.quantised_graphs import SEED, Nodes, model_of
from tests.planning.harness import ARM64, X86_64, X86_64_V4
from tests.scheduling.graphs import schedule

VNNI = replace(X86_64_V4, llvm=replace(X86_64_V4.llvm, features=("+avx512vnni",)))


def instructions(target: Target) -> Counter[str]:
    """How often each instruction is in the kernel of a convolution of 64 channels."""
    nodes = Nodes(np.random.default_rng(SEED))
    data, weights = nodes.integers("uint8", 1, 64, 14, 14), nodes.integers("int8", 64, 64, 3, 3)
    nodes.add("ConvInteger", [nodes.x(data), nodes.c(weights)], "int32", pads=[1, 1, 1, 1])
    program = schedule(model_of(nodes.proto()), target)
    (choice,) = [choice for choice in program.choices if choice.operator]
    assert choice.schedule == "integer_products", choice.skipped
    (listing,) = [one for one in plan(program, target, listings=True).listings if "conv2d" in one.symbol]
    return Counter(re.findall(r"^\t([a-z]\w+)\t", listing.assembly, re.MULTILINE))


@pytest.mark.parametrize(
    ("target", "product", "never"),
    [(X86_64, "vpmaddwd", "vpmulld"), (VNNI, "vpdpwssd", "vpmaddwd"), (ARM64, "smlal", "mla")],
    ids=["x86-64", "vnni", "arm64"],
)
def test_a_vector_of_products_is_one_instruction(target: Target, product: str, never: str) -> None:
    found = instructions(target)
    assert found[product] >= 16
    assert found[never] == 0
