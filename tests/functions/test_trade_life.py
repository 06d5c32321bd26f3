"""A trade's life through the real functions, on the real paper venue, when all goes well and when it does not."""

from decimal import Decimal

import pytest

from twinleg.bootstrap import paper_key
from twinleg.domain.trades import TradeState

D = Decimal


def rising(steps: int, start: int = 100_000, by: int = 200) -> list[str]:
    return [str(start + by * n) for n in range(steps)]


def test_an_alert_becomes_two_opposite_legs_each_with_a_stop_and_is_closed_by_another(world):
    w = world()
    assert w.alert("buy", "a1") == [200]
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert w.position("main") == trade.main.size_filled > 0
    assert w.position("hedge") == -trade.hedge.size_filled < 0
    assert w.address("main") != w.address("hedge")
    stops = {a: [o for o in w.system.venues.of(a).open_orders(a) if o.kind == "stop"] for a in ("main", "hedge")}
    assert [o.trigger_price for o in stops["main"]] == [trade.main.stop_price]
    assert [o.trigger_price for o in stops["hedge"]] == [trade.main.target_price]
    assert trade.hedge.target_price == trade.main.stop_price
    assert all(o.reduce_only for orders in stops.values() for o in orders)

    w.alert("close", "a2")
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert w.position("main") == w.position("hedge") == 0
    assert not w.system.venues.of("main").open_orders("main")
    assert trade.why_closed == "alert close"


def test_the_same_alert_however_often_makes_one_trade(world):
    w = world()
    for _ in range(5):
        w.alert("buy", "a1")
    w.restart()
    w.alert("buy", "a1")
    assert len(w.trades()) == 1
    assert len({f["oid"] for f in w.fills("main")}) == 1
    assert len(w.events("alert_duplicate")) == 5


def test_a_duplicate_of_the_closing_alert_does_not_close_the_next_trade(world):
    w = world()
    w.alert("buy", "a1")
    w.alert("sell", "a2")
    assert w.trade().state is TradeState.CLOSED
    w.minutes()
    w.alert("sell", "a3")
    assert w.trade().state is TradeState.OPEN
    w.alert("sell", "a2")
    w.alert("buy", "a1")
    assert [t.state for t in w.trades()] == [TradeState.CLOSED, TradeState.OPEN]


def test_the_stop_at_the_venue_closes_the_main_leg_and_the_sweep_closes_what_is_left(world):
    w = world(["100000"] * 3 + ["98500"] * 20)
    w.alert("buy", "a1")
    w.minutes(6)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert "main leg stop" in trade.why_closed
    assert w.position("main") == w.position("hedge") == 0
    assert trade.pnl_usd < 0
    assert trade.hedge.realised_usd > 0


def test_the_target_is_mirrored_as_the_hedges_stop(world):
    w = world(["100000"] * 3 + ["102500"] * 20)
    w.alert("buy", "a1")
    w.minutes(6)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert "target" in trade.why_closed
    assert trade.main.realised_usd > 0 > trade.hedge.realised_usd


def test_the_time_limit_closes_both_legs(world):
    w = world(holding_seconds_max="120")
    w.alert("buy", "a1")
    w.minutes(4)
    assert w.trade().state is TradeState.CLOSED
    assert "held_seconds" in w.trade().why_closed


def test_a_refused_hedge_unwinds_the_main_leg(world):
    w = world()
    w.fault(
        kind="reject", address=w.address("hedge"), action="order", error="Insufficient margin to place order.", count=50
    )
    w.alert("buy", "a1")
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert trade.why_closed.startswith("unwound")
    assert w.position("main") == w.position("hedge") == 0
    assert trade.hedge.size_filled == 0


def test_three_unwinds_in_a_day_stop_entries_until_a_person_resumes(world):
    w = world()
    w.fault(
        kind="reject",
        address=w.address("hedge"),
        action="order",
        error="Insufficient margin to place order.",
        count=500,
    )
    for n in range(3):
        w.alert("buy", f"a{n}")
        w.minutes()
    assert w.engine().control()[0].state == "REDUCING"
    w.alert("buy", "a9")
    assert w.trade().state is TradeState.REFUSED
    assert "halted" in w.trade().why_closed


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_an_answer_lost_after_execution_is_found_and_nothing_is_doubled(world, account):
    w = world()
    w.fault(kind="lose_answer", address=w.address(account), action="order", count=1)
    w.alert("buy", "a1")
    for _ in range(5):
        w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert w.position("main") == trade.main.size_approved
    assert -w.position("hedge") == trade.hedge.size_filled > 0
    entries = [a for a in w.system.store.query("actions") if a.data["adds_exposure"]]
    assert len(entries) == 2


