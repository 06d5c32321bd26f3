"""Approval is a type: a venue accepts an entry only with it, and only the gate makes one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from twinleg.domain.errors import InvariantBroken
from twinleg.domain.orders import LegRole, OrderRequest, Side


@dataclass(frozen=True, slots=True)
class ApprovedLeg:
    """The most one leg may add: base size on one side of one account and market."""

    role: LegRole
    account: str
    market: str
    side: Side
    leverage: int
    size: Decimal
    entry_limit_price: Decimal
    stop_price: Decimal
    target_price: Decimal
    liquidation_distance: Decimal
    """Estimated, at entry, as a fraction of the entry price."""


@dataclass(frozen=True, slots=True)
class Approved:
    """Both legs of an intent, approved together."""

    trade_id: str
    main: ApprovedLeg
    hedge: ApprovedLeg
    loss_at_stop_usd: Decimal
    """Both legs, fees and slippage, if the main leg's stop is hit; negative would be a profit."""
    reason: str

    def leg(self, role: LegRole) -> ApprovedLeg:
        return self.main if role is LegRole.MAIN else self.hedge

    def must_cover(self, account: str, orders: tuple[OrderRequest, ...]) -> None:
        """Raise InvariantBroken unless these orders are within what was approved for one leg."""
        for order in orders:
            if order.reduce_only:
                continue
            legs = [
                leg for leg in (self.main, self.hedge)
                if (leg.account, leg.market, leg.side) == (account, order.market, order.side)
            ]  # fmt: skip
            if not legs or order.size > legs[0].size:
                raise InvariantBroken(
                    f"trade {self.trade_id}: {order.side} {order.size} {order.market} on {account} was not approved"
                )


@dataclass(frozen=True, slots=True)
class Refused:
    """No, with the numbers in the reason; ``code`` groups refusals in summaries."""

    code: str
    reason: str
