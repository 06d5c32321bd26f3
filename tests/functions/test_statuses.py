"""What a venue may say of an order beyond what was asked: words nobody knows, deleveraging, cancels of its own."""

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
    rising = ["100000"] * 2 + [str(100_000 + 60 * n) for n in range(1, 30)]
    w = world(rising, entry_order="limit", limit_order_seconds_max="5")
    w.control.switches(mark_gap="0.0005")  # at the mark there is somebody to trade with
    w.minutes(1)
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.5", count=1)
    w.restart(renamed(w, "main", ends=False))
    w.alert("buy", "a1")
    w.minutes(2)
    assert not [o for o in w.system.venues.of("main").open_orders("main") if not o.reduce_only]
    trade = w.trade()
    assert trade.state is TradeState.OPEN, trade.summary
    assert 0 < trade.main.size_filled < trade.main.size_approved and trade.hedge.size_filled > 0
    assert any("its status 'novelStatus' is not known" in told for told in w.events("warned"))


# -- the venue's own doing -------------------------------------------------------------------------


def deleverage(w: Any, account: str, direction: str) -> None:
    """Close the account's position at the mark against somebody's liquidation, as the venue does when it must."""
    from twinleg.paper import adl, matching

    state = w.server.venue.engine.state
    holder, market = state.accounts[w.address(account)], state.markets[w.coin]
    position = holder.positions[w.coin]
    order = adl.order_of_the_venue(state, holder, market, abs(position.size))
    other = {"liquidatedUser": "0x" + "9" * 40, "markPx": str(market.mark), "method": "backstop"}
    ids = {"tid": state.new_tid(), "tx": state.new_hash()}
    matching.fill(state, order, market.mark, order.size, crossed=True, liquidation=other, **ids)
    holder.fills[-1]["dir"] = direction
    matching.complete(state, order)
    matching.keep_reduce_only(state, holder, market)


@pytest.mark.parametrize("direction", ["Auto-Deleveraging", "Close Long"])
@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_leg_that_was_deleveraged_takes_the_other_with_it_and_the_reason_says_so(world, account, direction):
    w = world()
    w.alert("buy", "a1")
    deleverage(w, account, direction)
    w.minutes()
    trade = w.trade()
    name = "main leg" if account == "main" else "hedge"
    assert trade.state is TradeState.CLOSED
    assert trade.why_closed.startswith(f"{name} auto-deleveraged by the venue at ")
    assert w.position("main") == w.position("hedge") == 0
    assert all(leg.size_closed == leg.size_filled > 0 for leg in trade.legs)
    assert not any(leg.liquidated for leg in trade.legs)


CANCELS = ["marginCanceled", "reduceOnlyCanceled", "scheduledCancel"]


@pytest.mark.parametrize("word", [*CANCELS, "novelStatus"])
def test_a_stop_that_the_venue_cancels_is_placed_again_whatever_it_calls_it(world, word):
    w = world()
    w.alert("buy", "a1")
    state = w.server.venue.engine.state
    [stop] = [o for o in state.orders.values() if o.live and o.user == w.address("main") and o.tpsl == "sl"]
    state.set_status(stop, word)
    w.minutes()
    assert w.trade().state is TradeState.OPEN
    again = [o for o in w.system.venues.of("main").open_orders("main") if o.kind == "stop"]
    assert [o.trigger_price for o in again] == [w.trade().main.stop_price]
    assert len(w.events("protected")) == 1


@pytest.mark.parametrize("word", ["marginCanceled", "selfTradeCanceled", "liquidatedCanceled"])
def test_a_resting_entry_that_the_venue_cancels_ends_the_trade_with_nothing_held(world, word):
    w = world(entry_order="limit", limit_order_seconds_max="10")

    def cancel(_: int, name: str) -> None:
        for order in entry_orders(w, "main") if name.startswith("hyperliquid") else []:
            if order.live:
                w.server.venue.engine.state.set_status(order, word)

    w.restart(Steps(cancel))
    w.alert("buy", "a1")
    w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.REFUSED and trade.why_closed == f"main_rejected: nothing filled: {word}"
    assert w.position("main") == w.position("hedge") == 0
