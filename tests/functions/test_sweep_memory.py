"""The sweep's memory: what it believes of a trade without reading it, and that nothing can hide behind that."""

import contextlib
from decimal import Decimal
from typing import Any

import pytest

from twinleg.domain.errors import TwinlegError
from twinleg.domain.messages import CloseTrade
from twinleg.domain.orders import OrderKind, OrderRequest, Side
from twinleg.domain.trades import ENDED, Trade, TradeState
from twinleg.engine.books import read_book
from twinleg.engine.closing import asked_to_leave
from twinleg.engine.control import set_trading
from twinleg.engine.lines import line_of
from twinleg.engine.pages import UNSWEPT
from twinleg.engine.ports import CancelOrders, Check, Merge, PlaceReduction, Replace, SignerRole, Steps
from twinleg.engine.sweep import on_sweep
from twinleg.engine.tradebook import TradeBook

D = Decimal
ACCOUNTS = ("main", "hedge")


def settled(world: Any, closes: list[str] | None = None, **limits: str) -> Any:
    """A world with an open trade of which the sweep has its line, and nothing left to write."""
    w = world(closes or ["100000"] * 60, **limits)
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN
    w.minutes(3)
    assert remembered(w)
    return w


def lines(w: Any) -> dict[str, Any]:
    return {id: line for name in ACCOUNTS for id, line in read_book(w.system.store, name).lines.items()}


def marked(w: Any) -> set[str]:
    return {s.id for s in w.system.store.query("trades", {UNSWEPT: True})}


def remembered(w: Any) -> bool:
    """What must hold after every write of anybody: each trade that lives is marked, or its line is as its record."""
    known, open_marks = lines(w), marked(w)
    for trade in w.trades():
        if trade.trade_id in open_marks:
            continue
        if trade.state in ENDED:
            assert trade.trade_id not in known
        else:
            assert known[trade.trade_id] == line_of(trade), trade.state
    return w.trade().trade_id in known and not open_marks


def reads(w: Any) -> list[str]:
    """What the next sweep, a minute later, reads and writes of the store."""
    names: list[str] = []
    w.system.clock.sleep(60)
    w.restart(Steps(lambda _, name: names.append(name)))
    w.sweep()
    return [name.removeprefix("store.") for name in names if name.startswith("store.") and not name.endswith("done")]


def cancel_stop(w: Any, account: str) -> Decimal:
    """Somebody cancels the stop of a leg at the venue; the price it was at."""
    venue = w.system.venues.of(account)
    [stop] = [o for o in venue.open_orders(account) if o.kind == "stop"]
    sent(w, account, CancelOrders(account, w.market, (stop.client_order_id,)))
    return stop.trigger_price


def sent(w: Any, account: str, action: Any) -> None:
    venue = w.system.venues.of(account)
    nonce = int(w.system.clock.now().timestamp() * 1000) + 500
    assert venue.send(venue.sign(action, SignerRole.EMERGENCY, nonce, None)).outcome == "accepted"


def stops(w: Any, account: str) -> set[Decimal]:
    orders = w.system.venues.of(account).open_orders(account)
    return {o.trigger_price for o in orders if o.kind == "stop"}


def guarded(w: Any) -> bool:
    return all(leg.stop_price in stops(w, leg.account) for leg in w.trade().legs)


def flat(w: Any) -> bool:
    return w.position("main") == w.position("hedge") == 0


def book_of(w: Any) -> TradeBook:
    return TradeBook(w.engine(SignerRole.EXECUTE))


def write(w: Any, change: Any) -> None:
    """What execute writes before it dies."""
    book = book_of(w)
    trade, version = book.load(w.trade().trade_id)
    book.write(trade, version, change(trade))


# -- what a quiet sweep costs ----------------------------------------------------------------------


def test_a_quiet_sweep_asks_for_marks_first_and_then_for_the_books(world):
    w = settled(world)
    for _ in range(12):
        names = reads(w)
        assert names[:4] == ["get control/trading", "query trades", "get books/main", "get books/hedge"]
        documents = sum(len(name.split()) - 1 for name in names)
        assert documents <= len(ACCOUNTS) + 5, names
    assert remembered(w)


