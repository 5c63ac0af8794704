"""The rules of the tree, held by reading the sources."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploycc.diagnostics import CATALOGUE

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    *("importing", "simplifying", "linting", "fixing", "lowering", "layout", "scheduling", "planning"),
    *("packaging", "splitting"),
)
LONGEST, LONGEST_TEST = 450, 750
"""Lines of a file: one of much more than 400 is two things; lists of test cases may be longer."""


def tracked() -> list[Path]:
    """Files that belong to the project, by git where there is one."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to it is not known")
    return [path for line in listing.splitlines() if (path := ROOT / line).is_file()]


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def importers(package: str, *folders: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in sources(*folders)
        if any(name == package or name.startswith(f"{package}.") for name in imports(path))
    }


def test_only_one_file_imports_tvm() -> None:
    assert importers("tvm", "deploycc", "schedules", "benchmarks", "examples") == {"deploycc/tvm_api.py"}


def test_only_the_export_imports_torch() -> None:
    found = importers("torch", "deploycc", "schedules", "examples")
    assert found == {"deploycc/exporting/torch_export.py"}
    assert importers("torch", "benchmarks") == {"benchmarks/gpu.py", "benchmarks/onnx_in_torch.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage_and_nothing_above_it(stage: str) -> None:
    above = "build cli exporting handover host request split staging targets trace".split()
    forbidden = tuple(f"deploycc.{name}" for name in (*STAGES, *above) if name != stage)
    for path in sources(f"deploycc/{stage}"):
        wrong = [n for n in imports(path) if any(n == f or n.startswith(f"{f}.") for f in forbidden)]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_what_the_stages_share_imports_no_stage() -> None:
    names = "__init__ __main__ bench bisect build diff fix handover lines lint pipelines profile report split"
    front = {f"{name}.py" for name in (*names.split(), "staging", "verify")}
    for path in sorted((ROOT / "deploycc").glob("*.py")):
        if path.name not in front:
            wrong = [n for n in imports(path) if n.startswith(tuple(f"deploycc.{s}" for s in STAGES))]
            assert not wrong, f"{path.name} imports {wrong}"


def test_reports_import_no_stage_and_nothing_of_the_command_line() -> None:
    """A report is text made of results: whoever writes one (lint, build, a page of a package) may use it."""
    forbidden = tuple(f"deploycc.{name}" for name in (*STAGES, "build", "cli", "exporting", "tvm_api"))
    for path in sources("deploycc/reporting"):
        wrong = [name for name in imports(path) if name.startswith(forbidden)]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def _codes_in(path: Path) -> set[str]:
    """Diagnostic codes that stand in a file as whole string constants."""
    constants = (
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {value for value in constants if re.fullmatch(r"DC\d{3}", value)}


def _codes_used() -> set[str]:
    files = [path for path in sources("deploycc", "schedules") if path.name != "diagnostics.py"]
    used = {code for path in files for code in _codes_in(path)}
    for table in (ROOT / "targets" / "op_support").glob("*.toml"):
        used |= set(re.findall(r"\bDC\d{3}\b", table.read_text(encoding="utf-8")))
    return used


def test_every_code_used_is_in_the_catalogue() -> None:
    assert sorted(_codes_used() - CATALOGUE.keys()) == []


def test_every_code_of_the_catalogue_is_used() -> None:
    assert sorted(CATALOGUE.keys() - _codes_used()) == []


def test_every_code_has_a_test() -> None:
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in sources("tests")
        if path.resolve() != Path(__file__).resolve()
    )
    assert sorted(code for code in CATALOGUE if code not in text) == []


def test_no_code_stands_twice_in_the_catalogue() -> None:
    keys = re.findall(
        r'^    "(DC\d{3})":', (ROOT / "deploycc/diagnostics.py").read_text(encoding="utf-8"), re.M
    )
    assert [code for code, count in Counter(keys).items() if count > 1] == []
    assert set(keys) == set(CATALOGUE)
    assert all(code.exit_code in (0, 1, 2, 70) for code in CATALOGUE.values())


def test_no_source_file_is_too_long() -> None:
    kinds = {".py", ".c", ".h", ".hpp", ".cpp"}
    lengths = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for path in tracked()
        if path.suffix in kinds
    }
    limit = {name: LONGEST_TEST if name.startswith("tests/") else LONGEST for name in lengths}
    assert {name: lines for name, lines in lengths.items() if lines > limit[name]} == {}


def test_no_file_is_named_after_nothing() -> None:
    empty_names = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [path for path in tracked() if path.stem.lower() in empty_names] == []


def test_no_path_of_somebodys_machine_is_written_down() -> None:
    machine = re.compile(rb"(?<![\w.~$}/-])/(?:work|root|home|Users)/[a-z]")
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:8000] and machine.search(data):
            found.append(path.relative_to(ROOT).as_posix())
    assert found == []


def test_no_weights_are_committed() -> None:
    assert [
        path for path in tracked() if path.suffix in {".onnx", ".pt", ".pth", ".safetensors", ".npz"}
    ] == []
