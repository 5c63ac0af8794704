"""``deploycc report``: one page of a package, of what its build told and of what was measured.

A build writes the page without measurements into the package (``pages_of``).  ``report`` writes it anew with
what there is: files of earlier measurements, and what it measures itself where the package runs here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from deploycc.facts import FILE, Facts, broken, facts_from_json, facts_to_json, records_of
from deploycc.packaging.elf import ElfError, parse
from deploycc.records import Record, read
from deploycc.reporting.html.package_page import render_package
from deploycc.reporting.package_result import Library, PackageResult
from deploycc.result_types import Benchmark, Profile, Verification, from_json
from deploycc.running import Package, chips_to_run, open_package
from deploycc.text_file import write_text
from deploycc.types import DeployccError, Diagnostic

PAGE = "report.html"
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Measurements:
    """What was measured of a package, and why something was not."""

    verification: Verification | None = None
    profile: Profile | None = None
    unmeasured: Mapping[str, str] | None = None


def pages_of(facts: Facts) -> Callable[[Path, Mapping[str, Any]], Mapping[str, bytes]]:
    """What a build writes beside the manifest, given the folder and it: ``build.json`` and the page."""

    def pages(folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, bytes]:
        told = facts_to_json(facts)
        # In the order that a reader of the file finds, so that the page can be made again to the byte.
        manifest = json.loads(json.dumps(manifest, sort_keys=True))
        result = PackageResult(manifest, facts_from_json(told), library_of(folder, manifest))
        return {FILE: told, PAGE: render_package(result).encode("utf-8", "backslashreplace")}

    return pages


def report(
    package: str | Path,
    output: str | Path = PAGE,
    *,
    profile: str | Path | Profile | None = None,
    verification: str | Path | Verification | None = None,
    benchmark: str | Path | Benchmark | None = None,
    records: Sequence[str | Path] = (),
    measure: bool = True,
) -> PackageResult:
    """Write the page of ``package`` to ``output`` and return what is on it.

    ``profile``, ``verification`` and ``benchmark`` are results, or JSON files of them; what is not given is
    measured on this machine with ``measure``, but for the benchmark.  What cannot be measured here is left
    out, and the page says why.  ``records`` are tuning databases.

    Raises ``DeployccError``: DC700 to DC703 for a package that is none, DC850 to DC853, DC601 and DC602 for
    the files given, DC778 for a page that cannot be written.
    """
    opened = open_package(package)
    root, manifest = opened.path, opened.manifest
    target = Path(output)
    if root.resolve() in target.resolve().parents:
        raise DeployccError(
            Diagnostic(
                "DC851",
                f"{target} lies in the package, whose files must stay as they were built",
                help="choose another with -o",
            )
        )
    facts = read_facts(root, manifest)
    given = Measurements(_given(Verification, verification, manifest), _given(Profile, profile, manifest), {})
    measured = _timed(_measured(opened, given) if measure else given)
    result = PackageResult(
        manifest,
        facts,
        library_of(root, manifest),
        measured.verification,
        measured.profile,
        _given(Benchmark, benchmark, manifest),
        _records(records, manifest, facts),
        measured.unmeasured or {},
    )
    write_text(target, render_package(result))
    return result


def read_facts(root: Path, manifest: Mapping[str, Any]) -> Facts | None:
    """What the build told, ``None`` for a package of a deploycc that did not.  Raises DC850."""
    path = root / "share" / manifest["name"] / FILE
    if not path.is_file():
        return None
    try:
        return facts_from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise broken(path.relative_to(root).as_posix(), str(error)) from None


def library_of(root: Path, manifest: Mapping[str, Any]) -> Library:
    """What the file of the library says; nothing for an archive."""
    try:
        elf = parse((root / manifest["library"]["file"]).read_bytes())
    except (OSError, ElfError):
        return Library()
    return Library(elf.machine, elf.soname, elf.bits)


def _given(kind: type[Kind], source: str | Path | Kind | None, manifest: Mapping[str, Any]) -> Kind | None:
    if source is None:
        return None
    if not isinstance(source, str | Path):
        return source
    path, what = Path(source), kind.__name__.lower()
    try:
        found = from_json(kind, json.loads(path.read_bytes()))
        _check(found)
    except OSError as error:
        raise _no_file(path, what, error.strerror or str(error)) from None
    except KeyError as error:
        raise _no_file(path, what, f"no {error}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _no_file(path, what, str(error)) from None
    other = _other_package(found, manifest)
    if other:
        raise DeployccError(
            Diagnostic("DC853", f"{path} is the {what} of another package", got=other, need=manifest["name"])
        )
    return found


def _check(found: object) -> None:
    """Raise ``ValueError`` for numbers that no measurement gives."""
    if not isinstance(found, Profile):
        return
    numbers = [found.whole_us, found.timed_us]
    numbers += [
        n for layer in found.layers for n in (layer.time_us, layer.low_us, layer.high_us, layer.share)
    ]
    numbers += [n for layer in found.layers for n in (layer.flops, layer.nbytes)]
    if any(not math.isfinite(number) or number < 0 for number in numbers):
        raise ValueError("a time, share or count that is negative or no number")
    ceilings = found.ceilings
    if ceilings is not None and not (0 < ceilings.gflops < math.inf and 0 < ceilings.gbs < math.inf):
        raise ValueError("ceilings that are not above zero")


def _other_package(found: object, manifest: Mapping[str, Any]) -> str:
    """What shows that a result is another package's; empty where nothing does."""
    if isinstance(found, Profile):
        symbols = [call["symbol"] for call in manifest["calls"]]
        for layer in found.layers:
            if not 0 <= layer.step < len(symbols) or symbols[layer.step] != layer.symbol:
                return f"step {layer.step} is {layer.symbol}"
    if isinstance(found, Verification):
        names = {tensor["name"] for tensor in manifest["outputs"]}
        strange = [output.tensor for output in found.outputs if output.tensor not in names]
        return f"an output {strange[0]}" if strange else ""
    return ""


