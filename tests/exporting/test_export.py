"""``deploycc export``: run for real in an interpreter that has PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from deploycc.lint import lint_model

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "tests" / "exporting" / "modules.py"
NETWORKS = ROOT / "tests" / "networks" / "torch_models.py"


def has_torch(python: str) -> bool:
    command = [python, "-c", "import onnxscript, torch"]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


@pytest.fixture(scope="session")
def torch_python() -> str:
    """An interpreter with torch: this one, or that of ``make test-torch``."""
    apart = str(ROOT / ".cache" / "torch-venv" / "bin" / "python")
    for python in (sys.executable, apart):
        if Path(python).exists() and has_torch(python):
            return python
    pytest.skip("no PyTorch here: 'make test-torch' installs it apart from .venv")


def deploycc(python: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [python, "-m", "deploycc", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["resnet18", "mobilenet_v2"])
def test_a_network_computes_the_same_in_onnx_runtime(factory: str, torch_python: str, tmp_path: Path) -> None:
    done = deploycc(
        torch_python,
        "export",
        f"{NETWORKS}:{factory}",
        "--shape",
        "1x3x64x64",
        "-o",
        "net.onnx",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("net.onnx: ")
    program = f"""
import sys; sys.path.insert(0, {str(NETWORKS.parent)!r})
import numpy, torch, torch_models
torch.manual_seed(0)
net = torch_models.{factory}().eval()
x = torch.randn(1, 3, 64, 64)
numpy.savez("torch.npz", x=x.numpy(), y=net(x).detach().numpy())
"""
    subprocess.run([torch_python, "-c", program], cwd=tmp_path, check=True, timeout=120)
    expected = np.load(tmp_path / "torch.npz")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    (got,) = session.run(None, {name: expected["x"]})
    assert np.abs(got - expected["y"]).max() <= 1e-4 * np.abs(expected["y"]).max()


def test_shapes_by_name_and_default_output_twice_the_same(torch_python: str, tmp_path: Path) -> None:
    copies = []
    for shapes in (["mask=1x1x3x5", "1x2x3x5"], ["1x2x3x5", "1x1x3x5"]):
        options = [word for shape in shapes for word in ("--shape", shape)]
        done = deploycc(torch_python, "export", f"{MODULES}:TwoInputs", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        copies.append((tmp_path / "TwoInputs.onnx").read_bytes())
    assert copies[0] == copies[1]
    graph = onnx.load_from_string(copies[0]).graph
    extents = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
    assert extents == {"image": [1, 2, 3, 5], "mask": [1, 1, 3, 5]}


def test_lint_says_which_line_a_node_came_from(torch_python: str, tmp_path: Path) -> None:
    """The export runs where torch is, lint here."""
    (tmp_path / "net.py").write_text(
        "import torch\n\n\nclass Block(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.linalg.det(x)\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.block = Block()\n\n    def forward(self, x):\n"
        "        return self.block(torch.relu(x))\n"
    )
    done = deploycc(torch_python, "export", "net.py:Net", "--shape", "2x3x3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = lint_model(tmp_path / "Net.onnx", ["snpe"]).reports
    (found,) = (d for d in report.diagnostics if d.op == "Det")
    assert found.location == "net.py:6 (block)"


def test_dc760_without_torch(tmp_path: Path) -> None:
    # An empty module of that name stands in for torch that is broken or not there.
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')\n")
    (tmp_path / "net.py").write_text("def make(): return None\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "deploycc", "export", "net.py:make", "--shape", "1x3"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "error[DC760]: export needs PyTorch and onnxscript" in done.stderr
    assert "pip install 'deploycc[torch]'" in done.stderr


@pytest.fixture(scope="module")
def refusals(torch_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is told of each bad request; one process for all, because importing torch takes seconds."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "net.py").write_text("import math\n\nmath.nothing\n")
    requests: dict[str, tuple[str, list[tuple[str, list[int]]], str]] = {
        "no file": ("none.py:make", [("", [1, 3])], "net.onnx"),
        "no factory named": ("net.py", [("", [1, 3])], "net.onnx"),
        "file fails": ("net.py:make", [("", [1, 3])], "net.onnx"),
        "no such factory": (f"{MODULES}:Oneinput", [("", [1, 3, 64, 64])], "net.onnx"),
        "factory fails": (f"{MODULES}:fails", [("", [1, 3])], "net.onnx"),
        "no module": (f"{MODULES}:no_module", [("", [1, 3])], "net.onnx"),
        "no such input": (f"{MODULES}:TwoInputs", [("colour", [1, 3])], "net.onnx"),
        "wrong shape": (f"{MODULES}:OneInput", [("", [1, 4, 64, 64])], "net.onnx"),
        "cannot be traced": (f"{MODULES}:Branches", [("", [1, 3])], "net.onnx"),
        "no folder": (f"{MODULES}:TwoInputs", [("", [1, 2]), ("", [1, 2])], "no/net.onnx"),
    }
    program = """
