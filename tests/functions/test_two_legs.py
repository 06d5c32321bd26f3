"""What a leg goes through between its order and its end: cancels that meet fills, cuts, stops that follow."""

from decimal import Decimal
from typing import Any

import pytest

from twinleg.domain.trades import ENDED, TradeState
from twinleg.engine.ports import Steps

D = Decimal
HALF = {"prev_position": "long", "position": "long", "prev_position_size": "2", "position_size": "1"}


def stops(w: Any, account: str) -> list[Any]:
    return [o for o in w.system.venues.of(account).open_orders(account) if o.kind == "stop" and o.reduce_only]


def both_or_none(w: Any) -> None:
    trade = w.trade()
    if trade.state is TradeState.OPEN:
        for leg in trade.legs:
            assert w.position(leg.account) == leg.size_open * leg.side.sign != 0
            assert stops(w, leg.account)
    else:
        assert trade.state in ENDED, trade.summary
        assert w.position("main") == w.position("hedge") == 0


@pytest.mark.parametrize("fills", ["before it arrives", "in part before it arrives"])
def test_a_cancel_that_meets_a_fill_is_followed_by_the_hedge_of_what_was_filled(world, fills):
    """The limit entry's time is up; the very moment its cancel is sent the price comes through it."""
    closes = ["100000"] * 2 + [str(100_000 + 30 * n) for n in range(1, 30)]
    w = world(closes, entry_order="limit", limit_order_seconds_max="5")
    w.minutes(1)
    raced: list[str] = []

    def race(_: int, name: str) -> None:
        cancels = w.system.store.query("actions", {"kind": "CancelOrders"}) if name == "hyperliquid.exchange" else []
        state = w.server.venue.engine.state
        resting = [o for o in state.orders.values() if o.live and not o.reduce_only and o.user == w.address("main")]
        if not cancels or not resting or raced:
            return
        from twinleg.paper import matching

        [order] = resting
        part = order.size if fills.startswith("before") else (order.size / 2).quantize(D("0.00001"))
        raced.append(name)
        ids = {"tid": state.new_tid(), "tx": state.new_hash()}
        matching.fill(state, order, order.limit, part, crossed=False, liquidation=None, **ids)
        if not order.size:
            matching.complete(state, order)

    w.restart(Steps(race))
    w.alert("buy", "a1")
    w.minutes(2)
    assert raced
    trade = w.trade()
    assert trade.state is TradeState.OPEN, trade.summary
    filled = sum(D(f["sz"]) for f in w.fills("main") if f["side"] == "B")
    assert trade.main.size_filled == filled == w.position("main")
    share = filled / trade.main.size_approved
    assert abs(trade.hedge.size_filled / trade.hedge.size_approved - share) < D("0.03")
    both_or_none(w)


def test_a_stop_after_a_cut_closes_what_remains_and_turns_nothing_round(world):
    w = world(["100000"] * 4 + ["98500"] * 20)
    w.alert("buy", "a1")
    w.alert("sell", "a2", **HALF)
    trade = w.trade()
    assert trade.state is TradeState.OPEN and trade.main.size_open < trade.main.size_filled
    w.minutes(6)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and "main leg stop" in trade.why_closed
    assert w.position("main") == w.position("hedge") == 0
    assert all(leg.size_closed == leg.size_filled for leg in trade.legs) and not w.events("orphan")


def test_a_cut_that_would_leave_less_than_the_venue_takes_closes_all(world):
    w = world()
    w.alert("buy", "a1")
    hedge = abs(w.position("hedge"))
    left = D(5) / (hedge * 100_000)  # worth $5 of the hedge
    size = {"prev_position_size": "1", "position_size": f"{left:.4f}"}
    w.alert("sell", "a2", prev_position="long", position="long", **size)
    w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and "closed whole" in trade.why_closed
    assert w.position("main") == w.position("hedge") == 0


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_partly_filled_leg_has_a_stop_for_what_it_holds_read_back_before_the_trade_is_open(world, account):
    w = world()
    opened: list[bool] = []

    def look(_: int, name: str) -> None:
        if not opened and name.startswith("store.create audit") and any(t.state is TradeState.OPEN for t in w.trades()):
            opened.append(bool(stops(w, "main")) and bool(stops(w, "hedge")))

    w.restart(Steps(look))
    w.fault(kind="partial_fill", address=w.address(account), action="order", fraction="0.6", count=1)
    w.alert("buy", "a1")
    assert opened == [True], "both stops rested when it was written as open"
    both_or_none(w)
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert trade.main.size_filled < trade.main.size_approved or account == "hedge"
    for leg in trade.legs:
        assert any(o.follows_position or o.size >= leg.size_open for o in stops(w, leg.account))


@pytest.mark.parametrize("kind", [{"kind": "429"}, {"kind": "lose_request"}, {"kind": "502html", "execute": True}])
@pytest.mark.parametrize("count", [2, 30])
def test_an_unwinding_that_fails_itself_goes_on_until_nothing_is_held(world, kind, count):
    """The hedge is refused; every order by which the main leg is taken back is lost, too many, or not answered."""
    w = world()
    w.fault(kind="reject", address=w.address("hedge"), action="order", error="Insufficient margin.", count=9)
    unwinding: list[str] = []

    def fail(_: int, name: str) -> None:
        if not unwinding and name == "hyperliquid.exchange" and any(t.state == "UNWINDING" for t in w.trades()):
            unwinding.append(name)
            w.fault(address=w.address("main"), path="/exchange", count=count, **kind)

    w.restart(Steps(fail))
    w.alert("buy", "a1")
    assert unwinding
    w.minutes(2)
    w.control.clear_faults()
    w.minutes(2)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and trade.why_closed.startswith("unwound"), trade.summary
    assert w.position("main") == w.position("hedge") == 0
    assert not [o for o in w.system.venues.of("main").open_orders("main")]