# -- a line hides nothing the venue shows ----------------------------------------------------------


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_stop_that_vanishes_is_placed_again_within_one_sweep(world, account):
    w = settled(world)
    price = cancel_stop(w, account)
    w.minutes()
    assert price in stops(w, account)
    assert w.events("protected")
    w.minutes()
    assert remembered(w)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_position_made_smaller_by_hand_is_seen_within_one_sweep(world, account):
    w = settled(world, hedge_drift_percent_max="40")
    size = w.position(account)
    order = OrderRequest(
        client_order_id="0x" + "cd" * 16, market=w.market, side=Side.SELL if size > 0 else Side.BUY,
        size=D("0.0002"), limit_price=D(99_000) if size > 0 else D(101_000), kind=OrderKind.MARKET,
        reduce_only=True,
    )  # fmt: skip
    sent(w, account, PlaceReduction(account, (order,)))
    assert w.position(account) != size
    w.minutes()
    leg = w.trade().main if account == "main" else w.trade().hedge
    assert w.trade().state is TradeState.OPEN
    assert leg.size_open == abs(w.position(account))
    assert w.system.store.get("positions", f"{account}:{w.market}").data["size"] == str(w.position(account))
    w.minutes()
    assert remembered(w)


# -- what execute wrote between two sweeps, and died -----------------------------------------------


def test_a_close_that_was_asked_for_is_carried_out(world):
    w = settled(world)
    write(w, lambda t: asked_to_leave(t, CloseTrade(trade_id=t.trade_id, reason="a test", request_id="r")))
    w.minutes()
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)
    w.minutes()
    assert lines(w) == {}
    assert marked(w) == set()


def test_a_cut_that_was_decided_is_finished(world):
    w = settled(world)
    before = w.position("main")
    request = CloseTrade(trade_id=w.trade().trade_id, reason="half", request_id="r", fraction=D("0.5"))
    write(w, lambda t: asked_to_leave(t, request))
    assert w.trade().state is TradeState.REDUCING
    w.minutes()
    assert w.trade().state is TradeState.OPEN
    assert abs(w.position("main") / before - D("0.5")) < D("0.02")
    w.minutes()
    assert remembered(w)
    assert lines(w)[w.trade().trade_id].main.size_open == w.position("main")


def test_a_stop_that_was_moved_in_the_record_is_placed_at_the_venue(world):
    w = settled(world)
    write(w, lambda t: t.with_leg(t.main.model_copy(update={"stop_price": D(98_500)})))
    w.minutes()
    assert D(98_500) in stops(w, "main")
    w.minutes()
    assert remembered(w)


def test_margin_that_was_added_is_remembered(world):
    """The sweep itself writes the trade then, through the order path."""
    closes = ["100000"] * 3 + [str(100_000 - 800 * n) for n in range(1, 40)]
    w = world(closes, net_stop_percent="50", day_loss_reducing_percent="80", day_loss_flatten_percent="90")
    w.alert("buy", "a1")
    w.control.switches(triggers_enabled=False)
    while not w.events("margin_added"):
        w.minutes()
        remembered(w)
    w.minutes()
    assert lines(w)[w.trade().trade_id].margin_added
    while w.trade().state not in ENDED:
        w.minutes()
        remembered(w)
    assert w.trade().cut


def test_a_leg_that_was_filled_and_forgotten_is_found(world):
    """Whatever a trade rests in between two sweeps, it stays marked until it is at rest."""
    w = world()
    between: list[set[str]] = []

    def look(_: int, name: str) -> None:
        if name.startswith("store.batch") and w.trades():
            between.append(marked(w))

    w.restart(Steps(look))
    w.alert("buy", "a1")
    assert len(between) > 10 and all(found == {w.trade().trade_id} for found in between)
    assert marked(w) == {w.trade().trade_id}
    w.minutes()
    assert marked(w) == set()


# -- what a person changes by hand -----------------------------------------------------------------


def edit_trade(w: Any, mark: bool, **fields: Any) -> None:
    store, id = w.system.store, w.trade().trade_id
    data = dict(store.get("trades", id).data)
    record = dict(data["z_record"])
    record |= {name: value for name, value in fields.items() if name in record}
    if "stop_price" in fields:
        record["main"] = dict(record["main"]) | {"stop_price": fields["stop_price"]}
    store.batch([Replace("trades", id, data | {"z_record": record, UNSWEPT: mark})])


@pytest.mark.parametrize(("mark", "minutes"), [(True, 1), (False, 3)])
def test_an_edited_record_is_taken_up_at_once_when_marked_and_in_its_turn_when_not(world, mark, minutes):
    w = settled(world)
    edit_trade(w, mark, stop_price="98500")
    w.minutes(minutes)
    assert D(98_500) in stops(w, "main")
    w.minutes()
    assert remembered(w)


def test_a_record_put_into_another_state_by_hand_is_carried_on_in_its_turn(world):
    w = settled(world)
    edit_trade(w, False, state="CLOSING", why_closed="by hand")
    w.minutes(4)
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)


