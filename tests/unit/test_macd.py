"""The MACD strategy: when it speaks, how loudly, and that it cannot see what it should not."""

from __future__ import annotations

import csv
import gzip
import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from twinleg.domain.candles import MINUTE, Candle, utc_from_ms
from twinleg.domain.signals import Direction
from twinleg.strategy.indicators import atr, macd
from twinleg.strategy.macd import Macd, MacdParameters
from twinleg.strategy.protocol import Strategy

D = Decimal

START = datetime(2025, 1, 6, tzinfo=UTC)
QUICK = MacdParameters(fast=3, slow=6, signal=3, confirm=2, k=0.1, strength_min=0.3, atr=5)


def candles(closes: list[float], spread: float = 0.1) -> list[Candle]:
    found, before = [], closes[0]
    for index, close in enumerate(closes):
        opened, closed = D(f"{before:.4f}"), D(f"{close:.4f}")
        wing = D(f"{spread:.4f}")
        found.append(
            Candle(START + index * MINUTE, opened, max(opened, closed) + wing, min(opened, closed) - wing, closed, D(1))
        )
        before = close
    return found


def walk(seed: int, count: int, step: float = 0.6) -> list[Candle]:
    draw = random.Random(seed)
    price, closes = 1000.0, []
    for _ in range(count):
        price = max(10.0, price + draw.gauss(0, step))
        closes.append(price)
    return candles(closes)


def signals(strategy: Strategy, history: list[Candle]) -> list[tuple[int, Direction]]:
    found = []
    for end in range(1, len(history) + 1):
        signal = strategy.decide("hyperliquid:ETH", history[max(0, end - strategy.lookback) : end])
        if signal:
            found.append((end - 1, signal.direction))
    return found


def waves(count: int) -> list[Candle]:
    return candles([1000 + 15 * math.sin(i / 12) for i in range(count)])


