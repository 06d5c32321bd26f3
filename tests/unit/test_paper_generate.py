"""Made-up markets: the same from the same seed, on the venue's grid, and with what each kind is named for."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from statistics import fmean

import pytest

from twinleg.domain.errors import BadInput
from twinleg.paper.generate import KINDS, MINUTES_MAX, PRICES, THIN_BOOK, generated
from twinleg.paper.listings import listings
from twinleg.paper.options import BookShape, VenueOptions

START = datetime(2026, 1, 5, tzinfo=UTC)
HISTORY, MINUTES = 60, 240
COINS = ("BTC", "ETH", "kPEPE")


def made(kind="crash", coins=COINS, seed=7, minutes=MINUTES, **more):
    return generated(kind, coins, seed, START, history=HISTORY, minutes=minutes, **more)


def returns(candles):
    return [float(c.close / c.open - 1) for c in candles]


def similarity(a, b):
    """Correlation of two lists of returns."""
    x, y = returns(a), returns(b)
    mx, my = fmean(x), fmean(y)
    top = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    return top / (sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y)) ** 0.5


def deepest(candles):
    """The largest fall from a high to a later low, as a fraction."""
    high, worst = candles[0].high, Decimal(0)
    for candle in candles:
        high = max(high, candle.high)
        worst = max(worst, 1 - candle.low / high)
    return worst


def test_every_listed_coin_has_a_price_to_start_from():
    assert set(PRICES) == set(listings())


@pytest.mark.parametrize("kind", KINDS)
def test_candles_are_whole_and_lie_on_the_venues_grid(kind):
    found = made(kind).candles
    assert list(found) == list(COINS)
    for coin, series in found.items():
        listing = listings()[coin]
        assert len(series) == HISTORY + MINUTES
        VenueOptions(candles={coin: series}).checked()
        assert series[0].opened_at == START
        for candle in series:
            assert all(price == listing.round(price) for price in candle[1:5])
            assert candle.volume > 0 and candle.volume == candle.volume.quantize(listing.lot)


def test_the_same_seed_makes_the_same_on_every_machine():
    text = repr([tuple(map(str, candle[1:6])) for series in made().candles.values() for candle in series])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "54baf2093342de80"
    assert made() == made() != made(seed=8)


def test_a_further_coin_does_not_change_the_others():
    assert made(coins=("BTC",)).candles["BTC"] == made().candles["BTC"]


def test_coins_move_together_as_far_as_they_are_told():
    apart, default, one = (
        made("calm", seed=1, minutes=700, **c).candles
        for c in ({"correlation": Decimal(0)}, {}, {"correlation": Decimal(1)})
    )
    assert abs(similarity(apart["BTC"], apart["ETH"])) < 0.1
    assert 0.7 < similarity(default["BTC"], default["ETH"]) < 0.9
    assert similarity(one["BTC"], one["ETH"]) > 0.98


def test_a_coin_of_lower_leverage_moves_more():
    found = made("calm", minutes=700).candles
    btc, eth, pepe = (fmean(map(abs, returns(found[coin]))) for coin in COINS)
    assert btc * 1.15 < eth < pepe


def test_calm_is_calm():
    assert deepest(made("calm").candles["BTC"]) < Decimal("0.02")


@pytest.mark.parametrize("seed", range(5))
def test_a_crash_falls_after_the_history_and_part_of_it_comes_back(seed):
    market = made("crash", seed=seed)
    series = market.candles["BTC"]
    assert deepest(series[:HISTORY]) < Decimal("0.04")
    assert Decimal("0.08") < deepest(series) < Decimal("0.30")
    (incident,) = market.incidents
    begins = (incident.at - START).seconds // 60
    assert HISTORY + MINUTES // 10 <= begins <= HISTORY + MINUTES * 3 // 10
    lowest = min(series, key=lambda c: c.low)
    assert 3 <= series.index(lowest) - begins <= 16 and lowest.low < min(lowest.open, lowest.close)
    after = series[series.index(lowest) + 1 :]
    assert max(c.high for c in after) > lowest.low * Decimal("1.02")


def test_a_long_crash_market_falls_once_a_day():
    days = [incident.at.date() for incident in made("crash", minutes=3 * 1440).incidents]
    assert len(days) == 3 == len(set(days))


def test_a_gap_opens_away_from_the_last_close_and_nothing_else_does():
    market = made("gap")
    series = market.candles["BTC"]
    jumps = {
        b.opened_at: abs(b.open / a.close - 1)
        for a, b in pairwise(series)
        if abs(b.open / a.close - 1) > Decimal("0.001")
    }
    assert list(jumps) == [incident.at for incident in market.incidents] and len(jumps) >= 4
    assert all(Decimal("0.0049") < size < Decimal("0.0251") for size in jumps.values())
    assert all(a.close == b.open for a, b in pairwise(made("trend").candles["ETH"]))


def test_a_trend_goes_somewhere():
    series = made("trend").candles["BTC"][HISTORY:]
    first = made("trend").incidents[0]
    way = 1 if first.what.startswith("rises") else -1
    assert way * (series[110].close / series[0].open - 1) > Decimal("0.003")


def test_a_thin_market_has_its_own_book_and_little_volume():
    thin, calm = made("thin"), made("calm")
    assert thin.book == THIN_BOOK and calm.book == BookShape()
    assert sum(c.volume for c in thin.candles["BTC"]) * 10 < sum(c.volume for c in calm.candles["BTC"])


BAD = {
    "kind": ({"kind": "moon"}, "kind must be one of calm, trend, crash, gap, thin, was 'moon'"),
    "coin": ({"coins": ("DOGGO",)}, "'DOGGO' is not a listed coin; known are BTC, ETH"),
    "minutes": ({"minutes": 0}, f"minutes must be 1 to {MINUTES_MAX}, was 0"),
    "candles": ({"coins": COINS * 5, "minutes": 40_000}, "must be at most 446400 candles, were 600900"),
    "correlation": ({"correlation": Decimal("1.1")}, "correlation must be 0 to 1, was 1.1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_made_is_named(name):
    given, text = BAD[name]
    with pytest.raises(BadInput, match=text):
        made(**given)
