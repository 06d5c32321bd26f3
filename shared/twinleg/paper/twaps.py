"""TWAP orders: a size worked off in equal parts every 30 seconds.

There are two parts a minute and one at the start. Each is an immediate order with a limit 3 % beyond the mark; what it
does not fill is caught up later, at most three parts at a time, and what is missing at the end stays unfilled. A part
refused for lack of margin, or because it could no longer reduce the position, ends the order with that error. With
``randomize`` each part but the last is up to a fifth larger or smaller. Source: Hyperliquid docs, order types and
exchange endpoint; limits and the text for reduce-only orders as measured on testnet.
"""

from __future__ import annotations

import hashlib
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any

from twinleg.paper import desk
from twinleg.paper.accounts import Account, Twap
from twinleg.paper.checks import LARGEST
from twinleg.paper.numbers import text, usd
from twinleg.paper.orders import Order
from twinleg.paper.state import State

SLICE_MS = 30_000
MINUTES_MIN, MINUTES_MAX = 5, 7 * 24 * 60
VALUE_USD_MIN = Decimal(100)
SLIPPAGE = Decimal("0.03")
CATCH_UP = 3
SPREAD = 200
"""Parts in a thousand by which a randomised part may differ."""
NEVER_PLACED = "TWAP was never placed, already canceled, or filled."
MISSED = ("Order could not immediately match", "No liquidity available", "Order must have minimum value")
"""Errors of a part that only put the order behind its plan."""

Json = dict[str, Any]


class Untwappable(Exception):
    """The order is refused, in the venue's words where they are known."""


def place(state: State, account: Account, wire: Json) -> Json:
    """The ``status`` that answers a TWAP order; its first part is carried out at once."""
    try:
        twap = _formed(state, account, wire)
    except Untwappable as error:
        return {"error": str(error)}
    account.twaps[twap.ident] = state.twaps[twap.ident] = twap
    _note(state, account, twap, {"status": "activated"})
    run_due(state)
    return {"running": {"twapId": twap.ident}}


def _formed(state: State, account: Account, wire: Json) -> Twap:
    market = state.by_asset.get(wire["a"])
    if market is None:
        raise Untwappable(f"Invalid asset: {wire['a']}")
    size, minutes = Decimal(wire["s"]).normalize() + 0, wire["m"]
    if size > LARGEST or size % market.listing.lot:
        raise Untwappable("Order has invalid size.")
    if not size:
        raise Untwappable("Order has zero size.")
    if not MINUTES_MIN <= minutes <= MINUTES_MAX:
        raise Untwappable(f"Invalid TWAP duration: {minutes} min(s)")
    if size * market.mark < VALUE_USD_MIN:
        raise Untwappable(f"TWAP order must have minimum value of ${VALUE_USD_MIN}.")
    held = account.size(market.coin)
    if wire["r"] and held * (1 if wire["b"] else -1) >= 0:
        raise Untwappable("Reduce-only TWAP order would increase position.")
    state.next_twap += 1
    return Twap(
        state.next_twap,
        account.address,
        market.coin,
        wire["b"],
        size,
        wire["r"],
        minutes,
        wire["t"],
        state.now_ms,
        state.now_ms,
    )


def cancel(state: State, account: Account, asset: int, ident: int) -> str | Json:
    """The ``status`` that answers a cancel."""
    twap, market = account.twaps.get(ident), state.by_asset.get(asset)
    if twap is None or twap.status or market is None or twap.coin != market.coin:
        return {"error": NEVER_PLACED}
    _end(state, twap, {"status": "terminated"})
    return "success"


def run_due(state: State) -> None:
    """Carry out the parts that are due, in the order their TWAPs were placed."""
    for twap in list(state.twaps.values()):
        if twap.next_ms <= state.now_ms and not state.switches.post_only_mode:
            _run_slice(state, twap)
        elif twap.next_ms <= state.now_ms:
            _pass_by(state, twap)


