"""The sweep's lines: judged exactly as the trades they are of, kept in as many documents as they need, and sealed."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinleg.adapters.documents import DOCUMENT_BYTES_MAX, encoded
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import Conflict
from twinleg.domain.messages import HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import AccountState, LegRole, OrderKind, Position, RestingOrder, Side
from twinleg.domain.signals import Direction
from twinleg.domain.trades import Leg, Trade, TradeState
from twinleg.engine import books
from twinleg.engine.books import Seen, bucket, memory_of, parts_of, read_book, write_book
from twinleg.engine.lines import line_of, packed, unpacked
from twinleg.engine.pages import UNSWEPT, trade_document
from twinleg.engine.ports import Replace
from twinleg.engine.watch import Reading, is_quiet
from twinleg.risk.limits import Limits
from twinleg.risk.own_figures import OwnFigures, OwnPrice

D = Decimal
NOW = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)
ETH = "hyperliquid:ETH"
LIMITS = Limits()


def intent(id: str, market: str = ETH) -> HedgedIntent:
    plans = {
        role: LegPlan(role=role, account=role.value, market=market, side=side, leverage=4, margin_share=D("0.5"))
        for role, side in ((LegRole.MAIN, Side.BUY), (LegRole.HEDGE, Side.SELL))
    }
    return HedgedIntent(
        intent_id=id, action=IntentAction.OPEN, strategy="macd", market=market, direction=Direction.LONG,
        confidence=D(1), stop_percent=D(1), target_percent=D(2), budget_percent=D(5), holding_seconds_max=600,
        slippage_bps=D(50), range_percent=D("0.05"), reference_price=D(1000), trigger="x", trigger_at=NOW, reason="r",
        created_at=NOW, expires_at=NOW, main=plans[LegRole.MAIN], hedge=plans[LegRole.HEDGE],
    )  # fmt: skip


def trade(id: str = "t", market: str = ETH, **changes: Any) -> Trade:
    def leg(role: LegRole, side: Side, size: str) -> Leg:
        return Leg(
            role=role, account=role.value, market=market, side=side, leverage=4, size_approved=D(size),
            entry_limit_price=D(1000), stop_price=D(990) if side is Side.BUY else D(1020), size_filled=D(size),
            entry_price=D(1000), entry_liquidation_distance=D("0.2"),
        )  # fmt: skip

    values: dict[str, Any] = {
        "trade_id": id, "intent": intent(id, market), "state": TradeState.OPEN, "created_at": NOW, "updated_at": NOW,
        "opened_at": NOW, "main": leg(LegRole.MAIN, Side.BUY, "1"), "hedge": leg(LegRole.HEDGE, Side.SELL, "0.25"),
    }  # fmt: skip
    return Trade(**(values | changes))


def position(account: str, size: Decimal, mark: Decimal, market: str = ETH, **changes: Any) -> Position:
    values: dict[str, Any] = {
        "account": account, "market": market, "size": size, "entry_price": D(1000), "mark_price": mark,
        "unrealised_usd": size * (mark - 1000), "liquidation_price": D(800) if size > 0 else D(1200),
        "margin_used_usd": abs(size) * 250, "maintenance_usd": abs(size) * 20, "leverage": 4, "isolated": True,
        "funding_paid_usd": D(0),
    }  # fmt: skip
    return Position(**(values | changes))


def stop(leg: Leg, price: Decimal, size: Decimal) -> RestingOrder:
    return RestingOrder(
        client_order_id=None, order_id="1", market=leg.market, side=leg.side.opposite, size=size, limit_price=price,
        trigger_price=price, reduce_only=True, kind=OrderKind.STOP,
    )  # fmt: skip


def reading(account: str, positions: list[Position], orders: list[RestingOrder], equity: str = "10000") -> Reading:
    state = AccountState(
        account=account, at=NOW, equity_usd=D(equity), free_usd=D(equity), margin_used_usd=D(0),
        cross_equity_usd=D(equity), cross_maintenance_usd=D(0), positions=tuple(positions),
    )  # fmt: skip
    return Reading.of(state, tuple(orders), "disabled")


# -- one judgement -------------------------------------------------------------------------------

MONEY = st.decimals(-300, 300, places=2)


@st.composite
def trades(draw: st.DrawFn) -> Trade:
    base = trade(
        state=draw(st.sampled_from([TradeState.OPEN, TradeState.NEEDS_A_PERSON])),
        opened_at=draw(st.none() | st.just(NOW)),
        close_by=draw(st.none() | st.just(NOW + timedelta(seconds=draw(st.integers(-5, 900))))),
        margin_added=draw(st.booleans()),
        cut=draw(st.booleans()),
        rung=draw(st.sampled_from(["", "warn", "margin", "cut", "close", "?"])),
    )
    for leg in base.legs:
        filled = draw(st.sampled_from([leg.size_approved, D(0), D("0.3")]))
        base = base.with_leg(
            leg.model_copy(
                update={
                    "size_filled": filled,
                    "size_closed": draw(st.sampled_from([D(0), filled, filled / 2])),
                    "size_approved": draw(st.sampled_from([leg.size_approved, D(0)])),
                    "realised_usd": draw(MONEY), "fees_usd": draw(MONEY), "funding_usd": draw(MONEY),
                    "entry_liquidation_distance": draw(st.none() | st.decimals(0, 1, places=3)),
                }
            )
        )  # fmt: skip
    return base


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Trade, Reading | None, Reading | None, datetime]:
    found = draw(trades())
    readings: list[Reading | None] = []
    mark = draw(st.sampled_from([D(1000), D(1000), D(995), D(930), D(850), D(801), D(1100)]))
    for leg in found.legs:
        held = draw(st.sampled_from([leg.size_open, leg.size_open, D(0), D("0.7")]))
        held = held * leg.side.sign * draw(st.sampled_from([1, 1, 1, -1]))
        where = draw(st.sampled_from([leg.stop_price, leg.stop_price, leg.stop_price + 1]))
        orders = [stop(leg, where, draw(st.sampled_from([leg.size_open, D("0.1")])))] if draw(st.booleans()) else []
        funding = draw(st.sampled_from([D(0), D(-400), D(400)]))
        positions = [position(leg.account, held, mark, funding_paid_usd=funding)] if held else []
        unread = draw(st.integers(0, 9)) == 0
        readings.append(None if unread else reading(leg.account, positions, orders))
    return found, readings[0], readings[1], NOW + timedelta(seconds=draw(st.integers(0, 1000)))


@given(worlds())
@settings(max_examples=600, deadline=None)
def test_a_line_is_judged_as_the_trade_it_is_of(world: tuple[Trade, Reading | None, Reading | None, datetime]) -> None:
    found, main, hedge, now = world
    line = unpacked(packed(line_of(found)))
    assert line == line_of(found) == line_of(Trade.model_validate(trade_document(found)))
    assert is_quiet(line, main, hedge, now, LIMITS) == is_quiet(found, main, hedge, now, LIMITS)


def test_what_is_quiet_and_each_thing_that_is_not() -> None:
    def quiet(given: Trade | None = None, now: datetime = NOW, mark: str = "1000", **changes: Any) -> bool:
        found, sides = given or trade(), []
        for leg in found.legs:
            size = changes.get(f"{leg.role.value}_size", leg.size_open * leg.side.sign)
            held = [position(leg.account, D(size), D(mark))] if D(size) else []
            price = changes.get(f"{leg.role.value}_stop", leg.stop_price)
            sides.append(reading(leg.account, held, [stop(leg, D(price), leg.size_open)]))
        return is_quiet(unpacked(packed(line_of(found))), sides[0], sides[1], now, LIMITS)

    assert quiet()
    assert quiet(mark="995")
    assert not quiet(main_size="0.9")
    assert not quiet(main_size="0")
    assert not quiet(hedge_size="0.25")  # the other way round
    assert not quiet(main_stop="989")
    assert not quiet(hedge_stop="1021")
    assert not quiet(now=NOW + timedelta(seconds=600))
    assert not quiet(mark="880")  # ladder: warn
    assert quiet(trade(rung="warn"), mark="880")
    assert not quiet(trade(rung="warn"), mark="1000")
    assert not quiet(trade(rung="margin"), mark="860")  # no margin added yet
    nothing = trade(state=TradeState.NEEDS_A_PERSON)
    for leg in nothing.legs:
        nothing = nothing.with_leg(leg.model_copy(update={"size_filled": D(0)}))
    assert quiet(nothing)
    assert not quiet(nothing, main_size="1")


def test_with_an_account_unread_the_stops_of_the_other_are_looked_after() -> None:
    found = trade()
    hedge = reading("hedge", [position("hedge", D("-0.25"), D(1000))], [stop(found.hedge, D(1020), D("0.25"))])
    bare = reading("hedge", [position("hedge", D("-0.25"), D(1000))], [])
    assert is_quiet(found, None, hedge, NOW, LIMITS)
    assert not is_quiet(found, None, bare, NOW, LIMITS)
    assert is_quiet(found, None, None, NOW, LIMITS)


# -- documents -----------------------------------------------------------------------------------


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    made = SqliteStore(":memory:")
    yield made
    made.close()


def keep(store: SqliteStore, found: list[Trade], account: str = "main", markets: int = 0) -> None:
    """One sweep's writing of trades that were just read."""
    seen = []
    for one in found:
        stored = store.get("trades", one.trade_id)
        if stored is None:
            store.create("trades", one.trade_id, trade_document(one))
        elif Trade.model_validate(stored.data) != one:
            store.compare_and_set("trades", one.trade_id, trade_document(one), stored.version)
        stored = store.get("trades", one.trade_id)
        assert stored is not None
        seen.append(Seen(one, stored.version, bool(stored.data[UNSWEPT])))
    book = read_book(store, account)
    parts = parts_of(book, seen)
    now = reading(account, [position(account, D(1), D(1000), f"m{n}") for n in range(markets)], [])
    books.fill_positions(book, parts, now, lambda _: "", lambda _: None, {})
    write_book(store, book, parts, memory_of(book, now, [], parts, NOW, 1, OwnFigures({}, None), D(0)), [])


