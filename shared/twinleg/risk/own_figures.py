"""Our own arithmetic on an account as its venue reports it, to stand beside the venue's figures with the error.

What protects a position is reckoned from the venue's figures (TRUTH). If these and our arithmetic part, then either
the venue changed its rules or we read them wrong, and sizing, which has nothing but our arithmetic, is off by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from twinleg.domain.markets import MarketRules
from twinleg.domain.money import ZERO
from twinleg.domain.orders import AccountState, Position, Side
from twinleg.risk.margin import cross_liquidation_price, liquidation_price, margin_ratio

HUNDRED = Decimal(100)

RulesOf = Callable[[str], MarketRules | None]
"""A market's rules; None where they are not known."""


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """Where we reckon one position is liquidated, and how far the venue's figure is from that."""

    liquidation_price: Decimal | None
    """None: no price above 0 does it."""
    error_percent: Decimal
    """|ours - the venue's|, in per cent of the mark; a price that does not exist counts as 0, where a long ends."""


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """One account by our arithmetic. Positions whose rules are not known are left out."""

    prices: Mapping[str, OwnPrice]
    """By market."""
    margin_ratio: Decimal | None
    """The lowest of the account's ratios; None when nothing has to be maintained, or not all of it is known."""

    @property
    def error_percent(self) -> Decimal | None:
        """The largest error of any position."""
        return max((price.error_percent for price in self.prices.values()), default=None)


def own_figures(state: AccountState, rules_of: RulesOf) -> OwnFigures:
    """Liquidation prices and margin ratio from sizes, marks, margins and equity alone, by the tiers of each market."""
    rules = {p.market: found for p in state.positions if (found := rules_of(p.market)) is not None and found.tiers}
    maintenance = {p.market: _maintenance_usd(p, rules[p.market]) for p in state.positions if p.market in rules}
    cross = [p.market for p in state.positions if not p.isolated]
    whole = all(market in rules for market in cross)
    cross_usd = sum((maintenance[market] for market in cross), ZERO) if whole else None
    prices = {}
    for position in state.positions:
        if position.market not in rules or (not position.isolated and cross_usd is None):
            continue
        others = ZERO if position.isolated or cross_usd is None else cross_usd - maintenance[position.market]
        ours = _price(position, state, others, rules[position.market])
        prices[position.market] = OwnPrice(ours, _error_percent(position, ours))
    return OwnFigures(prices, _ratio(state, maintenance, cross_usd))


def _maintenance_usd(position: Position, rules: MarketRules) -> Decimal:
    return rules.maintenance_margin_usd(position.notional_usd)


def _price(position: Position, state: AccountState, others_usd: Decimal, rules: MarketRules) -> Decimal | None:
    side, size, mark = (Side.BUY if position.size > 0 else Side.SELL), abs(position.size), position.mark_price
    if position.isolated:
        return liquidation_price(mark, side, size, position.margin_used_usd, rules)
    return cross_liquidation_price(mark, side, size, state.cross_equity_usd, others_usd, rules)


def _error_percent(position: Position, ours: Decimal | None) -> Decimal:
    return abs((ours or ZERO) - (position.liquidation_price or ZERO)) / position.mark_price * HUNDRED


def _ratio(state: AccountState, maintenance: Mapping[str, Decimal], cross_usd: Decimal | None) -> Decimal | None:
    if cross_usd is None or any(p.market not in maintenance for p in state.positions):
        return None
    ratios = [margin_ratio(p.margin_used_usd, maintenance[p.market]) for p in state.positions if p.isolated]
    ratios.append(margin_ratio(state.cross_equity_usd, cross_usd))
    return min((ratio for ratio in ratios if ratio is not None), default=None)
