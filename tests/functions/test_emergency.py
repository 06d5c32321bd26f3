"""The minutes in which the records cannot be read: what is dangerous is closed, nothing else, and recorded later."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from twinleg.bootstrap import paper_key
from twinleg.domain.candles import ms_from_utc
from twinleg.domain.emergency import Danger, danger_of
from twinleg.domain.errors import Unavailable
from twinleg.domain.orders import Grouping, LegRole, OrderKind, OrderRequest, Purpose, Side
from twinleg.domain.trades import TradeState
from twinleg.engine.orderpath import ActionRecord
from twinleg.engine.ports import CancelOrders, PlaceEntry, SignerRole, Steps
from twinleg.engine.sweep import on_sweep
from twinleg.risk.approval import Approved, ApprovedLeg

D = Decimal
WIDE = {
    "net_stop_percent": "50", "net_target_percent": "50",
    "day_loss_reducing_percent": "80", "day_loss_flatten_percent": "90",
}  # fmt: skip


class Line:
    """Cuts a desk off its records, and counts what it sends."""

    def __init__(self) -> None:
        self.down, self.sent = False, 0

    def __call__(self, _: int, name: str) -> None:
        if self.down and name.startswith(("store.", "bus.")):
            raise Unavailable(f"{name}: the store is down")
        self.sent += name == "hyperliquid.exchange"


def opened(world: Callable[..., Any], closes: list[str] | None = None, **limits: str) -> tuple[Any, Line]:
    """A world with an open trade, and the line that can be cut."""
    w = world(["100000"] * 3 + (closes or ["100000"] * 30), **limits)
    w.alert("buy", "a1")
    w.minutes()
    assert w.trade().state is TradeState.OPEN
    line = Line()
    w.restart(Steps(line))
    return w, line


def outage(w: Any, line: Line, minutes: int) -> int:
    """Sweeps without records, a minute each; how many requests were sent to /exchange (two steps each)."""
    line.down, before = True, line.sent
    for _ in range(minutes):
        now = w.system.clock.now().replace(second=0, microsecond=0)
        w.system.clock.advance_to(now + timedelta(minutes=1, seconds=1))
        assert w.runtime.call("risk") == 503
    line.down = False
    return (line.sent - before) // 2


def cancel(w: Any, account: str, kind: str) -> None:
    """Somebody cancels our orders of a kind at the venue."""
    venue = w.system.venues.of(account)
    ids = tuple(o.order_id for o in venue.open_orders(account) if o.kind == kind)
    assert ids
    nonce = ms_from_utc(w.system.clock.now()) + 900
    action = CancelOrders(account, w.market, order_ids=ids)
    assert venue.send(venue.sign(action, SignerRole.EXECUTE, nonce, None)).outcome == "accepted"


def by_hand(w: Any, account: str, buys: bool, size: Decimal, *, reduce_only: bool = False) -> None:
    import hyperliquid.exchange as sdk
    from eth_account import Account

    stamp, sdk.get_timestamp_ms = sdk.get_timestamp_ms, lambda: ms_from_utc(w.system.clock.now()) + 700
    try:
        exchange = sdk.Exchange(Account.from_key(paper_key(account, "owner")), w.server.url)
        price = 110_000 if buys else 90_000
        answer = exchange.order(w.coin, buys, float(size), price, {"limit": {"tif": "Ioc"}}, reduce_only)
    finally:
        sdk.get_timestamp_ms = stamp
    assert "filled" in answer["response"]["data"]["statuses"][0], answer


def flat(w: Any) -> bool:
    return w.position("main") == w.position("hedge") == 0


def emergency_orders(w: Any) -> list[dict[str, Any]]:
    return [o for o in w.control.ledger()["orders"] if danger_of(o.get("cloid"))]


def judge_records(w: Any, reason: str) -> None:
    """Once the records are back: one sweep closes the trade, truly, with the reason, and all of it is found again."""
    assert w.sweep() == 200
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert reason in trade.why_closed
    ledger = w.control.ledger()
    for leg in trade.legs:
        fills = [f for f in ledger["fills"] if f["user"].lower() == w.address(leg.account)]
        assert leg.size_filled == leg.size_closed == sum(D(f["sz"]) for f in fills) / 2
        assert leg.fees_usd == sum(D(f["fee"]) for f in fills)
    ours = {o.client_order_id for leg in trade.legs for o in leg.orders}
    sent = {o["cloid"] for o in emergency_orders(w)}
    filled = {f.get("cloid") for f in ledger["fills"] if danger_of(f.get("cloid"))}
    assert filled <= ours
    for id in filled:
        page = w.system.store.get("orders", id).data
        assert (page["purpose"], page["trade_id"]) == ("emergency", trade.trade_id)
    records = [ActionRecord.model_validate(a.data) for a in w.system.store.query("actions", {"role": "emergency"})]
    assert {id for record in records for id in record.client_order_ids} >= sent
    assert {record.trade_id for record in records} == {trade.trade_id}
    assert all(record.final for record in records)
    told = w.system.store.query("audit", {"kind": "emergency"})
    assert told and all("(recorded later)" in e.data["summary"] for e in told)
    assert {e.data["trade_id"] for e in told} == {trade.trade_id}
    w.minutes(2)
    assert len(w.system.store.query("audit", {"kind": "emergency"})) == len(told)
    assert not w.engine().memory.sent and w.sweep() == 200


# -- dangers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_position_that_lost_its_stop_is_closed_with_its_pair(world, account):
    w, line = opened(world)
    cancel(w, account, "stop")
    assert outage(w, line, 3) == 2
    assert flat(w)
    assert {(o["reduceOnly"], o["tif"]) for o in emergency_orders(w)} == {(True, "Ioc")}
    judge_records(w, Danger.NO_STOP)


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_leg_whose_other_was_closed_by_hand_is_closed(world, account):
    w, line = opened(world)
    by_hand(w, account, account == "hedge", abs(w.position(account)), reduce_only=True)
    assert outage(w, line, 3) == 1
    assert flat(w)
    judge_records(w, "by an order that is none of ours")


def test_a_pair_near_its_liquidation_is_closed_before_it(world):
    w, line = opened(world, [str(100_000 - 1500 * n) for n in range(1, 40)], **WIDE)
    w.control.switches(triggers_enabled=False)
    assert outage(w, line, 35) == 2
    assert flat(w)
    assert not any(leg.liquidated for leg in w.trade().legs)
    judge_records(w, Danger.NEAR_LIQUIDATION)
    assert D("0.05") < w.trade().main.exit_price / w.trade().main.entry_price < D("0.9")


def test_where_nothing_is_wrong_nothing_is_sent(world):
    w, line = opened(world)
    assert outage(w, line, 10) == 0
    assert not emergency_orders(w)
    assert w.sweep() == 200
    assert w.trade().state is TradeState.OPEN and not w.events("emergency")


def test_an_entry_that_still_rests_is_cancelled(world):
    """It would fill with nobody to hedge it. Whose it is, and how long it may rest, is in the records."""
    w, line = opened(world, entry_order="limit", limit_order_seconds_max="20")
    w.alert("close", "a2")
    w.minutes()
    assert flat(w)
    venue = w.system.venues.of("main")
    order = OrderRequest(
        client_order_id="0x" + "ab" * 16, market=w.market, side=Side.BUY, size=D("0.001"), limit_price=D(90_000),
        kind=OrderKind.LIMIT, reduce_only=False,
    )  # fmt: skip
    leg = ApprovedLeg(LegRole.MAIN, "main", w.market, Side.BUY, 2, D(1), D(90_000), D(80_000), D(99_000), D("0.4"))
    entry = PlaceEntry("main", Approved("t", leg, leg, D(1), "a test"), (order,), Grouping.NONE)
    nonce = ms_from_utc(w.system.clock.now()) + 900
    assert venue.send(venue.sign(entry, SignerRole.EXECUTE, nonce, None)).outcome == "accepted"
    assert venue.open_orders("main")
    assert outage(w, line, 2) == 1
    assert not venue.open_orders("main")
    assert w.sweep() == 200
    assert "cancel of 1 entries sent without the records: accepted" in w.events("emergency")[0]


# -- what is not believed --------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["main", "hedge"])
@pytest.mark.parametrize("question", ["clearinghouseState", "frontendOpenOrders"])
def test_one_empty_answer_closes_nothing(world, account, question):
    w, line = opened(world)
    w.fault(kind="empty_read", address=w.address(account), action=question, count=1)
    assert outage(w, line, 3) == 0
    assert w.sweep() == 200
    assert w.trade().state is TradeState.OPEN


@pytest.mark.parametrize("kind", ["500", "429", "lose_request"])
def test_without_records_and_without_the_venue_nothing_is_done(world, kind):
    w, line = opened(world)
    cancel(w, "main", "stop")
    w.fault(kind=kind, path="/info", count=100)
    assert outage(w, line, 2) == 0
    w.control.clear_faults()
    assert not flat(w)


def test_an_unread_account_is_no_missing_leg(world):
    w, line = opened(world)
    w.fault(kind="500", address=w.address("hedge"), path="/info", count=100)
    assert outage(w, line, 2) == 0
    w.control.clear_faults()
    assert w.position("main") > 0 > w.position("hedge")


def test_a_position_that_a_person_opened_is_left_to_the_person(world):
    w = world()
    by_hand(w, "main", True, D("0.01"))
    line = Line()
    w.restart(Steps(line))
    assert outage(w, line, 2) == 0
    assert w.position("main") == D("0.01")


# -- never twice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lose_answer", "lose_request", "429", "500"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_answers_that_are_lost_close_nothing_twice(world, kind, count):
    w, line = opened(world)
    sizes = {a: abs(w.position(a)) for a in ("main", "hedge")}
    cancel(w, "main", "stop")
    w.fault(kind=kind, path="/exchange", count=count)
    outage(w, line, 3)
    assert flat(w)
    for account, size in sizes.items():
        mine = {o["cloid"] for o in emergency_orders(w)}
        closed = [D(f["sz"]) for f in w.fills(account) if f.get("cloid") in mine]
        assert sum(closed) == size
    w.control.clear_faults()
    judge_records(w, Danger.NO_STOP)


def test_what_a_process_that_died_had_sent_is_known_by_its_fills(world):
    w, line = opened(world)
    cancel(w, "main", "stop")
    outage(w, line, 1)
    assert flat(w)
    w.restart()
    assert w.sweep() == 200
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and Danger.NO_STOP in trade.why_closed
    for leg in trade.legs:
        (order,) = [o for o in leg.orders if o.purpose is Purpose.EMERGENCY]
        assert order.filled_size == leg.size_closed == leg.size_filled
    assert any(Danger.NO_STOP in text for text in w.events("closed"))


def test_two_processes_that_act_at_once_close_once(world):
    w, line = opened(world)
    cancel(w, "main", "stop")
    line.down = True
    other = w.new_system(Steps(line))
    other.clock = w.system.clock
    with pytest.raises(Unavailable, match="sent without the records"):
        on_sweep(w.engine(SignerRole.RISK))
    with pytest.raises(Unavailable, match="nothing was done"):
        on_sweep(other.engine(SignerRole.RISK))
    line.down = False
    assert flat(w)
    judge_records(w, Danger.NO_STOP)


def test_records_that_answer_at_the_second_try_are_used(world):
    w, _ = opened(world)
    tries: list[str] = []

    def once(_: int, name: str) -> None:
        if name == "store.get control/trading" and not tries:
            tries.append(name)
            raise Unavailable("not reached")

    cancel(w, "main", "stop")
    w.restart(Steps(once))
    assert w.sweep() == 200 and tries
    assert w.trade().state is TradeState.OPEN and w.events("protected") and not emergency_orders(w)


# -- the key of risk is refused --------------------------------------------------------------------


def replace_risk_key(w: Any, account: str) -> None:
    """The owner approves another agent under the name of risk's: the venue forgets the one before."""
    from eth_account import Account

    from twinleg.adapters.venues.paper_setup import approve_agent

    nonce = ms_from_utc(w.system.clock.now()) + 500
    other = Account.from_key("0x" + "11" * 32).address
    approve_agent(w.server.url, paper_key(account, "owner"), other, "twinleg-risk", nonce=nonce)


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_close_goes_out_under_the_emergency_key_when_the_key_of_risk_is_refused(world, account):
    w = world(["100000"] * 3 + ["100000"] * 20, holding_seconds_max="120", hedge_seconds_max="10")
    w.alert("buy", "a1")
    replace_risk_key(w, account)
    w.minutes(4)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and flat(w)
    roles = [a.data["role"] for a in w.system.store.query("actions", {"account": account, "kind": "PlaceReduction"})]
    assert "risk" in roles and "emergency" in roles
    assert "refuses the key of risk" in w.events("emergency")[0]
    assert not emergency_orders(w), "written ahead as ever, under ids of the trade"
    assert not w.system.venues.of(account).open_orders(account)
