"""``deploycc.build``: the straight line, and that a failed build leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import deploycc
from deploycc.build import resolve_request
from deploycc.diagnostics import render
from deploycc.packaging.manifest import _REQUIRED as REQUIRED
from deploycc.packaging.manifest import FORMAT
from deploycc.request import reproduce_command, request_from_json, request_to_json
from deploycc.targets import load_target, target_names
from deploycc.types import DeployccError, Limits
from tests.models import BREAKS_THE_PLANNER, write_small_net

STAGES = ["import", "simplify", "lint", "lower", "layout", "schedule", "plan", "golden", "package"]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_net(tmp_path_factory.mktemp("net") / "small.onnx")


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(DeployccError) as caught:
        call()
    return "\n".join(render(d) for d in caught.value.diagnostics)


def test_a_build_gives_a_package_and_tells_of_its_stages(net: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    dumps = tmp_path / "dumps"
    package = deploycc.build(
        net, "x86-64", tmp_path / "new" / "out", name="small", dump_dir=dumps, on_event=events.append
    )
    assert package.path == tmp_path / "new" / "out"
    assert (package.path / "lib" / "libsmall.so").is_file()
    assert json.loads((package.path / "share/small/manifest.json").read_text()) == package.manifest
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert [e["name"] for e in events if e["event"] == "stage" and e["state"] == "end"] == STAGES
    assert all(e["seconds"] >= 0 for e in events if e.get("state") == "end")
    assert sorted(path.name for path in dumps.iterdir()) == [
        "10-import.onnx",
        "20-simplify.onnx",
        "30-lint.txt",
        "40-lower.py",
        "45-layout.py",
        "50-schedule.py",
        "60-plan.o",
        "60-plan.txt",
        "70-golden.txt",
        "80-package.txt",
        "kernels",
    ]
    assert all(path.stat().st_size for path in dumps.rglob("*"))
    kernels = sorted(path.name for path in (dumps / "kernels").iterdir())
    assert {name.partition(".")[2] for name in kernels} == {"before.py", "after.py", "ll", "s"}
    symbols = {call["symbol"] for call in package.manifest["calls"]}
    assert len(kernels) == 4 * len(symbols)
    assert {f"deploycc_k{name.partition('.')[0].replace('-', '_', 1)}" for name in kernels} == symbols
    umask = os.umask(0)
    os.umask(umask)
    assert package.path.stat().st_mode & 0o777 == 0o777 & ~umask


def test_two_builds_in_different_folders_are_the_same_bytes(net: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copy(net, other / "small.onnx")
    (tmp_path / "a").mkdir()  # an empty folder is there already
    first = deploycc.build(net, "arm64", tmp_path / "a").path
    second = deploycc.build(other / "small.onnx", "arm64", other / "b").path
    files = {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert files == {
        path.relative_to(second): path.read_bytes() for path in second.rglob("*") if path.is_file()
    }


def test_what_an_export_noted_reaches_no_package(net: Path, tmp_path: Path) -> None:
    """Paths of somebody's machine are in it; reports alone read it."""
    proto = onnx.load(net)
    marks = [f"marker{i}" for i in range(4)]
    for mark, holder in zip(marks, (proto, proto.graph, *proto.graph.node), strict=True):
        trace = f'File "/{mark}/net.py", line 7, in forward'
        holder.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    onnx.save(proto, tmp_path / "noted.onnx")
    package = deploycc.build(tmp_path / "noted.onnx", "x86-64", tmp_path / "out", keep_kernels=True)
    texts = {str(path): path.read_bytes() for path in package.path.rglob("*") if path.is_file()}
    for path in package.path.rglob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            texts |= {f"{path}/{name}": archive.read(name) for name in archive.namelist()}
    assert any(name.endswith(".ll") for name in texts)
    assert [(name, mark) for name, data in texts.items() for mark in marks if mark.encode() in data] == []