def test_a_partly_filled_main_leg_gets_a_hedge_of_the_matching_part_and_a_stop_that_follows_it(world):
    w = world()
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.5", count=1)
    w.alert("buy", "a1")
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert 0 < trade.main.size_filled < trade.main.size_approved
    ratio = trade.main.size_filled / trade.main.size_approved
    assert abs(trade.hedge.size_filled / trade.hedge.size_approved - ratio) < D("0.02")
    resting = w.system.venues.of("main").open_orders("main")
    assert any(o.kind == "stop" and o.trigger_price == trade.main.stop_price for o in resting)


def test_a_hedge_closed_by_hand_takes_the_main_leg_with_it(world):
    w = world()
    w.alert("buy", "a1")
    by_hand(w, "hedge")
    w.minutes(2)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert w.position("main") == 0


def test_a_stop_cancelled_by_hand_is_placed_again_within_one_sweep(world):
    from twinleg.engine.ports import CancelOrders

    w = world()
    w.alert("buy", "a1")
    venue = w.system.venues.of("main")
    ours = [o for o in venue.open_orders("main") if o.kind == "stop"]
    send(w, CancelOrders("main", w.market, (ours[0].client_order_id,)))
    assert not [o for o in venue.open_orders("main") if o.kind == "stop"]
    w.minutes()
    assert [o.trigger_price for o in venue.open_orders("main") if o.kind == "stop"] == [w.trade().main.stop_price]
    assert w.events("protected")


def test_flatten_closes_everything_and_ends_halted_and_only_a_person_resumes(world):
    from twinleg.domain.control import Halt
    from twinleg.engine.control import set_trading

    w = world()
    w.alert("buy", "a1")
    set_trading(w.engine(), Halt.FLATTEN, why="enough", by="a test")
    w.minutes(2)
    assert w.trade().state is TradeState.CLOSED
    assert w.position("main") == w.position("hedge") == 0
    assert w.engine().control()[0].state is Halt.HALTED
    w.alert("buy", "a2")
    assert w.trade().state is TradeState.REFUSED
    set_trading(w.engine(), Halt.ENABLED, why="again", by="a test")
    w.alert("buy", "a3")
    assert w.trade().state is TradeState.OPEN


def test_an_alert_that_reduces_cuts_both_legs_in_proportion(world):
    w = world()
    w.alert("buy", "a1")
    before = w.position("main"), w.position("hedge")
    w.alert("sell", "a2", prev_position="long", position="long", prev_position_size="2", position_size="1")
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert w.position("main") / before[0] == pytest.approx(0.5, abs=0.01)
    assert w.position("hedge") / before[1] == pytest.approx(0.5, abs=0.02)


def test_an_orphan_is_announced_once_and_blocks_entries_there(world):
    w = world()
    stray(w, "main")
    w.minutes(3)
    assert len(w.events("orphan")) == 1
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.REFUSED
    assert w.trade().why_closed.startswith("foreign")
    assert w.position("main") != 0


def test_an_orphan_is_closed_when_the_person_chose_so(world):
    w = world(foreign="close")
    stray(w, "main")
    w.minutes(2)
    assert w.position("main") == 0


def test_an_orphan_that_the_person_chose_to_leave_calls_nobody(world):
    w = world(foreign="ignore")
    stray(w, "main")
    held = w.position("main")
    w.minutes(3)
    assert len(w.events("warned")) == 1 and not w.events("orphan") and w.position("main") == held != 0
    w.alert("buy", "a1")
    assert w.trade().why_closed.startswith("foreign")


def resting_by_hand(w, account: str, price: int, **how: bool) -> None:
    """A resting order of nobody's, by the owner's key."""
    import hyperliquid.exchange as sdk
    from eth_account import Account

    stamp, sdk.get_timestamp_ms = sdk.get_timestamp_ms, lambda: int(w.system.clock.now().timestamp() * 1000) + 950
    try:
        exchange = sdk.Exchange(Account.from_key(paper_key(account, "owner")), w.server.url)
        answer = exchange.order(w.coin, price < 100_000, 0.001, price, {"limit": {"tif": "Gtc"}}, **how)
    finally:
        sdk.get_timestamp_ms = stamp
    assert "resting" in answer["response"]["data"]["statuses"][0], answer


@pytest.mark.parametrize(("choice", "left"), [("stop", 1), ("close", 0), ("ignore", 1)])
def test_a_resting_order_of_nobodys_is_said_once_and_cancelled_when_the_person_chose_so(world, choice, left):
    w = world(foreign=choice)
    resting_by_hand(w, "main", 90_000)
    w.minutes(3)
    assert len(w.system.venues.of("main").open_orders("main")) == left
    [said] = w.events("warned" if choice == "ignore" else "orphan")
    assert "a resting order to buy 0.001 hyperliquid:BTC at 90000" in said
    assert said.endswith("it is left alone (foreign = ignore)") == (choice == "ignore")
    w.alert("buy", "a1")
    assert w.trade().state is (TradeState.REFUSED if left else TradeState.OPEN)


