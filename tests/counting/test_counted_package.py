"""A package with counted outputs, as an app in C and one in C++ use it, and what its files say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import deploycc
from deploycc.bench import bench
from deploycc.bisect import bisect
from deploycc.lowering.routines import FOLDER
from deploycc.packaging import inspect, package
from deploycc.reference import golden
from deploycc.timing.schedule import Effort
from deploycc.timing.statistics import FEWEST
from deploycc.types import BuildRequest
from deploycc.verify import verify
from tests.counting.line import Line, proto_of
from tests.counting.test_counted_graphs import DETECTOR
from tests.packaging import plans
from tests.packaging.conftest import STRICT, run, tool

GRAPH = """g (float[3,5] x) => (int64[2,n] where, float[n] found, float[m] first)
<int64[1] zero = {0}, int64[1] two = {2}> {
 where = NonZero(x)  rows = Transpose(where)  found = GatherND(x, rows)  first = Slice(found, zero, two) }"""

IN_C = """#include "net.h"
#include <stdio.h>
int main(void) {
    float x[net_INPUT_x_ELEMENTS] = {0}, found[net_OUTPUT_found_ELEMENTS], first[net_OUTPUT_first_ELEMENTS];
    int64_t where[net_OUTPUT_where_ELEMENTS], count = -1, firsts = -1;
    const void *inputs[] = {x};
    void *outputs[5];
    net_handle *handle;
    outputs[net_OUTPUT_where_INDEX] = where;
    outputs[net_OUTPUT_found_INDEX] = found;
    outputs[net_OUTPUT_first_INDEX] = first;
    outputs[net_OUTPUT_found_COUNT_INDEX] = &count;
    outputs[net_OUTPUT_first_COUNT_INDEX] = &firsts;
    if (net_create(NULL, &handle) != net_OK || net_output_count() != 5) return 1;
    x[4] = 2.0f, x[7] = 3.0f, x[14] = 4.0f;
    if (net_run(handle, inputs, outputs) != net_OK || count != 3 || firsts != 2) return 2;
    if (found[2] != 4.0f || found[3] != 0.0f || where[1] != 1) return 3;
    if (where[net_OUTPUT_where_ELEMENTS / 2 + 1] != 2) return 3;
    x[4] = x[7] = x[14] = 0.0f;
    if (net_run(handle, inputs, outputs) != net_OK || count != 0 || firsts != 0 || found[0] != 0.0f) return 4;
    if (net_OUTPUT_where_COUNTED_AXIS != 1) return 5;
    if (net_OUTPUT_where_COUNT_INDEX != net_OUTPUT_found_COUNT_INDEX) return 5;
    return (int)net_destroy(handle);
}
"""

IN_CPP = """#include "net.hpp"
#include <cstdio>
int main() {
    std::vector<float> x(net::input::x::size), found(net::output::found::size);
    std::vector<float> first(net::output::first::size);
    std::vector<std::int64_t> where(net::output::where::size);
    std::int64_t count = 0, firsts = 0;
    for (float &value : x) value = 1.0f;
    net::Model model;
    net::Inputs inputs;
    inputs.x = x;
    net::Outputs outputs;
    outputs.where = where;
    outputs.found = found;
    outputs.first = first;
    outputs.where_count = {&count, 1};
    outputs.first_count = {&firsts, 1};
    model.run(inputs, outputs);
    static_assert(net::output::where::counted_axis == 1 && net::output::found::count_index == 3);
    return count == 15 && firsts == 2 && found.back() == 1.0f ? 0 : 1;
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = Line(GRAPH, target=plans.X86_64)
    folder = tmp_path_factory.mktemp("counted") / "net"
    folder.mkdir()
    request = BuildRequest(folder / "model.onnx", plans.X86_64, folder, "net")
    package(line.plan, request, line.model, golden(line.model, 0), folder)
    return folder


@pytest.mark.parametrize(("language", "text"), [("c", IN_C), ("cpp", IN_CPP)])
def test_an_app_gets_rows_and_their_number(made: Path, tmp_path: Path, language: str, text: str) -> None:
    (tmp_path / f"app.{language}").write_text(text)
    compiler = [tool("gcc"), "-std=c99"] if language == "c" else [tool("g++"), "-std=c++17"]
    where = [f"-I{made / 'include'}", f"-L{made / 'lib'}"]
    program = tmp_path / "app"
    run([*compiler, *STRICT, *where, tmp_path / f"app.{language}", "-lnet", "-o", program])
    run([program], env={"LD_LIBRARY_PATH": str(made / "lib")})


def test_the_example_compares_with_padded_golden_outputs(made: Path, tmp_path: Path) -> None:
    folders = [f"-I{made / 'include'}", f"-L{made / 'lib'}", f'-DGOLDEN_FOLDER="{made}/share/net/golden"']
    program = tmp_path / "example"
    run([tool("g++"), "-std=c++17", *STRICT, *folders, made / "example/main.cpp", "-lnet", "-o", program])
    said = run([program], env={"LD_LIBRARY_PATH": str(made / "lib")}).stdout
    assert "where_count: max error 0" in said
    assert "MISMATCH" not in said


def test_manifest_and_header_tell_where_the_number_is(made: Path) -> None:
    outputs = inspect(made)["outputs"]
    assert [(tensor["name"], tensor.get("counted")) for tensor in outputs] == [
        ("where", {"axis": 1, "output": "where_count"}),
        ("found", {"axis": 0, "output": "where_count"}),
        ("first", {"axis": 0, "output": "first_count"}),
        ("where_count", None),
        ("first_count", None),
    ]
    header = (made / "include/net.h").read_text()
    assert "along axis 1 (of 0, 1, ...) output 3 tells how many of the 15 rows there are" in header


@pytest.mark.parametrize("compiler", ["gcc", pytest.param("zig", marks=pytest.mark.slow)])
def test_routines_are_clean(tmp_path: Path, compiler: str) -> None:
    """The C of the routines, which an app's own toolchain may have to compile."""
    called = [tool("gcc")] if compiler == "gcc" else [plans.zig(), "cc"]
    for source in ("counting", "sorting", "suppression"):
        command = [*called, "-std=c11", *STRICT, "-Wconversion", "-c", FOLDER / f"{source}.c"]
        run([*command, "-o", tmp_path / "x.o"], env=plans.zig_environment())


@pytest.mark.slow
def test_what_is_asked_of_a_package(tmp_path: Path) -> None:
    """``verify`` on fresh inputs, a bisection against another model, and ``bench`` beside ONNX Runtime."""
    onnx.save(proto_of(DETECTOR), tmp_path / "net.onnx")
    onnx.save(proto_of(DETECTOR.replace("half = {0.5}", "half = {0.4}")), tmp_path / "other.onnx")
    built = deploycc.build(
        tmp_path / "net.onnx", "x86-64", tmp_path / "out", max_counts={"selected": 19}, verify=True
    )
    assert [tensor["shape"] for tensor in built.manifest["outputs"]][:2] == [[19, 4], [19]]
    assert verify(built.path, tmp_path / "net.onnx", seed=int(np.random.default_rng().integers(999))).ok
    found = bisect(built.path, tmp_path / "other.onnx")
    assert found.suspect is not None
    assert found.suspect.op == "Concat"
    effort = Effort(launches=FEWEST, seconds=0.01)
    (timed,) = bench(built.path, against=["onnxruntime"], model=tmp_path / "net.onnx", effort=effort)
    assert timed.peers
