"""Memory over a run, read from a manifest: live ranges, the peak, and what a handle takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.memory_use import memory_use


def place(kind: str, offset: int, nbytes: int, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "offset": offset, "bytes": nbytes, **more}


def manifest(calls: list[dict[str, Any]], arena: int = 0, **memory: int) -> dict[str, Any]:
    sizes = {"arena_bytes": arena, "workspace_bytes": 0, "thread_workspace_bytes": 0, "weight_bytes": 0}
    return {
        "calls": calls,
        "memory": {**sizes, **memory},
        "inputs": [{"bytes": 40}],
        "outputs": [{"bytes": 24}, {"bytes": 8}],
    }


def test_values_live_from_their_step_to_their_last_reader() -> None:
    calls: list[dict[str, Any]] = [
        {
            "reads": [place("input", 0, 40, index=0)],
            "writes": [place("arena", 0, 64, tensor="t", shape=[4, 4], layout="row-major")],
            "nodes": ["n0"],
            "operators": ["add"],
        },
        {"reads": [place("arena", 0, 64)], "writes": [place("arena", 64, 128)], "operators": ["a", "b"]},
        {"reads": [place("arena", 64, 128)], "writes": [place("arena", 0, 32, tensor="u")]},
        {"reads": [place("arena", 0, 32)], "writes": [place("output", 0, 24, index=0)]},
    ]
    use = memory_use(manifest(calls, 192))
    assert [(v.first, v.last, v.label) for v in use.values] == [
        (0, 1, "t"),
        (1, 2, "result of a+b"),
        (2, 3, "u"),
        (3, 3, "result of step 3"),
    ]
    assert use.occupancy == (64, 192, 160, 32)
    assert (use.peak_step, use.peak_bytes) == (1, 192)
    assert [v.label for v in use.at_peak()] == ["result of a+b", "t"]
    assert use.at_peak()[1].shape == (4, 4)
    assert use.at_peak()[1].nodes == ("n0",)
    assert (use.input_bytes, use.output_bytes) == (40, 32)


def test_a_read_of_a_whole_keeps_all_its_parts_and_not_what_they_replaced() -> None:
    calls: list[dict[str, Any]] = [
        {"reads": [], "writes": [place("arena", 0, 100)]},
        {"reads": [], "writes": [place("arena", 0, 60)]},
        {"reads": [], "writes": [place("arena", 60, 40)]},
        {"reads": [place("arena", 0, 100)], "writes": []},
    ]
    use = memory_use(manifest(calls, 128))
    assert [(v.first, v.last) for v in use.values] == [(0, 0), (1, 3), (2, 3)]
    assert use.occupancy == (100, 60, 100, 100)


def test_what_an_output_held_before_its_result_ends_with_its_reader() -> None:
    calls: list[dict[str, Any]] = [
        {"reads": [], "writes": [place("output", 0, 16, index=0)]},
        {"reads": [place("output", 0, 16, index=0)], "writes": [place("arena", 0, 16)]},
        {"reads": [place("arena", 0, 16)], "writes": [place("output", 0, 24, index=0)]},
        {"reads": [], "writes": [place("output", 0, 8, index=1)]},
    ]
    use = memory_use(manifest(calls, 64))
    assert [(v.kind, v.index, v.first, v.last) for v in use.values] == [
        ("output", 0, 0, 1),
        ("arena", 0, 1, 2),
        ("output", 0, 2, 3),
        ("output", 1, 3, 3),
    ]


def test_a_package_without_steps_has_no_peak() -> None:
    use = memory_use(manifest([]))
    assert (use.peak_step, use.peak_bytes, use.at_peak(), use.handle_bytes(3)) == (None, 0, (), 64)


slots = st.sets(st.integers(0, 5))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(slots, slots), max_size=12))
def test_occupancy_is_that_of_a_byte_map(chosen: list[tuple[set[int], set[int]]]) -> None:
    """Backwards: a slot holds something from its writing to its last reading before the next writing."""
    calls = [
        {"reads": [place("arena", 8 * s, 8) for s in r], "writes": [place("arena", 8 * s, 8) for s in w]}
        for r, w in chosen
    ]
    written = np.zeros((len(chosen) + 1, 6), bool)
    for step, (_, writes) in enumerate(chosen):
        written[step + 1] = written[step]
        written[step + 1, list(writes)] = True
    needed, expected = np.zeros(6, bool), []
    for step, (reads, writes) in reversed(list(enumerate(chosen))):
        read, made = np.isin(range(6), list(reads)), np.isin(range(6), list(writes))
        expected.append(8 * int((((needed | read) & written[step]) | made).sum()))
        needed = (needed & ~made) | read
    use = memory_use(manifest(calls, 64))
    assert list(use.occupancy) == expected[::-1]
    assert use.peak_bytes == max(expected, default=0)
