"""Operators of a user's own: the examples of docs/new-operator.md as they stand there, and faulty files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper

from benchmarks.library import PackageLibrary
from deploycc import custom_operators, operator_files
from deploycc.build import build
from deploycc.diagnostics import render
from deploycc.lint import lint_model
from deploycc.operator_files import install
from deploycc.types import DeployccError, Diagnostic
from deploycc.verify import verify

PAGE = Path(__file__).parent.parent / "docs" / "new-operator.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page in ``operators``, and the model that its last program makes."""
    text = PAGE.read_text(encoding="utf-8")
    (tmp_path / "operators").mkdir()
    for name in re.findall(r"`operators/([a-z_]+\.\w+)`", text):
        after = text[text.index(f"`operators/{name}`") :]
        (tmp_path / "operators" / name).write_text(_block(after), encoding="utf-8")
    program = _block(text[text.index("## A model with both") :])
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    return tmp_path


def _block(text: str) -> str:
    found = re.search(r"```\w+\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_two_examples_of_the_page(folder: Path) -> None:
    operators, model = folder / "operators", folder / "noise.onnx"
    assert sorted(path.name for path in operators.iterdir()) == ["median.c", "median.py", "soft_shrink.py"]
    (report,) = lint_model(model, ["host"], op_dirs=[operators]).reports
    assert not report.diagnostics
    package = build(model, "host", folder / "noise", op_dirs=[operators], verify=True)
    assert not package.diagnostics
    assert verify(package.path, model, op_dirs=[operators]).ok
    x = np.random.default_rng().standard_normal((8, 31), np.float32)
    library = PackageLibrary(package.path)
    (got,) = library.bind([x])
    library.close()
    shrunk = np.maximum(np.abs(x) - np.float32(0.25), 0) * (x > 0)
    np.testing.assert_allclose(got, np.sort(shrunk, axis=1)[:, 15], rtol=1e-6)
    with pytest.raises(DeployccError) as without:
        build(model, "host", folder / "other")
    assert [d.code for d in without.value.diagnostics] == ["DC140", "DC140"]
    assert "--op-dir" in without.value.diagnostics[0].help


def refusal(act: object) -> Diagnostic:
    with pytest.raises(DeployccError) as refused:
        act()  # type: ignore[operator]
    assert len(refused.value.diagnostics) == 1
    return refused.value.diagnostics[0]


@pytest.fixture
def clean() -> Iterator[None]:
    """What a test installs in this process is gone after it."""
    yield
    for domain, name in custom_operators._INSTALLED:
        if domain:
            defs.deregister_schema(name, 1, domain)
    custom_operators._INSTALLED.clear()
    operator_files._REFERENCES.clear()


WORDS = "from deploycc.custom_operators import CFunction, CustomOperator\nfrom pathlib import Path\n"
FINE = (
    "OPERATORS = [CustomOperator('Twice', lambda k, a: k, lambda v, a: [2 * v[0]], {lowering}, '{domain}')]\n"
)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("1 +\n", "SyntaxError"),
        ("\nraise RuntimeError('no such device')\n", "line 2: RuntimeError: no such device"),
        ("OPERATOR = []\n", "OPERATORS is no list"),
        ("OPERATORS = ['Twice']\n", "OPERATORS is no list"),
        (WORDS + FINE.format(lowering="int", domain=""), "Twice has no domain and is not in the standard"),
        (WORDS + FINE.format(lowering="'x'", domain="a.b"), "neither class nor CFunction"),
        (WORDS + FINE.format(lowering="CFunction(Path('no.c'), 'f')", domain="a.b"), "no C file no.c"),
        (WORDS + FINE.format(lowering="int", domain="a.b").replace("Twice", "a b"), "'a b' is no name"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, text: str, got: str) -> None:
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    found = refusal(lambda: install([tmp_path]))
    assert found.code == "DC470"
    assert got in found.got
    assert "mine.py" in found.message


def test_a_folder_that_is_not_there_and_an_operator_defined_twice(tmp_path: Path) -> None:
    assert refusal(lambda: install([tmp_path / "none"])).code == "DC470"
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(WORDS + FINE.format(lowering="int", domain="a.b"), encoding="utf-8")
    found = refusal(lambda: install([tmp_path]))
    assert found.code == "DC471"
    assert "one.py" in found.got
    assert "two.py" in found.got


BROKEN = """
from deploycc.custom_operators import CustomOperator
from deploycc.tvm_api import OnnxOpConverter, relax

class {name}(OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, bb, inputs, attr, params):
        {body}

OPERATORS = [
    CustomOperator("{name}", lambda kinds, attributes: [kinds[0]], lambda v, a: [v[0]], {name}, "a.b")
]
"""


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("return inputs[0].shape.dtype", "AttributeError"),
        ("return relax.op.sum(inputs[0])", "TensorKind(shape=()"),
        ("return relax.op.astype(inputs[0], 'float16')", "dtype='float16'"),
    ],
)
def test_a_converter_that_fails_or_makes_something_else(tmp_path: Path, body: str, got: str) -> None:
    (tmp_path / "broken.py").write_text(BROKEN.format(name="Mine", body=body), encoding="utf-8")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    node = helper.make_node("Mine", ["x"], ["y"], domain="a.b")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("a.b", 1)]
    graph = helper.make_graph([node], "g", [value], [result])
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    install([tmp_path])
    from deploycc.lowering.frontend import import_onnx

    onnx.checker.check_model(proto, full_check=True)
    found = refusal(lambda: import_onnx(proto))
    assert found.code == "DC472"
    assert got in found.got, render(found)
    assert found.op == "Mine"
