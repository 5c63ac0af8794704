"""Packages for several shapes: their C and C++ interfaces, manifests, and what looks at them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from deploycc.cli.program import program
from deploycc.packaging import inspect
from deploycc.packaging import package as write_package
from deploycc.packaging.interface import API_FUNCTIONS, VARIANT_FUNCTIONS
from deploycc.packaging.manifest import sha256_of
from deploycc.running import open_package, variants_of
from deploycc.types import DeployccError, Limits
from deploycc.verify import verify, verify_staged
from tests.packaging import plans
from tests.packaging.conftest import STRICT, run, tool
from tests.variants import several

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return several.write(tmp_path_factory.mktemp("several") / "several")


@pytest.mark.parametrize("checks", [[], ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]])
def test_from_c(package: Path, tmp_path: Path, checks: list[str]) -> None:
    program_ = tmp_path / "use"
    command = [tool("gcc"), "-std=c11", "-D_POSIX_C_SOURCE=200809L", *STRICT, *checks, f"-I{package}/include"]
    run([*command, HERE / "use.c", f"-L{package}/lib", "-lseveral", "-o", program_])
    run([program_], env={"LD_LIBRARY_PATH": f"{package}/lib"})


def test_from_cpp(package: Path, tmp_path: Path) -> None:
    program_ = tmp_path / "use"
    strict = [*STRICT, "-Wshadow", "-Wconversion", "-Wold-style-cast"]
    command = [tool("g++"), "-std=c++17", *strict, f"-I{package}/include", HERE / "use.cpp"]
    run([*command, f"-L{package}/lib", "-lseveral", "-o", program_])
    run([program_], env={"LD_LIBRARY_PATH": f"{package}/lib"})


def test_manifest(package: Path) -> None:
    manifest = inspect(package)
    names = sorted((*API_FUNCTIONS, *VARIANT_FUNCTIONS))
    assert manifest["interface"]["symbols"] == [f"several_{name}" for name in names]
    assert [one["inputs"][0]["shape"] for one in manifest["variants"]] == [[1, 3], [2, 3], [7, 3]]
    assert [one["memory"]["arena_bytes"] for one in manifest["variants"]] == [64, 64, 128]
    assert manifest["memory"]["arena_bytes"] == 128
    assert manifest["inputs"] == manifest["variants"][0]["inputs"]
    # One copy of the weights, however many read it.
    assert (package / "lib" / "libseveral.so").read_bytes().count(several.WEIGHTS.tobytes()) == 1


def test_each_variant_is_a_package_of_its_own_to_look_at(package: Path) -> None:
    assert [one.variant for one in variants_of(package)] == [0, 1, 2]
    assert [one.variant for one in variants_of(f"{package}@1")] == [1]
    third = open_package(f"{package}@2")
    assert third.golden("inputs")[0].shape == (7, 3)
    assert "variants" not in third.manifest
    for number in range(3):
        assert verify(f"{package}@{number}").ok
    generator = np.random.default_rng(5)
    x, offset = generator.random((7, 3), np.float32), generator.random(3, np.float32)
    measured = third.golden("outputs")
    assert np.array_equal(measured[0], several.expected(*third.golden("inputs")))
    with pytest.raises(DeployccError, match="DC814"):  # no reference for these, but they fit
        verify(f"{package}@2", inputs=[x, offset])
    with pytest.raises(DeployccError, match="DC813"):
        verify(f"{package}@1", inputs=[x, offset])


@pytest.mark.parametrize(
    "variants", [None, {}, [], [1], [{"calls": []}], "all", [{"calls": 1, "golden": {}, "inputs": []}]]
)
def test_a_manifest_with_broken_variants(package: Path, tmp_path: Path, variants: object) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(package, broken, symlinks=True)
    path = broken / "share" / "several" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "variants": variants}))
    with pytest.raises(DeployccError, match="DC701") as caught:
        inspect(broken)
    assert caught.value.diagnostics[0].got == '"variants" is no list of tables for each variant'


@pytest.mark.parametrize("number", [3, 12])
def test_a_variant_that_is_not_there(package: Path, number: int) -> None:
    with pytest.raises(DeployccError) as caught:
        open_package(f"{package}@{number}")
    found = caught.value.diagnostics[0]
    assert (found.code, found.got, found.need) == ("DC244", f"@{number}", "a number from 0 to 2")


def test_a_package_of_one_shape_has_no_variants(tmp_path: Path) -> None:
    named = tmp_path / "package@1"  # a folder may be called so
    named.mkdir()
    shape = several.SHAPES[0]
    whole, golden = several.plan_of(plans.X86_64, shape), several.golden_of(shape)
    built = write_package(whole, plans.make_request(plans.X86_64), plans.make_model(), golden, named)
    assert "variants" not in built.manifest
    assert "variant" not in (named / "include" / "tiny.h").read_text()
    assert open_package(named).variant is None
    assert open_package(f"{named}@0").manifest == open_package(named).manifest
    with pytest.raises(DeployccError, match="has no variant 1"):
        open_package(f"{named}@1")


def test_verify_looks_at_every_variant(package: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["verify", str(package), "--json", str(tmp_path / "all.json")])
    assert result.exit_code == 0, result.output
    assert [f"several@{number} on" in result.output for number in range(4)] == [True, True, True, False]
    assert [one["package"] for one in json.loads((tmp_path / "all.json").read_text())] == [
        "several@0",
        "several@1",
        "several@2",
    ]


def test_a_wrong_variant_is_found(package: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(package, broken, symlinks=True)
    name = "share/several/golden/variant_2/output_0.bin"
    values = np.fromfile(broken / name, np.float32)
    values[4] += 1
    (broken / name).write_bytes(values.tobytes())
    manifest = json.loads((broken / "share/several/manifest.json").read_text())
    manifest["files"][name]["sha256"] = sha256_of(broken / name)
    (broken / "share/several/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DeployccError, match=r"DC810: output 'y' of several@2 is not"):
        verify_staged(broken, Limits())


def test_inspect_lists_the_variants(package: Path) -> None:
    result = CliRunner().invoke(program, ["inspect", str(package)])
    assert "variant 2, inputs x=7x3, offset=3, outputs y=7x3, arena bytes 128, steps 2" in result.output
    one = CliRunner().invoke(program, ["inspect", f"{package}@1", "--json"])
    assert json.loads(one.output)["outputs"][0]["shape"] == [2, 3]


@pytest.mark.slow
def test_for_arm64_under_qemu(tmp_path: Path) -> None:
    tool("qemu-aarch64-static")
    package = several.write(tmp_path / "arm", plans.ARM64_MUSL, emit="static")
    for number in range(3):
        assert verify(f"{package}@{number}").ok


def test_built_by_the_apps_own_toolchain(tmp_path: Path) -> None:
    package = several.write(tmp_path / "sources", plans.UNLINKED)
    run([tool("cmake"), "-S", package / "example", "-B", tmp_path / "build"])
    run([tool("cmake"), "--build", tmp_path / "build"])
    assert "y: max error 0, " in run([tmp_path / "build" / "several_example"]).stdout


def test_the_arena_and_variants_together(tmp_path: Path) -> None:
    package = several.write(tmp_path / "shared", runtime="shared")
    source = tmp_path / "app.cpp"
    source.write_text(
        "#include <several.hpp>\n"
        "int main() {\n"
        "    several::Arena arena(several::memory_bytes(several::Options{}));\n"
        "    several::Options options;\n"
        "    options.arena = arena.get();\n"
        "    several::Model model(options);\n"
        "    std::vector<float> x(21, 1.0F), offset(3, 1.0F), y(21);\n"
        "    model.select(2);\n"
        "    several::Inputs inputs{x, offset};\n"
        "    several::Outputs outputs{y};\n"
        "    model.run(inputs, outputs);\n"
        "    return y[20] == 4.25F ? 0 : 1;\n"
        "}\n"
    )
    command = [tool("g++"), "-std=c++17", *STRICT, f"-I{package}/include", source, f"-L{package}/lib"]
    run([*command, "-lseveral", "-ldeploycc_rt", "-o", tmp_path / "app"])
    run([tmp_path / "app"], env={"LD_LIBRARY_PATH": f"{package}/lib"})