def test_an_older_package_is_replaced_and_kept_when_the_build_fails(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    older = tmp_path / "small-arm64"
    (older / "share" / "old").mkdir(parents=True)
    manifest = {key: kind() for key, kind in REQUIRED.items()} | {"format": FORMAT, "name": "old"}
    (older / "share" / "old" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DeployccError):
        deploycc.build(net, "arm64", shapes={"x": (1, 3, 14, 16)})
    assert (older / "share" / "old").exists()
    assert deploycc.build(net, "arm64").path == older
    assert not (older / "share" / "old").exists()
    assert (older / "share" / "small" / "manifest.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["small-arm64"]


def test_dc753_anything_else_is_not_replaced(net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    text = refused(lambda: deploycc.build(net, "arm64", folder))
    assert "error[DC753]" in text
    assert "precious is already there and will not be replaced" in text
    assert "got:  a folder that is no package" in text
    text = refused(lambda: deploycc.build(net, "arm64", folder / "thesis.txt"))
    assert "got:  a file or a link" in text
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_dc731_output_that_cannot_be_made(net: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = refused(lambda: deploycc.build(net, "arm64", tmp_path / "file" / "out"))
    assert "error[DC731]" in text
    assert "the output folder" in text
    assert "Not a directory" in text
    text = refused(lambda: deploycc.build(net, "arm64", tmp_path / "out", dump_dir=tmp_path / "file"))
    assert "the dump folder" in text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_refused_model_leaves_nothing_not_even_new_parents(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(DeployccError):
        deploycc.build(tmp_path / "broken.onnx", "arm64", tmp_path / "a" / "b" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


def test_name_and_target_are_refused_together(net: Path) -> None:
    text = refused(lambda: deploycc.build(net, "arm65", name="3d-net"))
    assert "error[DC704]" in text
    assert "error[DC500]" in text


def test_a_name_is_made_from_the_file_name() -> None:
    request = resolve_request("nets/ch_PP-OCRv4_det_infer.onnx", "rpi4")
    assert request.name == "ch_PP_OCRv4_det_infer"
    assert request.output == Path.cwd() / "ch_PP_OCRv4_det_infer-rpi4"
    assert resolve_request("nets/2nd.onnx", "rpi4", name="mine").name == "mine"


@pytest.mark.parametrize("name", target_names())
def test_a_request_survives_the_way_into_the_child(name: str, tmp_path: Path) -> None:
    request = resolve_request(
        "a.onnx",
        load_target(name),
        shapes={"x": (1, 2)},
        dump_dir="d",
        seed=7,
        schedule_dirs=[tmp_path],
        limits=Limits(stage_seconds=3.5),
    )
    assert request_from_json(json.loads(json.dumps(request_to_json(request)))) == request


def bad_schedule(folder: Path, text: str) -> Path:
    """A folder whose only schedule does what ``text`` says as soon as it is loaded."""
    folder.mkdir()
    (folder / "bad.py").write_text(text)
    return folder


def test_dc755_a_stage_that_hangs(net: Path, tmp_path: Path) -> None:
    folder = bad_schedule(tmp_path / "bad", "import time\ntime.sleep(60)\n")
    out = tmp_path / "out"
    limits = Limits(stage_seconds=10.0)
    text = refused(lambda: deploycc.build(net, "arm64", out, schedule_dirs=[folder], limits=limits))
    assert "error[DC755]: the stage 'layout' was stopped: no result after 10 s" in text
    assert "--stage-seconds" in text
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_dc756_a_stage_that_eats_memory(net: Path, tmp_path: Path) -> None:
    program = "import time\nhoard = []\nwhile True:\n    hoard.append(b'x' * (32 << 20)); time.sleep(0.01)\n"
    folder = bad_schedule(tmp_path / "bad", program)
    limits = Limits(memory_bytes=1 << 30)
    text = refused(
        lambda: deploycc.build(net, "arm64", tmp_path / "out", schedule_dirs=[folder], limits=limits)
    )
    assert "error[DC756]: the stage 'layout' was stopped" in text
    assert "the limit is 1024 MiB" in text
    assert "--memory-mib" in text


def test_dc757_a_stage_that_crashes(net: Path, tmp_path: Path) -> None:
    folder = bad_schedule(tmp_path / "bad", "import os\nos.abort()\n")
    with pytest.raises(deploycc.InternalError) as caught:
        deploycc.build(net, "arm64", tmp_path / "out", schedule_dirs=[folder])
    text = render(caught.value.diagnostic)
    assert "error[DC757]: the stage 'layout' failed: the child process was killed by SIGABRT" in text
    assert f"to reproduce it: deploycc build {net} --target arm64" in text
    assert caught.value.stage == "layout"
    assert "bad.py" in caught.value.details
    assert not (tmp_path / "out").exists()


def test_dc758_an_exception_of_our_own(net: Path, tmp_path: Path) -> None:
    folder = bad_schedule(tmp_path / "bad", BREAKS_THE_PLANNER)
    with pytest.raises(deploycc.InternalError) as caught:
        deploycc.build(net, "arm64", tmp_path / "out", schedule_dirs=[folder])
    text = render(caught.value.diagnostic)
    assert "error[DC758]: the stage 'plan' failed: KeyError: 'lost'" in text
    assert "help: this is a fault of deploycc; to reproduce it: deploycc build" in text
    assert "in broken" in caught.value.details
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_the_command_to_reproduce_says_everything(tmp_path: Path) -> None:
    request = resolve_request(
        tmp_path / "my net.onnx",
        "rpi4",
        name="n",
        shapes={"x": (1, 3), "y": (2,)},
        emit="static",
        runtime="shared",
        shipped_records=False,
    )
    assert reproduce_command(request, "./r pi.toml") == (
        f"deploycc build '{tmp_path}/my net.onnx' --target './r pi.toml' --name n --shape x=1x3 --shape y=2"
        " --emit static --runtime shared --no-shipped-records --dump-dir dump -v"
    )


def test_dc730_a_full_disk(net: Path, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    if (
        unshare is None
        or subprocess.run([unshare, *options, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("cannot mount a small disk here (needs unshare and mount)")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=48k tmpfs {disk} || exit 99; "
        f"{sys.executable} -m deploycc build {net} --target arm64 -o {disk}/out; "
        f"code=$?; ls -A {disk}; exit $code"
    )
    done = subprocess.run(
        [unshare, *options, "sh", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode == 99:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert "error[DC730]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