def test_a_record_broken_by_hand_is_said_in_its_turn_and_its_line_protects_it_meanwhile(world):
    w = settled(world)
    good = w.system.store.get("trades", w.trade().trade_id).data
    w.system.store.batch([Merge("trades", w.trade().trade_id, {"z_record": {"trade_id": "x"}})])
    codes = []
    for _ in range(4):
        w.system.clock.sleep(60)
        codes.append(w.sweep())
    assert 500 in codes
    w.system.store.batch([Replace("trades", good["trade_id"], dict(good))])
    w.minutes(2)
    assert remembered(w)


EDITS: dict[str, Any] = {
    "deleted": None,
    "emptied": lambda d: {},
    "a line is taken out": lambda d: d | {"z_trades": []},
    "a stop is moved": lambda d: d | {"z_trades": [row.replace("99000", "98500") for row in d["z_trades"]]},
    "a line is no line": lambda d: d | {"z_trades": ["?"]},
    "lines are a number": lambda d: d | {"z_trades": 7},
    "no lines": lambda d: {k: v for k, v in d.items() if k != "z_trades"},
    "everything is foreign": lambda d: d | {"foreign": ["hyperliquid:BTC"], "z_trades": []},
    "more documents": lambda d: d | {"shards": 3},
    "no documents": lambda d: d | {"shards": 0},
    "no seal": lambda d: {k: v for k, v in d.items() if k != "seal"},
    "another day": lambda d: d | {"equity_day_start_usd": "1"},
}


def edit_book(w: Any, account: str, edit: str) -> None:
    store = w.system.store
    stored = store.get("books", account)
    if EDITS[edit] is None:
        store.database.write("DELETE FROM documents WHERE collection = 'books' AND id = ?", (account,))
    else:
        store.batch([Replace("books", account, EDITS[edit](dict(stored.data)))])


@pytest.mark.parametrize("edit", EDITS)
def test_a_book_that_was_edited_is_believed_in_nothing_and_rebuilt_in_one_sweep(world, edit):
    w = settled(world)
    started = w.system.store.get("books", "main").data["equity_day_start_usd"]
    edit_book(w, "main", edit)
    prices = [cancel_stop(w, account) for account in ACCOUNTS]
    w.minutes()
    assert guarded(w)
    assert [price in stops(w, account) for price, account in zip(prices, ACCOUNTS, strict=True)] == [True, True]
    assert w.trade().state is TradeState.OPEN
    w.minutes()
    assert remembered(w)
    assert w.system.store.get("books", "main").data["equity_day_start_usd"] == started
    assert not w.events("orphan")
    assert not w.events("breaker")


def test_both_books_lost_at_once_lose_no_trade(world):
    w = settled(world, holding_seconds_max="600")
    for account in ACCOUNTS:
        edit_book(w, account, "deleted")
    w.minutes(2)
    assert remembered(w)
    w.minutes(12)
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)


def test_a_trade_whose_book_and_positions_are_gone_at_once_is_still_ended(world):
    """Neither a line nor a position leads to it then, only the list of open trades."""
    w = settled(world)
    for account, side, price in (("main", Side.SELL, 99_000), ("hedge", Side.BUY, 101_000)):
        order = OrderRequest(
            client_order_id="0x" + "ef" * 16, market=w.market, side=side, size=abs(w.position(account)),
            limit_price=D(price), kind=OrderKind.MARKET, reduce_only=True,
        )  # fmt: skip
        sent(w, account, PlaceReduction(account, (order,)))
    assert flat(w)
    edit_book(w, "main", "deleted")
    w.minutes(2)
    assert w.trade().state is TradeState.CLOSED
    assert lines(w) == {}


def test_the_day_s_loss_is_counted_from_the_page_when_the_book_is_lost(world):
    closes = ["100000"] * 4 + ["97000"] * 20
    w = settled(world, closes, net_stop_percent="50", stop_percent="20", day_loss_reducing_percent="0.05")
    start = w.system.store.get("accounts", "main").data["equity_day_start_usd"]
    for account in ACCOUNTS:
        edit_book(w, account, "deleted")
    w.minutes(3)
    assert w.system.store.get("books", "main").data["equity_day_start_usd"] == start
    assert w.events("breaker")


def test_a_position_of_nobody_s_is_said_once_and_found_again_when_the_book_is_lost(world):
    w = settled(world)
    id = w.trade().trade_id
    store = w.system.store
    store.batch([Merge("positions", f"{a}:{w.market}", {"owner": ""}) for a in ACCOUNTS])
    data = dict(store.get("trades", id).data)
    record = dict(data["z_record"]) | {"state": "CLOSED"}
    store.batch([Replace("trades", id, data | {"z_record": record, UNSWEPT: True})])
    w.minutes(4)
    assert len(w.events("orphan")) == 2
    assert lines(w) == {}
    assert [read_book(store, a).foreign for a in ACCOUNTS] == [[w.market], [w.market]]
    edit_book(w, "main", "emptied")
    w.minutes(3)
    assert [read_book(store, a).foreign for a in ACCOUNTS] == [[w.market], [w.market]]


