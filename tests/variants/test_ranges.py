"""Ranges of ``--shape``: what is understood, what becomes of it, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from deploycc.build import resolve_request
from deploycc.cli.program import program
from deploycc.importing import expand
from deploycc.ranges import Extent, extent_of, one_shape_only, split_ranges, text_of
from deploycc.request import reproduce_command, request_from_json, request_to_json
from deploycc.tuning import tune
from deploycc.types import DeployccError


@pytest.mark.parametrize(
    ("text", "extents"),
    [
        ("640", 640),
        ("1..8", range(1, 9)),
        ("5..5", range(5, 6)),
        ("1,2,4", (1, 2, 4)),
        ("4,1", (4, 1)),
        ("1,4..6,9", (1, 4, 5, 6, 9)),
    ],
)
def test_extents(text: str, extents: Extent) -> None:
    assert extent_of(text) == extents


@pytest.mark.parametrize("text", ["", "0", "1..", "..3", "1...3", "1,,2", "a", "-1", "1..b", "٣", "9" * 30])
def test_no_extents(text: str) -> None:
    assert extent_of(text) is None


def test_a_single_extent_is_no_range() -> None:
    assert split_ranges({"x": (range(2, 3), np.int64(3), "4")}) == ({"x": (2, 3, 4)}, {})
    assert split_ranges({"x": ("1..2", 3), "y": (5,)}) == (
        {"x": (1, 3), "y": (5,)},
        {"x": ((1, 2), (3,)), "y": ((5,),)},
    )


@pytest.mark.parametrize("axes", [((1, 2, 3), (640,)), ((1, 2, 4), (5,)), ((1, 2), (7, 9)), ((4,),)])
def test_the_text_of_axes_is_read_as_them(axes: tuple[tuple[int, ...], ...]) -> None:
    again = [extent_of(part) for part in text_of(axes).split("x")]
    assert tuple(tuple(one) if not isinstance(one, int) else (one,) for one in again) == axes  # type: ignore


@pytest.mark.parametrize(
    ("shape", "code", "got"),
    [
        ((range(1, 18), 3), "DC240", "17 extents on axis 0"),
        (("1..1000000000000", 3), "DC240", "1000000000000 extents on axis 0"),
        (("1..99,200", 3), "DC240", "99 extents on axis 0"),
        (((2, 1, 2), 3), "DC243", "2, 1, 2"),
        ((range(5, 2), 3), "DC243", "a range without any"),
        (("8..1", 3), "DC243", "a range without any"),
        (("wide", 3), "DC243", "a range without any"),
        (((0, 1), 3), "DC243", "0, 1"),
    ],
)
def test_what_no_package_is_built_for(shape: tuple[Extent, ...], code: str, got: str) -> None:
    with pytest.raises(DeployccError) as caught:
        split_ranges({"x": shape})
    assert [(one.code, one.got) for one in caught.value.diagnostics] == [(code, got)]


# ---- the model's own dimensions ----


def model(path: Path, **inputs: list[str | int | None]) -> Path:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()]
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in inputs]
    outs = [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None) for name in inputs]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", infos, outs)), path)
    return path


Buckets = Mapping[str, tuple[tuple[int, ...], ...]]


def shapes(path: Path, buckets: Buckets) -> list[dict[str, tuple[int, ...]]]:
    return list(expand(path, buckets))


def test_all_combinations(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3, "h"])
    found = shapes(path, {"x": ((1, 2), (3,), (8, 9))})
    assert found == [{"x": (1, 3, 8)}, {"x": (1, 3, 9)}, {"x": (2, 3, 8)}, {"x": (2, 3, 9)}]


def test_a_shared_dimension_moves_together(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", "s", "s"], y=["n", 5], z=["n"])
    found = shapes(path, {"x": ((1, 4), (7, 9), (7, 9)), "y": ((1, 4), (5,))})
    assert [one["x"] for one in found] == [(1, 7, 7), (1, 9, 9), (4, 7, 7), (4, 9, 9)]
    assert [one["y"] for one in found] == [(1, 5), (1, 5), (4, 5), (4, 5)]
    assert "z" not in found[0]  # it follows from the others


def test_nameless_dimensions_are_each_their_own(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=[None, 3], y=["?", 3])
    assert len(shapes(path, {"x": ((1, 2), (3,)), "y": ((1, 2, 3), (3,))})) == 6


def test_two_ranges_for_one_dimension(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3], y=["n", 5])
    with pytest.raises(DeployccError) as caught:
        shapes(path, {"x": ((1, 2), (3,)), "y": ((1, 2, 3), (5,))})
    found = caught.value.diagnostics[0]
    assert (found.code, found.message) == ("DC241", "dimension 'n' is given two ranges")
    assert found.got == "1,2 on axis 0 of 'x', 1,2,3 on axis 0 of 'y'"
    with pytest.raises(DeployccError, match="DC241"):
        shapes(path, {"x": ((1, 2), (3,)), "y": ((2,), (5,))})


def test_the_count_of_too_many(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3, "h"])
    sixteen = {"x": ((1, 2, 3, 4), (3,), (5, 6, 7, 8))}
    assert len(shapes(path, sixteen)) == 16
    with pytest.raises(DeployccError) as caught:
        shapes(path, {"x": ((1, 2, 3, 4, 5), (3,), (5, 6, 7, 8))})
    found = caught.value.diagnostics[0]
    assert (found.code, found.message) == ("DC240", "--shape declares 20 variants")
    assert (found.got, found.need) == ("5 on axis 0 of 'x', 4 on axis 2 of 'x'", "at most 16 in a package")


def test_an_axis_or_input_that_is_not_there_is_left_to_import(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3])
    assert len(shapes(path, {"x": ((1, 2), (3,), (4,)), "nobody": ((1,),)})) == 2


# ---- requests and commands ----


def test_a_request_goes_to_the_child_and_into_a_command(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3], y=["k"])
    request = resolve_request(path, "x86-64", shapes={"x": (range(1, 4), 3), "y": (5,)})
    assert request.shapes == {"x": (1, 3), "y": (5,)}
    assert request_from_json(request_to_json(request)) == request
    assert "--shape x=1..3x3 --shape y=5 " in reproduce_command(request, "x86-64")
    assert resolve_request(path, "x86-64", shapes={"x": (1, 3)}).buckets == {}


def test_one_shape_only() -> None:
    assert one_shape_only("a hand-over", {"x": (1, 3)}) == {"x": (1, 3)}
    with pytest.raises(DeployccError) as caught:
        one_shape_only("a hand-over", {"x": (range(1, 4), 3)})
    found = caught.value.diagnostics[0]
    assert (found.code, found.got) == ("DC242", "--shape x=1..3x3")
    assert found.help == "give one shape, such as --shape x=1x3"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--profile"], "DC242"),
        (["--tune", "1s"], "DC242"),
        (["--target", "snpe:htp"], "DC242"),
        (["--shape", "y=3..2"], "DC243"),
        (["--shape", "y=1..17"], "DC240"),
    ],
)
def test_what_is_for_one_shape(tmp_path: Path, words: list[str], code: str) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3], y=["k"])
    command = ["build", str(path), "--shape", "x=1..3x3", "-o", str(tmp_path / "out"), *words]
    result = CliRunner().invoke(program, command)
    assert isinstance(result.exception, DeployccError)
    assert code in {one.code for one in result.exception.diagnostics}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["lint", "tune", "split"])
def test_other_commands_take_one_shape(tmp_path: Path, command: str) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3])
    result = CliRunner().invoke(program, [command, str(path), "--shape", "x=1..3x3"])
    assert result.exit_code == 2
    assert "has a range, which only 'deploycc build' takes; give one shape" in result.output


def test_a_shape_that_is_none(tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["build", str(tmp_path / "m.onnx"), "--shape", "x=1..x3"])
    assert result.exit_code == 2
    assert "NAME=1..8x3x224x224" in result.output


def test_tuning_is_for_one_shape(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3])
    with pytest.raises(DeployccError, match="DC242: tuning is for one shape at a time"):
        tune(path, "x86-64", "1s", shapes={"x": (range(1, 4), 3)}, database=tmp_path / "records.jsonl")
