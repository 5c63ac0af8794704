"""Faults that are in no kernel: a tensor overwritten before it is read, a model simplified wrongly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploycc.bisecting.graph import Graph
from deploycc.bisecting.judging import Judged, run_plain
from deploycc.bisecting.locating import Search, simplification_fault
from deploycc.bisecting.steps import Steps
from deploycc.running import Dump


def search(memory: list[bytes], graph: Any = None) -> Search:
    """A search whose package has three steps: "a" lies at 0 and is read by the last; memory after each."""

    def call(reads: list[int], offset: int, tensor: str) -> dict[str, Any]:
        return {
            "symbol": f"kernel_{tensor}",
            "schedule": "none",
            "knobs": {},
            "nodes": [f"node_{tensor}"],
            "reads": [{"kind": "arena", "offset": at, "bytes": 4} for at in reads],
            "writes": [{"kind": "arena", "offset": offset, "bytes": 4, "tensor": tensor, "shape": [1]}],
        }

    def run(dumps: list[Dump]) -> Any:
        return SimpleNamespace(dumps={d: memory[d.step][d.offset : d.offset + d.nbytes] for d in dumps})

    steps = Steps({"calls": [call([], 0, "a"), call([], 4, "b"), call([0, 4], 8, "c")], "outputs": []})
    made = Search.__new__(Search)
    made.watched = SimpleNamespace(steps=steps, run=run)  # type: ignore[assignment]
    known = {write.tensor: write for write in steps.named()}
    made.judge = SimpleNamespace(written_before=lambda write: known)  # type: ignore[assignment]
    made.graph = SimpleNamespace(numbers_of=lambda names: [], nodes=[])  # type: ignore[assignment]
    return made


def last(made: Search) -> Judged:
    return Judged(made.watched.steps.named()[-1], 1.0, (0,), ("a", "b"), ())


def test_a_tensor_that_is_overwritten_before_it_is_read() -> None:
    made = search([b"AAAA--------", b"AxAABBBB----", b"AxAABBBBCCCC"])
    found = made._overwriter(last(made))
    assert found is not None
    assert (found[0], found[1].tensor) == (1, "a")
    suspect = made._overwritten(found, last(made), (), None).suspect  # type: ignore[arg-type]
    assert (suspect.kind, suspect.step, suspect.nodes) == ("overwritten", 1, ("node_b",))
    assert "'a' of step 0" in suspect.reason


def test_what_stays_as_it_was_written_is_not_overwritten() -> None:
    made = search([b"AAAA--------", b"AAAABBBB----", b"AAAABBBBCCCC"])
    assert made._overwriter(last(made)) is None


@pytest.mark.parametrize("weight", ["", "w1"])
def test_the_first_tensor_that_simplifying_changes(net: Path, weight: str) -> None:
    original, simplified = onnx.load(net), onnx.load(net)
    for tensor in simplified.graph.initializer:
        if tensor.name == weight:
            changed = np.multiply(numpy_helper.to_array(tensor), np.float32(1.5))
            tensor.CopyFrom(numpy_helper.from_array(changed, weight))
    x = np.random.default_rng().standard_normal((1, 3, 12, 12)).astype(np.float32)
    graph = Graph(simplified)
    suspect = simplification_fault(original, graph, ["x"], [x], run_plain(graph.proto, [x]))
    if not weight:
        assert suspect is None
    else:
        assert suspect is not None
        assert (suspect.kind, suspect.node, suspect.tensor) == ("simplification", "second", "c1")
