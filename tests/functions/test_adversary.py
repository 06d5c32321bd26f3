"""What would cost money: answers that lag, stops that fail, crashes, races, hands at the venue, clocks that differ.

Each test sets one trap on a whole desk with the real paper venue, and asks the same of what is left: no leg ever
got more than was approved for it, and the trade ends hedged and guarded, or flat.
"""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from twinleg.bootstrap import paper_key
from twinleg.domain.control import Halt
from twinleg.domain.errors import Unavailable
from twinleg.domain.messages import CloseTrade
from twinleg.domain.orders import OrderKind, OrderRequest, Side
from twinleg.domain.trades import ENDED, TradeState
from twinleg.engine.control import request_close, set_trading
from twinleg.engine.execution import on_close
from twinleg.engine.ports import PlaceReduction, SignerRole, Steps
from twinleg.engine.saga import Saga

D = Decimal
WIDE = {
    "net_stop_percent": "50", "net_target_percent": "50",
    "day_loss_reducing_percent": "80", "day_loss_flatten_percent": "90",
}  # fmt: skip


# -- helpers ---------------------------------------------------------------------------------------


class When:
    """Runs *act* at a step that *wanted* recognises; once, or each time."""

    def __init__(self, wanted: Callable[[str], bool], act: Callable[[], None], *, each: bool = False) -> None:
        self.wanted, self.act, self.each, self.struck, self.busy = wanted, act, each, 0, False

    def __call__(self, _: int, name: str) -> None:
        if self.busy or (self.struck and not self.each) or not self.wanted(name):
            return
        self.busy = True
        try:
            self.struck += 1
            self.act()
        finally:
            self.busy = False


def exposure_added(w: Any, account: str) -> Decimal:
    """Base size of all opening fills of an account, by the venue's own ledger."""
    ledger = w.control.ledger()
    opening = {o["oid"] for o in ledger["orders"] if not o["reduceOnly"] and o["cloid"]}
    mine = [f for f in ledger["fills"] if f["user"].lower() == w.address(account) and f["oid"] in opening]
    return sum((D(f["sz"]) for f in mine), D(0))


def drifting(minutes: int = 30) -> list[str]:
    """Closes that sink through the stop so slowly that mark and price stay together."""
    return ["100000"] * 2 + [str(99_600 - 40 * n) for n in range(minutes)]


def stops(w: Any, account: str) -> list[Any]:
    return [o for o in w.system.venues.of(account).open_orders(account) if o.kind == "stop" and o.reduce_only]


def state(w: Any) -> Halt:
    return w.engine().control()[0].state


def flat(w: Any) -> bool:
    return w.position("main") == w.position("hedge") == 0


def judge(w: Any) -> None:
    """ONCE, TWO-LEGGED and GUARDED, by what the venue says."""
    trades = w.trades()
    if not trades:
        assert flat(w)
        return
    for account in ("main", "hedge"):
        approved = sum((leg.size_approved for t in trades for leg in t.legs if leg.account == account), D(0))
        assert exposure_added(w, account) <= approved, f"{account} doubled"
    assert all(t.state in ENDED for t in trades[:-1])
    if trades[-1].state is TradeState.OPEN:
        for leg in trades[-1].legs:
            assert w.position(leg.account) == leg.size_open * leg.side.sign != 0, leg.role
            assert any(o.follows_position or o.size >= leg.size_open for o in stops(w, leg.account)), leg.role
    else:
        assert trades[-1].state in ENDED, trades[-1].summary
        assert flat(w), f"{trades[-1].summary}, yet {w.position('main')} and {w.position('hedge')} are held"


def settle(w: Any, minutes: int = 4) -> None:
    for _ in range(minutes):
        w.minutes()


def by_hand(w: Any, account: str, buys: bool, size: Decimal | str, *, reduce_only: bool = False) -> None:
    """An order of nobody's, without a client order id, by the owner's key."""
    import hyperliquid.exchange as sdk
    from eth_account import Account

    by_hand.count = getattr(by_hand, "count", 0) + 1
    stamp, sdk.get_timestamp_ms = (
        sdk.get_timestamp_ms,
        lambda: int(w.system.clock.now().timestamp() * 1000) + 700 + by_hand.count,
    )
    try:
        exchange = sdk.Exchange(Account.from_key(paper_key(account, "owner")), w.server.url)
        price = 110_000 if buys else 90_000
        answer = exchange.order(w.coin, buys, float(size), price, {"limit": {"tif": "Ioc"}}, reduce_only)
    finally:
        sdk.get_timestamp_ms = stamp
    assert "filled" in answer["response"]["data"]["statuses"][0], answer


