"""Messages between functions: frozen, JSON on the wire, decimals as text, times RFC 3339 UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, model_validator

from twinleg.domain.alerts import AlertMessage as AlertMessage
from twinleg.domain.candles import MINUTE, Candle, Snapshot
from twinleg.domain.orders import Frozen, LegRole, OrderKind, Side
from twinleg.domain.signals import Direction
from twinleg.domain.words import Topic as Topic


class CandleClosed(Frozen):
    """A closed candle of one market, published once and in order, with the market's snapshot.

    A ``suspect`` candle moved further from the one before it than the outlier limit; it is kept
    and shown, and nothing trades on it.
    """

    schema_version: Literal[1] = 1
    market: str
    opened_at: datetime
    interval_seconds: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    suspect: bool = False
    received_at: datetime
    snapshot: Snapshot | None = None

    @property
    def closed_at(self) -> datetime:
        return self.opened_at + timedelta(seconds=self.interval_seconds)

    @property
    def candle(self) -> Candle:
        return Candle(
            self.opened_at, self.open, self.high, self.low, self.close, self.volume,
            MINUTE if self.interval_seconds == 60 else timedelta(seconds=self.interval_seconds),
        )  # fmt: skip


class LegPlan(Frozen):
    """What one leg of an intent should be; sizes are decided at the gate, from the equity of that moment."""

    role: LegRole
    account: str
    market: str
    side: Side
    leverage: int = Field(ge=1)
    margin_share: Decimal = Field(gt=0, le=1)
    """Share of the trade budget that is this leg's margin."""


class IntentAction(StrEnum):
    OPEN = "open"
    REVERSE = "reverse"


class HedgedIntent(Frozen):
    """A hedged trade somebody wants: two legs, their limits, and until when it is worth having."""

    schema_version: Literal[1] = 1
    intent_id: str
    action: IntentAction
    strategy: str
    market: str
    direction: Direction
    confidence: Decimal
    main: LegPlan
    hedge: LegPlan
    order_kind: Literal[OrderKind.MARKET, OrderKind.LIMIT] = OrderKind.MARKET
    stop_percent: Decimal
    target_percent: Decimal
    budget_percent: Decimal
    """Of the equity of both accounts together."""
    de_minimis: bool = False
    """Use the smallest notional both legs may have, whatever the budget."""
    holding_seconds_max: int
    slippage_bps: Decimal
    range_percent: Decimal
    """The recent one-minute range in per cent of price, for the stop's floor."""
    reference_price: Decimal
    trigger: str
    """The exact candle close or alert id behind it."""
    trigger_at: datetime
    reason: str
    created_at: datetime
    expires_at: datetime
    replaces: str = ""
    """For a reversal: the trade to close first."""


class CloseTrade(Frozen):
    """Close a trade, or a fraction of both its legs. Never expires."""

    schema_version: Literal[1] = 1
    trade_id: str
    fraction: Decimal = Field(default=Decimal(1), gt=0, le=1)
    reason: str
    request_id: str
    """Content-derived, so that the same request delivered twice cuts once."""


class EventKind(StrEnum):
    CANDLE_SUSPECT = "candle_suspect"
    GAP = "gap"
    ALERT_IGNORED = "alert_ignored"
    ALERT_DUPLICATE = "alert_duplicate"
    SIGNAL = "signal"
    SIGNAL_IGNORED = "signal_ignored"
    REFUSED = "refused"
    APPROVED = "approved"
    MAIN_FILLED = "main_filled"
    OPENED = "opened"
    UNWOUND = "unwound"
    PROTECTED = "protected"
    CUT = "cut"
    MARGIN_ADDED = "margin_added"
    CLOSED = "closed"
    CORRECTED = "corrected"
    WARNED = "warned"
    BREAKER = "breaker"
    HALTED = "halted"
    RESUMED = "resumed"
    ORPHAN = "orphan"
    NEEDS_A_PERSON = "needs_a_person"
    EMERGENCY = "emergency"
    """Something was closed or cancelled under an emergency key."""
    DEAD_LETTER = "dead_letter"
    """A person sent a dead letter again, or dropped it."""
    SCHEDULE = "schedule"
    """A person paused or resumed a scheduled job."""
    RESTORED = "restored"
    """The records were restored from a backup."""


class Event(Frozen):
    """Something notable that happened; also the shape of an audit entry."""

    schema_version: Literal[1] = 1
    kind: EventKind
    at: datetime
    who: str
    summary: str
    market: str = ""
    trade_id: str = ""
    intent_id: str = ""
    account: str = ""
    client_order_id: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_an_audit_entry(cls, data: Any) -> Any:
        """An entry also says until when it is kept."""
        kept = isinstance(data, Mapping) and "expire_at" in data
        return {name: value for name, value in data.items() if name != "expire_at"} if kept else data