def test_orders_of_ours_and_orders_that_only_reduce_are_never_taken_for_nobodys(world):
    w = world(foreign="close")
    w.alert("buy", "a1")
    resting_by_hand(w, "main", 110_000, reduce_only=True)
    before = len(w.system.venues.of("main").open_orders("main"))
    w.minutes(3)
    assert len(w.system.venues.of("main").open_orders("main")) == before == 3
    assert w.trade().state is TradeState.OPEN and not w.events("orphan")


def test_a_limit_entry_waits_at_the_mark_fills_there_and_is_hedged(world):
    w = world(["100000"] * 2 + ["99900"] * 30, entry_order="limit", limit_order_seconds_max="45")
    w.minutes(1)
    w.system.clock.sleep(50)
    w.alert("buy", "a1")
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert trade.main.entry_price <= trade.main.entry_limit_price
    first = next(o for o in w.control.ledger()["orders"] if not o["reduceOnly"])
    assert first["tif"] == "Gtc"


def test_an_old_list_of_resting_orders_does_not_end_a_limit_entry(world):
    """Filled in part at once and answered as filled; the rest of it rests, and a node that lags does not list it."""
    w = world(entry_order="limit", limit_order_seconds_max="10")
    w.control.switches(partial_gtc_answer="filled", mark_gap="0.0005")  # at the mark there is somebody to trade with
    w.minutes(1)
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.4", count=1)
    w.fault(kind="empty_read", path="/info", action="frontendOpenOrders", address=w.address("main"), count=2)
    w.alert("buy", "a1")
    orders = w.control.ledger()["orders"]
    main, hedge = ([o for o in orders if o["user"] == w.address(a) and not o["reduceOnly"]] for a in ("main", "hedge"))
    assert main and not any(o["live"] for o in (*main, *hedge))
    assert all(h["timestamp"] >= main[0]["statusTimestamp"] for h in hedge)


def test_a_limit_entry_that_nobody_takes_is_cancelled_and_nothing_is_left(world):
    w = world(
        ["100000"] * 2 + [str(100_000 + 100 * n) for n in range(1, 30)],
        entry_order="limit",
        limit_order_seconds_max="5",
    )
    w.minutes(1)
    w.alert("buy", "a1")
    trade = w.trade()
    assert trade.state is TradeState.REFUSED
    assert trade.why_closed.startswith("main_rejected")
    assert w.position("main") == w.position("hedge") == 0
    assert not w.system.venues.of("main").open_orders("main")


def test_a_trade_that_needs_a_person_is_closed_when_the_person_asks(world):
    from twinleg.engine.control import request_close
    from twinleg.engine.saga import Saga

    w = world()
    w.alert("buy", "a1")
    saga = Saga(w.engine())
    saga.needs_a_person(*saga.book.load(w.trade().trade_id), "a test says so")
    request_close(w.engine(), "all", by="a test")
    w.deliver()
    assert w.trade().state is TradeState.CLOSED
    assert w.position("main") == w.position("hedge") == 0


# -- what a person might do by hand at the venue ---------------------------------------------------


def send(w, action, nonce_offset: int = 1):
    from twinleg.domain.candles import ms_from_utc
    from twinleg.engine.ports import SignerRole

    venue = w.system.venues.of(action.account)
    nonce = ms_from_utc(w.system.clock.now()) + 500 + nonce_offset
    answer = venue.send(venue.sign(action, SignerRole.EMERGENCY, nonce, None), 1)
    assert answer.outcome == "accepted", answer
    return answer


def by_hand(w, account: str) -> None:
    """Close a position with an order that is none of ours."""
    from twinleg.domain.orders import OrderKind, OrderRequest, Side
    from twinleg.engine.ports import PlaceReduction

    size = w.position(account)
    side = Side.SELL if size > 0 else Side.BUY
    price = D(90_000) if size > 0 else D(110_000)
    order = OrderRequest(
        client_order_id="0x" + "ab" * 16, market=w.market, side=side, size=abs(size), limit_price=price,
        kind=OrderKind.MARKET, reduce_only=True,
    )  # fmt: skip
    send(w, PlaceReduction(account, (order,)))


def stray(w, account: str) -> None:
    """Open a position that no trade of ours owns, as a hand trade would."""
    from eth_account import Account
    from hyperliquid.exchange import Exchange

    from twinleg.bootstrap import paper_key

    exchange = Exchange(Account.from_key(paper_key(account, "owner")), w.server.url)
    import hyperliquid.exchange as sdk

    from twinleg.domain.candles import ms_from_utc

    stamp, sdk.get_timestamp_ms = sdk.get_timestamp_ms, lambda: ms_from_utc(w.system.clock.now()) + 700
    try:
        answer = exchange.order(w.coin, True, 0.001, 105_000, {"limit": {"tif": "Ioc"}})
    finally:
        sdk.get_timestamp_ms = stamp
    assert answer["status"] == "ok", answer
