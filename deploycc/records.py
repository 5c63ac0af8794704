"""Tuning records: what was measured of a schedule and knobs for an operator, kept in a database.

A database is a text file with one JSON object a line, only ever appended to.  Several tuners may append
at once (each write takes the file's lock), two files can be merged by appending one to the other, and a
line that was torn by a crash is passed over.  What decides whether a record counts:

- ``operator`` and ``code`` (what the compiler is told of the target; of a GPU the chip and the precision)
  must be equal; records of the same ``cache`` sizes come first, those of the nearest other sizes where there
  are none;
- ``tvm`` and ``version`` (the schedule file's) must be those that are there now.

A *level* says how a record was measured: 0 in the first screening, 1 again with more runs, 2 in a final
head-to-head with the static choice.  Levels are not compared: the best record is the fastest one of the
highest level there is.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from deploycc.operators import Conv2d, MatMul, Operator
from deploycc.resources import cache_directory, data_dir
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Target

Unit = Literal["seconds", "instructions"]
Status = Literal["ok", "wrong", "crash", "timeout", "failed"]

SCREEN, AGAIN, FINAL = 0, 1, 2
"""Levels of a record."""


@dataclass(frozen=True)
class Record:
    """One measurement of one candidate.

    ``operator`` is the operator's ``repr``, ``value`` one run of its kernels (with bias and ReLU behind) in
    ``unit`` on one thread, infinite unless ``status`` is ``ok``; ``error`` is max|result - reference| /
    max|reference|; ``runs`` how many runs the value rests on; ``when`` the UTC time in ISO 8601.
    """

    operator: str
    code: str
    cache: str
    schedule: str
    version: int
    knobs: Mapping[str, int]
    tvm: str
    status: Status
    unit: Unit
    value: float
    error: float
    runs: int
    level: int
    when: str

    @property
    def candidate(self) -> str:
        """Schedule and knobs as one text, equal for equal candidates."""
        return candidate_key(self.schedule, self.knobs)


def candidate_key(schedule: str, knobs: Mapping[str, int]) -> str:
    """Schedule and knobs as one text, knobs in the order of their names."""
    return " ".join([schedule, *(f"{name}={value}" for name, value in sorted(knobs.items()))])


_OF_INTEGERS = ("+avx512vnni", "+avxvnni")


GPU_CODE = "cuda"
"""How the code key of a target with a GPU begins."""


def code_key(target: Target) -> str:
    """What decides the code of a kernel: architecture, CPU, features and vector unit.

    Not the instructions for products of integers: code of floats is the same without them, and of integers
    the same schedule is the fastest.  Of a target with a GPU it is the chip, by name, architecture and
    number of processors, and the precision: times of two chips are not compared, nor with a processor's.
    """
    if target.gpu is not None:
        gpu = target.gpu
        return f"{GPU_CODE} {gpu.arch} {gpu.name} {gpu.processors} {target.precision}"
    llvm, simd = target.llvm, target.simd
    unit = f"{simd.bits}x{simd.registers}{'+fma' if simd.fma else ''}"
    features = [name for name in llvm.features if name not in _OF_INTEGERS]
    return " ".join(word for word in (llvm.triple.partition("-")[0], llvm.cpu, unit, *features) if word)


def cache_key(target: Target) -> str:
    """Cache sizes in KiB: of a core, level 1 and 2; of a GPU the shared memory of a processor and level 2."""
    if target.gpu is not None:
        return f"{target.gpu.shared_bytes_per_processor >> 10}/{target.gpu.l2_bytes >> 10}"
    return f"{target.cache.l1 >> 10}/{target.cache.l2 >> 10}"


def operator_of(text: str) -> Operator:
    """The operator of this ``repr``; fields that it lacks have their defaults.  Raises ``ValueError``."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("no call with named values")
        kind: Any = {"Conv2d": Conv2d, "MatMul": MatMul}[call.func.id]
        operator: Operator = kind(**{str(k.arg): ast.literal_eval(k.value) for k in call.keywords})
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"no operator: {text[:200]!r} ({error})") from None
    return operator