def _run_slice(state: State, twap: Twap) -> None:
    account = state.accounts[twap.user]
    order = _slice(state, twap)
    if order is not None:
        answer = desk.place_one(state, order, desk.NO_INTERFERENCE)
        twap.executed += order.filled
        twap.executed_usd += order.filled_usd
        error = answer["error"] if isinstance(answer, dict) and "error" in answer else ""
        if error and not error.startswith(MISSED):
            _end(state, twap, {"status": "error", "description": error.split(" asset=")[0]})
            return
    if twap.executed >= twap.size:
        _end(state, twap, {"status": "finished"})
        return
    if twap.reduce_only and not account.size(twap.coin):
        _end(state, twap, {"status": "terminated"})
        return
    _pass_by(state, twap)


def _pass_by(state: State, twap: Twap) -> None:
    twap.slices_done += 1
    twap.next_ms += SLICE_MS
    if twap.slices_done >= parts(twap):
        _end(state, twap, {"status": "finished"})


def parts(twap: Twap) -> int:
    """How many parts the order has: two a minute and the first."""
    return 2 * twap.minutes + 1


def _slice(state: State, twap: Twap) -> Order | None:
    """The next part as an order, or None when it has no whole lot."""
    market = state.markets[twap.coin]
    number, count = twap.slices_done + 1, parts(twap)
    usual = twap.size / count
    planned = twap.size * number / count
    if twap.randomize and number < count:
        digest = hashlib.sha256(f"twap:{state.seed}:{twap.ident}:{number}".encode()).digest()
        planned += usual * (int.from_bytes(digest[:4]) % (2 * SPREAD + 1) - SPREAD) / 1000
    wanted = min(planned - twap.executed, CATCH_UP * usual)
    size = min(wanted.quantize(market.listing.lot, ROUND_DOWN), twap.size - twap.executed)
    if size <= 0:
        return None
    slip = 1 + SLIPPAGE if twap.is_buy else 1 - SLIPPAGE
    limit = market.listing.round(market.mark * slip, ROUND_FLOOR if twap.is_buy else ROUND_CEILING)
    return Order(
        oid=0,
        user=twap.user,
        coin=twap.coin,
        is_buy=twap.is_buy,
        limit=limit,
        size=size,
        original=size,
        reduce_only=twap.reduce_only,
        tif="Ioc",
        cloid=None,
        placed_ms=state.now_ms,
        twap=twap.ident,
    )


def _end(state: State, twap: Twap, status: Json) -> None:
    twap.status = status["status"]
    state.twaps.pop(twap.ident, None)
    _note(state, state.accounts[twap.user], twap, status)


def _note(state: State, account: Account, twap: Twap, status: Json) -> None:
    row = {"time": state.now_ms // 1000, "state": shown(twap), "status": status, "twapId": twap.ident}
    account.twap_history.append(row)


def shown(twap: Twap) -> Json:
    """A TWAP order as its history and the front end show it."""
    return {
        "coin": twap.coin,
        "user": twap.user,
        "side": "B" if twap.is_buy else "A",
        "sz": text(twap.size),
        "executedSz": text(twap.executed),
        "executedNtl": usd(twap.executed_usd),
        "minutes": twap.minutes,
        "reduceOnly": twap.reduce_only,
        "randomize": twap.randomize,
        "timestamp": twap.started_ms,
    }


def slice_fills(account: Account) -> list[Json]:
    """The fills that came of TWAP orders, oldest first, as ``userTwapSliceFills`` wraps them."""
    return [{"fill": row, "twapId": row["twapId"]} for row in account.fills if row["twapId"] is not None]


def terminate_all(state: State, account: Account, coin: str | None = None) -> None:
    """End an account's running orders (in one coin, or all): its positions are being liquidated."""
    for twap in [t for t in account.twaps.values() if not t.status and coin in (None, t.coin)]:
        _end(state, twap, {"status": "terminated"})
