"""Orders as wanted, as carried by a venue, and as filled."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from twinleg.domain.ids import ClientOrderId
from twinleg.domain.money import ZERO
from twinleg.domain.words import Side as Side
from twinleg.domain.words import SignerRole as SignerRole


class Frozen(BaseModel):
    """A value that crosses a boundary: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class LegRole(StrEnum):
    MAIN = "main"
    HEDGE = "hedge"

    @property
    def other(self) -> LegRole:
        return LegRole.HEDGE if self is LegRole.MAIN else LegRole.MAIN


class Purpose(StrEnum):
    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    CUT = "cut"
    CLOSE = "close"
    UNWIND = "unwind"
    ORPHAN = "orphan"
    EMERGENCY = "emergency"
    """A close sent while the records could not be read."""


class OrderKind(StrEnum):
    MARKET = "market"
    """Immediate-or-cancel with a limit price: what does not fill at once is gone."""
    LIMIT = "limit"
    STOP = "stop"
    """Reduce-only, becomes a market order when the mark reaches the trigger against the leg."""
    TARGET = "target"
    """Reduce-only, becomes a market order when the mark reaches the trigger in the leg's favour."""


class Grouping(StrEnum):
    NONE = "none"
    WITH_PARENT = "with_parent"
    """Entry, stop and target in one request; the last two wake when the first is fully filled."""
    POSITION = "position"
    """Stop and target that follow the size of the position."""


class OrderRequest(Frozen):
    """One order as we want it. ``size`` is in base units and positive; prices in quote currency."""

    client_order_id: ClientOrderId
    market: str
    side: Side
    size: Decimal
    limit_price: Decimal
    kind: OrderKind
    reduce_only: bool
    trigger_price: Decimal | None = None


class AckState(StrEnum):
    FILLED = "filled"
    RESTING = "resting"
    WAITING = "waiting"
    REJECTED = "rejected"
    CANCELED = "canceled"
    DONE = "done"
    """Accepted, for actions that are not orders."""


class OrderAck(Frozen):
    """What a venue answered about one order (``filled_size`` may be less than asked for)."""

    state: AckState
    order_id: str = ""
    filled_size: Decimal = ZERO
    average_price: Decimal | None = None
    reason: str = ""


class OrderReport(Frozen):
    """What a venue says later about one order, found by its client order id."""

    client_order_id: ClientOrderId
    order_id: str
    state: AckState
    status: str
    """The venue's own word, e.g. ``iocCancelRejected``."""
    size: Decimal
    at: datetime
    known: bool = True
    """Whether the word is one we know. Of another, ``state`` says only that the venue has the order."""


class RestingOrder(Frozen):
    """An order resting (or waiting for its trigger) at a venue. Foreign ones have no client id of ours."""

    client_order_id: ClientOrderId | None
    order_id: str
    market: str
    side: Side
    size: Decimal
    limit_price: Decimal
    trigger_price: Decimal | None
    reduce_only: bool
    kind: OrderKind
    follows_position: bool = False


class Fill(Frozen):
    """One execution. ``fee_usd`` positive = paid; ``size`` positive; ``start_position`` signed, before it."""

    fill_id: str
    order_id: str
    client_order_id: ClientOrderId | None
    market: str
    side: Side
    size: Decimal
    price: Decimal
    fee_usd: Decimal
    closed_pnl_usd: Decimal
    start_position: Decimal
    at: datetime
    liquidation: bool = False
    deleveraged: bool = False
    """The venue closed it against another's liquidation (auto-deleveraging): no order of anybody's of ours."""


class Position(Frozen):
    """What a venue says an account holds in a market. ``size`` is signed: negative = short."""

    account: str
    market: str
    size: Decimal
    entry_price: Decimal
    mark_price: Decimal
    unrealised_usd: Decimal
    liquidation_price: Decimal | None
    margin_used_usd: Decimal
    maintenance_usd: Decimal
    leverage: int
    isolated: bool
    funding_paid_usd: Decimal
    """Since the position was opened; positive = paid."""

    @property
    def notional_usd(self) -> Decimal:
        return abs(self.size) * self.mark_price

    @property
    def liquidation_distance(self) -> Decimal | None:
        """|mark - liquidation price| / mark; None when the position cannot be liquidated."""
        if self.liquidation_price is None:
            return None
        return abs(self.mark_price - self.liquidation_price) / self.mark_price

    @property
    def margin_ratio(self) -> Decimal | None:
        """Margin behind an isolated position / its maintenance margin; at 1 it is liquidated."""
        return self.margin_used_usd / self.maintenance_usd if self.isolated and self.maintenance_usd > 0 else None


class AccountState(Frozen):
    """One account as its venue reports it. ``at`` is the venue's own time in the answer."""

    account: str
    at: datetime
    equity_usd: Decimal
    """Cash, margin and unrealised profit together."""
    free_usd: Decimal
    """Collateral that backs nothing yet: what a new position's initial margin may use."""
    margin_used_usd: Decimal
    cross_equity_usd: Decimal
    cross_maintenance_usd: Decimal
    positions: tuple[Position, ...]

    def position(self, market: str) -> Position | None:
        return next((p for p in self.positions if p.market == market), None)

    @property
    def margin_ratio(self) -> Decimal | None:
        """Lowest of the account's ratios, cross equity / cross maintenance and each isolated one."""
        ratios = [r for p in self.positions if (r := p.margin_ratio) is not None]
        if self.cross_maintenance_usd > 0:
            ratios.append(self.cross_equity_usd / self.cross_maintenance_usd)
        return min(ratios, default=None)
