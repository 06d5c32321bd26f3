"""No strategy sees the future: whatever comes after a candle changes nothing that was decided at its close."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinleg.domain.candles import MINUTE, Candle
from twinleg.domain.signals import Signal
from twinleg.strategy.macd import Macd, MacdParameters
from twinleg.strategy.protocol import Strategy

D = Decimal

START = datetime(2025, 1, 6, tzinfo=UTC)
MARKET = "hyperliquid:ETH"
STRATEGIES: dict[str, Strategy] = {
    "macd": Macd(),
    "macd quick": Macd(MacdParameters(fast=3, slow=6, signal=3, confirm=1, strength_min=0.1, atr=5)),
}


def history(seed: int, count: int, *, since: int = 0, price: float = 2000.0) -> list[Candle]:
    draw, found = random.Random(seed), []
    for index in range(since, since + count):
        opened, price = price, max(1.0, price * (1 + draw.gauss(0, 0.0007)))
        high = max(opened, price) * (1 + abs(draw.gauss(0, 0.0003)))
        low = min(opened, price) * (1 - abs(draw.gauss(0, 0.0003)))
        prices = (D(f"{value:.4f}") for value in (opened, high, low, price))
        found.append(Candle(START + index * MINUTE, *prices, D(1)))
    return found


def decisions(strategy: Strategy, candles: list[Candle]) -> list[Signal | None]:
    return [strategy.decide(MARKET, candles[max(0, end - 400) : end]) for end in range(1, len(candles) + 1)]


@pytest.mark.parametrize("name", STRATEGIES)
@given(past=st.integers(0, 1000), one=st.integers(0, 1000), other=st.integers(1001, 2000))
@settings(max_examples=4, deadline=None)
def test_a_different_future_changes_no_past_decision(name: str, past: int, one: int, other: int) -> None:
    strategy, now = STRATEGIES[name], 260
    known = history(past, now)
    futures = [known + history(seed, 40, since=now, price=float(known[-1].close)) for seed in (one, other)]
    first, second = (decisions(strategy, future) for future in futures)
    assert first[:now] == second[:now] == decisions(strategy, known)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_signal_belongs_to_the_last_closed_candle(name: str) -> None:
    candles = history(7, 900)
    found = decisions(STRATEGIES[name], candles)
    assert any(found)
    for candle, signal in zip(candles, found, strict=True):
        assert signal is None or (signal.at == candle.closed_at and signal.market == MARKET)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_last_candle_does_matter(name: str) -> None:
    """The comparison above would pass for a strategy that is blind; this one is not."""
    strategy, candles = STRATEGIES[name], history(7, 900)
    at = next(i for i, signal in enumerate(decisions(strategy, candles)) if signal)
    last = candles[at]
    crash = last._replace(close=last.close * D("0.9"), low=last.low * D("0.9"), high=last.high)
    soar = last._replace(close=last.close * D("1.1"), high=last.high * D("1.1"))
    views = [strategy.decide(MARKET, [*candles[max(0, at - 400) : at], candle]) for candle in (last, crash, soar)]
    assert any(view != views[0] for view in views[1:])