def _no_file(path: Path, what: str, why: str) -> DeployccError:
    return DeployccError(
        Diagnostic("DC852", f"{path} is no {what}", got=why[:200], need=f"JSON as 'deploycc' writes a {what}")
    )


def _records(
    paths: Sequence[str | Path], manifest: Mapping[str, Any], facts: Facts | None
) -> tuple[Record, ...]:
    found: list[Record] = []
    for path in map(Path, paths):
        if not path.is_file():
            message = f"the tuning database {path} cannot be read"
            raise DeployccError(Diagnostic("DC601", message, got="no file"))
        found += read(path)[0]
    operators = {call["operator"] for call in manifest["calls"] if "operator" in call}
    return records_of(found, operators, facts.code if facts is not None else "")


def _measured(opened: Package, given: Measurements) -> Measurements:
    """What was given, and the rest as this machine measures it."""
    from deploycc.profile import profile  # a page without measurements need not load what runs packages
    from deploycc.verify import verify

    missing: dict[str, str] = {}

    def measured(what: str, measure: Callable[[str], Any]) -> Any:
        try:
            return measure(opened.reference)
        except DeployccError as error:
            missing[what] = _reason(error)
        return None

    def verify_one(package: str) -> Verification:
        # Where a GPU's chips are emulated one will do: a page is no test.
        return verify(package, chip=chips_to_run(opened)[0])

    return Measurements(
        given.verification or measured("verification", verify_one),
        given.profile or measured("profile", profile),
        missing,
    )


def _timed(found: Measurements) -> Measurements:
    """Without a profile that nothing was timed for: estimates have no place among times."""
    if found.profile is None or found.profile.method != "estimates":
        return found
    reason = f"nothing was timed: {found.profile.place}"
    return replace(found, profile=None, unmeasured={**(found.unmeasured or {}), "profile": reason})


def _reason(error: DeployccError) -> str:
    first = error.diagnostics[0]
    return f"{first.code}: {first.message}" + (f" ({first.help})" if first.help else "")