def deposit(w: Any, account: str, usd: int) -> None:
    w.control._post("/_sim/deposit", {"address": w.address(account), "usd": str(usd)})


def person(w: Any, why: str = "a test says so") -> None:
    saga = Saga(w.engine())
    saga.needs_a_person(*saga.book.load(w.trade().trade_id), why)


# -- answers that lag ------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["main", "hedge"])
@pytest.mark.parametrize("answers", [2, 4, 8, 30])
def test_a_venue_that_shows_a_fill_late_doubles_nothing_and_forgets_nothing(world, account, answers):
    """The order was answered as filled; fills and position, for a while, are answered as if nothing had happened."""
    w = world()
    lag = When(
        lambda name: name == "hyperliquid.exchange" and bool(w.fills(account)),
        lambda: w.fault(kind="empty_read", address=w.address(account), path="/info", count=answers),
    )
    w.restart(Steps(lag))
    w.alert("buy", "a1")
    assert lag.struck
    w.control.clear_faults()
    settle(w)
    judge(w)


@pytest.mark.parametrize("account", ["main", "hedge"])
@pytest.mark.parametrize("answers", [1, 2, 3, 4])
def test_a_close_does_not_believe_one_empty_answer(world, account, answers):
    w = world()
    w.alert("buy", "a1")
    w.fault(kind="empty_read", address=w.address(account), path="/info", count=answers)
    w.alert("close", "a2")
    w.control.clear_faults()
    settle(w, 2)
    judge(w)
    assert w.trade().state is TradeState.CLOSED
    assert w.trade().main.realised_usd != 0
    assert w.trade().hedge.size_closed == w.trade().hedge.size_filled > 0


@pytest.mark.parametrize("account", ["main", "hedge"])
@pytest.mark.parametrize("answers", [2, 3, 4, 5])
def test_empty_answers_within_five_seconds_close_nothing(world, account, answers):
    w = world()
    w.alert("buy", "a1")
    w.fault(kind="empty_read", address=w.address(account), path="/info", count=answers)
    w.minutes()
    w.control.clear_faults()
    settle(w, 2)
    judge(w)
    assert w.trade().state is TradeState.OPEN


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_close_by_hand_that_makes_fills_and_position_disagree_ends_flat(world, account):
    """Between a fill and its confirmation, somebody else's order (with a client id of its own) takes some off."""
    w = world()

    def meddle() -> None:
        venue = w.system.venues.of(account)
        side = Side.SELL if w.position(account) > 0 else Side.BUY
        order = OrderRequest(
            client_order_id="0x" + "cd" * 16, market=w.market, side=side, size=D("0.002"),
            limit_price=D(90_000) if side is Side.SELL else D(110_000), kind=OrderKind.MARKET, reduce_only=True,
        )  # fmt: skip
        nonce = int(w.system.clock.now().timestamp() * 1000) + 500
        assert venue.send(venue.sign(PlaceReduction(account, (order,)), SignerRole.EMERGENCY, nonce, None)).outcome

    w.restart(Steps(When(lambda name: name == "hyperliquid.exchange" and bool(w.fills(account)), meddle)))
    w.alert("buy", "a1")
    settle(w, 2)
    judge(w)


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_main_leg_that_stood_alone_while_nobody_lived_is_hedged_in_time_or_unwound(world, seconds):
    """The process dies with the main order just filled. How long it stood alone counts from then, not from waking."""
    w = world()

    def die() -> None:
        raise Death

    w.restart(Steps(When(lambda name: name == "hyperliquid.exchange" and bool(w.fills("main")), die)))
    with pytest.raises(Death):
        w.alert("buy", "a1")
    assert w.trade().state is TradeState.MAIN_SENT
    w.system.clock.sleep(seconds)
    w.restart()
    w.deliver()
    judge(w)
    if seconds:
        assert "unhedged_seconds" in w.trade().why_closed
        assert not w.fills("hedge")
    else:
        assert w.trade().state is TradeState.OPEN


