"""``deploycc build pipeline.json``: all CPU parts of a split network, built in one go.

The folder that ``deploycc split`` wrote is read (``splitting/reading.py``), each part that runs on the CPU
built for the target asked for, with one runtime and one arena for all of them, and the program that calls the
parts in order written anew.  Parts for other compilers are handed on as ``split`` made them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploycc.build import build, check_target
from deploycc.lint_targets import is_external
from deploycc.packaging.manifest import files_of
from deploycc.result_types import TensorDifference
from deploycc.split import is_split
from deploycc.staging import staging
from deploycc.types import DeployccError, Diagnostic, Limits, Package, Target

if TYPE_CHECKING:
    from deploycc.splitting.parts import Part
    from deploycc.splitting.pipeline import Pipeline

Event = dict[str, Any]


@dataclass(frozen=True)
class BuiltPipeline:
    """A finished folder: its path, its parsed ``pipeline.json``, the packages in the order of their parts."""

    path: Path
    pipeline: Mapping[str, Any]
    packages: tuple[Package, ...]
    parts: tuple[tuple[str, str], ...]
    """For each part where it runs, and its package or the class that the app implements."""
    diagnostics: tuple[Diagnostic, ...] = ()


def build_pipeline(
    path: str | Path,
    target: str | Path | Target = "host",
    output: str | Path | None = None,
    *,
    seed: int = 0,
    limits: Limits | None = None,
    verify: bool = False,
    schedule_dirs: Sequence[str | Path] = (),
    records: Sequence[str | Path] = (),
    shipped_records: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> BuiltPipeline:
    """Build every CPU part of the network that ``path`` (a ``pipeline.json``) describes, for ``target``.

    ``output`` is ``./NAME-TARGET-pipeline`` unless given; an older one there is replaced, anything else is
    refused.  With ``verify`` the packages then compute what the recorded run of the whole network in ONNX
    Runtime has behind them, given the records of the parts that run elsewhere, and are compared with it.

    Raises ``DeployccError``: DC766 for a file that cannot be used, DC767 for a part that is not what the
    file says, DC768 for a target or folder that this is not for, DC769 where ``verify`` finds another result,
    and what building a part raises.  Nothing is left behind then.
    """
    # They load ONNX, which an import of deploycc should not.
    from deploycc.splitting.generate_app import cmake, main
    from deploycc.splitting.generate_c_front import c_header, c_source, has_c_front
    from deploycc.splitting.generate_header import header
    from deploycc.splitting.generate_source import source
    from deploycc.splitting.pipeline import interface_name
    from deploycc.splitting.reading import read_pipeline

    file = Path(path).absolute()
    if not isinstance(target, Target) and is_external(str(target)):
        raise DeployccError(
            Diagnostic(
                "DC768",
                "a pipeline is built for the machine whose CPU runs its parts",
                got=f"--target {target}, another compiler's",
                need="a target that packages are built for",
                help="'deploycc split' has made what that compiler needs: handover/ beside pipeline.json",
            )
        )
    compiled = check_target(target)
    if compiled.linker.toolchain == "none":
        raise DeployccError(
            Diagnostic(
                "DC768",
                f"a pipeline cannot be built in one go for {compiled.name}",
                got="a target whose libraries the app's own toolchain builds",
                need="a target with a linker, since the parts share a runtime library",
                help="build each part as a package: deploycc build parts/NN-cpu.onnx",
            )
        )
    pipeline, table = read_pipeline(file, compiled.name)
    place = Path(output or f"{pipeline.name}-{compiled.name}-pipeline").absolute()
    if place == file.parent:
        raise DeployccError(
            Diagnostic(
                "DC768",
                f"{place} is where the parts are read from",
                need="another folder to write to",
                help="choose another with -o",
            )
        )
    with staging(place, is_split, "split network") as aside:
        folder = aside.folder
        _copy(pipeline, file.parent, folder)
        packages = tuple(
            build(
                folder / "parts" / f"{part.stem}.onnx",
                compiled,
                folder / "packages" / pipeline.packages[part.number].name,
                name=pipeline.packages[part.number].name,
                runtime="shared",
                seed=seed,
                limits=limits,
                schedule_dirs=schedule_dirs,
                records=records,
                shipped_records=shipped_records,
                verify=verify,
                on_event=on_event,
            )
            for part in cpu_parts(pipeline)
        )
        for part, package in zip(cpu_parts(pipeline), packages, strict=True):
            _check_part(pipeline, part, package)
        texts = {
            "pipeline.hpp": header(pipeline),
            "pipeline.cpp": source(pipeline, shared=True),
            "CMakeLists.txt": cmake(pipeline),
            "main.cpp": main(pipeline),
        }
        if has_c_front(pipeline):
            texts |= {
                "pipeline.h": c_header(pipeline),
                "pipeline_c.cpp": c_source(pipeline),
                "CMakeLists.txt": cmake(pipeline, ("pipeline.cpp", "pipeline_c.cpp")),
            }
        for title, text in texts.items():
            (folder / title).write_text(text, encoding="ascii")
        if verify:
            _verify(pipeline, folder, limits or Limits())
        parts = tuple(
            (compiled.name, f"packages/{pipeline.packages[part.number].name}")
            if part.place == "cpu"
            else (pipeline.target if part.place == "accelerator" else "the app", interface_name(part))
            for part in pipeline.cut.parts
        )
        table = {**table, "cpu_target": compiled.name, "built": _built(packages, compiled)}
        table["built"]["files"] = files_of(folder)
        text = json.dumps(table, indent=1, ensure_ascii=True) + "\n"
        (folder / "pipeline.json").write_text(text, encoding="ascii")
        aside.commit()
    notes = tuple(note for package in packages for note in package.diagnostics)
    return BuiltPipeline(place, table, packages, parts, notes)


def cpu_parts(pipeline: Pipeline) -> tuple[Part, ...]:
    """The parts that become packages."""
    return tuple(part for part in pipeline.cut.parts if part.place == "cpu")


def _built(packages: Sequence[Package], target: Target) -> dict[str, Any]:
    """What is written of the build: bytes of memory of the largest part, which all share, and of weights."""
    memory = [package.manifest["memory"] for package in packages]
    return {
        "target": target.name,
        "runtime": "shared",
        "arena_bytes": max((one["arena_bytes"] for one in memory), default=0),
        "arena_bytes_apart": sum(one["arena_bytes"] for one in memory),
        "weight_bytes": sum(one["weight_bytes"] for one in memory),
        "packages": [package.manifest["name"] for package in packages],
    }


def _copy(pipeline: Pipeline, source_folder: Path, folder: Path) -> None:
    """The parts, what is handed on, and the records; nothing else of the folder, and no links."""
    from deploycc.splitting.generate_app import recorded_file
    from deploycc.splitting.pipeline import GOLDEN
    from deploycc.splitting.reading import inside

    wanted = [f"parts/{part.stem}.onnx" for part in pipeline.cut.parts]
    for name, tensor in pipeline.cut.tensors.items():
        for exact in (True, False):
            stem = f"{GOLDEN}/{recorded_file(pipeline, name, exact=exact)}"
            endings = (".bin", ".shape") if exact and tensor.kind != "static" else (".bin",)
            if (exact and (tensor.kind == "static" or pipeline.exact(name))) or (
                not exact and pipeline.padded(name)
            ):
                wanted += [stem + ending for ending in endings]
    for part in pipeline.cut.parts:
        below = source_folder / "handover" / part.stem
        if part.place == "accelerator" and below.is_dir() and not below.is_symlink():
            wanted += [f"handover/{part.stem}/{one.name}" for one in sorted(below.iterdir()) if one.is_file()]
    for name in dict.fromkeys(wanted):
        path = inside(source_folder, name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


def _check_part(pipeline: Pipeline, part: Part, package: Package) -> None:
    """Raise ``DeployccError`` (DC767) unless the package has the tensors that the pipeline gives it."""
    for role, names in (("inputs", part.inputs), ("outputs", part.outputs)):
        needed = [(name, pipeline.tensor(name).dtype, list(pipeline.tensor(name).shape)) for name in names]
        found = [(one["name"], one["dtype"], one["shape"]) for one in package.manifest[role]]
        if needed != found:
            raise DeployccError(
                Diagnostic(
                    "DC767",
                    f"parts/{part.stem}.onnx is not the part that pipeline.json describes",
                    got=f"{role} {_told(found)}",
                    need=_told(needed),
                    help="run 'deploycc split' again, and build its folder as it is",
                )
            )


def _told(tensors: Sequence[tuple[str, str, list[int]]]) -> str:
    return ", ".join(
        f"{name} {dtype} {'x'.join(map(str, shape)) or 'scalar'}" for name, dtype, shape in tensors
    )


def _verify(pipeline: Pipeline, folder: Path, limits: Limits) -> None:
    """Run the packages in order, what the other parts compute from the record; raise DC769 if it is wrong."""
    from deploycc.running import Orders, open_package, place_of, run
    from deploycc.splitting.generate_app import recorded_file
    from deploycc.splitting.pipeline import GOLDEN

    there: dict[str, Any] = {}

    def recorded(name: str) -> Any:
        tensor = pipeline.tensor(name)
        path = folder / GOLDEN / f"{recorded_file(pipeline, name, exact=False)}.bin"
        dtype = np.dtype(tensor.dtype)
        try:
            values = np.fromfile(path, dtype.newbyteorder("<")).astype(dtype, copy=False)
            return values.reshape(tensor.shape)
        except ValueError as error:
            raise DeployccError(
                Diagnostic("DC766", f"{path.name} of {GOLDEN} is no record of '{name}'", got=str(error))
            ) from None

    wrong = []
    for part in cpu_parts(pipeline):
        package = open_package(folder / "packages" / pipeline.packages[part.number].name)
        given = [there[name] if name in there else recorded(name) for name in part.inputs]
        made = run(package, place_of(None, package.manifest), given, Orders(), limits.stage_seconds).outputs
        there |= dict(zip(part.outputs, made, strict=True))
        for name in part.outputs:
            difference = _difference(package.manifest, name, recorded(name), there[name])
            if not difference.ok:
                wrong.append(_wrong(part, difference))
    if wrong:
        raise DeployccError(*wrong)


def _difference(manifest: Mapping[str, Any], name: str, want: Any, got: Any) -> TensorDifference:
    from deploycc.verifying import difference

    tensor = next(one for one in manifest["outputs"] if one["name"] == name)
    return difference(name, want, got, float(tensor.get("tolerance", 0.0)))


def _wrong(part: Part, found: TensorDifference) -> Diagnostic:
    return Diagnostic(
        "DC769",
        f"part {part.number} does not compute '{found.tensor}' as the whole network does in ONNX Runtime",
        tensor=found.tensor,
        got=f"{found.reason}; worst at {list(found.worst_index)}",
        need=f"an error of at most {found.tolerance:.3g} of the largest magnitude",
        help=f"build parts/{part.stem}.onnx alone; 'deploycc verify --bisect' finds the first wrong node",
    )
