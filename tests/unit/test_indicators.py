"""Indicators against hand-computed tables, and against a published reference when it is at hand."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from math import isnan, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinleg.strategy.indicators import atr, ema, macd, settled_after

REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "dev" / "indicators" / "skender"


def same(found: list[float], expected: list[float], tolerance: float = 1e-9) -> bool:
    return len(found) == len(expected) and all(
        (isnan(a) and isnan(b)) or abs(a - b) <= tolerance for a, b in zip(found, expected, strict=True)
    )


def test_ema_by_hand() -> None:
    # length 3: seed (1 + 2 + 6) / 3 = 3, weight 1/2
    assert same(ema([1, 2, 6, 5, 2], 3), [nan, nan, 3, 4, 3])
    assert same(ema([7, 8], 1), [7, 8])
    assert same(ema([1, 2], 3), [nan, nan])
    assert ema([], 3) == []


def test_macd_by_hand() -> None:
    # fast 1 is the price; slow 3: nan nan 3 4 3; line = price - slow; signal 2: weight 2/3
    line, signal, histogram = macd([1, 2, 6, 5, 2, 9], 1, 3, 2)
    # slow: 3, 4, 3, 6; line: 3, 1, -1, 3; signal seed (3 + 1) / 2 = 2, then 2 + 2/3 (-3) = 0, then 2
    assert same(line, [nan, nan, 3, 1, -1, 3])
    assert same(signal, [nan, nan, nan, 2, 0, 2])
    assert same(histogram, [nan, nan, nan, -1, -1, 1])


def test_macd_too_short_is_not_a_number() -> None:
    for series in macd([1, 2], 1, 3, 2):
        assert same(series, [nan, nan])


def test_atr_by_hand_leaves_the_first_bar_out() -> None:
    highs, lows, closes = [100.0, 12, 11, 15, 9], [1.0, 9, 10, 12, 8], [10.0, 11, 10, 14, 9]
    # true ranges from the second bar: max(12,10)-min(9,10)=3; 11-10=1; 15-10=5; 14-8=6
    assert same(atr(highs, lows, closes, 2), [nan, nan, 2, 3.5, 4.75])
    assert same(atr(highs[:2], lows[:2], closes[:2], 2), [nan, nan])


def test_settled_after() -> None:
    for length, weight in ((14, 1 / 14), (21, 2 / 22)):
        count = settled_after(length, weight)
        assert (1 - weight) ** (count - length) <= 1e-6 < (1 - weight) ** (count - length - 1)


@given(st.lists(st.floats(1, 1e6), min_size=30, max_size=80), st.integers(1, 20))
def test_an_average_stays_within_its_values(values: list[float], length: int) -> None:
    for value in ema(values, length)[length - 1 :]:
        assert min(values) * (1 - 1e-9) <= value <= max(values) * (1 + 1e-9)


@given(st.lists(st.floats(1, 1e6), min_size=50, max_size=80), st.integers(1, 79))
def test_no_value_depends_on_a_later_one(values: list[float], cut: int) -> None:
    part = values[:cut]
    for whole, early in zip(macd(values, 8, 21, 5), macd(part, 8, 21, 5), strict=True):
        assert same(whole[: len(part)], early, 0)
    assert same(atr(values, values, values, 14)[: len(part)], atr(part, part, part, 14), 0)


def _columns(name: str, *columns: str) -> Iterator[list[float]]:
    with (REFERENCE / name).open() as file:
        rows = list(csv.DictReader(file))
    for column in columns:
        yield [float(row[column]) if row[column] else nan for row in rows]


if REFERENCE.is_dir():

    def test_published_reference() -> None:
        highs, lows, closes = _columns("quotes_default.csv", "high", "low", "close")
        (average,) = _columns("ema.csv", "ema")
        assert same(ema(closes, 20), average, 1e-9)
        for found, expected in zip(
            macd(closes, 12, 26, 9), _columns("macd.csv", "macd", "signal", "histogram"), strict=True
        ):
            assert same(found, expected, 1e-9)
        (ranges,) = _columns("atr.csv", "atr")
        assert same(atr(highs, lows, closes, 14), ranges, 1e-9)


@pytest.mark.parametrize("length", [1, 5, 14])
def test_a_flat_market_has_no_range(length: int) -> None:
    flat = [100.0] * 40
    assert atr(flat, flat, flat, length)[-1] == 0
    assert macd(flat, 8, 21, 5).histogram[-1] == 0
