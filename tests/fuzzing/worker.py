"""The fuzzer's process: atheris (libFuzzer) drives mutated models through the front end.

``python -m tests.fuzzing.worker STATE CORPUS MODELS FOLDER [libFuzzer's options]``; ``tests.fuzzing.run``
starts it, and starts it again after a crash.  STATE gets ``counts.json`` (how many models came how far) and a
file for each exception that is a finding; FOLDER, which ought to be in memory, has the model being examined.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deploycc"]):
    from tests.fuzzing import front_end

from google.protobuf.message import DecodeError
from onnx import ModelProto

from tests.fuzzing.mutating import mutate

ADDRESS_SPACE = 24 << 30
"""So that what asks for far too much memory is refused at once, as ``MemoryError``."""
LARGEST = 64 << 10
_EVERY = 200


class Fuzzing:
    """What one process knows: counts, seeds to take parts from, findings by where they were raised."""

    def __init__(self, state: Path, corpus: Path, most: int, folder: Path) -> None:
        self.state = state
        self.counts_file = state / "counts.json"
        self.counts: Counter[str] = Counter()
        if self.counts_file.is_file():
            self.counts.update(json.loads(self.counts_file.read_text()))
        self.folder = folder
        self.others = [path.read_bytes() for path in sorted(corpus.iterdir())]
        self.known = {hashlib.sha256(data).digest() for data in self.others}
        self.most = most
        self.random = random.Random(time.time_ns())
        self.seen = {path.stem for path in state.glob("finding-*.txt")}
        self._since = 0

    def one(self, data: bytes) -> None:
        """Examine one model, which the folder has if the process ends in it."""
        # Each start runs the corpus first: those models are not new ones.
        new = hashlib.sha256(data).digest() not in self.known
        try:
            came = front_end.examine(data, self.folder)
        except Exception as error:
            came = "finding"
            self._keep(error, data)
        self.counts[came] += 1
        self.counts["mutated" if new else "again"] += 1
        self._since += 1
        if self._since >= _EVERY:
            self.save()
            if self.counts["mutated"] >= self.most:
                os._exit(0)

    def _keep(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(f.filename).name}:{f.lineno}" for f in frames][-4:]
        name = f"finding-{hashlib.sha256(repr((type(error), where)).encode()).hexdigest()[:12]}"
        if name not in self.seen:
            self.seen.add(name)
            (self.state / f"{name}.onnx").write_bytes(data)
            (self.state / f"{name}.txt").write_text(traceback.format_exc())

    def save(self) -> None:
        """Write the counts, whole or not at all."""
        self._since = 0
        fresh = self.counts_file.with_suffix(".new")
        fresh.write_text(json.dumps(self.counts))
        os.replace(fresh, self.counts_file)

    def mutated(self, data: bytes, most: int, seed: int) -> bytes:
        """What libFuzzer asks for: ``data`` changed, as a model where it is one, else as bytes."""
        draw = random.Random(seed ^ self.random.getrandbits(32))
        if draw.random() < 0.08:
            return bytes(atheris.Mutate(data, most))
        proto = ModelProto()
        try:
            proto.ParseFromString(data if len(data) > 8 else draw.choice(self.others))
        except DecodeError:
            return bytes(atheris.Mutate(data, most))
        try:
            mutate(proto, draw, self.others)
            made = proto.SerializeToString()
        except Exception:  # what protobuf does not take (text that is none, values out of range)
            return bytes(atheris.Mutate(data, most))
        return made if len(made) <= LARGEST else data


def main() -> None:
    """The process."""
    state, corpus = Path(sys.argv[1]), Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    fuzzing = Fuzzing(state, corpus, int(sys.argv[3]), Path(sys.argv[4]))
    options = [sys.argv[0], *sys.argv[5:], str(corpus)]
    stack = contextlib.ExitStack()
    stack.enter_context(front_end.in_this_process())
    atheris.Setup(options, fuzzing.one, custom_mutator=fuzzing.mutated, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
