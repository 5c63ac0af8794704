"""What fuzzing found, and every damaged file there is, through the front end: refused with a code or taken.

In this process, so that a hundred files take seconds; ``tests/sweep/test_malformed.py`` has the command line.
A new finding of ``make fuzz`` is copied into ``found/`` once it is put right, as small as it can be made.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from onnx import ModelProto

from tests.fuzzing import front_end
from tests.fuzzing.mutating import mutate
from tests.sweep.malformed import malformed_models

FOUND = sorted((Path(__file__).parent / "found").iterdir())
SEED = 20261129
"""The same models each time: fresh ones are `make fuzz`'s, which has a process to lose for each."""


def outcomes(models: dict[str, bytes], folder: Path) -> dict[str, str]:
    """How far each model came; what is raised is the outcome of a model that a finding is."""
    came = {}
    for name, data in models.items():
        try:
            with front_end.in_this_process():
                came[name] = front_end.examine(data, folder)
        except Exception as error:
            came[name] = f"finding: {type(error).__name__}: {error}"
    return came


def findings(came: dict[str, str]) -> dict[str, str]:
    return {name: outcome for name, outcome in came.items() if outcome.startswith("finding")}


def test_what_was_found_once(tmp_path: Path) -> None:
    came = outcomes({path.name: path.read_bytes() for path in FOUND}, tmp_path)
    assert came
    assert findings(came) == {}


def test_damaged_files(tmp_path: Path) -> None:
    came = outcomes({name: make() for name, make in malformed_models().items()}, tmp_path)
    assert findings(came) == {}
    assert {"import", "lint", "linted"} <= set(came.values())


def test_mutated_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of what ``make fuzz`` does by the hundred thousand, without its guidance by coverage."""
    monkeypatch.setattr(front_end, "HEAVY_ELEMENTS", 1 << 16)
    draw = random.Random(SEED)
    seeds = [
        make() for name, make in malformed_models().items() if name.startswith(("names_", "output_", "op_"))
    ]
    made: dict[str, bytes] = {}
    while len(made) < 60:
        proto = ModelProto.FromString(draw.choice(seeds))
        try:
            mutate(proto, draw, seeds)
            made[str(len(made))] = proto.SerializeToString()
        except (ValueError, TypeError):  # what protobuf itself does not take
            continue
    bad = findings(outcomes(made, tmp_path))
    for name in bad:
        (tmp_path / f"finding-{name}.onnx").write_bytes(made[name])
    assert bad == {}, f"seed {SEED}; the models are in {tmp_path}"
