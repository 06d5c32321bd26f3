"""Liquidation prices and margin: the venue's own published and recorded numbers, and what must hold for any."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinleg.domain.markets import MarginTier, MarketRules
from twinleg.domain.orders import Side
from twinleg.risk.margin import (
    cross_liquidation_price,
    initial_margin_usd,
    isolated_liquidation_distance,
    isolated_liquidation_price,
    liquidation_distance,
    liquidation_price,
    maintenance_margin_usd,
    margin_for_distance,
    margin_ratio,
)

D = Decimal


def rules(*tiers: tuple[str, int]) -> MarketRules:
    return MarketRules(
        market="hyperliquid:ETH", asset=1, lot=D("0.0001"), price_digits=5, price_decimals=2,
        notional_usd_min=D(10), max_leverage=tiers[0][1], taker_fee=D("0.00045"),
        tiers=tuple(MarginTier(lower_bound_usd=D(b), max_leverage=x) for b, x in tiers),
    )  # fmt: skip


BTC = rules(("0", 40), ("150000000", 20))
ETH = rules(("0", 25), ("100000000", 15))
FIFTY = rules(("0", 50))
TESTNET_ETH = rules(("0", 25), ("20000", 10), ("50000", 5), ("200000", 3))


def test_isolated_example_of_the_venues_docs() -> None:
    mark = D("100.02765") / D("0.0335")
    found = liquidation_price(mark, Side.BUY, D("0.0335"), D("4.967826"), FIFTY)
    assert found is not None
    assert abs(found - D("2866.26936529")) < D("0.0001")


def test_cross_account_of_a_recorded_state() -> None:
    mark = D("377667") / D("4.5")
    found = cross_liquidation_price(mark, Side.BUY, D("4.5"), D("38252.7"), D(0), BTC)
    assert found is not None
    assert found.quantize(D("0.01")) == D("76380.15")
    assert maintenance_margin_usd(D("4.5"), mark, BTC).quantize(D("0.0001")) == D("4720.8375")


def test_maintenance_is_continuous_where_a_tier_begins() -> None:
    below, at = BTC.maintenance_margin_usd(D("149999999.99")), BTC.maintenance_margin_usd(D(150000000))
    assert at == D(1875000)
    assert abs(at - below) < 1
    assert BTC.maintenance_margin_usd(D(200000000)) == D(3125000)


def test_hand_computed_long_and_short() -> None:
    # 1 ETH at 1000, 5x: margin 200, rate 0.02. Long: 1000 - 200 = p(1 - 0.02). Short: 1000 + 200 = p(1 + 0.02).
    assert isolated_liquidation_price(D(1000), Side.BUY, D(1), 5, ETH) == D(800) / D("0.98")
    assert isolated_liquidation_price(D(1000), Side.SELL, D(1), 5, ETH) == D(1200) / D("1.02")


def test_added_margin_moves_the_liquidation_away() -> None:
    plain = isolated_liquidation_price(D(1000), Side.BUY, D(1), 5, ETH)
    more = isolated_liquidation_price(D(1000), Side.BUY, D(1), 5, ETH, margin_usd=D(300))
    assert plain is not None and more is not None
    assert more == D(700) / D("0.98") < plain


def test_a_long_without_leverage_cannot_be_liquidated() -> None:
    assert isolated_liquidation_price(D(1000), Side.BUY, D(1), 1, ETH) is None
    assert isolated_liquidation_distance(D(1000), Side.BUY, D(1), 1, ETH) == 1
    assert isolated_liquidation_price(D(1000), Side.SELL, D(1), 1, ETH) == D(2000) / D("1.02")


def test_without_tiers_nothing_is_known() -> None:
    assert liquidation_price(D(1000), Side.BUY, D(1), D(10), rules(("0", 25)).model_copy(update={"tiers": ()})) is None


def test_distance_is_never_negative() -> None:
    assert liquidation_distance(D(100), D(110), Side.BUY) == 0
    assert liquidation_distance(D(100), D(110), Side.SELL) == D("0.1")
    assert liquidation_distance(D(100), D(80), Side.BUY) == D("0.2")


def test_ratio_is_one_at_liquidation_and_none_without_maintenance() -> None:
    assert margin_ratio(D(10), D(0)) is None
    price = isolated_liquidation_price(D(1000), Side.SELL, D(3), 7, ETH)
    assert price is not None
    equity = initial_margin_usd(D(3), D(1000), 7) - 3 * (price - 1000)
    ratio = margin_ratio(equity, maintenance_margin_usd(D(3), price, ETH))
    assert ratio is not None and abs(ratio - 1) < D("1e-20")


@given(
    entry=st.decimals("0.01", "200000", places=2),
    size=st.decimals("0.0001", "500", places=4),
    side=st.sampled_from(Side),
    leverage=st.integers(1, 25),
    market=st.sampled_from([BTC, ETH, TESTNET_ETH]),
)
@settings(max_examples=300, deadline=None)
def test_equity_meets_maintenance_at_the_liquidation_price_whatever_the_tier(
    entry: D, size: D, side: Side, leverage: int, market: MarketRules
) -> None:
    found = isolated_liquidation_price(entry, side, size, leverage, market)
    margin = initial_margin_usd(size, entry, leverage)
    if found is None:
        # even at a price of zero the margin covers the loss
        assert side is Side.BUY
        assert margin - size * entry >= -D("1e-12")
        return
    equity = margin + side.sign * size * (found - entry)
    assert abs(equity - market.maintenance_margin_usd(size * found)) <= D("1e-12") * (1 + size * entry)
    if (entry - found) * side.sign > 0:
        between = (entry + found) / 2
        healthy = margin + side.sign * size * (between - entry)
        assert healthy > market.maintenance_margin_usd(size * between)


@pytest.mark.parametrize("side", list(Side))
def test_margin_for_distance_is_the_inverse(side: Side) -> None:
    mark, size = D(1500), D(40)
    margin = margin_for_distance(mark, side, size, D("0.13"), TESTNET_ETH)
    found = liquidation_price(mark, side, size, margin, TESTNET_ETH)
    assert found is not None
    assert abs(liquidation_distance(mark, found, side) - D("0.13")) < D("1e-20")


def test_more_leverage_is_nearer() -> None:
    distances = [isolated_liquidation_distance(D(3000), Side.BUY, D(1), n, ETH) for n in range(1, 26)]
    assert distances == sorted(distances, reverse=True)
    assert all(0 <= d <= 1 for d in distances)
