"""Numbers as people read them."""

from __future__ import annotations

import pytest

from deploycc.reporting.quantities import amount, duration, nbytes, plural, share


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (1234, "1.23 k"), (2_449_131_720, "2.45 G"), (19e12, "19.0 T")],
)
def test_amount(number: float, text: str) -> None:
    assert amount(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (4_718_592, "4.5 MiB"), (3 << 30, "3 GiB")],
)
def test_bytes(number: int, text: str) -> None:
    assert nbytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 µs"), (3.2e-6, "3.2 µs"), (0.0125, "12.5 ms"), (2.0, "2 s"), (250.0, "250 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (99_999, 100_000, "99.9 %"),
        (1, 100_000, "0.1 %"),
        (1, 3, "33.3 %"),
    ],
)
def test_share_is_everything_or_nothing_only_where_it_is(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


def test_plural() -> None:
    assert plural(1, "node") == "1 node"
    assert plural(0, "node") == "0 nodes"
    assert plural(2, "is", "are") == "2 are"