# -- stops that fail -------------------------------------------------------------------------------


def test_a_stop_that_fired_and_filled_nothing_is_followed_by_a_close(world):
    """The book was empty within the trigger's limit: the stop is spent, and cannot rest there again."""
    w = world(drifting(), **WIDE)
    w.alert("buy", "a1")
    w.control.switches(trigger_slippage="0")
    for _ in range(25):
        if w.trade().state is TradeState.OPEN:
            w.minutes()
    fired = [o for o in w.control.ledger()["orders"] if o["status"] == "marketOrderNoLiquidityRejected"]
    assert fired
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)
    assert "stop" in w.trade().why_closed


def test_what_is_left_of_a_stop_that_filled_in_part_is_closed_within_one_sweep(world):
    w = world(drifting(), **WIDE)
    deposit(w, "main", 900_000)
    deposit(w, "hedge", 900_000)
    w.alert("buy", "a1")
    whole = w.position("main")
    assert w.trade().state is TradeState.OPEN
    w.control.switches(trigger_slippage="0.0002")
    for _ in range(25):
        w.minutes()
        if w.position("main") != whole:
            break
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)
    filled = [f for f in w.fills("main") if not f["dir"].startswith("Open")]
    assert len({f["oid"] for f in filled}) >= 2


def test_both_stops_missing_are_placed_again_in_one_sweep(world):
    from twinleg.engine.ports import CancelOrders

    w = world()
    w.alert("buy", "a1")
    for n, account in enumerate(("main", "hedge")):
        venue = w.system.venues.of(account)
        action = CancelOrders(account, w.market, tuple(o.client_order_id for o in venue.open_orders(account)))
        nonce = int(w.system.clock.now().timestamp() * 1000) + 500 + n
        assert venue.send(venue.sign(action, SignerRole.EMERGENCY, nonce, None), 2).outcome == "accepted"
        assert not stops(w, account)
    w.minutes()
    judge(w)
    assert w.trade().state is TradeState.OPEN


def test_a_venue_that_refuses_every_stop_does_not_keep_the_other_limits_from_closing(world):
    from twinleg.engine.ports import CancelOrders

    w = world(holding_seconds_max="240")
    w.alert("buy", "a1")
    venue = w.system.venues.of("main")
    action = CancelOrders("main", w.market, tuple(o.client_order_id for o in venue.open_orders("main")))
    nonce = int(w.system.clock.now().timestamp() * 1000) + 500
    assert venue.send(venue.sign(action, SignerRole.EMERGENCY, nonce, None), 2).outcome == "accepted"
    for order in range(60):
        w.fault(kind="reject", address=w.address("main"), action="order", error="Invalid TP/SL price.", count=1)
        if order == 7:
            break
    settle(w, 7)
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)


@pytest.mark.parametrize("stops_cancelled", [True, False])
@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_leg_that_is_gone_before_the_hedge_is_confirmed_ends_flat(world, account, stops_cancelled):
    w = world()
    w.control.switches(triggers_canceled_when_flat=stops_cancelled)
    gone = When(
        lambda name: name == "hyperliquid.exchange" and bool(w.fills(account)),
        lambda: by_hand(w, account, account == "hedge", abs(w.position(account)), reduce_only=True),
    )
    w.restart(Steps(gone))
    w.alert("buy", "a1")
    settle(w, 2)
    judge(w)
    assert flat(w)


def test_a_partly_filled_hedge_is_completed_and_guarded_whole(world):
    w = world()
    w.fault(kind="partial_fill", address=w.address("hedge"), action="order", fraction="0.5", count=1)
    w.alert("buy", "a1")
    judge(w)
    assert w.trade().state is TradeState.OPEN
    assert w.trade().hedge.size_filled == w.trade().hedge.size_approved


# -- requests that must not be lost ----------------------------------------------------------------


