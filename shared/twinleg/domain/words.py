"""Words that stand in configurations, alerts and topics, apart from the values made of them."""

from __future__ import annotations

from enum import StrEnum

from twinleg.domain.signals import Direction


class Topic(StrEnum):
    CANDLES = "candles"
    ALERTS = "alerts"
    INTENTS = "intents"
    CLOSES = "closes"
    EVENTS = "events"

    @property
    def dead(self) -> str:
        """Where a message goes that could not be handled, with the reason."""
        return f"{self.value}-dead"


class SignerRole(StrEnum):
    """Who signs: each has an agent key of its own per account."""

    EXECUTE = "execute"
    RISK = "risk"
    EMERGENCY = "emergency"


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def sign(self) -> int:
        """+1 for buy, -1 for sell."""
        return 1 if self is Side.BUY else -1

    @classmethod
    def opening(cls, direction: Direction) -> Side:
        """The side that opens a position in this direction."""
        return cls.BUY if direction is Direction.LONG else cls.SELL
