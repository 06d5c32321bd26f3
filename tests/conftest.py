"""Values that many tests start from."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from twinleg.domain.messages import HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import LegRole, Side
from twinleg.domain.signals import Direction
from twinleg.domain.trades import Trade
from twinleg.engine.saga import proposed

AT = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)


@pytest.fixture
def make_intent() -> Callable[..., HedgedIntent]:
    """An intent to go long BTC with a hedge on the other account; any field can be changed."""

    def make(**changes: Any) -> HedgedIntent:
        values: dict[str, Any] = {
            "intent_id": "BTC-macd-1", "action": IntentAction.OPEN, "strategy": "macd", "market": "hyperliquid:BTC",
            "direction": Direction.LONG, "confidence": Decimal("0.8"),
            "main": LegPlan(
                role=LegRole.MAIN, account="main", market="hyperliquid:BTC", side=Side.BUY, leverage=4,
                margin_share=Decimal("0.8"),
            ),
            "hedge": LegPlan(
                role=LegRole.HEDGE, account="hedge", market="hyperliquid:BTC", side=Side.SELL, leverage=2,
                margin_share=Decimal("0.2"),
            ),
            "stop_percent": Decimal(1), "target_percent": Decimal(2), "budget_percent": Decimal(5),
            "holding_seconds_max": 3600, "slippage_bps": Decimal(50), "range_percent": Decimal("0.05"),
            "reference_price": Decimal(100_000), "trigger": "2025-01-06T12:00:00Z", "trigger_at": AT,
            "reason": "a test", "created_at": AT, "expires_at": AT + timedelta(seconds=90),
        }  # fmt: skip
        return HedgedIntent(**{**values, **changes})

    return make


@pytest.fixture
def make_trade(make_intent: Callable[..., HedgedIntent]) -> Callable[..., Trade]:
    """A proposed trade; any field can be changed."""

    def make(**changes: Any) -> Trade:
        return proposed(make_intent(), AT).model_copy(update=changes)

    return make
