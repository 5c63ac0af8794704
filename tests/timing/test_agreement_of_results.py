"""deploycc/timing/agreement.py: whether contestants agree."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.timing.agreement import check_agreement
from deploycc.types import DeployccError


def test_engines_may_drop_axes_and_widen_integers_but_not_differ() -> None:
    want = [np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.arange(3, dtype=np.int64)]
    close = want[0] * np.float32(1 + 1e-5)
    check_agreement({"a": [close.reshape(2, 3), want[1].astype(np.int32)]}, want, "engine", ["x", "y"])
    check_agreement({"a": [close, want[1].astype(np.float32)]}, want, "engine", ["x", "y"])
    wrong = {"a": [want[0] * 1.01, want[1] + 1], "b": [want[0].reshape(1, 3, 2), want[1].astype(np.int32)]}
    with pytest.raises(DeployccError, match="does not compute what engine does") as error:
        check_agreement(wrong, want, "engine", ["x", "y"])
    told = [(d.code, d.message.split()[0], d.node) for d in error.value.diagnostics]
    assert told == [("DC833", "a", "x"), ("DC833", "a", "y"), ("DC833", "b", "x")]


def test_nan_and_fractions_are_no_integers() -> None:
    want = [np.arange(3, dtype=np.int64)]
    for got in (np.array([0, 1, np.nan]), np.array([0, 1, 2.5])):
        with pytest.raises(DeployccError):
            check_agreement({"a": [got]}, want, "engine", ["y"])