import json, sys
import deploycc
from deploycc.diagnostics import render
told = {}
for name, (source, shapes, output) in json.load(sys.stdin).items():
    try:
        deploycc.export(source, shapes, output)
    except deploycc.DeployccError as error:
        told[name] = chr(10).join(map(render, error.diagnostics))
json.dump(told, open("told.json", "w"))
"""
    subprocess.run(
        [torch_python, "-c", program],
        input=json.dumps(requests),
        text=True,
        cwd=folder,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert not list(folder.rglob("*.onnx"))
    told: dict[str, str] = json.loads((folder / "told.json").read_text())
    assert told.keys() == requests.keys()
    return told


def test_dc761_for_the_file(refusals: dict[str, str]) -> None:
    assert "error[DC761]: there is no file none.py" in refusals["no file"]
    assert "error[DC761]: 'net.py' names no factory" in refusals["no factory named"]
    assert "error[DC761]: net.py fails when it is run" in refusals["file fails"]
    assert "has no attribute 'nothing'" in refusals["file fails"]
    assert "from: net.py:3" in refusals["file fails"]


def test_dc762_offers_a_near_match(refusals: dict[str, str]) -> None:
    text = refusals["no such factory"]
    assert "error[DC762]" in text
    assert "has no function Oneinput" in text
    assert "modules.py:OneInput?" in text


def test_dc763_for_the_factory(refusals: dict[str, str]) -> None:
    assert "error[DC763]: fails() fails" in refusals["factory fails"]
    assert "RuntimeError: no weights here" in refusals["factory fails"]
    assert "no_module() is no torch.nn.Module" in refusals["no module"]
    assert "got:  builtins.int" in refusals["no module"]


def test_dc764_for_shapes(refusals: dict[str, str]) -> None:
    text = refusals["no such input"]
    assert "error[DC764]" in text
    assert "no parameter for --shape colour=1x3" in text
    assert "no --shape for 'image'" in text
    assert "forward(image, mask, bias)" in text
    assert "cannot be run on inputs of these shapes" in refusals["wrong shape"]
    assert "RuntimeError" in refusals["wrong shape"]


def test_dc765_gives_torchs_first_lines(refusals: dict[str, str]) -> None:
    assert "error[DC765]: torch cannot export this module" in refusals["cannot be traced"]
    assert "data-dependent" in refusals["cannot be traced"]


def test_dc731_for_an_output_that_cannot_be_written(refusals: dict[str, str]) -> None:
    assert "error[DC731]: no/net.onnx cannot be written" in refusals["no folder"]
    assert "No such file or directory" in refusals["no folder"]


def test_a_refusal_on_the_command_line(torch_python: str, tmp_path: Path) -> None:
    done = deploycc(torch_python, "export", f"{MODULES}:no_module", "--shape", "1x3", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error[DC763]: no_module() is no torch.nn.Module")
    assert "Traceback" not in done.stderr
