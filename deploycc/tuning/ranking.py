"""Ranks candidates: static cost first, corrected by what was measured of other candidates and operators.

The model (xgboost, gradient-boosted trees) predicts by which factor a candidate's time differs from its
static cost, relative to the same factor of its operator's static choice.  So without data it ranks by
static cost, and what it learns of one operator serves all of them, those of earlier sessions included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploycc.operators import Conv2d, Knobs, Operator
from deploycc.tuning.workload import flops

FEWEST = 24
"""Samples below which the static order stands."""
ROUNDS = 60
_PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 6,
    "eta": 0.2,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "nthread": 1,
    "verbosity": 0,
}


@dataclass(frozen=True)
class Sample:
    """One measured candidate: its static cost in cycles and its time, and both of the static choice."""

    operator: Operator
    schedule: str
    knobs: Knobs
    cost: float
    value: float
    default_cost: float
    default_value: float

    @property
    def correction(self) -> float:
        """log of (time / cost), less that of the static choice."""
        return math.log(self.value / self.cost) - math.log(self.default_value / self.default_cost)


class Ranker:
    """A model that is fitted anew now and then; equal samples and seeds give equal orders."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._columns: dict[str, int] = {}
        self._model: Any = None

    def fit(self, samples: Sequence[Sample]) -> None:
        """Learn from ``samples``; with fewer than ``FEWEST`` the static order stands."""
        if len(samples) < FEWEST:
            return
        import xgboost  # takes half a second, which only a search should

        rows = [features(s.operator, s.schedule, s.knobs, s.cost) for s in samples]
        names = sorted({name for row in rows for name in row})
        self._columns = {name: number for number, name in enumerate(names)}
        labels = np.array([sample.correction for sample in samples], np.float32)
        matrix = xgboost.DMatrix(self._matrix(rows), labels, nthread=1)
        self._model = xgboost.train({**_PARAMETERS, "seed": self._seed}, matrix, ROUNDS)

    def corrections(self, operator: Operator, candidates: Sequence[tuple[str, Knobs, float]]) -> list[float]:
        """The predicted ``Sample.correction`` of candidates (schedule, knobs, static cost)."""
        if self._model is None or not candidates:
            return [0.0] * len(candidates)
        import xgboost

        rows = [features(operator, schedule, knobs, cost) for schedule, knobs, cost in candidates]
        return [float(value) for value in self._model.predict(xgboost.DMatrix(self._matrix(rows), nthread=1))]

    def _matrix(self, rows: Sequence[Mapping[str, float]]) -> Any:
        matrix = np.full((len(rows), len(self._columns)), np.nan, np.float32)
        for number, row in enumerate(rows):
            for name, value in row.items():
                if name in self._columns:
                    matrix[number, self._columns[name]] = value
        return matrix


def features(operator: Operator, schedule: str, knobs: Knobs, cost: float) -> dict[str, float]:
    """What the model knows of a candidate; knobs of different schedules are different features."""
    numbers = _numbers(operator)
    row = {name: math.log2(max(value, 1)) for name, value in numbers.items()}
    row["cycles per flop"] = math.log2(max(cost, 1.0) / max(flops(operator), 1.0))
    row[f"schedule {schedule}"] = 1.0
    for name, value in knobs.items():
        row[f"{schedule} {name}"] = float(value)
        for extent in ("rows", "columns", "channels out"):
            # What is computed beyond the extent when it is covered in steps of the knob.
            whole = numbers[extent]
            row[f"{schedule} {name} over {extent}"] = -(-whole // value) * value / whole if value > 0 else 0.0
    if isinstance(operator, Conv2d):
        row["channels first in"] = float(operator.data_layout == "NCHW")
        row["channels first out"] = float(operator.out_layout == "NCHW")
    return row


def _numbers(operator: Operator) -> dict[str, int]:
    if isinstance(operator, Conv2d):
        return {
            "rows": operator.out_height,
            "columns": operator.out_width,
            "channels in": operator.in_channels // operator.groups,
            "channels out": operator.out_channels // operator.groups,
            "groups": operator.groups,
            "kernel rows": operator.kernel[0],
            "kernel columns": operator.kernel[1],
            "stride": operator.strides[1],
            "dilation": operator.dilation[1],
        }
    columns = operator.leading[-1] if operator.leading else 1
    return {
        "rows": max(1, math.prod(operator.leading) // columns),
        "columns": columns,
        "channels in": operator.inner,
        "channels out": operator.columns,
    }
