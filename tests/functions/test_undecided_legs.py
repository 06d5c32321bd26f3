"""Each way in which a leg cannot be decided, and what is too small to trade: no leg stays alone, none is doubled."""

from decimal import Decimal
from typing import Any

import pytest

from twinleg.domain.trades import TradeState
from twinleg.engine.ports import Steps

D = Decimal
HALF = {"prev_position": "long", "position": "long", "prev_position_size": "2", "position_size": "1"}


def flat(w: Any) -> bool:
    return w.position("main") == w.position("hedge") == 0


def added(w: Any, account: str) -> Decimal:
    """Base size of all opening fills of an account, by the venue's own ledger."""
    ledger = w.control.ledger()
    opening = {o["oid"] for o in ledger["orders"] if not o["reduceOnly"]}
    mine = [f for f in ledger["fills"] if f["user"].lower() == w.address(account) and f["oid"] in opening]
    return sum((D(f["sz"]) for f in mine), D(0))


@pytest.mark.parametrize("late_ms", [9_000, 14_000], ids=["within its ten seconds", "after them"])
def test_a_hedge_without_a_verdict_is_found_or_given_up_and_closed_if_it_appears(world, late_ms):
    """No answer reaches us, not even to noop; the order itself runs long after it was sent."""
    w = world()
    hedge = w.address("hedge")
    w.fault(kind="arrive_late", ms=late_ms, address=hedge, action="order", count=2)  # and so does its second copy
    w.fault(kind="lose_request", address=hedge, action="noop")
    w.alert("buy", "a1")
    w.minutes(1)
    w.control.clear_faults()
    w.minutes(3)
    trade = w.trade()
    assert added(w, "hedge") == trade.hedge.size_approved > 0
    if late_ms == 9_000:
        assert trade.state is TradeState.OPEN and w.position("main") > 0 > w.position("hedge")
        return
    assert trade.state is TradeState.CLOSED and flat(w)
    assert trade.why_closed == "unwound: the hedge has no verdict in time and may still appear"


def test_an_entry_that_arrived_and_left_no_trace_is_never_placed_again(world):
    """Its nonce is spent, and nothing shows by what: a person is called, and absence permits no other attempt."""
    w = world(day_loss_reducing_percent="80", day_loss_flatten_percent="90")
    main = w.address("main")
    blinded: list[str] = []

    def blind(_: int, name: str) -> None:
        if not blinded and name == "hyperliquid.exchange" and w.system.store.query("actions", {"kind": "PlaceEntry"}):
            blinded.append(name)
            w.fault(kind="lose_answer", address=main, action="order", count=1)
            w.fault(kind="empty_read", address=main)

    w.restart(Steps(blind))
    w.alert("buy", "a1")
    w.minutes(2)
    [record] = w.system.store.query("actions", {"kind": "PlaceEntry"})
    assert record.data["state"] == "vanished" and w.trade().state is TradeState.NEEDS_A_PERSON
    assert len(w.events("needs_a_person")) == 1
    w.control.clear_faults()
    w.minutes(2)
    assert w.trade().state is TradeState.CLOSED and flat(w)
    assert added(w, "main") == w.trade().main.size_approved and added(w, "hedge") == 0


def test_a_leg_that_is_gone_without_a_fill_is_booked_at_the_mark_and_takes_the_other(world):
    w = world()
    w.alert("buy", "a1")
    size = w.position("main")
    w.fault(kind="empty_read", address=w.address("main"), action="userFillsByTime")
    sold_by_hand(w, size)
    w.minutes(2)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and flat(w)
    [said] = w.events("corrected")
    assert "gone without a fill that explains it" in said
    assert trade.main.size_closed == trade.main.size_filled > 0


def sold_by_hand(w: Any, size: Decimal) -> None:
    import hyperliquid.exchange as sdk
    from eth_account import Account

    from twinleg.bootstrap import paper_key

    stamp, sdk.get_timestamp_ms = sdk.get_timestamp_ms, lambda: int(w.system.clock.now().timestamp() * 1000) + 950
    try:
        answer = sdk.Exchange(Account.from_key(paper_key("main", "owner")), w.server.url).order(
            w.coin, False, float(size), 99_000, {"limit": {"tif": "Ioc"}}, reduce_only=True
        )
    finally:
        sdk.get_timestamp_ms = stamp
    assert "filled" in answer["response"]["data"]["statuses"][0], answer


def test_a_leg_that_seems_gone_twice_keeps_its_stop_while_that_still_rests(world):
    """Unwinding is answered falsely, twice, that nothing is held: the stop that rests says otherwise."""
    w = world()
    w.fault(kind="reject", address=w.address("hedge"), action="order", error="Insufficient margin.", count=9)
    struck: list[str] = []

    def empty(_: int, name: str) -> None:
        if not struck and name == "hyperliquid userFillsByTime" and w.trade().state is TradeState.UNWINDING:
            struck.append(name)
            w.fault(kind="empty_read", address=w.address("main"), action="clearinghouseState", count=2)

    w.restart(Steps(empty))
    w.alert("buy", "a1")
    w.minutes()
    assert struck and w.trade().state is TradeState.CLOSED and flat(w)
    assert not w.system.store.query("actions", {"kind": "CancelOrders"}), "the venue takes it away when all is sold"


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_trade_whose_stop_is_not_seen_at_the_venue_is_unwound(world, account):
    w = world()
    w.fault(kind="empty_read", address=w.address(account), action="frontendOpenOrders")
    w.alert("buy", "a1")
    w.control.clear_faults()
    w.minutes(2)
    trade = w.trade()
    name = "main leg" if account == "main" else "hedge"
    assert trade.why_closed == f"unwound: no stop seen at the venue for the {name}"
    assert trade.state is TradeState.CLOSED and flat(w)
    assert not [o for a in ("main", "hedge") for o in w.system.venues.of(a).open_orders(a)]


# -- what is too small -----------------------------------------------------------------------------


def test_a_main_fill_whose_hedge_the_venue_would_not_take_is_closed_whole(world):
    w = world()
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.03", count=1)
    w.alert("buy", "a1")
    w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and "< the venue's minimum 10" in trade.why_closed
    assert flat(w) and trade.main.size_filled > 0 == added(w, "hedge")


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_what_a_close_leaves_under_the_minimum_is_closed_too(world, account):
    w = world()
    w.alert("buy", "a1")
    w.fault(kind="partial_fill", address=w.address(account), action="order", fraction="0.999", count=1)
    w.alert("close", "a2")
    assert w.trade().state is TradeState.CLOSED and flat(w)
    closes = [o.size * 100_000 for o in getattr(w.trade(), account).orders if o.purpose == "close"]
    assert len(closes) == 2 and closes[1] < 10


def test_what_a_cut_leaves_under_the_minimum_stays(world):
    """The venue takes no part of a position that is worth so little: the rest of the cut is let go."""
    w = world()
    w.alert("buy", "a1")
    before = w.position("main")
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.995", count=1)
    w.alert("sell", "a2", **HALF)
    w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert [o.purpose for o in trade.main.orders].count("cut") == 1
    assert 0 < w.position("main") - before / 2 < D("0.0001")


def test_a_cut_that_cannot_be_made_closes_both_legs(world):
    w = world()
    w.alert("buy", "a1")
    w.fault(kind="reject", address=w.address("main"), action="order", error="Insufficient margin.", count=3)
    w.alert("sell", "a2", **HALF)
    w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and "the main leg could not be cut: closed whole" in trade.why_closed
    assert flat(w)
