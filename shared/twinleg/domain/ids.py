"""Identifiers derived from content, so that doing something again finds what was done."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NewType

AccountName = NewType("AccountName", str)
"""The configuration's name of one address or login at one venue, e.g. ``main``."""

MarketId = NewType("MarketId", str)
"""``venue:COIN``, e.g. ``hyperliquid:ETH``."""

IntentId = NewType("IntentId", str)
ClientOrderId = NewType("ClientOrderId", str)
AlertId = NewType("AlertId", str)


def digest_of(*parts: str) -> str:
    """SHA-256 of the parts in this order, in hex."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def coin_of(market: str) -> str:
    """``hyperliquid:ETH`` → ``ETH``."""
    return market.split(":", 1)[1]


def venue_of(market: str) -> str:
    """``hyperliquid:ETH`` → ``hyperliquid``."""
    return market.split(":", 1)[0]


def intent_id(strategy: str, market: str, trigger: str) -> IntentId:
    """The id of the intent that *strategy* makes of one trigger (a candle's close or an alert id).

    Readable in the console: the market, the strategy and a digest of all three parts.
    """
    digest = digest_of(strategy, market, trigger)[:16]
    return IntentId(f"{coin_of(market)}-{strategy}-{digest}")


def client_order_id(intent: str, leg: str, purpose: str, sequence: int, attempt: int) -> ClientOrderId:
    """The 128-bit client order id (``0x`` + 32 hex) of one attempt at one decision of a trade.

    *sequence* is allotted in the trade, one per decision, so that a second cut is not the first;
    *attempt* counts new orders for the same decision, each allowed only after the former is final.
    """
    return ClientOrderId("0x" + digest_of(intent, leg, purpose, str(sequence), str(attempt))[:32])


def alert_id_from_template(given: str) -> AlertId:
    """The id of an alert whose template carries an id (or a time) of its own: the same for ever."""
    return AlertId("t" + digest_of("template", given)[:24])


def alert_id_from_text(body: bytes) -> AlertId:
    """The id of an alert known only by its text; valid within an arrival window."""
    return AlertId("x" + hashlib.sha256(b"text\x1f" + body).hexdigest()[:24])


def account_market(account: str, market: str) -> str:
    """The document id of a slot: at most one leg of one trade holds an (account, market)."""
    return f"{account}:{market}"


def time_ordered_id(at: datetime, *parts: str) -> str:
    """An id that sorts by time, e.g. of an audit entry."""
    return f"{at:%Y%m%dT%H%M%S.%f}-{digest_of(*parts)[:12]}"
