"""Margin arithmetic: what a position ties up, how near its liquidation is, and where that price lies.

A position is liquidated when the equity behind it falls below its maintenance margin. Equity moves by
``side x size`` per unit of price; maintenance is ``notional x rate - deduction`` of the tier that holds the
notional, and grows faster in higher tiers. So each tier gives one candidate price, and the one nearest to the
mark is where the position goes.

Source: Hyperliquid docs, margining and liquidations; the formula was checked against recorded account states.
"""

from __future__ import annotations

from decimal import Decimal

from twinleg.domain.markets import MarketRules
from twinleg.domain.money import ONE, ZERO
from twinleg.domain.orders import Side


def initial_margin_usd(size: Decimal, price: Decimal, leverage: int) -> Decimal:
    """Collateral a position of *size* (base units, positive) needs when it is opened at *price*."""
    return size * price / leverage


def maintenance_margin_usd(size: Decimal, price: Decimal, rules: MarketRules) -> Decimal:
    """Equity below which a position of *size* (positive) is liquidated while the mark is *price*."""
    return rules.maintenance_margin_usd(size * price)


def margin_ratio(equity_usd: Decimal, maintenance_usd: Decimal) -> Decimal | None:
    """Equity / maintenance margin: liquidation at 1. None when nothing has to be maintained."""
    return equity_usd / maintenance_usd if maintenance_usd > 0 else None


def liquidation_price(
    mark_price: Decimal, side: Side, size: Decimal, equity_usd: Decimal, rules: MarketRules
) -> Decimal | None:
    """The mark at which a position of *size* (positive) is liquidated; None when no price above 0 does it.

    *equity_usd* is what backs this position alone, unrealised profit at *mark_price* included: an isolated
    position's margin, or a cross account's value less the maintenance of its other positions.
    """
    if not rules.tiers:
        return None
    candidates = []
    for tier in rules.tiers:
        rate, deduction = rules.tier_rate(tier.lower_bound_usd)
        backing = equity_usd + deduction - side.sign * size * mark_price
        candidates.append(backing / (size * (rate - side.sign)))
    price = max(candidates) if side is Side.BUY else min(candidates)
    return price if price > 0 else None


def isolated_liquidation_price(
    entry_price: Decimal,
    side: Side,
    size: Decimal,
    leverage: int,
    rules: MarketRules,
    *,
    margin_usd: Decimal | None = None,
) -> Decimal | None:
    """Where an isolated position would be liquidated, known before it is opened; None when it cannot be.

    Its margin is size x entry price / leverage unless *margin_usd* says otherwise (margin was added).
    """
    margin = initial_margin_usd(size, entry_price, leverage) if margin_usd is None else margin_usd
    return liquidation_price(entry_price, side, size, margin, rules)


def cross_liquidation_price(
    mark_price: Decimal,
    side: Side,
    size: Decimal,
    account_value_usd: Decimal,
    other_maintenance_usd: Decimal,
    rules: MarketRules,
) -> Decimal | None:
    """Where a cross position would be liquidated if only its own market moved; leverage plays no part."""
    return liquidation_price(mark_price, side, size, account_value_usd - other_maintenance_usd, rules)


def liquidation_distance(price: Decimal, liquidation: Decimal | None, side: Side) -> Decimal:
    """How far *price* may move against the position, as a fraction of it; never below 0.

    1 when it cannot be liquidated: a long then loses all of its price first.
    """
    if liquidation is None:
        return ONE
    return max(ZERO, (price - liquidation) * side.sign / price)


def isolated_liquidation_distance(
    entry_price: Decimal, side: Side, size: Decimal, leverage: int, rules: MarketRules
) -> Decimal:
    """Estimated liquidation distance of an isolated position at entry, a fraction of the entry price."""
    found = isolated_liquidation_price(entry_price, side, size, leverage, rules)
    return liquidation_distance(entry_price, found, side)


def margin_for_distance(
    mark_price: Decimal, side: Side, size: Decimal, distance: Decimal, rules: MarketRules
) -> Decimal:
    """Equity (at *mark_price*) that puts an isolated position's liquidation *distance* away from the mark."""
    at = mark_price * (ONE - side.sign * distance)
    return maintenance_margin_usd(size, at, rules) + size * mark_price * distance
