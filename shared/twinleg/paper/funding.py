"""Hourly funding: signed size x oracle price x hourly rate, paid by longs when positive.

Cross positions pay from the balance, isolated ones from their own margin. Source: Hyperliquid docs, funding.
"""

from __future__ import annotations

from twinleg.paper.books import FUNDING
from twinleg.paper.market import HOUR_MS, Market
from twinleg.paper.numbers import MICRO, ZERO, rounded, text, truncated
from twinleg.paper.state import State

STAMP_LATENESS_MS = 15
"""Stamps lie this much past the hour, as on the real venue (15 to 50 ms)."""


def next_hour(now_ms: int) -> int:
    """The next full hour after this time."""
    return now_ms - now_ms % HOUR_MS + HOUR_MS


def pay(state: State, hour_ms: int) -> None:
    """Settle the hour for every market and every position open at this instant."""
    for market in state.markets.values():
        market.settle_hour(hour_ms)
        if state.switches.funding_enabled:
            for address in list(market.holders):
                _pay_one(state, market, address, hour_ms)


def _pay_one(state: State, market: Market, address: str, hour_ms: int) -> None:
    account = state.accounts[address]
    position = account.positions[market.coin]
    hourly = market.funding[-1][1]
    due = position.size * market.oracle * hourly
    paid = truncated(due) if state.switches.funding_rounding == "down" else rounded(due, MICRO)
    if position.is_cross:
        account.balance -= paid
    else:
        position.collateral -= paid
    state.books.post(address, FUNDING, paid, "funding")
    position.funding_opened += paid
    position.funding_changed += paid
    account.funding_all_time[market.coin] = account.funding_all_time.get(market.coin, ZERO) + paid
    line = {
        "time": hour_ms + STAMP_LATENESS_MS,
        "hash": "0x" + "0" * 64,
        "delta": {
            "type": "funding",
            "coin": market.coin,
            "usdc": text(-paid),
            "szi": text(position.size),
            "fundingRate": text(hourly),
            "nSamples": None,
        },
    }
    account.fundings.append(line)
    state.fundings.append({"user": address, "time": line["time"], **line["delta"]})  # type: ignore[dict-item]
