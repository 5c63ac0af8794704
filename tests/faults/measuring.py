"""Thirty faults, and how many of them the search finds: ``make faults``.

A case is a kind of fault, a network and a place, drawn by its seed.  A draw that changes no output of the
network beyond its tolerance is no fault that anybody would search for, and is drawn again.  ``prepare``
builds the wrong packages and finds out by comparing with the sound ones where they go wrong; ``search`` gives
one of them to ``deploycc.bisect`` with nothing but the model.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import onnx

from benchmarks.networks import fetch, networks
from deploycc.bisect import bisect
from deploycc.bisecting import reducing
from deploycc.build import InternalError, build
from deploycc.reference import run
from deploycc.result_types import from_json
from deploycc.running import Orders, open_package, place_of
from deploycc.running import run as run_package
from deploycc.types import DeployccError
from tests.faults.checking import effect, off_by, package_off_by, same_steps, shows
from tests.faults.planting import KINDS, Fault, faulty, planted_in

LEFT_OUT = ("easyocr_recognition_g2",)
"""A build of it takes several times as long as one of the others, and a search needs many."""

SECONDS = 60.0
"""What a search may take."""

MEASURED = tuple(name for name in networks() if name not in LEFT_OUT)

RACE_RUNS, RACES_SHOWN = 5, 3
"""A race counts as a fault where it shows in three of five runs, each in a process of its own."""
RACE_MMACS = 500.0
"""Networks with fewer million multiply-adds are left out for races: two threads hardly meet in them."""


@dataclass(frozen=True)
class Case:
    """A fault that shows: ``step`` is the first wrong one, ``nodes`` its nodes, ``guilty`` those at fault.

    ``redrawn`` counts the draws before it that had no place or changed no output.  ``steps`` may be named:
    that one, or of a race any that the kernel makes.
    """

    seed: int
    network: str
    kind: str
    fault_seed: int
    place: str
    change: str
    what: str
    step: int
    nodes: tuple[str, ...]
    guilty: tuple[str, ...]
    redrawn: int
    steps: tuple[int, ...]

    @property
    def fault(self) -> Fault:
        """As it is planted again in builds of reduced models."""
        return Fault(self.kind, self.fault_seed, self.place, self.change)

    @property
    def threads(self) -> int:
        """What its package is run with."""
        return 2 if self.kind == "race" else 1


@dataclass(frozen=True)
class Answer:
    """What the search said of a case.

    ``right_step``: it named the first wrong step; ``right``: a node at fault as well.  ``reduced``: the model
    it reduced to is wrong by this module's own comparison if the same compiler builds it, and right if the
    sound one does.  ``processor_seconds`` are those of the search and its builds, on all processors: what
    ``seconds`` would be about on a machine with nothing else to do.
    """

    seed: int
    named: str = ""
    step: int = -1
    told: str = ""
    right_step: bool = False
    right: bool = False
    seconds: float = 0.0
    processor_seconds: float = 0.0
    reduced: bool = False
    reduced_nodes: int = 0
    builds: int = 0
    remark: str = ""


def prepare(seed: int, folder: Path, names: Sequence[str]) -> Case:
    """Draw, build and check the case of ``seed`` in ``folder / "NN"``; sound packages are in ``folder``."""
    own = folder / f"{seed:02d}"
    if (own / "case.json").exists():
        return from_json(Case, json.loads((own / "case.json").read_text(encoding="utf-8")))
    kind = KINDS[seed % len(KINDS)]
    order = [n for n in names if kind != "race" or networks()[n].mmacs >= RACE_MMACS]
    Random(f"networks {seed}").shuffle(order)
    for attempt in range(10 * len(order)):
        network = order[attempt % len(order)]
        case = _attempt(Fault(kind, 1000 * seed + attempt), seed, network, attempt, own, folder)
        if case is not None:
            (own / "case.json").write_text(json.dumps(asdict(case), indent=1) + "\n", encoding="utf-8")
            return case
    raise RuntimeError(f"no fault of kind '{kind}' shows in any network")


def _attempt(fault: Fault, seed: int, network: str, attempt: int, own: Path, folder: Path) -> Case | None:
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    sound = _sound(network, folder)
    wrong, record = own / "package", own / "record.jsonl"
    try:
        with faulty(fault, record):
            build(fetch(network), "host", wrong, shapes=networks()[network].inputs, name=network)
    except DeployccError as error:
        if [diagnostic.code for diagnostic in error.diagnostics] != ["DC758"]:
            raise
        return None
    planted = planted_in(record)[-1]
    if not same_steps(open_package(sound).manifest, open_package(wrong).manifest):
        return None  # the schedule could not take the changed kernel: another fault than was meant
    threads = 2 if fault.kind == "race" else 1
    seen = effect(sound, wrong, threads)
    if not seen.shows or not seen.steps or seen.steps[0] not in planted.steps:
        return None
    if fault.kind == "fp16 overflow" and not seen.overflows:
        return None
    if fault.kind == "race":
        runs = [package_off_by(wrong, threads) for _ in range(RACE_RUNS)]
        if sum(shows(one, package_off_by(sound)) for one in runs) < RACES_SHOWN:
            return None
    number = planted.steps.index(seen.steps[0])
    guilty, steps = planted.guilty[number], (seen.steps[0],)
    if fault.kind == "race":  # which of the kernel's steps it strikes first is another one in every run
        guilty, steps = tuple(dict.fromkeys(node for of in planted.guilty for node in of)), planted.steps
    return Case(
        seed=seed,
        network=network,
        kind=fault.kind,
        fault_seed=fault.seed,
        place=planted.place,
        change=planted.change,
        what=planted.what,
        step=seen.steps[0],
        nodes=planted.nodes[number],
        guilty=guilty,
        redrawn=attempt,
        steps=steps,
    )


def _sound(network: str, folder: Path) -> Path:
    package = folder / "sound" / network
    if not package.exists():
        build(fetch(network), "host", package, shapes=networks()[network].inputs, name=network)
    return package


def search(case: Case, folder: Path) -> Answer:
    """Bisect the package of ``case`` with the compiler that has the fault."""
    own = folder / f"{case.seed:02d}"
    reduced = own / "reduced"
    shutil.rmtree(reduced, ignore_errors=True)
    began, used = time.perf_counter(), _processor_seconds()
    with faulty(case.fault, own / "reduced.jsonl"):
        try:
            found = bisect(own / "package", fetch(case.network), output=reduced)
        except (DeployccError, InternalError) as error:
            return Answer(case.seed, seconds=time.perf_counter() - began, remark=str(error)[:300])
        seconds, used = time.perf_counter() - began, _processor_seconds() - used
        wrong = _built_off_by(reduced, own / "again", case.threads)
    still = wrong > 1.0 and shows(wrong, _built_off_by(reduced, own / "again", case.threads))
    suspect, reduction = found.suspect, found.reduction
    remarks = (*found.notes, reduction.reason if reduction else "", suspect.reason if suspect else "")
    return Answer(
        seed=case.seed,
        named=suspect.node if suspect else "",
        step=suspect.step if suspect else -1,
        told=f"{suspect.kind}, {suspect.certainty}" if suspect else "",
        right_step=suspect is not None and suspect.step in case.steps,
        right=suspect is not None and suspect.node in case.guilty,
        seconds=seconds,
        processor_seconds=used,
        reduced=still,
        reduced_nodes=len(reduction.nodes) if reduction else 0,
        builds=reduction.builds if reduction else 0,
        remark="; ".join(filter(None, remarks)),
    )


def _processor_seconds() -> float:
    of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in of)


def _built_off_by(reduced: Path, package: Path, threads: int) -> float:
    """How far the reduced model is off, built by the compiler as it is now; 0 if there is none."""
    model = reduced / "model.onnx"
    if not model.exists():
        return 0.0
    shutil.rmtree(package, ignore_errors=True)
    opened = open_package(build(model, "host", package, name="reduced").path)
    with np.load(reduced / "inputs.npz") as data:
        given = {name: data[name] for name in data.files}
    proto = onnx.load(model)
    want, _ = run(proto, [given[info.name] for info in proto.graph.input])
    expected = dict(zip((info.name for info in proto.graph.output), want, strict=True))
    place = place_of(None, opened.manifest)
    inputs = [given[tensor["name"]] for tensor in opened.manifest["inputs"]]
    names = [tensor["name"] for tensor in opened.manifest["outputs"]]
    runs = [
        run_package(opened, place, inputs, Orders(threads=threads)).outputs
        for _ in range(RACE_RUNS if threads > 1 else 1)
    ]
    return max(off_by([expected[name] for name in names], outputs) for outputs in runs)


def row(case: Case, answer: Answer) -> str:
    """A line of the table."""
    verdict = "right" if answer.right else "right step" if answer.right_step else "WRONG"
    reduced = f"{answer.reduced_nodes} nodes, wrong" if answer.reduced else "NOT SHOWN"
    truth = f"{case.step}:{','.join(case.guilty)}"[-36:]
    named = f"{answer.step}:{answer.named}"[-36:]
    return (
        f"{case.seed:4} {case.network:23} {case.kind:16} {truth:36} {named:36} {verdict:10} "
        f"{answer.seconds:6.1f} s ({answer.processor_seconds:5.1f})  {reduced}, {answer.builds} builds"
    )


def measure(seeds: Iterable[int], folder: Path, names: Sequence[str]) -> list[tuple[Case, Answer]]:
    """Prepare and search the cases of ``seeds``, a line of the table for each."""
    results = []
    for seed in seeds:
        case = prepare(seed, folder, names)
        answer = search(case, folder)
        answered = json.dumps(asdict(answer), indent=1)
        (folder / f"{seed:02d}" / "answer.json").write_text(answered + "\n", encoding="utf-8")
        results.append((case, answer))
        print(row(case, answer), flush=True)
        if not answer.right or not answer.reduced:
            print(f"     planted: {case.what}, step {case.step} of {', '.join(case.nodes)}")
            print(f"     told: {answer.told}; {answer.remark}", flush=True)
    table = [{"case": asdict(case), "answer": asdict(answer)} for case, answer in results]
    (folder / "results.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return results


def main() -> int:
    """Measure the cases of the seeds; exit status 1 where fewer are found than 28 of 30."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.measuring")
    parser.add_argument("--seeds", default="0-29", help="first-last, or numbers with commas")
    parser.add_argument("--folder", type=Path, default=Path(".cache/faults"), help="where cases are kept")
    parser.add_argument("--networks", default=",".join(MEASURED), help="names with commas")
    parser.add_argument(
        "--busy",
        type=float,
        default=1.0,
        help="how many times longer a busy machine takes: more time to search",
    )
    parser.add_argument("--prepare", action="store_true", help="draw and build the cases only")
    given = parser.parse_args()
    names, folder = given.networks.split(","), given.folder.absolute()
    seeds = _numbers(given.seeds)
    if given.prepare:
        for seed in seeds:
            case = prepare(seed, folder, names)
            words = (seed, case.network, case.kind, case.what, case.guilty, f"redrawn {case.redrawn}")
            print(*words, flush=True)
        return 0
    reducing.BUDGET_SECONDS *= given.busy
    results = measure(seeds, folder, names)
    limit = SECONDS * given.busy
    right = sum(answer.right and answer.seconds <= limit for _, answer in results)
    steps = sum(answer.right_step for _, answer in results)
    shown = sum(answer.reduced for _, answer in results)
    slowest = max(answer.seconds for _, answer in results)
    redrawn = sum(case.redrawn for case, _ in results)
    print(
        f"{right} of {len(results)} nodes right within {limit:g} s, {steps} steps right, {shown} reduced "
        f"models still wrong, slowest search {slowest:.1f} s, {redrawn} draws without a visible fault"
    )
    return 0 if 15 * right >= 14 * len(results) else 1


def _numbers(text: str) -> list[int]:
    if "-" in text:
        first, last = map(int, text.split("-"))
        return list(range(first, last + 1))
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
