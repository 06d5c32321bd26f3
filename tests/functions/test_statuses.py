"""What a venue may say of an order beyond what was asked of it: words nobody knows, cancels of its own, deleveraging."""

from typing import Any

import pytest

from twinleg.domain.trades import ENDED, TradeState
from twinleg.engine.ports import Steps

# -- a status that nobody knows --------------------------------------------------------------------


def entry_orders(w: Any, account: str) -> list[Any]:
    found = w.server.venue.engine.state.orders.values()
    return [o for o in found if o.user == w.address(account) and not o.reduce_only]


def renamed(w: Any, account: str, *, ends: bool) -> Steps:
    """As soon as the venue has the entry order of this account, its status becomes a word nobody knows."""

    def rename(_: int, name: str) -> None:
        for order in entry_orders(w, account) if name == "hyperliquid.exchange" else []:
            if order.status != "novelStatus":
                if ends:
                    w.server.venue.engine.state.set_status(order, "novelStatus")
                order.status = "novelStatus"

    return Steps(rename)


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_an_order_with_an_unknown_status_is_told_and_its_fills_say_what_it_did(world, account):
    """The answer to the entry is lost; what the venue says of it is a word that came with some update."""
    w = world()
    w.restart(renamed(w, account, ends=True))
    w.fault(kind="lose_answer", action="order", address=w.address(account), count=1)
    w.alert("buy", "a1")
    w.minutes(2)
    trade = w.trade()
    assert trade.state is TradeState.OPEN or trade.state in ENDED, trade.summary
    if trade.state is TradeState.OPEN:
        assert w.position("main") > 0 > w.position("hedge")
    else:
        assert w.position("main") == w.position("hedge") == 0
    assert len(entry_orders(w, account)) == 1, "never placed twice"
    assert any("its status 'novelStatus' is not known" in told for told in w.events("warned"))


def test_a_resting_entry_with_an_unknown_status_is_cancelled_before_anything_is_hedged(world):
    w = world(entry_order="limit", limit_order_seconds_max="5")
    w.minutes(1)
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.5", count=1)
    w.restart(renamed(w, "main", ends=False))
    w.alert("buy", "a1")
    w.minutes(2)
    assert not [o for o in w.system.venues.of("main").open_orders("main") if not o.reduce_only]
    trade = w.trade()
    assert trade.state is TradeState.OPEN or trade.state in ENDED, trade.summary
    if trade.state in ENDED:
        assert w.position("main") == w.position("hedge") == 0
