"""A package of three variants for the tests: C kernels stand in for what the earlier stages make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from deploycc.packaging import package
from deploycc.types import Buffer, Call, Golden, Plan, Target, TensorInfo, Variant
from tests.packaging import plans

SHAPES = ((1, 3), (2, 3), (7, 3))
BUCKETS = {"x": ((1, 2, 7), (3,)), "offset": ((3,),)}
WEIGHTS = np.array([0.5, -2.0, 3.25], np.float32)

_KERNEL = """
#include <stdint.h>
#define SCALE(n) \\
    int32_t scale_##n(void *x, void *w, void *t) { \\
        for (int i = 0; i < n; i++) ((float *)t)[i] = ((float *)x)[i] * ((float *)w)[i % 3]; return 0; } \\
    int32_t add_##n(void *t, void *o, void *y) { \\
        for (int i = 0; i < n; i++) ((float *)y)[i] = ((float *)t)[i] + ((float *)o)[i % 3]; return 0; }
SCALE(3) SCALE(6) SCALE(21)
"""


def expected(x: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return x * WEIGHTS + offset


def plan_of(target: Target, shape: tuple[int, ...]) -> Plan:
    """y = x * w + offset, with the product in the arena."""
    count = int(np.prod(shape))
    size = 4 * count
    x, offset, y = Buffer("input", 0, 0, size), Buffer("input", 1, 0, 12), Buffer("output", 0, 0, size)
    product, weight = Buffer("arena", 0, 0, size), Buffer("constant", 0, 0, 12)
    return Plan(
        kernels=plans.compile_kernels(target.linker.triple, target.linker.cpu, _KERNEL),
        calls=(
            Call(f"scale_{count}", (x, weight, product), ("Mul",)),
            Call(f"add_{count}", (product, offset, y), ("Add",)),
        ),
        weights=WEIGHTS.tobytes() + bytes(52),
        arena_bytes=-(-size // 64) * 64,
        workspace_bytes=0,
        thread_workspace_bytes=0,
        inputs=(TensorInfo("x", "float32", shape), TensorInfo("offset", "float32", (3,))),
        outputs=(TensorInfo("y", "float32", shape),),
        parameters=3,
    )


def golden_of(shape: tuple[int, ...]) -> Golden:
    generator = np.random.default_rng(shape[0])
    x, offset = generator.standard_normal(shape).astype(np.float32), generator.random(3).astype(np.float32)
    return Golden((x.tobytes(), offset.tobytes()), (expected(x, offset).tobytes(),), "numpy", 0)


def write(folder: Path, target: Target = plans.X86_64, name: str = "several", **changes: object) -> Path:
    """The package in ``folder``, which it makes."""
    folder.mkdir(parents=True)
    first, *others = SHAPES
    request = replace(plans.make_request(target, name, **changes), buckets=BUCKETS)
    variants = [Variant(plan_of(target, shape), golden_of(shape)) for shape in others]
    package(plan_of(target, first), request, plans.make_model(), golden_of(first), folder, variants=variants)
    return folder
