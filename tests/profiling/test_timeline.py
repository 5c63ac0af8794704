"""The timeline: the form that Chrome's tracing and Perfetto read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from deploycc.profiling import timeline
from tests.profiling.profiles import layer, profile_of
from tests.reporting.browsing import open_page


def check_events(trace: dict[str, Any]) -> None:
    """The rules of the Trace Event Format for the events we write: metadata and complete ones."""
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert isinstance(trace["traceEvents"], list)
    open_until: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str)
        assert event["name"]
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["args"], dict)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            assert set(event["args"]) == {"name" if event["name"] != "thread_sort_index" else "sort_index"}
            continue
        assert event["ph"] == "X"
        assert isinstance(event["cat"], str)
        start, duration = event["ts"], event["dur"]
        assert math.isfinite(start)
        assert start >= 0
        assert duration >= 0
        # On one track events nest: none may begin in another and end behind it.
        stack = open_until.setdefault((event["pid"], event["tid"]), [])
        while stack and stack[-1][1] <= start + 1e-4:
            stack.pop()
        assert not stack or (start >= stack[-1][0] and start + duration <= stack[-1][1] + 1e-4)
        stack.append((start, start + duration))


def made(runs: int = 9, steps: int = 4) -> tuple[dict[str, Any], Any]:
    step_ns = np.random.default_rng().uniform(10, 1e6, (runs, steps))
    layers = [layer(step=i, nodes=(f"/a/</script>{i}", "b"), time_us=1.0) for i in range(steps)]
    return timeline(profile_of(*layers), step_ns), step_ns


def test_the_form_is_right_and_survives_json() -> None:
    trace, _ = made()
    assert json.loads(json.dumps(trace, allow_nan=False)) == trace
    check_events(trace)


def test_runs_are_tracks_with_their_steps_in_order() -> None:
    trace, step_ns = made()
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    tracks = sorted({event["tid"] for event in events})
    assert len(tracks) == 5
    wholes = sorted(step_ns.sum(axis=1))
    for track in tracks:
        run, *steps = (event for event in events if event["tid"] == track)
        assert [step["args"]["step"] for step in steps] == [0, 1, 2, 3]
        assert [step["ts"] for step in steps] == sorted(step["ts"] for step in steps)
        assert abs(run["dur"] - sum(step["dur"] for step in steps)) < 2e-3
    durations = [event["dur"] for event in events if event["cat"] == "run"]
    assert durations == sorted(durations)  # the fastest run is the first track, the slowest the last
    assert abs(durations[0] - wholes[0] / 1e3) < 2e-3
    assert abs(durations[-1] - wholes[-1] / 1e3) < 2e-3
    arguments = next(event["args"] for event in events if event["cat"] == "step")
    assert {"nodes", "schedule", "knobs", "flops", "bytes", "why"} < set(arguments)


def test_one_run_is_one_track() -> None:
    trace, _ = made(runs=1)
    check_events(trace)
    assert {event["tid"] for event in trace["traceEvents"] if event["ph"] == "X"} == {1}


def test_chromium_reads_it(tmp_path: Path) -> None:
    trace, _ = made()
    text = json.dumps(trace).replace("<", "\\u003c")
    script = "JSON.parse(document.querySelector('#trace').textContent).traceEvents.length"
    page = f'<script id="trace" type="application/json">{text}</script><p id="count"></p>'
    page += f"<script>document.querySelector('#count').textContent = {script}</script>"
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    opened = open_page(tmp_path / "page.html")
    assert f'<p id="count">{len(trace["traceEvents"])}</p>' in opened.document