def marked(store: SqliteStore) -> set[str]:
    return {s.id for s in store.query("trades", {UNSWEPT: True})}


def test_a_book_goes_on_in_further_documents_and_back(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "LINES_MAX", 3)
    monkeypatch.setattr(books, "POSITIONS_MAX", 4)
    found = [trade(f"t{n}") for n in range(8)]
    keep(store, found, markets=10)
    book = read_book(store, "main")
    assert book.intact and set(book.lines) == {t.trade_id for t in found} and len(book.positions) == 10
    assert [len(shard.lines) for shard in book.shards] == [3, 3, 2]
    assert marked(store) == set()
    ended = [t.to(TradeState.CLOSING).to(TradeState.CLOSED) for t in found[1:]]
    keep(store, ended, markets=1)
    keep(store, [], markets=1)
    assert set(read_book(store, "main").lines) == {"t0"} and len(read_book(store, "main").shards) == 1
    assert marked(store) == set()
    keep(store, [trade(f"u{n}") for n in range(5)], markets=9)  # what was left behind of before is written over
    book = read_book(store, "main")
    assert book.intact and set(book.lines) == {"t0", *(f"u{n}" for n in range(5))} and len(book.positions) == 9


@pytest.mark.parametrize("damage", ["missing", "edited", "another's"])
def test_a_further_document_that_is_not_as_it_was_makes_the_book_worth_nothing(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(books, "LINES_MAX", 2)
    keep(store, [trade(f"t{n}") for n in range(6)])
    data = dict(store.get("books", "main~1").data)  # type: ignore[union-attr]
    if damage == "missing":
        store.database.write("DELETE FROM documents WHERE id = 'main~1'")
    elif damage == "edited":
        store.batch([Replace("books", "main~1", data | {"z_trades": data["z_trades"][:1]})])
    else:
        store.batch([Replace("books", "main~1", dict(store.get("books", "main~2").data))])  # type: ignore[union-attr]
    book = read_book(store, "main")
    assert not book.intact and book.lines == {}


def test_a_trade_written_meanwhile_stays_marked_and_keeps_its_old_line(store: SqliteStore) -> None:
    old = trade("t0", rung="warn")
    keep(store, [old, trade("t1")])
    for id in ("t0", "t1"):
        stored = store.get("trades", id)
        store.batch([Replace("trades", id, dict(stored.data) | {UNSWEPT: True})])  # type: ignore[union-attr]
    before = {id: store.get("trades", id).version for id in ("t0", "t1")}  # type: ignore[union-attr]
    book = read_book(store, "main")
    seen = [Seen(old.model_copy(update={"rung": "margin"}), before["t0"], True), Seen(trade("t1"), before["t1"], True)]
    store.batch([Replace("trades", "t1", trade_document(trade("t1", cut=True)))])
    parts = parts_of(book, seen)
    now = reading("main", [], [])
    write_book(store, book, parts, memory_of(book, now, [], parts, NOW, 1, OwnFigures({}, None), D(0)), [])
    assert marked(store) == {"t0", "t1"}
    assert read_book(store, "main").lines["t0"].rung == "warn"


def test_of_two_that_write_a_book_one_writes_nothing(store: SqliteStore) -> None:
    keep(store, [trade("t0")])
    book, late = read_book(store, "main"), read_book(store, "main")
    now = reading("main", [], [])
    for one in (book, late):
        parts = parts_of(one, [])
        memory = memory_of(one, now, [], parts, NOW, 1, OwnFigures({}, None), D(0))
        if one is late:
            with pytest.raises(Conflict):
                write_book(store, one, parts, memory, [])
        else:
            write_book(store, one, parts, memory, [])


def test_a_full_document_is_far_from_the_limit() -> None:
    """Lines with long names and every digit."""
    third = D(1) / 3
    one = trade("BTC-" + "a" * 40, "hyperliquid:" + "k" * 20, opened_at=NOW, close_by=NOW)
    for leg in one.legs:
        digits = {name: third for name in ("size_filled", "entry_price", "realised_usd", "fees_usd", "funding_usd")}
        one = one.with_leg(leg.model_copy(update={**digits, "entry_liquidation_distance": third}))
    row = books._row(
        position("main", third, third), lambda _: "BTC-" + "a" * 40, lambda _: None, [], {}, OwnPrice(third, third)
    )
    document = {"z_trades": [packed(line_of(one))] * books.LINES_MAX, "z_positions": [row] * books.POSITIONS_MAX}
    assert len(encoded("books", "main", document).encode()) < 0.95 * DOCUMENT_BYTES_MAX


def test_marks_of_a_great_many_are_taken_back_in_turn(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "TAKEN_BACK_MAX", 2)
    found = [trade(f"t{n}") for n in range(5)]
    for left in (3, 1, 0):
        stored = {id for id in marked(store)} or {t.trade_id for t in found}
        keep(store, [t for t in found if t.trade_id in stored])
        assert len(marked(store)) == left
    assert set(read_book(store, "main").lines) == {t.trade_id for t in found}


@pytest.mark.parametrize(
    ("left", "before", "now"),
    [
        ("1", None, 100), ("1.7", None, 100), ("0.99", None, 90), ("0.99", 100, 100), ("0.96", 100, 90),
        ("0.51", 40, 40), ("0.54", 40, 50), ("0", None, 0), ("-1", 0, 0), (None, 50, None), ("0.37", 40, 40),
        ("0.365", 40, 30),
    ],
)  # fmt: skip
def test_what_is_left_is_told_in_steps_that_are_kept_a_little(left: str | None, before: int | None, now: int) -> None:
    assert bucket(None if left is None else D(left), before) == now


def test_a_line_of_another_length_is_none() -> None:
    text = packed(replace(line_of(trade()), rung="warn"))
    assert unpacked(text).rung == "warn"
    for bad in ("[]", text[:-1] + ",1]", "{}", '"t"', "1"):
        with pytest.raises((ValueError, TypeError)):
            unpacked(bad)
