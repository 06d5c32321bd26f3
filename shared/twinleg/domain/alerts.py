"""What TradingView sent, understood.

An alert says what a *strategy on a chart* did. Only its direction and its kind are used: sizes,
leverage, stops and targets in the message are accepted and not used, because sizing is ours.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from twinleg.domain.ids import AlertId
from twinleg.domain.signals import Direction


class AlertAction(StrEnum):
    """What an alert asks for. ``CLOSE`` closes whatever is held; the sided forms only that side."""

    OPEN_LONG = "open_long"
    OPEN_SHORT = "open_short"
    CLOSE = "close"
    CLOSE_LONG = "close_long"
    CLOSE_SHORT = "close_short"
    REDUCE = "reduce"
    REVERSE_TO_LONG = "reverse_to_long"
    REVERSE_TO_SHORT = "reverse_to_short"
    ADD = "add"
    """Adds to a position the chart already holds: understood, and ignored with that reason."""


class AlertReceived(BaseModel):
    """One authenticated alert. It holds no secret: ``text`` is what arrived with every secret masked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alert_id: AlertId
    id_source: Literal["template", "text"]
    """``template``: an id or time in the message identifies it for ever; ``text``: only inside an arrival window."""
    market_ticker: str
    """The coin in capitals, e.g. ``ETH`` for ``BINANCE:ETHUSDT.P``."""
    action: AlertAction
    direction: Direction | None = None
    """The position the action is about; for a reversal the new one. None: the alert does not say."""
    fraction: Decimal | None = Field(default=None, gt=0, lt=1)
    """Of the position, for ``REDUCE`` only."""
    price: Decimal | None = None
    fired_at: datetime | None = None
    strategy: str | None = None
    text: str
    received_at: datetime
