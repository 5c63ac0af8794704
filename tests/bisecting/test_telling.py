"""What is said of a search: texts, JSON, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploycc.bisect import bisect, to_json
from deploycc.bisecting.findings import Bisection, Link, Reduction, Suspect, at_its_step
from deploycc.bisecting.reducing import command_for
from deploycc.cli.verify_bisecting import bisect_and_tell, lines
from deploycc.running import open_package
from deploycc.types import DeployccError
from deploycc.verifying import difference
from tests.bisecting.conftest import build_here, write_net


def found(links: int = 3) -> Bisection:
    want = np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 2, 3, 4)
    got = want.copy()
    got[0, 1, 2, 3] = 3.5
    suspect = Suspect(
        kind="wrong values",
        node="relu\x1b[31m",
        op="Relu",
        certainty="shown by a build",
        step=2,
        symbol="deploycc_k002_fused_conv2d_relu",
        schedule="conv_channels",
        knobs={"pixels": 6, "vectors": 2},
        nodes=("conv", "relu\x1b[31m"),
        tensor="r",
        own=difference("r", want, got, 1e-4),
        reason="",
    )
    chain = tuple(Link(2 + i, f"tensor{i}", (f"node{i}",), 1e-7, 2.5 / (1 + i)) for i in range(links))
    reduction = Reduction(
        "out", ("conv", "relu"), command_for(Path("out dir"), "rpi4", ["--emit", "static"]), 2, suspect.own
    )
    return Bisection("net", "this machine", 9, 8, (), suspect, chain, (5,), reduction, ("a note",))


def test_what_a_person_reads(golden: Callable[[str, str], None]) -> None:
    nothing = replace(found(), suspect=None, chain=(), reduction=None, notes=(), also=())
    failed = Reduction("", (), "", 3, None, "no piece of the network shows the fault when it is built again")
    texts = [found(), found(links=20), replace(found(), reduction=failed), nothing]
    golden("bisect.txt", "\n".join("\n".join(lines(text)) for text in texts) + "\n")


def test_values_that_are_not_finite_are_said_to_be(golden: Callable[[str, str], None]) -> None:
    want = np.ones((2, 2), np.float32)
    got = np.array([[1, np.inf], [np.nan, 1]], np.float32)
    whole = found()
    assert whole.suspect is not None
    suspect = replace(whole.suspect, kind="not finite", own=difference("r", want, got, 1e-4))
    golden("bisect_infinite.txt", "\n".join(lines(replace(whole, suspect=suspect))) + "\n")


def test_json_has_no_infinities() -> None:
    chain = (Link(1, "t", ("n",), math.inf, math.nan),)
    table = json.loads(to_json(replace(found(), chain=chain)), parse_constant=pytest.fail)
    assert table["chain"] == [{"step": 1, "tensor": "t", "nodes": ["n"], "own": None, "total": None}]
    assert table["suspect"]["knobs"] == {"pixels": 6, "vectors": 2}


def test_a_suspect_is_at_the_step_that_computes_its_node() -> None:
    suspect = found().suspect
    assert suspect is not None
    call = {"symbol": "k", "schedule": "gemm", "knobs": {"tile": 1}}
    calls = [{**call, "nodes": ["other"]}, {**call, "nodes": [suspect.node]}, {**call, "nodes": ["last"]}]
    moved = at_its_step(suspect, (0, 1, 2), calls)
    assert (moved.step, moved.schedule, moved.knobs) == (1, "gemm", {"tile": 1})
    assert at_its_step(suspect, (0, 2), calls) == suspect


def test_a_race_is_shown_with_as_many_threads() -> None:
    assert command_for(Path("out"), "host", (), 4).endswith("--inputs out/inputs.npz --threads 4")


def code(error: pytest.ExceptionInfo[DeployccError]) -> str:
    return error.value.diagnostics[0].code


def test_a_search_needs_a_model(sound: Path) -> None:
    with pytest.raises(DeployccError) as error:
        bisect_and_tell(open_package(sound), None, [], None, None)
    assert code(error) == "DC820"


def test_another_model_is_refused(sound: Path, tmp_path: Path, in_process: None) -> None:
    model = onnx.load(write_net(tmp_path / "other.onnx"))
    for node in model.graph.node:
        node.output[:] = [name if name == "y" else f"{name}_" for name in node.output]
        node.input[:] = [
            f"{name}_" if name[1:] in ("0", "1") and name[0] in "crhptf" else name for name in node.input
        ]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(DeployccError) as error:
        bisect(sound, tmp_path / "other.onnx", builder=build_here)
    assert code(error) == "DC821"


def test_a_model_that_the_reference_cannot_run_is_refused(
    net: Path, sound: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploycc.bisecting import locating
    from deploycc.reference import ReferenceFailed

    def refused(*given: object) -> None:
        raise ReferenceFailed("no kernel")

    monkeypatch.setattr(locating, "run_plain", refused)
    with pytest.raises(DeployccError) as error:
        bisect(sound, net, builder=build_here)
    assert code(error) == "DC822"


def test_other_folders_are_left_alone(net: Path, sound: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DeployccError) as error:
        bisect(sound, net, output=tmp_path)
    assert code(error) == "DC823"
    assert (tmp_path / "thesis.txt").read_text() == "mine"
