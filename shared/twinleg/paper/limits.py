"""Request limits, when switched on: weight per minute and client address, and the budget of each trading address.

Source: Hyperliquid docs, rate limits and user limits.
"""

from __future__ import annotations

import json
from collections import deque
from decimal import Decimal
from typing import Any

from twinleg.paper import transfers
from twinleg.paper.accounts import Account
from twinleg.paper.books import FEES
from twinleg.paper.numbers import rounded, text
from twinleg.paper.refusals import Refused
from twinleg.paper.state import State

WEIGHT_MAX = 1200
MINUTE_MS = 60_000
BUDGET = 10_000
CANCEL_EXTRA = 100_000
OVER_BUDGET_MS = 10_000
STALE_FACTOR = 5
"""An action that came after its own expiry costs this many times its share of the budget."""
REQUEST_USD = Decimal("0.0005")
CENT = Decimal("0.01")
_LIGHT = frozenset(
    ("l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus")
)
_BY_ROWS = frozenset(
    (
        *("historicalOrders", "userFills", "userFillsByTime", "fundingHistory", "userFunding", "recentTrades"),
        *("userNonFundingLedgerUpdates", "twapHistory", "userTwapSliceFills", "userTwapSliceFillsByTime"),
        *("delegatorHistory", "delegatorRewards"),
    )
)
CANCELS = frozenset(("cancel", "cancelByCloid"))

Json = Any


class MinuteWeight:
    """The weight one client address used in the last minute of venue time."""

    def __init__(self) -> None:
        self._used: dict[str, deque[tuple[int, int]]] = {}

    def allows(self, client: str, weight: int, now_ms: int) -> bool:
        """Count a request unless it would exceed 1200 a minute."""
        used = self._used.setdefault(client, deque())
        while used and used[0][0] <= now_ms - MINUTE_MS:
            used.popleft()
        if sum(part for _, part in used) + weight > WEIGHT_MAX:
            return False
        used.append((now_ms, weight))
        return True

    def add(self, client: str, weight: int, now_ms: int) -> None:
        """Count what an answer weighed beyond its request."""
        if weight:
            self._used.setdefault(client, deque()).append((now_ms, weight))


def weight(path: str, body: Json) -> int:
    """What a request weighs before its answer is known."""
    if path == "/exchange":
        action = body.get("action")
        return 1 + (batch(action) if isinstance(action, dict) else 1) // 40
    kind = str(body.get("type"))
    return 2 if kind in _LIGHT else 60 if kind == "userRole" else 20


def answer_weight(body: Json, answer: str) -> int:
    """What the answer's rows add: one per 20 rows, or per 60 candles."""
    kind = str(body.get("type"))
    per = 20 if kind in _BY_ROWS else 60 if kind == "candleSnapshot" else 0
    return len(json.loads(answer)) // per if per and answer.startswith("[") else 0


def batch(action: Json) -> int:
    """How many requests an action counts for: the length of its list, at least one."""
    items = (action.get(name) for name in ("orders", "cancels", "modifies"))
    return max((len(found) for found in items if isinstance(found, list)), default=0) or 1


def used(account: Account) -> int:
    """Requests that count against the budget: those sent, less those bought."""
    return max(0, account.requests - account.reserved_requests)


def over_budget(account: Account, action: Json, now_ms: int) -> str | None:
    """Why an address may not send this now, in the venue's words; None when it may.

    Each address has 10 000 requests and one more for each USDC traded; past that one in 10 seconds.
    Cancels have min(limit + 100 000, 2 x limit).
    """
    limit = BUDGET + int(account.volume)
    allowed = min(limit + CANCEL_EXTRA, 2 * limit) if action["type"] in CANCELS else limit
    wanted = max(0, account.requests + batch(action) - account.reserved_requests)
    if wanted <= allowed or now_ms >= account.over_budget_ms + OVER_BUDGET_MS:
        if wanted > allowed:
            account.over_budget_ms = now_ms
        return None
    traded = text(rounded(account.volume, CENT)).removesuffix(".0")
    return (
        f"Too many cumulative requests sent ({wanted} > {allowed}) for cumulative volume traded ${traded}. "
        "Place taker orders to free up 1 request per USDC traded."
    )


def reserve(state: State, account: Account, action: Json) -> None:
    """Buy requests from the perpetuals balance, for oneself or for another address that exists."""
    address = action.get("destination")
    target = account if address is None else state.accounts.get(transfers.lower(address))
    if target is None:
        raise Refused("User does not exist.")
    cost = REQUEST_USD * action["weight"]
    if not 0 < cost <= transfers.free(state, account):
        raise Refused("Insufficient balance for withdrawal.")
    account.balance -= cost
    state.books.post(account.address, FEES, cost, "requests")
    target.reserved_requests += action["weight"]
