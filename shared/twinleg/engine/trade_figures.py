"""The figures of one trade's life, each told once: when its main leg is filled, when it is open, when it is over."""

from __future__ import annotations

from datetime import datetime

from twinleg.domain.trades import Trade
from twinleg.engine.measures import measure
from twinleg.engine.pages import hedge_effectiveness


def tell_filled(trade: Trade, now: datetime) -> None:
    """The main leg is filled."""
    _measure(trade, "intent_to_filled_seconds", (now - trade.intent.created_at).total_seconds())


def tell_opened(trade: Trade, now: datetime) -> None:
    """Both legs are filled and guarded."""
    _measure(trade, "intent_to_open_seconds", (now - trade.intent.created_at).total_seconds())
    if trade.unhedged_since is not None:
        _measure(trade, "unhedged_seconds", (now - trade.unhedged_since).total_seconds(), ended="opened")


def tell_closed(trade: Trade, now: datetime) -> None:
    """Both legs are flat."""
    if trade.opened_at is None and trade.unhedged_since is not None:
        _measure(trade, "unhedged_seconds", (now - trade.unhedged_since).total_seconds(), ended="unwound")
    effectiveness = hedge_effectiveness(trade)
    if effectiveness is not None and trade.opened_at is not None:
        _measure(trade, "hedge_effectiveness", float(effectiveness))


def _measure(trade: Trade, name: str, value: float, **labels: str) -> None:
    measure(name, value, market=trade.main.market, trade_id=trade.trade_id, **labels)
