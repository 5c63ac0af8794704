"""Operators computed by C functions: their results, where they lie in packages, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from benchmarks.library import PackageLibrary
from deploycc.lowering import frontend
from deploycc.lowering.converters import CONVERTERS
from deploycc.lowering.routines import call_routine
from deploycc.onnx_graph import tensor_info
from deploycc.packaging import package
from deploycc.reference import golden
from deploycc.tvm_api import OnnxOpConverter, relax
from deploycc.types import BuildRequest, DeployccError, Model, Plan, Target
from tests.packaging import plans
from tests.planning.harness import ARM64, X86_64, find_emulator, run_plan
from tests.sweep.worker import compile_model

TWICE = """#include <stdint.h>

int32_t dcc_scaled(const float *in, float *out, float *copy, int64_t count, double factor);

int32_t dcc_scaled(const float *in, float *out, float *copy, int64_t count, double factor)
{
    for (int64_t i = 0; i < count; ++i) {
        out[i] = in[i] * (float)factor;
        copy[i] = in[i];
    }
    return 0;
}
"""


def converter(source: Path, output: int) -> type:
    class Scaled(OnnxOpConverter):  # type: ignore[misc]
        @classmethod
        def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            shape = [int(extent) for extent in inputs[0].ty.shape]
            kinds = [(shape, "float32")] * 2
            made = call_routine(bb, source, "dcc_scaled", inputs, kinds, [int(np.prod(shape)), -1.0])
            return relax.TupleGetItem(bb.emit(made), output)

    return Scaled


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``Neg`` is the C function's first result, ``Identity`` and ``Softsign`` another file's second one."""
    path = tmp_path / "scaling.c"
    path.write_text(TWICE, encoding="utf-8")
    monkeypatch.setattr(frontend, "CONVERTERS", {**CONVERTERS, "Neg": converter(path, 0)})
    return path


def chain(*operators: str) -> Model:
    names = ["x", *(f"t{index}" for index in range(1, len(operators))), "y"]
    nodes = [
        helper.make_node(operator, [names[i]], [names[i + 1]], name=f"n{i}")
        for i, operator in enumerate(operators)
    ]
    info = helper.make_tensor_value_info
    values = [info("x", TensorProto.FLOAT, [3, 7])], [info("y", TensorProto.FLOAT, [3, 7])]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", *values), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    inputs, outputs = (tuple(map(tensor_info, side)) for side in (proto.graph.input, proto.graph.output))
    return Model(proto, inputs, outputs, 18, "")


def feed() -> np.ndarray[Any, Any]:
    return np.random.default_rng().standard_normal((3, 7), np.float32)


def planned(model: Model, target: Target) -> Plan:
    return compile_model(model, [""], target)


@pytest.mark.parametrize("target", [X86_64, ARM64], ids=["x86-64", "arm64"])
def test_a_routine_between_other_kernels(source: Path, target: Target) -> None:
    if target.emulator and find_emulator(target) is None:
        pytest.skip("qemu-aarch64 is not installed (Debian: qemu-user)")
    plan = planned(chain("Relu", "Neg", "Exp", "Neg"), target)
    assert dict(plan.routines) == {"scaling.c": TWICE}
    assert [call.written for call in plan.calls] == [1, 2, 1, 2]
    x = feed()
    np.testing.assert_allclose(
        run_plan(plan, [x], target)[0], -np.exp(-np.maximum(x, 0)), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("emit", ["shared", "static"])
def test_a_package_with_a_routine(source: Path, tmp_path: Path, emit: str) -> None:
    model = chain("Neg", "Exp")
    request = BuildRequest(source, plans.X86_64, tmp_path, "net", emit=emit)  # type: ignore[arg-type]
    folder = tmp_path / "out"
    folder.mkdir()
    package(planned(model, X86_64), request, model, golden(model, 0), folder)
    if emit == "static":
        library = (folder / "lib" / "libnet.a").read_bytes()
        index = library[68 : 68 + int(library[56:66])]  # the first member: what a linker finds by name
        assert b"net_run" in index
        assert b"dcc_scaled" not in index, "two static packages would clash"
        return
    library = PackageLibrary(folder)
    x = feed()
    np.testing.assert_allclose(library.bind([x])[0], np.exp(-x), rtol=1e-6)
    library.close()


def test_a_package_for_an_apps_own_toolchain_has_the_file(source: Path, tmp_path: Path) -> None:
    model = chain("Neg", "Exp")
    target = replace(plans.X86_64, linker=replace(plans.X86_64.linker, toolchain="none"))
    package(
        planned(model, X86_64),
        BuildRequest(source, target, tmp_path, "net"),
        model,
        golden(model, 0),
        tmp_path,
    )
    assert (tmp_path / "src" / "routines" / "scaling.c").read_text(encoding="utf-8") == TWICE
    assert "routines/scaling.c" in (tmp_path / "src" / "CMakeLists.txt").read_text(encoding="utf-8")


def test_two_files_of_one_name_are_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / hashlib.sha256(TWICE.encode()).hexdigest() / "scaling.c"
    other.parent.mkdir()
    shutil.copy(source, other)
    converters = {**CONVERTERS, "Neg": converter(source, 0), "Softsign": converter(other, 1)}
    monkeypatch.setattr(frontend, "CONVERTERS", converters)
    planned(chain("Neg", "Softsign"), X86_64)
    other.write_text(TWICE + "/* another */\n", encoding="utf-8")
    with pytest.raises(DeployccError) as refused:
        planned(chain("Neg", "Softsign"), X86_64)
    assert [d.code for d in refused.value.diagnostics] == ["DC523"]