def test_a_close_asked_for_while_the_entry_is_undecided_is_carried_out_however_long_it_takes(world):
    """The venue's orders are unreachable for ten minutes; the request's message is long dead by then."""
    w = world()
    w.alert("buy", "a1")
    w.fault(kind="lose_request", path="/exchange", address=w.address("main"))
    w.fault(kind="lose_request", path="/exchange", address=w.address("hedge"))
    w.alert("sell", "a2", prev_position="long", position="long", prev_position_size="2", position_size="1")
    assert w.trade().state is TradeState.REDUCING
    request_close(w.engine(), "all", by="a test")
    for _ in range(12):
        w.minutes()
    w.control.clear_faults()
    settle(w, 6)
    judge(w)
    assert w.trade().state is TradeState.CLOSED


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_close_asked_for_in_the_middle_of_an_entry_is_carried_out(world, account):
    w = world()
    other = w.new_system()

    def ask() -> None:
        request_close(other.engine(SignerRole.EXECUTE), "all", by="a test")

    w.restart(Steps(When(lambda name: name == "hyperliquid.exchange" and bool(w.fills(account)), ask)))
    other.clock = w.system.clock
    w.alert("buy", "a1")
    settle(w, 3)
    judge(w)
    assert w.trade().state is TradeState.CLOSED


def test_a_close_that_meets_other_writers_every_time_is_not_acknowledged_undone(world):
    w = world()
    w.alert("buy", "a1")
    trade = w.trade()

    def touch() -> None:
        stored = w.system.store.get("trades", trade.trade_id)
        w.system.store.compare_and_set("trades", trade.trade_id, dict(stored.data), stored.version)

    w.restart(Steps(When(lambda name: name == f"store.get trades/{trade.trade_id} done", touch, each=True)))
    request = CloseTrade(trade_id=trade.trade_id, reason="a test", request_id="r1")
    with pytest.raises(Unavailable):
        on_close(w.engine(), request)
    w.restart()
    on_close(w.engine(), request)
    assert w.trade().state is TradeState.CLOSED


# -- hiccups of store and bus ----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["store.create audit/", "bus.publish events"])
def test_an_event_that_cannot_be_told_derails_nothing(world, where):
    w = world()

    def fail() -> None:
        raise Unavailable("a hiccup")

    w.restart(Steps(When(lambda name: name.startswith(where) and not name.endswith("done"), fail, each=True)))
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN
    w.alert("close", "a2")
    assert w.trade().state is TradeState.CLOSED
    judge(w)


def test_one_trade_that_cannot_be_read_does_not_keep_the_others_from_being_protected(world):
    """A person edited a trade in the console and broke it."""
    from twinleg.engine.records import DESK_ID

    w = world(holding_seconds_max="120")
    w.alert("buy", "a1")
    store = w.system.store
    broken = dict(store.get("trades", w.trade().trade_id).data)
    broken["z_record"] = broken["z_record"] | {"trade_id": "broken", "state": "OPNE"}
    desk = store.get("control", DESK_ID)
    store.compare_and_set(
        "control", DESK_ID, dict(desk.data) | {"open_trades": ["broken", *desk.data["open_trades"]]}, desk.version
    )
    store.create("trades", "broken", broken)
    settle(w, 4)
    assert flat(w)


def test_a_lost_list_of_open_trades_leaves_no_trade_unwatched(world):
    from twinleg.engine.ports import Replace
    from twinleg.engine.records import DESK_ID

    w = world(holding_seconds_max="120")
    w.alert("buy", "a1")
    w.system.store.batch([Replace("control", DESK_ID, {"summary": "emptied by hand"})])
    settle(w, 4)
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)


# -- HALT ------------------------------------------------------------------------------------------


def test_flatten_closes_a_trade_that_needs_a_person_too(world):
    w = world()
    w.alert("buy", "a1")
    person(w)
    set_trading(w.engine(), Halt.FLATTEN, why="enough", by="a test")
    settle(w, 2)
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)
    assert state(w) is Halt.HALTED


def test_flatten_pressed_during_a_sweep_is_not_undone_by_a_milder_breaker(world):
    w = world(["100000"] * 3 + ["97000"] * 20, net_stop_percent="50", day_loss_reducing_percent="0.1")
    w.alert("buy", "a1")
    w.control.switches(triggers_enabled=False)
    w.minutes(1)
    other = w.new_system()

    def press() -> None:
        set_trading(other.engine(SignerRole.EXECUTE), Halt.FLATTEN, why="enough", by="a person")

    pressed = When(lambda name: name == "store.get books/hedge done", press)
    for _ in range(3):
        w.minutes()
        if not w.events("breaker"):
            w.restart(Steps(pressed))
            other.clock = w.system.clock
    assert pressed.struck
    settle(w, 2)
    assert flat(w)
    assert state(w) is Halt.HALTED


