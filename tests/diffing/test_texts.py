"""What is said of two packages, from manifests and results that are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from deploycc.diff import failures
from deploycc.diffing.facts import facts_of, sizes_of
from deploycc.diffing.layers import layers_of
from deploycc.diffing.rendering import as_json, as_markdown, as_text
from deploycc.diffing.timing import with_times
from deploycc.diffing.types import Difference, Numbers, TensorPair, Times
from deploycc.result_types import from_json
from deploycc.types import DeployccError
from deploycc.verifying.numbers import difference
from tests.diffing.manifests import call, manifest

SCOPE = "/model/backbone/stages.2/blocks.7"
CONV = "Conv2d(batch=1, height=16, width=16, in_channels=3, out_channels=4, kernel=(3, 3), data_layout='{}')"


def before() -> dict[str, Any]:
    return manifest(
        [
            call(["stem"], "conv2d add relu", "conv_pixels", "s", knobs={"channels": 4, "vectors": 2},
                 layouts=["NCHW", "NCHW"], operator=CONV.format("NCHW"), cycles=70196),
            call(["pool"], "max_pool2d", "pool", "p"),
            call([f"{SCOPE}/attention/scale/Mul"], "multiply", "elementwise", "m"),
            call([f"{SCOPE}/attention/add/Add"], "add", "elementwise", "q"),
            call(["head"], "matmul add", "gemm", "h", cycles=1000),
            call(["tail", "end"], "softmax multiply", "softmax", "e"),
            call(["old"], "tanh", "elementwise", "o"),
            call([], "Identity"),
        ]
    )  # fmt: skip


def after() -> dict[str, Any]:
    table = manifest(
        [
            call(["stem"], "conv2d add relu", "conv_pixels", "s", knobs={"channels": 8, "vectors": 2},
                 layouts=["NCHW", "NHWC"], operator=CONV.format("NCHW"), cycles=50000,
                 memory="channels last"),
            call(["pool"], "max_pool2d", "pool", "p"),
            call([f"{SCOPE}/attention/scale/Mul", f"{SCOPE}/attention/add/Add"], "multiply add",
                 "elementwise", "q"),
            call(["head"], "matmul add", "rows", "h", cycles=900),
            call(["tail"], "softmax", "softmax", "t"),
            call(["end"], "multiply", "elementwise", "e"),
            call(["new"], "erf", "elementwise", "n"),
            call([], "Identity"),
        ],
        name="net2",
        target={"cpu": "x86-64-v4", "features": [], "name": "x86-64-v4"},
        versions={"apache-tvm": "0.27.0.post1", "deploycc": "0.2.0"},
    )  # fmt: skip
    table["library"] |= {"bytes": 210000, "needed": ["libc.so.6", "libm.so.6"]}
    table["memory"] |= {"arena_bytes": 61440}
    table["files"]["lib/libnet2.so"] = {"bytes": 210000, "sha256": "m" * 64}
    table["files"]["share/net2/report.html"] = {"bytes": 50000, "sha256": "r" * 64}
    return table


def pair(name: str, a: Any, b: Any, steps: tuple[int | None, int | None], *nodes: str) -> TensorPair:
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return TensorPair(nodes, *steps, a.tobytes() == b.tobytes(), difference(name, a, b, 1e-4))


def compared(a: dict[str, Any], b: dict[str, Any]) -> Difference:
    layers, matched_by = layers_of(a, b)
    return Difference(
        "net", "net2", a["target"]["name"], b["target"]["name"], matched_by, facts_of(a, b), sizes_of(a, b),
        layers, left_out=("times: not asked for (--times)",),
    )  # fmt: skip


def at_work() -> Difference:
    """With numbers and times: steps of A take 10 µs each, of B 8, in ten launches."""
    found = compared(before(), after())
    tensors = (
        pair("s", [1, 2, 4], [1, 2, 4], (0, 0), "stem"),
        pair("q", [1, 2, 4], [1, 2.00002, 4], (3, 2), f"{SCOPE}/attention/add/Add"),
        pair("h", [1, 2, 4], [1, 2.5, 4], (4, 3), "head"),
    )
    outputs = (pair("y", [3, 1], [3, 1.5], (5, 5), "end"), pair("z", [3, 1], [3, 1], (None, None)))
    numbers = Numbers("this machine", "this machine", "golden inputs of net", "", outputs, tensors)
    times = Times("this machine", 2, 10, 3000, 80.0, 64.0, 1.25, 1.2, 1.3, "faster", "a stated test")
    steps = (np.full((10, 8), 10.0), np.full((10, 8), 8.0))
    return replace(found, numbers=numbers, times=times, layers=with_times(found.layers, steps), left_out=())


def test_what_manifests_say(golden: Callable[[str, str], None]) -> None:
    golden("manifests.txt", as_text(compared(before(), after())))


def test_what_packages_at_work_say(golden: Callable[[str, str], None]) -> None:
    golden("at-work.txt", as_text(at_work()))


def test_everything(golden: Callable[[str, str], None]) -> None:
    golden("everything.txt", as_text(at_work(), everything=True))


def test_markdown(golden: Callable[[str, str], None]) -> None:
    golden("at-work.md", as_markdown(at_work()))


def test_the_same_package_says_little(golden: Callable[[str, str], None]) -> None:
    found = compared(before(), before())
    assert found.alike
    golden("same.txt", as_text(found))


def test_kinds_of_layers() -> None:
    layers = compared(before(), after()).layers
    told = [(layer.kind, [s.number for s in layer.a], [s.number for s in layer.b]) for layer in layers]
    assert told == [
        ("changed", [0], [0]),
        ("same", [1], [1]),
        ("merged", [2, 3], [2]),
        ("changed", [4], [3]),
        ("split", [5], [4, 5]),
        ("added", [], [6]),
        ("removed", [6], []),
        ("same", [7], [7]),
    ]
    assert [(c.name, c.a, c.b) for c in layers[0].changes] == [
        ("channels", "4", "8"),
        ("layouts", "NCHW>NCHW", "NCHW>NHWC"),
        ("result in memory", "row-major", "channels last"),
    ]
    assert [(c.name, c.a, c.b) for c in layers[3].changes] == [("schedule", "gemm", "rows")]


def test_a_package_without_nodes_is_matched_by_what_steps_do() -> None:
    older = before()
    for one in older["calls"]:
        for key in ("nodes", "reads", "writes"):
            del one[key]
    found = compared(older, after())
    assert found.matched_by == "order"
    assert "matched by their operators" in as_text(found)


def test_names_of_packages_and_their_files_are_no_difference() -> None:
    named = manifest(before()["calls"], name="main")
    found = compared(before(), named)
    assert [fact.name for fact in found.facts if not fact.same] == ["name"]
    assert all(size.same for size in found.sizes)


def test_json_goes_there_and_back() -> None:
    found = at_work()
    table = json.loads(as_json(found))
    assert (table.pop("format"), table.pop("schema_version")) == ("deploycc diff", 1)
    assert from_json(Difference, json.loads(json.dumps(asdict(found)))) == found
    assert table["layers"][2]["kind"] == "merged"
    json.loads(as_json(found), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_names_from_a_model_cannot_steer_a_terminal_or_a_page() -> None:
    hostile = "</table><script>|`\x1b[31m"
    a = manifest([call([hostile], "conv2d", "gemm", "t")])
    b = manifest([call([hostile], "conv2d", "rows", "t")])
    found = compared(a, b)
    assert "\x1b" not in as_text(found)
    page = as_markdown(found)
    assert "<script" not in page
    assert "\x1b" not in page


@pytest.mark.parametrize(
    ("fail_on", "growth", "expected"),
    [
        ((), 0.0, []),
        (("layers",), 0.0, ["layers: 6 of 8"]),
        (("sizes",), 0.0, ["sizes: library grew from 200000 to 210000"]),
        (("sizes",), 0.05, []),
        (("sizes",), 0.049, ["sizes: library grew"]),
        (("numbers",), 0.0, ["numbers: y differ"]),
        (("times",), 0.0, []),
    ],
)
def test_what_a_build_fails_on(fail_on: Any, growth: float, expected: list[str]) -> None:
    lines = failures(at_work(), fail_on, growth)
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))


def test_slower_fails_and_other_outputs_fail() -> None:
    found = at_work()
    assert found.times is not None
    slower = replace(found, times=replace(found.times, ratio=0.8, verdict="slower"))
    assert failures(slower, ("times",)) == ["times: net2 is slower (1.250 times as long)"]
    other = compared(before(), after() | {"outputs": []})
    assert other.numbers is None
    other = replace(other, numbers=replace(found.numbers, outputs=()))  # type: ignore[type-var]
    assert failures(other, ("numbers",)) == ["numbers: output 0 are not the same in both"]


@pytest.mark.parametrize("what", ["numbers", "times"])
def test_what_was_not_compared_does_not_pass(what: Any) -> None:
    with pytest.raises(DeployccError) as refusal:
        failures(compared(before(), after()), (what,))
    assert refusal.value.diagnostics[0].code == "DC860"
    assert "not asked for" in refusal.value.diagnostics[0].got
