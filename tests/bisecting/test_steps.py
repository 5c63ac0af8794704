"""What the manifest tells of steps: whose results lie where a step reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploycc.bisecting.steps import Steps, Write, in_model_order


def place(offset: int, nbytes: int, kind: str = "arena", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "offset": offset, "bytes": nbytes, **more}


def written(offset: int, nbytes: int, tensor: str) -> dict[str, Any]:
    return place(offset, nbytes, tensor=tensor, shape=[nbytes // 4], layout="row-major")


def steps(*calls: tuple[list[dict[str, Any]], list[dict[str, Any]]], outputs: Any = ()) -> Steps:
    return Steps({"calls": [{"reads": r, "writes": w} for r, w in calls], "outputs": list(outputs)})


def names(writes: Any) -> list[str]:
    return [write.tensor for write in writes]


def test_the_newest_write_counts() -> None:
    found = steps(
        ([place(0, 64, "input", index=1)], [written(0, 64, "a")]),
        ([place(0, 64)], [written(64, 64, "b")]),
        ([place(64, 64)], [written(0, 64, "c")]),
        ([place(0, 64), place(64, 64)], [written(128, 64, "d")]),
    )
    assert found.sources(0).inputs == {1}
    assert names(found.sources(1).writes) == ["a"]
    assert names(found.sources(3).writes) == ["c", "b"]


def test_parts_that_were_written_side_by_side_are_all_read() -> None:
    found = steps(
        ([], [written(0, 32, "left")]),
        ([], [written(32, 32, "right")]),
        ([place(0, 64)], [written(64, 64, "both")]),
        ([place(80, 16)], [written(0, 16, "part")]),
    )
    assert sorted(names(found.sources(2).writes)) == ["left", "right"]
    assert names(found.sources(3).writes) == ["both"]


def test_what_was_overwritten_is_not_read_any_more() -> None:
    found = steps(
        ([], [written(0, 64, "old")]),
        ([], [written(0, 64, "new")]),
        ([place(16, 16)], [written(64, 16, "last")]),
    )
    assert names(found.sources(2).writes) == ["new"]


def test_steps_without_a_name_are_joined_to_their_readers() -> None:
    found = steps(
        ([place(0, 8, "input", index=0)], [place(0, 8)]),
        ([place(0, 8)], [place(8, 8)]),
        ([], [written(24, 8, "other")]),
        ([place(8, 8), place(24, 8)], [written(16, 8, "named")]),
    )
    sources = found.sources(3)
    assert sources.joined == (0, 1)
    assert sources.inputs == {0}
    assert names(sources.writes) == ["other"]


def test_a_whole_output_has_the_output_s_name() -> None:
    output = {"name": "y", "shape": [2, 1], "bytes": 8}
    found = steps(([], [place(0, 8, "output", index=0)]), outputs=[output])
    assert names(found.named()) == ["y"]
    assert found.named()[0].shape == (2, 1)


def test_what_is_forgotten_has_no_name() -> None:
    found = steps(([], [written(0, 8, "a")]), ([place(0, 8)], [written(8, 8, "b")]))
    found.forget(found.writes[0])
    assert found.sources(1).joined == (0,)


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_is_brought_to_the_model_s_order(channels_last: bool) -> None:
    value = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    memory = np.ascontiguousarray(np.moveaxis(value, 1, -1)) if channels_last else value
    write = Write(0, 0, "arena", 0, 0, 96, "t", memory.shape, channels_last)
    got = in_model_order(write, memory.tobytes(), np.dtype(np.float32), (2, 3, 4))
    assert np.array_equal(got, value[0])
    with pytest.raises(ValueError, match="reshape"):
        in_model_order(write, memory.tobytes()[:-4], np.dtype(np.float32), (2, 3, 4))