def test_a_halt_between_two_attempts_at_the_entry_is_seen_by_the_second(world):
    w = world()
    w.fault(kind="429", path="/exchange", action="order", address=w.address("main"), count=1)
    other = w.new_system()
    seen: list[int] = []

    def press() -> None:
        seen.append(1)
        set_trading(other.engine(SignerRole.EXECUTE), Halt.HALTED, why="stop", by="a person")

    actions = lambda: len(w.system.store.query("actions", {"kind": "PlaceEntry"}))  # noqa: E731
    halt = When(lambda name: name == "store.get control/trading done" and actions() == 1, press)
    w.restart(Steps(halt))
    other.clock = w.system.clock
    w.alert("buy", "a1")
    settle(w, 1)
    assert seen
    assert not w.fills("main")
    assert w.trade().state is TradeState.REFUSED


@pytest.mark.parametrize("halt", [Halt.REDUCING, Halt.FLATTEN, Halt.HALTED])
def test_a_resting_entry_is_cancelled_at_once_when_trading_stops(world, halt):
    closes = ["100000"] * 2 + [str(100_000 + 100 * n) for n in range(1, 30)]
    w = world(closes, entry_order="limit", limit_order_seconds_max="45")
    w.minutes(1)
    other = w.new_system()

    def press() -> None:
        set_trading(other.engine(SignerRole.EXECUTE), halt, why="stop", by="a person")

    resting = lambda: any(o.kind == "limit" for o in other.venues.of("main").open_orders("main"))  # noqa: E731
    w.restart(Steps(When(lambda name: name == "hyperliquid orderStatus" and resting(), press)))
    other.clock = w.system.clock
    before = w.system.clock.now()
    w.alert("buy", "a1")
    assert w.system.clock.now() - before < timedelta(seconds=15)
    assert not w.system.venues.of("main").open_orders("main")
    settle(w, 2)
    judge(w)


def test_flatten_cancels_what_others_left_resting_and_ends_halted(world):
    import hyperliquid.exchange as sdk
    from eth_account import Account

    w = world()
    stamp, sdk.get_timestamp_ms = sdk.get_timestamp_ms, lambda: int(w.system.clock.now().timestamp() * 1000) + 900
    try:
        exchange = sdk.Exchange(Account.from_key(paper_key("main", "owner")), w.server.url)
        answer = exchange.order(w.coin, True, 0.01, 90_000, {"limit": {"tif": "Gtc"}})
    finally:
        sdk.get_timestamp_ms = stamp
    assert "resting" in answer["response"]["data"]["statuses"][0]
    set_trading(w.engine(), Halt.FLATTEN, why="enough", by="a test")
    settle(w, 3)
    assert not w.system.venues.of("main").open_orders("main")
    assert state(w) is Halt.HALTED


@pytest.mark.parametrize("how", ["deleted", "misspelt"])
def test_a_control_document_lost_in_mid_trade_stops_entries_and_nothing_else(world, how):
    w = world(["100000"] * 3 + ["98500"] * 20)
    w.alert("buy", "a1")
    stored = w.system.store.get("control", "trading")
    if how == "deleted":
        w.system.store.database.write("DELETE FROM documents WHERE collection = 'control' AND id = 'trading'", ())
    else:
        w.system.store.compare_and_set("control", "trading", dict(stored.data) | {"state": "ENABLD"}, stored.version)
    w.minutes(6)
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)
    w.alert("buy", "a2")
    assert w.trade().state is TradeState.REFUSED


@pytest.mark.parametrize("at", range(1, 26, 2))
def test_flatten_at_any_moment_of_an_entry_ends_flat_and_halted(world, at):
    w = world()
    other = w.new_system()
    count = [0]

    def wanted(name: str) -> bool:
        count[0] += name.startswith(("store.batch", "hyperliquid.exchange"))
        return count[0] == at

    def press() -> None:
        set_trading(other.engine(SignerRole.EXECUTE), Halt.FLATTEN, why="enough", by="a person")

    w.restart(Steps(When(wanted, press)))
    other.clock = w.system.clock
    w.alert("buy", "a1")
    if state(w) is Halt.ENABLED:
        press()
    settle(w, 3)
    judge(w)
    assert flat(w)
    assert state(w) is Halt.HALTED


