"""What a venue allows in a market: lot, tick, minimum, leverage and margin tiers."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from pydantic import BaseModel, ConfigDict

from twinleg.domain.errors import BadInput
from twinleg.domain.money import ONE, floor_to


class MarginTier(BaseModel):
    """From ``lower_bound_usd`` of notional on, the venue allows at most ``max_leverage``."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    lower_bound_usd: Decimal
    max_leverage: int


class MarketRules(BaseModel):
    """The trading rules of one market at one venue.

    A price has at most ``price_digits`` significant digits and ``price_decimals`` decimals;
    whole numbers are always valid (Source: Hyperliquid docs, tick and lot size). A size is a
    multiple of ``lot``. An order's value, size x limit price, is at least ``notional_usd_min``
    unless it closes the whole position.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    market: str
    asset: int
    lot: Decimal
    price_digits: int
    price_decimals: int
    notional_usd_min: Decimal
    max_leverage: int
    tiers: tuple[MarginTier, ...]
    taker_fee: Decimal
    only_isolated: bool = False

    def price(self, wanted: Decimal, *, up: bool) -> Decimal:
        """The valid price next to *wanted*: at or above it when *up*, else at or below."""
        if wanted <= 0:
            raise BadInput(f"{self.market}: a price must be above 0, was {wanted}")
        mode = ROUND_CEILING if up else ROUND_FLOOR
        if wanted >= Decimal(10) ** self.price_digits:
            return wanted.quantize(ONE, mode)
        exponent = max(wanted.adjusted() - self.price_digits + 1, -self.price_decimals)
        return wanted.quantize(ONE.scaleb(exponent), mode)

    def size(self, wanted: Decimal) -> Decimal:
        """The largest valid size that is not above *wanted*."""
        return floor_to(wanted, self.lot)

    def maintenance_margin_usd(self, notional_usd: Decimal) -> Decimal:
        """Maintenance margin = notional x rate - deduction of its tier, rate = 1 / (2 x max leverage).

        Source: Hyperliquid docs, margin tiers; checked against recorded account states.
        """
        rate, deduction = self.tier_rate(notional_usd)
        return notional_usd * rate - deduction

    def tier_rate(self, notional_usd: Decimal) -> tuple[Decimal, Decimal]:
        """(maintenance rate, maintenance deduction in USD) of the tier that holds *notional_usd*."""
        rate = deduction = Decimal(0)
        for index, tier in enumerate(self.tiers):
            if index and notional_usd < tier.lower_bound_usd:
                break
            next_rate = ONE / (2 * tier.max_leverage)
            deduction += tier.lower_bound_usd * (next_rate - rate) if index else Decimal(0)
            rate = next_rate
        return rate, deduction
