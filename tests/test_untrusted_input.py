"""A model is somebody else's file: nothing runs, unpickles or hands to a shell what is in one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for folder in ("deploycc", "schedules") for path in (ROOT / folder).rglob("*.py"))

RUNNERS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "yaml.load", "torch.load", "tempfile.mktemp", "os.execl", "os.spawnl"),
    *("asyncio.create_subprocess_shell", "pty.spawn", "code.interact", "input"),
}
EXEMPT = {
    # A session's workers keep what they compiled in a folder of their session that is the user's alone.
    "deploycc/tuning/worker.py": ["imports pickle"],
}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an expression that is names and dots, else nothing."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def faults(source: str) -> Iterator[str]:
    """What of that a source does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in UNPICKLERS)
        if not isinstance(node, ast.Call):
            continue
        name, given = dotted(node.func), {word.arg: word.value for word in node.keywords}
        if name in RUNNERS:
            yield f"calls {name}"
        shell = given.get("shell")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            yield f"{name} with a shell"
        if name in ("np.load", "numpy.load"):
            pickles = given.get("allow_pickle")
            if not (isinstance(pickles, ast.Constant) and pickles.value is False):
                yield "np.load without allow_pickle=False"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = eval(text)", "calls eval"),
        ("exec(text, {})", "calls exec"),
        ("import pickle", "imports pickle"),
        ("from pickle import loads", "imports pickle"),
        ("import os\nos.system(f'cp {name}')", "calls os.system"),
        ("subprocess.run(line, shell=True)", "subprocess.run with a shell"),
        ("subprocess.run(line, shell=wanted)", "subprocess.run with a shell"),
        ("np.load(path)", "np.load without allow_pickle=False"),
        ("np.load(path, allow_pickle=True)", "np.load without allow_pickle=False"),
        ("yaml.load(text)", "calls yaml.load"),
    ],
)
def test_what_is_looked_for_is_found(source: str, found: str) -> None:
    assert list(faults(source)) == [found]


def test_what_is_allowed_is_not_found() -> None:
    allowed = "np.load(p, allow_pickle=False)\nsubprocess.run([x], shell=False)\nre.compile(x)\nmodel.eval()"
    assert list(faults(allowed)) == []


def test_no_source_runs_what_is_in_a_model() -> None:
    assert len(SOURCES) > 200
    found = {
        path.relative_to(ROOT).as_posix(): kinds
        for path in SOURCES
        if (kinds := sorted(set(faults(path.read_text(encoding="utf-8")))))
    }
    assert found == EXEMPT