# -- breakers ----------------------------------------------------------------------------------


def test_money_paid_in_hides_no_loss(world):
    """A deposit larger than the day's loss: the loss is of trading, and counts."""
    w = world(drifting(), net_stop_percent="50", day_loss_reducing_percent="0.05", day_loss_flatten_percent="90")
    w.alert("buy", "a1")
    w.control.switches(triggers_enabled=False)
    w.minutes(1)
    deposit(w, "main", 1_000)
    for _ in range(20):
        w.minutes()
    assert state(w) is Halt.REDUCING
    assert "day_loss_percent" in w.events("breaker")[0]


# -- trades that need a person ---------------------------------------------------------------------


def test_a_trade_that_needs_a_person_is_not_left_with_one_leg(world):
    w = world(["100000"] * 3 + ["98500"] * 20, **WIDE)
    w.alert("buy", "a1")
    person(w)
    w.minutes(6)
    assert flat(w)


def test_a_trade_that_needs_a_person_still_has_its_ladder(world):
    closes = [str(100_000 - 750 * n) for n in range(1, 61)]
    w = world(["100000"] * 3 + closes, **WIDE)
    w.alert("buy", "a1")
    w.control.switches(triggers_enabled=False)
    person(w)
    settle(w, 60)
    assert flat(w)
    assert not any("liquidation" in f for f in w.fills("main"))


# -- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [-40, -20, -3, 3, 20, 60])
def test_a_clock_that_differs_from_the_venues_leaves_no_leg_alone(world, ahead):
    """Ours is *ahead* seconds of the venue's. Entries may be refused; what is open must be closable."""
    from twinleg.adapters.local.clocks import ReplayClock

    w = world()
    w.minutes(2)
    if ahead < 0:
        w.alert("buy", "a1")
        assert w.trade().state is TradeState.OPEN
    venue_now = w.system.clock.now()
    skewed = ReplayClock(venue_now + timedelta(seconds=ahead))
    skewed.follow(lambda at: w.control.advance_to(at - timedelta(seconds=ahead)))
    w.system.clock = skewed
    w.system.bus._clock = skewed
    if ahead > 0:
        w.alert("buy", "a1")
    settle(w, 1)
    judge(w)
    w.alert("close", "a2")
    settle(w, 2)
    judge(w)
    assert flat(w)


# -- hands at the venue ----------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_leg_enlarged_by_hand_is_guarded_and_closed_whole(world, account):
    w = world()
    w.alert("buy", "a1")
    by_hand(w, account, account == "main", "0.002")
    w.minutes(1)
    w.minutes(1)
    judge_after_hand(w)
    w.alert("close", "a2")
    settle(w, 2)
    assert flat(w)


def judge_after_hand(w: Any) -> None:
    if w.trade().state is TradeState.OPEN:
        for leg in w.trade().legs:
            assert any(o.follows_position or o.size >= abs(w.position(leg.account)) for o in stops(w, leg.account))


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_leg_turned_round_by_hand_closes_the_other_and_what_is_left_is_told(world, account):
    w = world()
    w.alert("buy", "a1")
    size = abs(w.position(account))
    by_hand(w, account, account == "hedge", size * 2)
    settle(w, 3)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    other = "hedge" if account == "main" else "main"
    assert w.position(other) == 0
    assert abs(w.position(account)) == size
    assert len(w.events("orphan")) == 1
    leg = next(leg for leg in trade.legs if leg.account == account)
    assert leg.size_closed == leg.size_filled
    assert abs(leg.realised_usd) < 5
    w.alert("buy", "a9")
    assert w.trade().state is TradeState.REFUSED