def test_defaults_are_the_documented_ones() -> None:
    p = MacdParameters()
    assert (p.fast, p.slow, p.signal, p.confirm, p.atr) == (8, 21, 5, 3, 14)
    assert Macd().lookback == p.lookback_settled == 202
    assert Macd(MacdParameters(lookback=240)).lookback == 240


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"fast": 21}, "shorter than slow"),
        ({"fast": 0}, "fast"),
        ({"confirm": 0}, "confirm"),
        ({"k": 0}, "k"),
        ({"k": math.nan}, "k"),
        ({"k": math.inf}, "k"),
        ({"strength_min": 1.1}, "strength_min"),
        ({"strength_min": -0.1}, "strength_min"),
        ({"atr": 0}, "atr"),
        ({"lookback": 27}, "at least 28"),
        ({"slwo": 21}, "slwo"),
    ],
)
def test_bad_parameters_are_named(bad: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        MacdParameters.model_validate(bad)


def test_it_is_a_strategy_and_says_where_a_signal_comes_from() -> None:
    strategy: Strategy = Macd(QUICK)
    history = waves(200)
    (at, direction), *_ = signals(strategy, history)
    window = history[at + 1 - strategy.lookback : at + 1]
    signal = strategy.decide("hyperliquid:ETH", window)
    assert signal is not None
    assert signal.at == history[at].closed_at
    assert signal.trigger == f"{history[at].closed_at:%Y-%m-%dT%H:%M:%SZ}"
    assert signal.strategy == "macd" and signal.market == "hyperliquid:ETH" and signal.direction is direction
    closes, highs, lows = ([float(c[n]) for c in window] for n in (4, 2, 3))
    histogram = macd(closes, 3, 6, 3).histogram[-1]
    average = atr(highs, lows, closes, 5)[-1]
    assert float(signal.confidence) == pytest.approx(min(1, abs(histogram) / (0.1 * average)), abs=1e-4)
    assert "MACD 3/6/3" in signal.reason and "ATR" not in signal.reason


def test_each_crossing_acts_once_and_in_turns() -> None:
    found = [direction for _, direction in signals(Macd(QUICK), waves(600))]
    assert len(found) >= 10
    assert all(a is not b for a, b in pairwise(found))


def test_a_strength_that_comes_and_goes_within_one_run_acts_once() -> None:
    seen: list[int] = []
    for seed in range(20):
        history = walk(seed, 260)
        strategy = Macd(QUICK)
        closes = [float(c.close) for c in history]
        histogram = macd(closes, 3, 6, 3).histogram
        marks = signals(strategy, history)
        for (first, _), (second, _) in pairwise(marks):
            signs = {histogram[i] > 0 for i in range(first, second + 1)}
            assert len(signs) == 2, f"seed {seed}: {first} and {second} belong to one crossing"
        seen.append(len(marks))
    assert sum(seen) > 50


def test_a_crossing_has_to_hold_for_confirm_candles() -> None:
    history = walk(3, 400)
    histogram = macd([float(c.close) for c in history], 3, 6, 3).histogram
    for confirm in (1, 2, 4):
        strategy = Macd(QUICK.model_copy(update={"confirm": confirm}))
        for at, direction in signals(strategy, history):
            kept = histogram[at - confirm + 1 : at + 1]
            assert all((value > 0) is (direction is Direction.LONG) for value in kept)


def test_weak_crossings_say_nothing() -> None:
    history = walk(5, 400)
    loud, quiet = Macd(QUICK), Macd(QUICK.model_copy(update={"strength_min": 0.0}))
    assert 0 < len(signals(loud, history)) < len(signals(quiet, history))
    for end in range(1, len(history) + 1):
        signal = loud.decide("m", history[:end])
        assert signal is None or signal.confidence >= D("0.3")


def test_strength_is_at_most_one() -> None:
    strategy = Macd(QUICK.model_copy(update={"k": 0.001}))
    found = [s for end in range(1, 200) if (s := strategy.decide("m", waves(200)[:end]))]
    assert found and all(s.confidence == 1 for s in found)


def test_too_few_candles_say_nothing() -> None:
    strategy = Macd(QUICK)
    assert strategy.decide("m", []) is None
    assert strategy.decide("m", waves(strategy.lookback - 1)) is None


def test_a_market_that_does_not_move_says_nothing() -> None:
    strategy = Macd(QUICK.model_copy(update={"strength_min": 0.0}))
    assert strategy.decide("m", candles([100.0] * 200, spread=0)) is None


def test_the_shortest_lookback_still_decides() -> None:
    shortest = QUICK.lookback_min
    strategy = Macd(QUICK.model_copy(update={"lookback": shortest}))
    assert strategy.lookback == shortest
    assert signals(strategy, waves(300))


# -- holes -------------------------------------------------------------------------------------------


def _without(history: list[Candle], missing: set[int]) -> list[Candle]:
    return [c for i, c in enumerate(history) if i not in missing]


def test_a_hole_further_back_still_works() -> None:
    history = waves(400)
    strategy = Macd(QUICK)
    at = signals(strategy, history)[-1][0]
    thinned = _without(history[: at + 1], {at - 30, at - 31, at - 45})
    signal = strategy.decide("m", thinned)
    assert signal is not None and signal.at == history[at].closed_at


@pytest.mark.parametrize("back", [1, 2])
def test_a_hole_among_the_confirming_candles_says_nothing(back: int) -> None:
    history = waves(400)
    strategy = Macd(QUICK)
    at = signals(strategy, history)[-1][0]
    assert strategy.decide("m", _without(history[: at + 1], {at - back})) is None


def test_a_crossing_hidden_by_a_hole_acts_once_when_it_has_passed() -> None:
    history = waves(400)
    strategy = Macd(QUICK)
    at, direction = signals(strategy, history)[-1]
    holed = _without(history, {at - 1})
    late = [(holed[i].opened_at - history[at].opened_at, d) for i, d in signals(strategy, holed)]
    late = [(delay, d) for delay, d in late if delay >= timedelta(0)]
    assert [d for delay, d in late if delay < 30 * MINUTE] == [direction]
    assert 2 * MINUTE <= late[0][0] <= 5 * MINUTE


# -- purity ------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), extra=st.integers(0, 150), k=st.floats(0.02, 0.4))
@settings(max_examples=60, deadline=None)
def test_only_the_last_lookback_candles_matter(seed: int, extra: int, k: float) -> None:
    strategy = Macd(QUICK.model_copy(update={"k": k}))
    longer = walk(seed, strategy.lookback + extra)
    window = longer[-strategy.lookback :]
    assert strategy.decide("m", window) == strategy.decide("m", longer) == strategy.decide("m", tuple(window))


def test_it_remembers_nothing_between_calls() -> None:
    history = walk(11, 300)
    strategy = Macd(QUICK)
    forward = [strategy.decide("m", history[: i + 1]) for i in range(300)]
    backward = [strategy.decide("m", history[: i + 1]) for i in reversed(range(300))]
    assert forward == backward[::-1] and any(forward)


@pytest.mark.parametrize("parameters", [MacdParameters(), MacdParameters(slow=60, fast=20), MacdParameters(atr=20)])
def test_at_the_derived_lookback_the_seeds_are_forgotten(parameters: MacdParameters) -> None:
    p, history = parameters, walk(1, 1500)
    columns = [[float(c[n]) for c in history] for n in (2, 3, 4)]
    whole = macd(columns[2], p.fast, p.slow, p.signal).histogram, atr(*columns, p.atr)
    for end in range(600, 1500, 25):
        highs, lows, closes = (column[end - p.lookback_settled : end] for column in columns)
        histogram, ranges = macd(closes, p.fast, p.slow, p.signal).histogram[-1], atr(highs, lows, closes, p.atr)[-1]
        assert abs(ranges / whole[1][end - 1] - 1) < 1e-6
        # in per cent of price, as the averages themselves are: the histogram is their small difference
        assert abs(histogram - whole[0][end - 1]) / closes[-1] < 1e-6


# -- on a real market ----------------------------------------------------------------------------------


def _read(path: Path) -> list[Candle]:
    with gzip.open(path, "rt") as file:
        return [
            Candle(utc_from_ms(int(row["ts_ms"])), *(D(row[k]) for k in ("open", "high", "low", "close", "volume")))
            for row in csv.DictReader(file)
        ]


def _real() -> list[Path]:
    shipped = Path(str(files("twinleg"))) / "data"
    extra = Path(__file__).parents[3] / "shared" / "data" / "dev" / "candles"
    return [*sorted(shipped.glob("btc_1m_*.csv.gz")), *sorted(extra.glob("hl_*_1m_*.csv.gz"))]


@pytest.mark.parametrize("path", _real(), ids=lambda path: path.name)
def test_on_real_minutes_it_is_neither_silent_nor_chatty(path: Path) -> None:
    history, strategy = _read(path), Macd()
    found = signals(strategy, history)
    days = (len(history) - strategy.lookback) / 1440
    assert 10 <= len(found) / days <= 100
    assert {direction for _, direction in found} == set(Direction)
