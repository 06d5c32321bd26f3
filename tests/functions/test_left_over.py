"""Stops and targets that outlive their trade: the sweep finds and cancels them, and nothing that still guards."""

from decimal import Decimal
from typing import Any

import pytest

from twinleg.bootstrap import paper_key
from twinleg.domain.trades import TradeState


def resting(w: Any) -> dict[str, list[Decimal | None]]:
    return {a: [o.trigger_price for o in w.system.venues.of(a).open_orders(a)] for a in ("main", "hedge")}


def left_over(world: Any, **limits: str) -> Any:
    """A closed trade whose lists of resting orders were answered as empty when it looked for what to cancel."""
    w = world(**limits)
    w.control.switches(triggers_canceled_when_flat=False)
    w.alert("buy", "a1")
    w.fault(kind="empty_read", action="frontendOpenOrders", count=2)
    w.alert("close", "a2")
    w.control.clear_faults()
    assert w.trade().state is TradeState.CLOSED
    assert all(len(prices) == 2 for prices in resting(w).values())
    return w


def test_orders_of_a_trade_that_ended_are_cancelled_by_the_next_sweep(world):
    w = left_over(world)
    w.minutes()
    assert resting(w) == {"main": [], "hedge": []}
    said = [f"{account}: orders of ended trades still rested on {w.market}: cancelled" for account in ("main", "hedge")]
    assert w.events("corrected") == said
    w.alert("sell", "a3")
    assert w.trade().state is TradeState.OPEN, w.trade().summary
    w.minutes(2)
    assert all(len(prices) == 2 for prices in resting(w).values())


def test_what_may_still_guard_a_position_is_not_cancelled_by_one_empty_answer(world):
    """A hand opened a position behind the old stop, and the sweep is answered once as if there were none."""
    w = left_over(world)
    before = resting(w)
    by_hand(w, "main")
    w.fault(kind="empty_read", action="clearinghouseState", address=w.address("main"), count=1)
    w.minutes(2)
    assert w.position("main") > 0
    assert resting(w) == {"main": before["main"], "hedge": []}


def by_hand(w: Any, account: str) -> None:
    import hyperliquid.exchange as sdk
    from eth_account import Account

    stamp, sdk.get_timestamp_ms = sdk.get_timestamp_ms, lambda: int(w.system.clock.now().timestamp() * 1000) + 950
    try:
        answer = sdk.Exchange(Account.from_key(paper_key(account, "owner")), w.server.url).order(
            w.coin, True, 0.001, 101_000, {"limit": {"tif": "Ioc"}}
        )
    finally:
        sdk.get_timestamp_ms = stamp
    assert "filled" in answer["response"]["data"]["statuses"][0], answer


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_the_stops_of_an_open_trade_are_never_taken_for_left_over(world, account):
    w = world()
    w.alert("buy", "a1")
    before = resting(w)
    w.fault(kind="empty_read", action="clearinghouseState", address=w.address(account), count=2)
    w.minutes(2)
    assert resting(w) == before and w.trade().state is TradeState.OPEN