def test_what_was_done_by_hand_to_the_trade_before_is_not_booked_on_the_next(world):
    w = world()
    w.alert("buy", "a1")
    by_hand(w, "hedge", True, abs(w.position("hedge")), reduce_only=True)
    assert w.sweep() == 200
    assert w.trade().state is TradeState.CLOSED
    w.minutes()
    w.alert("buy", "a2")
    assert w.trade().state is TradeState.OPEN
    settle(w, 1)
    judge(w)
    assert w.trade().state is TradeState.OPEN
    assert w.trade().hedge.size_closed == 0


def test_a_cut_that_dies_in_the_middle_and_meets_the_stop_ends_flat(world):
    class Death(BaseException):
        pass

    w = world(["100000"] * 3 + ["98500"] * 20, **WIDE)
    w.alert("buy", "a1")

    def die() -> None:
        raise Death

    half = abs(w.position("main"))
    w.restart(Steps(When(lambda n: n == "hyperliquid.exchange" and abs(w.position("main")) < half, die)))
    with pytest.raises(Death):
        w.alert("sell", "a2", prev_position="long", position="long", prev_position_size="2", position_size="1")
    assert w.trade().state is TradeState.REDUCING
    w.restart()
    w.control.advance_to(w.system.clock.now() + timedelta(minutes=4))
    w.restart()
    settle(w, 2)
    judge(w)
    assert flat(w)


# -- limit entries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["resting", "filled"])
def test_a_limit_entry_filled_in_part_is_hedged_only_when_its_rest_is_gone(world, answer):
    closes = ["100000"] * 2 + [str(100_000 + 100 * n) for n in range(1, 30)]
    w = world(closes, entry_order="limit", limit_order_seconds_max="5", slippage_bps="50")
    w.control.switches(partial_gtc_answer=answer, mark_gap="0.0005")  # at the mark there is somebody to trade with
    w.minutes(1)
    w.control.advance_to(w.system.clock.now())
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.5", count=1)

    other: list[bool] = []

    def look() -> None:
        entry = [o for o in w.system.venues.of("main").open_orders("main") if not o.reduce_only]
        other.append(bool(entry))

    w.restart(Steps(When(lambda n: n == "hyperliquid.exchange" and bool(w.fills("hedge")), look)))
    w.alert("buy", "a1")
    settle(w, 2)
    judge(w)
    assert other == [False]
    assert w.trade().state is TradeState.OPEN and w.trade().hedge.size_filled > 0


# -- an exit that overtakes its entry --------------------------------------------------------------


def test_an_exit_that_arrives_while_the_entry_is_still_queued_is_not_forgotten(world):
    """Both alerts are decided before execution gets to the first."""
    w = world()
    bus = w.runtime.bus
    held = bus._subscriptions.pop("intents"), bus._subscriptions.pop("closes")
    w.alert("buy", "a1")
    w.alert("close", "a2")
    bus._subscriptions["intents"], bus._subscriptions["closes"] = held
    w.deliver()
    settle(w, 2)
    assert w.trade().state in ENDED
    assert flat(w)


def test_an_intent_nobody_could_look_at_in_time_is_refused_and_holds_nothing(world):
    w = world()
    w.fault(kind="500", path="/info", address=w.address("main"))
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.PROPOSED
    settle(w, 6)
    assert w.trade().state is TradeState.REFUSED
    assert "expired" in w.trade().why_closed


# -- death at any step -----------------------------------------------------------------------------


EVERY = 11
"""Every how manieth step of a life is its last."""


class Death(BaseException):
    """The process is gone."""


def life(w: Any) -> None:
    w.alert("buy", "a1")
    w.minutes()
    w.alert("close", "a2")
    w.minutes()


def steps_of_a_life(world: Any) -> int:
    w = world()
    counter = Steps()
    w.restart(counter)
    life(w)
    return counter.count


@pytest.mark.parametrize("part", range(8))
def test_death_at_any_step_of_a_life(world, part):
    """A life cut short at a step, then another process: nothing doubled, hedged and guarded or flat in three sweeps."""
    total = steps_of_a_life(world)
    for at in range(1 + part * EVERY, total + 1, 8 * EVERY):
        w = world()

        def die(count: int, _: str, at: int = at) -> None:
            if count == at:
                raise Death

        w.restart(Steps(die))
        with pytest.raises(Death):
            life(w)
        w.restart()
        settle(w, 3)
        judge(w)
        w.alert("close", "a3")
        settle(w, 1)
        judge(w)
        assert flat(w), at
