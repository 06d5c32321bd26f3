"""Ids derived from content, decimals, and the venue's tick and lot rules."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinleg.domain.candles import Candle, ms_from_utc, utc_from_ms
from twinleg.domain.errors import BadInput
from twinleg.domain.ids import client_order_id, intent_id
from twinleg.domain.markets import MarginTier, MarketRules
from twinleg.domain.money import ceil_to, decimal_of, floor_to, plain

D = Decimal


def rules(lot: str = "0.00001", price_decimals: int = 1) -> MarketRules:
    return MarketRules(
        market="hyperliquid:BTC", asset=0, lot=D(lot), price_digits=5, price_decimals=price_decimals,
        notional_usd_min=D(10), max_leverage=40, taker_fee=D("0.00045"),
        tiers=(
            MarginTier(lower_bound_usd=D(0), max_leverage=40),
            MarginTier(lower_bound_usd=D(150_000_000), max_leverage=20),
        ),
    )  # fmt: skip


def test_client_order_ids_differ_in_every_part_and_repeat_for_the_same():
    base = ("BTC-macd-1", "main", "entry", 1, 1)
    ids = {client_order_id(*base)}
    for index, other in enumerate(("BTC-macd-2", "hedge", "stop", 2, 2)):
        changed = list(base)
        changed[index] = other
        ids.add(client_order_id(*changed))
    assert len(ids) == 6
    assert all(len(id) == 34 and id.startswith("0x") for id in ids)
    assert client_order_id(*base) == client_order_id(*base)


def test_intent_ids_are_readable_and_made_of_content():
    assert intent_id("macd", "hyperliquid:BTC", "t1") == intent_id("macd", "hyperliquid:BTC", "t1")
    assert intent_id("macd", "hyperliquid:BTC", "t1") != intent_id("macd", "hyperliquid:BTC", "t2")
    assert intent_id("macd", "hyperliquid:BTC", "t1").startswith("BTC-macd-")


@pytest.mark.parametrize("bad", [1.5, True, "x", "", "NaN", "Infinity", None])
def test_only_finite_decimals_written_as_text_are_numbers(bad):
    with pytest.raises(BadInput, match="size must be"):
        decimal_of(bad, "size")


@given(st.decimals(min_value="0.01", max_value="10000000", places=6))
def test_a_rounded_price_is_valid_and_on_the_side_that_was_asked_for(wanted):
    for up in (True, False):
        price = rules().price(wanted, up=up) if not (wanted < D("0.1") and not up) else None
        if price is None:
            continue
        digits = price.normalize().as_tuple()
        whole = price == price.to_integral_value()
        assert whole or (len(digits.digits) <= 5 and -digits.exponent <= 1)
        assert price >= wanted if up else price <= wanted


@pytest.mark.parametrize(
    ("wanted", "up", "price"),
    [
        ("60000.57", False, "60000"),
        ("1234.567", False, "1234.5"),
        ("123456.7", False, "123456"),
        ("60000.57", True, "60001"),
    ],
)
def test_prices_have_five_digits_or_are_whole(wanted, up, price):
    assert rules().price(D(wanted), up=up) == D(price)


def test_sizes_are_whole_lots_and_never_larger():
    assert rules("0.001").size(D("1.23456")) == D("1.234")
    assert floor_to(D("5.9"), D(2)) == 4
    assert ceil_to(D("5.1"), D(2)) == 6


def test_maintenance_margin_is_continuous_at_the_tier_and_matches_the_recorded_account():
    edge = D(150_000_000)
    assert rules().maintenance_margin_usd(D("377667")) == D("4720.8375")
    assert rules().maintenance_margin_usd(edge) == D(1_875_000)
    assert rules().maintenance_margin_usd(D(200_000_000)) == D(3_125_000)


def test_plain_has_no_exponent_and_no_trailing_zeros():
    assert [plain(D(n)) for n in ("1E+3", "0.10", "-0.0", "12.300")] == ["1000", "0.1", "0", "12.3"]


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
def test_milliseconds_survive_the_round_trip(ms):
    assert ms_from_utc(utc_from_ms(ms)) == ms


def test_a_candle_that_cannot_be_one_is_refused():
    at = datetime(2025, 1, 1, tzinfo=UTC)
    with pytest.raises(BadInput, match="must enclose"):
        Candle(at, D(10), D(9), D(8), D(9), D(1)).checked()
    with pytest.raises(BadInput, match="above 0"):
        Candle(at, D(10), D(11), D(0), D(9), D(1)).checked()
