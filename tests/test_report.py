"""``deploycc report``: from a package and files of measurements to a page, or to a refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import deploycc
from deploycc.facts import FILE, facts_from_json, records_of
from deploycc.records import append
from deploycc.report import PAGE, report
from deploycc.reporting.html.package_page import render_package
from deploycc.reporting.package_summary import summary_text
from deploycc.result_types import Profile
from deploycc.types import DeployccError
from tests.models import write_small_net
from tests.reporting import packages
from tests.reporting.browsing import open_page


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_small_net(folder / "small.onnx")
    return deploycc.build(folder / "small.onnx", "x86-64", folder / "small").path


def codes(package: Path, output: Path, **given: object) -> list[str]:
    with pytest.raises(DeployccError) as caught:
        report(package, output, measure=False, **given)  # type: ignore[arg-type]
    assert not output.exists()
    return [d.code for d in caught.value.diagnostics]


def test_a_build_writes_the_page_that_the_package_alone_gives(package: Path, tmp_path: Path) -> None:
    share = package / "share" / "small"
    result = report(package, tmp_path / "page.html", measure=False)
    assert {f"share/small/{PAGE}", f"share/small/{FILE}"} <= set(result.manifest["files"])
    # Only what the manifest lists in the end, the other files' bytes, is not on the build's own page.
    without_files = replace(result, manifest={**result.manifest, "files": {}})
    assert render_package(without_files) == (share / PAGE).read_text(encoding="utf-8")
    told = facts_from_json((share / FILE).read_bytes())
    assert [node.op for node in told.read]
    assert told.choices
    assert result.library.soname == "libsmall.so"
    for file in (PAGE, FILE):
        assert str(package.parent).encode() not in (share / file).read_bytes()


def test_it_opens(package: Path, tmp_path: Path) -> None:
    report(package, tmp_path / "page.html", measure=False)
    opened = open_page(tmp_path / "page.html")
    assert opened.console == ()
    assert "slowest layer" in opened.document


def test_measurements_from_files(package: Path, tmp_path: Path) -> None:
    plain = report(package, tmp_path / "page.html", measure=False)
    layers = tuple(replace(layer, time_us=5.0, share=1 / len(plain.layers)) for layer in plain.layers)
    profile = Profile("small", "here", 1, 9, "observer", 10.0, 10.0, None, layers)
    difference = packages.measured().verification
    assert difference is not None
    output = plain.manifest["outputs"][0]["name"]
    verification = replace(difference, outputs=(replace(difference.outputs[0], tensor=output),))
    for name, value in (("p", profile), ("v", verification), ("b", packages.measured().benchmark)):
        (tmp_path / f"{name}.json").write_text(json.dumps(asdict(value)), encoding="utf-8")  # type: ignore[call-overload]
    result = report(
        package,
        tmp_path / "page.html",
        profile=tmp_path / "p.json",
        verification=tmp_path / "v.json",
        benchmark=tmp_path / "b.json",
        measure=False,
    )
    assert result.profile == profile
    assert result.verification == verification
    assert "faster than onnxruntime" in summary_text(result)
    assert "5 µs" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_may_not_change_the_package(package: Path) -> None:
    output = package / "share" / "small" / "other.html"
    assert codes(package, output) == ["DC851"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"package": 3}', "\0", "[" * 100_000, '{"whole_us": 1e999}'], ids=repr
)
def test_files_that_are_no_measurements(package: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text, encoding="utf-8")
    for what in ("profile", "verification", "benchmark"):
        assert codes(package, tmp_path / "page.html", **{what: tmp_path / "p.json"}) == ["DC852"]
    assert codes(package, tmp_path / "page.html", profile=tmp_path / "none.json") == ["DC852"]


def test_measurements_that_cannot_be(package: Path, tmp_path: Path) -> None:
    profile = packages.measured().profile
    assert profile is not None
    wrong = [
        (replace(profile, whole_us=-1.0), "DC852"),
        (replace(profile, whole_us=float("nan")), "DC852"),
        (replace(profile, ceilings=replace(profile.ceilings, gbs=0.0)), "DC852"),  # type: ignore[type-var]
        (profile, "DC853"),
    ]
    for value, code in wrong:
        (tmp_path / "p.json").write_text(json.dumps(asdict(value)), encoding="utf-8")
        assert codes(package, tmp_path / "page.html", profile=tmp_path / "p.json") == [code]
    verification = packages.measured().verification
    assert verification is not None
    strange = replace(verification, outputs=(replace(verification.outputs[0], tensor="strange"),))
    (tmp_path / "v.json").write_text(json.dumps(asdict(strange)), encoding="utf-8")
    assert codes(package, tmp_path / "page.html", verification=tmp_path / "v.json") == ["DC853"]


def test_a_broken_build_file(package: Path, tmp_path: Path) -> None:
    """Its hash is right, so the build itself wrote nonsense, or somebody edited both."""
    copy = tmp_path / "copy"
    shutil.copytree(package, copy, symlinks=True)
    (copy / "share" / "small" / FILE).write_text("{}", encoding="utf-8")
    assert codes(copy, tmp_path / "page.html") == ["DC703"]
    path = copy / "share" / "small" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["files"][f"share/small/{FILE}"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert codes(copy, tmp_path / "page.html") == ["DC850"]


def test_databases_of_tuning(package: Path, tmp_path: Path) -> None:
    plain = report(package, tmp_path / "page.html", measure=False)
    operator = next(call["operator"] for call in plain.manifest["calls"] if "operator" in call)
    assert plain.facts is not None
    made = [
        replace(packages.record(1e-6 * n, {"n": n}), operator=operator, code=plain.facts.code, when=str(n))
        for n in range(9, 2, -1)
    ]
    append(tmp_path / "db.jsonl", [*made, replace(made[0], code="another processor")])
    result = report(package, tmp_path / "page.html", records=[tmp_path / "db.jsonl"], measure=False)
    assert [record.knobs["n"] for record in result.records] == [3, 4, 5, 6, 7, 8, 9]
    assert "The line is the best so far" in (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").unlink()
    assert codes(package, tmp_path / "page.html", records=[tmp_path / "none.jsonl"]) == ["DC601"]


def test_of_many_candidates_the_curve_stays() -> None:
    """The best so far is the same at the end, and wherever it fell."""
    values = [100.0 - (i if i % 10 == 0 else -i) for i in range(300)]
    found = [packages.record(value, {"n": i}, when=f"{i:04}") for i, value in enumerate(values)]
    kept = records_of(found, {packages.CONV}, "aarch64")
    assert len(kept) == 64
    falls = {i for i in range(300) if values[i] < min(values[:i], default=1e9)}
    assert falls <= {record.knobs["n"] for record in kept}


@pytest.mark.slow
def test_a_real_network(network: Callable[[str], Path], tmp_path: Path) -> None:
    """PP-OCR detection, the largest of the public networks' pages: small, complete, and without errors."""
    path = deploycc.build(
        network("ppocrv4_det"), "x86-64", tmp_path / "det", shapes={"x": (1, 3, 640, 640)}
    ).path
    result = report(path, tmp_path / "page.html", measure=False)
    share = path / "share" / result.manifest["name"]
    assert (share / PAGE).stat().st_size < 3 << 20
    assert (share / FILE).stat().st_size < 300 << 10
    opened = open_page(tmp_path / "page.html")
    assert opened.console == ()
    assert result.facts is not None
    nodes = opened.document.count('class="n ')
    assert nodes >= len(result.facts.read) + len(result.manifest["calls"]) > 400
    first = summary_text(result)
    for told in ("slowest layer: step", "why: ", "peak memory: ", "made up of", "worst error: "):
        assert told in first