def append(path: Path, records: Iterable[Record]) -> None:
    """Append ``records`` to the database at ``path``, made with its folders if it is not there.

    Safe beside other processes that append.  Raises ``DeployccError`` (DC601).
    """
    lines = b"".join(json.dumps(_table(record)).encode() + b"\n" for record in records)
    if not lines:
        return
    with _explained(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _torn(file):  # a writer was killed in mid-line: what it wrote must not swallow ours
                lines = b"\n" + lines
            file.write(lines)
            file.flush()


def read(path: Path) -> tuple[list[Record], int]:
    """The records in the database at ``path`` and how many lines are none; a missing file is empty.

    Raises ``DeployccError``: DC601 for a file that cannot be read, DC602 for one that is no database (it
    has lines and none is a record).
    """
    if not path.exists():
        return [], 0
    with _explained(path, "read"), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        content = file.read()
    records, damaged = [], 0
    for line in content.splitlines():
        if not line.strip():
            continue
        try:
            records.append(_record(json.loads(line)))
        except (ValueError, TypeError, KeyError):
            damaged += 1
    if damaged and not records:
        raise DeployccError(
            Diagnostic(
                "DC602",
                f"{path} is no tuning database",
                got=content[:60].decode(errors="replace"),
                need="lines of JSON as 'deploycc tune' writes them",
            )
        )
    return records, damaged


def merge(into: Path, sources: Sequence[Path]) -> int:
    """Append what ``into`` does not have yet of the databases ``sources``; returns how many records.

    Raises ``DeployccError`` (DC601, DC602); a source that is missing is an error.
    """
    missing = [source for source in sources if not source.is_file()]
    if missing:
        raise DeployccError(
            *(
                Diagnostic("DC601", f"the tuning database {path} cannot be read", got="no file")
                for path in missing
            )
        )
    known = {json.dumps(_table(record)) for record in read(into)[0]}
    new: dict[str, Record] = {}
    for source in sources:
        for record in read(source)[0]:
            text = json.dumps(_table(record))
            if text not in known:
                new.setdefault(text, record)
    append(into, new.values())
    return len(new)


class Records:
    """Records of one target that count now, by operator.

    ``layers`` are the databases, later ones over earlier: an operator that a later one has a right record
    of takes nothing from an earlier one, because times of different machines cannot be compared.
    ``versions`` are those of the schedules that are there (by name); ``outdated`` counts the records of
    this target that were measured with another version of TVM or of their schedule.
    """

    def __init__(
        self,
        layers: Sequence[Iterable[Record]],
        target: Target,
        versions: Mapping[str, int],
        tvm: str,
    ) -> None:
        self.outdated = 0
        self._layers: list[dict[str, list[Record]]] = []
        self._cache = cache_key(target)
        for layer in layers:
            found: dict[str, list[Record]] = defaultdict(list)
            for record in layer:
                if record.code != code_key(target) or record.schedule not in versions:
                    continue
                if record.tvm != tvm or record.version != versions[record.schedule]:
                    self.outdated += 1
                    continue
                with contextlib.suppress(ValueError):
                    found[repr(operator_of(record.operator))].append(record)
            self._layers.append(found)

    def __len__(self) -> int:
        return sum(len(records) for layer in self._layers for records in layer.values())

    def operators(self) -> tuple[Operator, ...]:
        """Every operator that has records."""
        names = dict.fromkeys(name for layer in self._layers for name in layer)
        return tuple(operator_of(name) for name in names)

    def measured(self) -> tuple[Operator, ...]:
        """Every operator with a right record in seconds."""
        timed = (op for op in self.operators() if any(r.unit == "seconds" for r in self.ranked(op)))
        return tuple(timed)

    def of(self, operator: Operator) -> list[Record]:
        """Records of an operator of one layer, cache size and unit, oldest first.

        The target's own cache sizes are taken, else the nearest; seconds, else instructions.
        """
        for layer in reversed(self._layers):
            found = layer.get(repr(operator), [])
            for unit in ("seconds", "instructions"):
                alike = [record for record in found if record.unit == unit]
                if any(record.status == "ok" for record in alike):
                    caches = {record.cache for record in alike if record.status == "ok"}
                    nearest = min(caches, key=lambda cache: (_distance(cache, self._cache), cache))
                    return [record for record in alike if record.cache == nearest]
        return []

    def known(self, operator: Operator, unit: Unit) -> list[Record]:
        """All records of an operator for just these cache sizes, failures too, oldest first."""
        found = [record for layer in self._layers for record in layer.get(repr(operator), [])]
        return [record for record in found if record.cache == self._cache and record.unit == unit]

    def ranked(self, operator: Operator) -> list[Record]:
        """Right records of the highest level there is, fastest first, the latest one of each candidate."""
        right = [record for record in self.of(operator) if record.status == "ok"]
        level = max((record.level for record in right), default=SCREEN)
        latest = {record.candidate: record for record in right if record.level == level}
        return sorted(latest.values(), key=lambda record: (record.value, record.candidate))


def shipped() -> tuple[Path, ...]:
    """The databases that come with deploycc."""
    return tuple(sorted((data_dir("schedules") / "records").glob("*.jsonl")))


def databases(request: BuildRequest) -> tuple[Path, ...]:
    """What a build of ``request`` reads, later ones over earlier."""
    return (*shipped(), *request.records) if request.shipped_records else request.records


def default_database(target: str) -> Path:
    """Where ``deploycc tune`` keeps the records of a target: ``tuning/TARGET.jsonl`` in the cache folder.

    That is ``$DEPLOYCC_CACHE_DIR``, else ``$XDG_CACHE_HOME/deploycc``, else ``~/.cache/deploycc``.
    """
    return cache_directory() / "tuning" / f"{target}.jsonl"


def _distance(one: str, other: str) -> float:
    """How far apart two cache keys are: the sum of the factors between their sizes, as logarithms."""
    with contextlib.suppress(ValueError):
        pairs = zip(map(int, one.split("/")), map(int, other.split("/")), strict=True)
        return sum(abs(math.log(max(a, 1) / max(b, 1))) for a, b in pairs)
    return math.inf


def _table(record: Record) -> dict[str, Any]:
    """A record as JSON has it: what is infinite or no number is null."""
    table = asdict(record)
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in table.items()}


def _record(table: Any) -> Record:
    record = Record(**table)
    if record.status == "ok" and not (isinstance(record.value, int | float) and record.value > 0):
        raise ValueError("a right result without a time")
    if not isinstance(record.knobs, dict) or not all(type(v) is int for v in record.knobs.values()):
        raise ValueError("knobs that are no whole numbers")
    if not all(isinstance(getattr(record, name), int) for name in ("version", "level", "runs")):
        raise ValueError("counts that are no whole numbers")
    value = math.inf if record.value is None else float(record.value)
    error = math.nan if record.error is None else float(record.error)
    return Record(**{**table, "value": value, "error": error})


def _torn(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return False
    file.seek(size - 1)
    return file.read(1) != b"\n"


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeployccError(
            Diagnostic(
                "DC601",
                f"the tuning database {path} cannot be {what}",
                got=error.strerror or str(error),
                help="name another with --database",
            )
        ) from None