# -- two at once -----------------------------------------------------------------------------------


class At:
    """Runs something once, at the n-th step of the store."""

    def __init__(self, at: int, run: Any) -> None:
        self.at, self.run, self.seen, self.busy, self.done = at, run, 0, False, False

    def __call__(self, _: int, name: str) -> None:
        if self.busy or self.done or not name.startswith("store."):
            return
        self.seen += 1
        if self.seen == self.at:
            self.busy = True
            self.run()
            self.busy, self.done = False, True


def sweeps(system: Any) -> None:
    with contextlib.suppress(TwinlegError):
        on_sweep(system.engine(SignerRole.RISK))


@pytest.mark.parametrize("change", ["opened", "moved", "quiet", "book lost"])
@pytest.mark.parametrize("at", range(1, 15))
def test_a_sweep_in_the_middle_of_another_forgets_nothing(world, at, change):
    w = world(["100000"] * 20)
    w.alert("buy", "a1")
    if change != "opened":
        w.minutes(3)
    if change == "moved":
        write(w, lambda t: t.with_leg(t.main.model_copy(update={"stop_price": D(98_500)})))
    if change == "book lost":
        edit_book(w, "main", "deleted")
    other = w.new_system()
    w.restart(Steps(At(at, lambda: sweeps(other))))
    other.clock = w.system.clock
    w.sweep()
    remembered(w)
    w.restart()
    w.minutes(2)
    assert remembered(w)
    assert guarded(w)


@pytest.mark.parametrize("at", range(1, 15))
def test_what_execute_writes_in_the_middle_of_a_sweep_is_not_forgotten(world, at):
    w = world(["100000"] * 20)
    w.alert("buy", "a1")
    other = w.new_system()

    def move() -> None:
        book = TradeBook(other.engine(SignerRole.EXECUTE))
        trade, version = book.load(w.trade().trade_id)
        book.write(trade, version, trade.with_leg(trade.main.model_copy(update={"stop_price": D(98_500)})))

    w.restart(Steps(At(at, move)))
    other.clock = w.system.clock
    w.sweep()
    remembered(w)
    w.restart()
    w.minutes(3)
    assert D(98_500) in stops(w, "main")
    assert remembered(w)


@pytest.mark.parametrize("at", range(1, 12))
def test_a_sweep_that_dies_anywhere_forgets_nothing(world, at):
    class Death(BaseException):
        pass

    def die() -> None:
        raise Death

    w = world(["100000"] * 20)
    w.alert("buy", "a1")
    w.restart(Steps(At(at, die)))
    with contextlib.suppress(Death):
        on_sweep(w.engine(SignerRole.RISK))
    remembered(w)
    w.restart()
    w.minutes(3)
    assert remembered(w)
    assert guarded(w)


# -- trading states --------------------------------------------------------------------------------


def test_flatten_reads_everything_whatever_the_lines_say(world):
    from twinleg.domain.control import Halt

    w = settled(world)
    set_trading(w.engine(), Halt.FLATTEN, why="enough", by="a test")
    w.minutes()
    assert w.trade().state is TradeState.CLOSED
    assert flat(w)


def test_an_entry_that_was_never_carried_out_is_ended_once_it_is_too_late(world):
    """Its message is gone: nobody else would ever end it, and every sweep would read it."""
    w = settled(world)
    trade = w.trade()
    intent = trade.intent.model_copy(update={"intent_id": "forgotten", "expires_at": w.system.clock.now()})
    left = Trade.model_validate(trade.model_dump() | {"trade_id": "forgotten", "intent": intent, "state": "PROPOSED"})
    from twinleg.engine.pages import trade_document

    w.system.store.create("trades", "forgotten", trade_document(left))
    w.minutes(2)
    assert w.system.store.get("trades", "forgotten").data["state"] == "REFUSED"
    assert marked(w) == set()
    assert w.position("main") == trade.main.size_open


def test_a_check_in_the_same_batch_keeps_a_mark_from_being_taken_back_for_another_version(world):
    """The document's version is the lock, as for every other step."""
    w = settled(world)
    write(w, lambda t: t.model_copy(update={"sequence": t.sequence + 1}))
    stored = w.system.store.get("trades", w.trade().trade_id)
    w.system.store.batch([Check("trades", stored.id, stored.version)])
    assert marked(w) == {stored.id}
    w.minutes()
    assert marked(w) == set()
